// SPDX-License-Identifier: MIT OR Apache-2.0
//! TLB maintenance for the VMID of a VM, whichever VM is loaded.
//!
//! TLBI instructions of EL1&0 act on the VMID in VTTBR_EL2 (DDI 0487 D8.17).

/// The registers and barriers that this takes.
pub trait TranslationRegime {
    /// Whether a CPU that runs this VM walks speculatively ([`crate::Errata::speculative_at`]).
    fn speculative_at(&self) -> bool;
    /// VTTBR_EL2.
    fn vttbr(&self) -> u64;
    /// Writes VTTBR_EL2.
    fn set_vttbr(&self, value: u64);
    /// TCR_EL1.
    fn tcr(&self) -> u64;
    /// Writes TCR_EL1.
    fn set_tcr(&self, value: u64);
    /// ISB.
    fn isb(&self);
    /// DSB ISH.
    fn dsb_ish(&self);
}

/// TCR_EL1.EPD0 and EPD1: no stage-1 walks.
pub const NO_WALKS: u64 = 1 << 7 | 1 << 23;

/// Runs `tlbi` with `own` in VTTBR_EL2. A speculative walk between the two writes of VTTBR_EL2 must not mix one
/// VM's stage 1 with another's stage 2 ([`TranslationRegime::speculative_at`]: Cortex-A57 1319537, A72 1319367 and others).
#[inline(always)]
pub fn in_vmid(regime: &impl TranslationRegime, own: u64, tlbi: impl FnOnce()) {
    let loaded = regime.vttbr();
    if loaded == own {
        return tlbi();
    }
    let tcr = regime.tcr();
    let speculative_at = regime.speculative_at();
    if speculative_at {
        regime.set_tcr(tcr | NO_WALKS);
        regime.isb();
    }
    regime.set_vttbr(own);
    regime.isb();
    tlbi();
    // Complete before the VMID changes again.
    regime.dsb_ish();
    regime.set_vttbr(loaded);
    regime.isb();
    if speculative_at {
        regime.set_tcr(tcr);
        regime.isb();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    struct Fake {
        speculative_at: bool,
        vttbr: Cell<u64>,
        log: RefCell<Vec<String>>,
    }

    impl TranslationRegime for Fake {
        fn speculative_at(&self) -> bool {
            self.speculative_at
        }
        fn vttbr(&self) -> u64 {
            self.vttbr.get()
        }
        fn set_vttbr(&self, value: u64) {
            self.vttbr.set(value);
            self.log.borrow_mut().push(format!("vttbr {value:x}"));
        }
        fn tcr(&self) -> u64 {
            0x10
        }
        fn set_tcr(&self, value: u64) {
            self.log.borrow_mut().push(format!("tcr {value:x}"));
        }
        fn isb(&self) {
            self.log.borrow_mut().push("isb".into());
        }
        fn dsb_ish(&self) {
            self.log.borrow_mut().push("dsb".into());
        }
    }

    fn run(loaded: u64, own: u64, speculative_at: bool) -> Vec<String> {
        let fake = Fake { speculative_at, vttbr: Cell::new(loaded), log: RefCell::default() };
        in_vmid(&fake, own, || {
            let at = fake.vttbr.get();
            fake.log.borrow_mut().push(format!("tlbi {at:x}"));
        });
        assert_eq!(fake.vttbr.get(), loaded, "the loaded VM's is back");
        fake.log.into_inner()
    }

    // bug: 16
    #[test]
    fn an_invalidation_is_for_the_vms_own_vmid() {
        assert_eq!(run(0x1_0000, 0x1_0000, true), vec!["tlbi 10000"]);
        assert_eq!(
            run(0x1_0000, 0x2_0000, false),
            vec!["vttbr 20000", "isb", "tlbi 20000", "dsb", "vttbr 10000", "isb"]
        );
    }

    #[test]
    fn no_walk_sees_one_vms_stage_1_with_anothers_stage_2() {
        let log = run(0x1_0000, 0x2_0000, true);
        assert_eq!(log[..2], ["tcr 800090", "isb"]);
        assert_eq!(log[2..8], run(0x1_0000, 0x2_0000, false));
        assert_eq!(log[8..], ["tcr 10", "isb"]);
    }
}
