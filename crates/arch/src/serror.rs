// SPDX-License-Identifier: MIT OR Apache-2.0
//! SErrors that are still on their way when a vCPU leaves its CPU.
//!
//! EL2 runs with SErrors masked. One that a guest's access caused may become pending only after the exit, and
//! would be taken from the next guest. So EL2 looks for it before a switch, and charges it to the VM that leaves.
//! FEAT_RAS has an instruction for this (ESB; DDI 0487 D17.5). Without it, DSB and ISB wait for the accesses,
//! and for the SErrors that the implementation reports with them: others may come later still.

/// What [`synchronize`] does to the CPU, at EL2, with PSTATE.A set.
pub trait ErrorRegisters {
    /// ESB: an SError that is pending is deferred into DISR_EL1.
    fn esb(&self);
    /// DISR_EL1.
    fn disr(&self) -> u64;
    /// Writes zero to DISR_EL1.
    fn clear_disr(&self);
    /// DSB SY, then ISB.
    fn dsb_isb(&self);
    /// ISR_EL1.
    fn isr(&self) -> u64;
    /// Takes the pending SError, so that it is pending no longer, and returns ESR_EL2.
    fn take(&self) -> u64;
}

/// DISR_EL1.A: an SError has been deferred.
const DEFERRED: u64 = 1 << 31;
/// ISR_EL1.A: an SError is pending.
const PENDING: u64 = 1 << 8;
/// ESR_ELx.EC of an SError, and IL.
const SERROR: u64 = 0x2f << 26 | 1 << 25;
/// DISR_EL1's IDS and ISS, where ESR_ELx has them.
const SYNDROME: u64 = 0x1ff_ffff;

/// The syndrome of an SError that the vCPU on this CPU leaves behind, as ESR_ELx; it is no longer pending then.
/// `ras`: the CPU has FEAT_RAS.
#[inline(always)]
pub fn synchronize(ras: bool, cpu: &impl ErrorRegisters) -> Option<u64> {
    if ras {
        cpu.esb();
        let disr = cpu.disr();
        if disr & DEFERRED != 0 {
            cpu.clear_disr();
            return Some(SERROR | disr & SYNDROME);
        }
    } else {
        cpu.dsb_isb();
        if cpu.isr() & PENDING != 0 {
            return Some(cpu.take());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::vec::Vec;

    /// A CPU with one SError that arrives at a synchronization, or none.
    struct Fake {
        late: bool,
        log: RefCell<Vec<&'static str>>,
    }

    impl Fake {
        fn new(late: bool) -> Self {
            Self { late, log: RefCell::default() }
        }
        fn say(&self, what: &'static str) {
            self.log.borrow_mut().push(what);
        }
        fn arrived(&self, by: &str) -> bool {
            self.late && self.log.borrow().contains(&by)
        }
    }

    impl ErrorRegisters for Fake {
        fn esb(&self) {
            self.say("esb");
        }
        fn disr(&self) -> u64 {
            let deferred = self.arrived("esb");
            self.say("disr");
            if deferred { 1 << 31 | 1 << 24 | 0x11 } else { 0 }
        }
        fn clear_disr(&self) {
            self.say("clear disr");
        }
        fn dsb_isb(&self) {
            self.say("dsb isb");
        }
        fn isr(&self) -> u64 {
            let pending = self.arrived("dsb isb");
            self.say("isr");
            // IRQ and FIQ, which are no SErrors, are pending too.
            0xc0 | u64::from(pending) << 8
        }
        fn take(&self) -> u64 {
            self.say("take");
            0xbe00_0000
        }
    }

    fn run(ras: bool, late: bool) -> (Option<u64>, Vec<&'static str>) {
        let cpu = Fake::new(late);
        let found = synchronize(ras, &cpu);
        (found, cpu.log.into_inner())
    }

    #[test]
    fn with_ras_a_late_error_is_deferred_and_cleared() {
        assert_eq!(run(true, false), (None, ["esb", "disr"].into()));
        assert_eq!(run(true, true), (Some(0xbf00_0011), ["esb", "disr", "clear disr"].into()));
    }

    #[test]
    fn without_ras_a_late_error_is_taken_before_the_switch() {
        assert_eq!(run(false, false), (None, ["dsb isb", "isr"].into()));
        assert_eq!(run(false, true), (Some(0xbe00_0000), ["dsb isb", "isr", "take"].into()));
    }
}
