// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errata of CPUs that EL2 has to work around, by MIDR_EL1.

/// Which workarounds a CPU needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errata {
    /// A TLBI and its DSB must be done twice before what was unmapped can be given away.
    pub repeat_tlbi: bool,
    /// HPFAR_EL2 is not to be believed after a direct stage-2 translation fault (Cortex-A57 834220).
    pub hpfar_unknown_on_translation: bool,
    /// A speculative AT or walk may fill the TLB while EL2 switches a guest's translation regime.
    pub speculative_at: bool,
}

impl Errata {
    /// What the CPU with these MIDR_EL1 and REVIDR_EL1 needs.
    pub const fn of(midr: u64, revidr: u64) -> Self {
        let _ = revidr;
        let a57 = midr & 0xff00_fff0 == 0x4100_d070;
        Self { repeat_tlbi: false, hpfar_unknown_on_translation: a57, speculative_at: false }
    }

    /// What either CPU needs: for a VM whose vCPUs run on both.
    pub const fn union(self, other: Self) -> Self {
        Self {
            repeat_tlbi: self.repeat_tlbi || other.repeat_tlbi,
            hpfar_unknown_on_translation: self.hpfar_unknown_on_translation
                || other.hpfar_unknown_on_translation,
            speculative_at: self.speculative_at || other.speculative_at,
        }
    }
}
