// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a vCPU switch saves and restores, and in which order. The lists of registers are in [`crate::switched`]; hyp moves
//! them ([`Parts`]).

/// ID registers that say which registers a CPU has.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwitchIds {
    /// ID_AA64PFR0_EL1.
    pub pfr0: u64,
    /// ID_AA64PFR1_EL1.
    pub pfr1: u64,
    /// ID_AA64DFR0_EL1.
    pub dfr0: u64,
    /// ID_AA64ISAR1_EL1.
    pub isar1: u64,
    /// ID_AA64ISAR2_EL1.
    pub isar2: u64,
}

/// Registers that some CPUs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Keys of pointer authentication.
    Keys,
    /// VDISR_EL2, which EL1 sees as DISR_EL1.
    DeferredError,
    /// TPIDR2_EL0.
    Tpidr2,
}

/// What a CPU has of what is switched. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchFeatures {
    /// One of the next three.
    any_extra: bool,
    pauth: bool,
    ras: bool,
    sme: bool,
    claim_tags: bool,
    breakpoints: usize,
    watchpoints: usize,
}

impl SwitchFeatures {
    /// Of a CPU with these ID registers, with debug claim tags or without.
    pub const fn of(ids: &SwitchIds, claim_tags: bool) -> Self {
        // APA, API, GPA, GPI; APA3, GPA3.
        let pauth = ids.isar1 & 0xff00_0ff0 != 0 || ids.isar2 & 0xff00 != 0;
        let ras = ids.pfr0 >> 28 & 15 != 0;
        let sme = ids.pfr1 >> 24 & 15 != 0;
        Self {
            any_extra: pauth || ras || sme,
            pauth,
            ras,
            sme,
            claim_tags,
            breakpoints: ((ids.dfr0 >> 12 & 15) as usize).saturating_add(1),
            watchpoints: ((ids.dfr0 >> 20 & 15) as usize).saturating_add(1),
        }
    }

    /// FEAT_RAS.
    #[inline(always)]
    pub const fn ras(&self) -> bool {
        self.ras
    }

    /// Whether there are debug claim tags, and with them the debug channel.
    #[inline(always)]
    pub const fn claim_tags(&self) -> bool {
        self.claim_tags
    }

    /// Breakpoints.
    #[inline(always)]
    pub const fn breakpoints(&self) -> usize {
        self.breakpoints
    }

    /// Watchpoints.
    #[inline(always)]
    pub const fn watchpoints(&self) -> usize {
        self.watchpoints
    }

    /// Calls `each` for every [`Extra`] that the CPU has.
    #[inline(always)]
    pub fn extras(&self, mut each: impl FnMut(Extra)) {
        if self.pauth {
            each(Extra::Keys);
        }
        if self.ras {
            each(Extra::DeferredError);
        }
        if self.sme {
            each(Extra::Tpidr2);
        }
    }
}

/// The parts of a vCPU's registers. Each method saves its part, or restores it.
pub trait Parts {
    /// Registers of EL1 and EL0 that every CPU has.
    fn system(&mut self);
    /// The virtual timer's control. Saved, it stops.
    fn timer(&mut self);
    /// FP and SIMD registers.
    fn fp(&mut self);
    /// The virtual CPU interface.
    fn interface(&mut self);
    /// Registers that some CPUs have: [`SwitchFeatures::extras`].
    fn extras(&mut self);
    /// Debug registers.
    fn debug(&mut self);
}

/// Saves or restores a vCPU. The timer's control comes after its compare value, which is a system register: restored,
/// the timer never runs with another vCPU's value. `debug_owned`: the vCPU has the debug registers; else they trap.
#[inline(always)]
pub fn switch(parts: &mut impl Parts, features: &SwitchFeatures, debug_owned: bool) {
    parts.system();
    parts.timer();
    parts.fp();
    parts.interface();
    if features.any_extra {
        parts.extras();
    }
    if debug_owned {
        parts.debug();
    }
}

#[cfg(test)]
mod tests {
    use super::{Extra, Parts, SwitchFeatures, SwitchIds, switch};
    use std::vec::Vec;

    /// Which parts were switched, in order.
    #[derive(Default)]
    struct Recorder(Vec<&'static str>);

    impl Parts for Recorder {
        fn system(&mut self) {
            self.0.push("system");
        }
        fn timer(&mut self) {
            self.0.push("timer");
        }
        fn fp(&mut self) {
            self.0.push("fp");
        }
        fn interface(&mut self) {
            self.0.push("interface");
        }
        fn extras(&mut self) {
            self.0.push("extras");
        }
        fn debug(&mut self) {
            self.0.push("debug");
        }
    }

    fn switched(features: &SwitchFeatures, debug_owned: bool) -> Vec<&'static str> {
        let mut recorder = Recorder::default();
        switch(&mut recorder, features, debug_owned);
        recorder.0
    }

    fn extras(ids: SwitchIds) -> Vec<Extra> {
        let mut found = Vec::new();
        SwitchFeatures::of(&ids, false).extras(|extra| found.push(extra));
        found
    }

    #[test]
    fn the_timer_is_switched_after_its_compare_value() {
        let plain = SwitchFeatures::of(&SwitchIds::default(), true);
        assert_eq!(switched(&plain, false), ["system", "timer", "fp", "interface"]);
    }

    #[test]
    fn debug_registers_are_switched_only_for_a_vcpu_that_has_them() {
        let plain = SwitchFeatures::of(&SwitchIds::default(), true);
        assert_eq!(switched(&plain, true), ["system", "timer", "fp", "interface", "debug"]);
    }

    #[test]
    fn a_cpu_with_one_extra_switches_extras() {
        for ids in [
            SwitchIds { isar1: 1 << 4, ..SwitchIds::default() },
            SwitchIds { pfr0: 1 << 28, ..SwitchIds::default() },
            SwitchIds { pfr1: 1 << 24, ..SwitchIds::default() },
        ] {
            let parts = switched(&SwitchFeatures::of(&ids, false), true);
            assert_eq!(parts, ["system", "timer", "fp", "interface", "extras", "debug"]);
        }
    }

    #[test]
    fn each_extra_has_its_id_fields() {
        assert_eq!(extras(SwitchIds::default()), []);
        // APA, API, GPA and GPI of ID_AA64ISAR1_EL1; APA3 and GPA3 of ID_AA64ISAR2_EL1.
        for bit in [4, 7, 8, 11, 24, 27, 28, 31] {
            let ids = SwitchIds { isar1: 1 << bit, ..SwitchIds::default() };
            assert_eq!(extras(ids), [Extra::Keys], "ID_AA64ISAR1_EL1 bit {bit}");
        }
        for bit in [8, 11, 12, 15] {
            let ids = SwitchIds { isar2: 1 << bit, ..SwitchIds::default() };
            assert_eq!(extras(ids), [Extra::Keys], "ID_AA64ISAR2_EL1 bit {bit}");
        }
        let other = SwitchIds { isar1: !0xff00_0ff0, isar2: !0xff00, ..SwitchIds::default() };
        assert_eq!(extras(other), []);
        let ras = SwitchIds { pfr0: 0xf000_0000, ..SwitchIds::default() };
        assert_eq!(extras(ras), [Extra::DeferredError]);
        assert!(SwitchFeatures::of(&ras, false).ras());
        assert_eq!(extras(SwitchIds { pfr0: !0xf000_0000, ..SwitchIds::default() }), []);
        let sme = SwitchIds { pfr1: 0x0f00_0000, ..SwitchIds::default() };
        assert_eq!(extras(sme), [Extra::Tpidr2]);
        assert!(!SwitchFeatures::of(&sme, false).ras());
        assert_eq!(extras(SwitchIds { pfr1: !0x0f00_0000, ..SwitchIds::default() }), []);
    }

    #[test]
    fn breakpoints_and_watchpoints_are_one_more_than_their_fields() {
        let features = |dfr0| SwitchFeatures::of(&SwitchIds { dfr0, ..SwitchIds::default() }, true);
        for (dfr0, counts) in [(0, (1, 1)), (5 << 12, (6, 1)), (3 << 20, (1, 4)), (!0, (16, 16))] {
            let features = features(dfr0);
            assert_eq!((features.breakpoints(), features.watchpoints()), counts, "{dfr0:#x}");
            assert!(features.claim_tags());
        }
        assert!(!SwitchFeatures::of(&SwitchIds::default(), false).claim_tags());
    }
}
