// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errata of CPUs that EL2 has to work around, found by MIDR_EL1.
//!
//! Sources: Arm's Software Developer Errata Notices, Arm's bulletin on CVE-2025-10263
//! (documentation 112137), and the Technical Reference Manuals for the part numbers.

/// Which workarounds a CPU needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errata {
    /// A TLBI and its DSB must be done twice before what was unmapped can be given away, or stores
    /// through the old entry may still arrive (CVE-2025-10263; Cortex-A55 2441007, A76 1286807,
    /// A510 2441009; Falkor 1009).
    pub repeat_tlbi: bool,
    /// A stage-2 translation fault of a load that crosses a page may stand for a fault of stage 1, so
    /// that HPFAR_EL2 is not to be believed there (Cortex-A57 834220).
    pub hpfar_unknown_on_translation: bool,
    /// A speculative AT or walk may fill the TLB while EL2 changes a guest's translation regime:
    /// TCR_EL1.EPD0 and EPD1 are to be set meanwhile (Cortex-A57 1319537, A72 1319367, A76 1165522,
    /// A55 1530923).
    pub speculative_at: bool,
    /// A read of PAR_EL1 wants a DMB SY before and after it, or the CPU may deadlock
    /// (Cortex-A77 1508412).
    pub par_needs_dmb: bool,
}

/// A core and the revisions of it that are concerned: `first` and `last` are variant<<4 | revision.
struct Cores {
    implementer: u8,
    part: u16,
    first: u8,
    last: u8,
}

const ARM: u8 = 0x41;
const QUALCOMM: u8 = 0x51;
const NVIDIA: u8 = 0x4e;
const MICROSOFT: u8 = 0x6d;

const CORTEX_A55: u16 = 0xd05;
const CORTEX_A57: u16 = 0xd07;
const CORTEX_A72: u16 = 0xd08;
const CORTEX_A76: u16 = 0xd0b;
const CORTEX_A77: u16 = 0xd0d;
const KRYO_4XX_GOLD: u16 = 0x804;
const KRYO_4XX_SILVER: u16 = 0x805;

const fn all(part: u16) -> Cores {
    upto(part, 0xff)
}

/// r0p0 up to and including variant<<4 | revision.
const fn upto(part: u16, last: u8) -> Cores {
    Cores { implementer: ARM, part, first: 0, last }
}

const REPEAT_TLBI: [Cores; 27] = [
    all(CORTEX_A55),
    all(CORTEX_A76),
    all(0xd0e), // Cortex-A76AE
    all(CORTEX_A77),
    all(0xd41),                                                          // Cortex-A78
    all(0xd42),                                                          // Cortex-A78AE
    all(0xd4b),                                                          // Cortex-A78C
    all(0xd47),                                                          // Cortex-A710
    all(0xd44),                                                          // Cortex-X1
    all(0xd4c),                                                          // Cortex-X1C
    all(0xd48),                                                          // Cortex-X2
    all(0xd4e),                                                          // Cortex-X3
    all(0xd82),                                                          // Cortex-X4
    all(0xd85),                                                          // Cortex-X925
    all(0xd0c),                                                          // Neoverse-N1
    all(0xd49),                                                          // Neoverse-N2
    all(0xd40),                                                          // Neoverse-V1
    all(0xd4f),                                                          // Neoverse-V2
    all(0xd84),                                                          // Neoverse-V3
    all(0xd83),                                                          // Neoverse-V3AE
    all(0xd8c),                                                          // C1-Ultra
    all(0xd90),                                                          // C1-Premium
    upto(0xd46, 0x11),                                                   // Cortex-A510
    Cores { implementer: MICROSOFT, part: 0xd49, first: 0, last: 0xff }, // Azure Cobalt 100
    Cores { implementer: NVIDIA, part: 0x010, first: 0, last: 0xff },    // Olympus
    Cores { implementer: QUALCOMM, part: 0x800, first: 0, last: 0 },     // Falkor v1
    Cores { implementer: QUALCOMM, part: KRYO_4XX_GOLD, first: 0xce, last: 0xfe },
];

const HPFAR_UNKNOWN: [Cores; 1] = [upto(CORTEX_A57, 0x12)];

const SPECULATIVE_AT: [Cores; 5] = [
    all(CORTEX_A57),
    all(CORTEX_A72),
    upto(CORTEX_A76, 0x20),
    upto(CORTEX_A55, 0x20),
    Cores { implementer: QUALCOMM, part: KRYO_4XX_SILVER, first: 0xde, last: 0xde },
];

const PAR_NEEDS_DMB: [Cores; 1] = [upto(CORTEX_A77, 0x10)];

impl Cores {
    const fn concerns(&self, midr: u64) -> bool {
        let revision = (((midr >> 16) & 0xf0) | (midr & 0xf)) as u8;
        (midr >> 24) & 0xff == self.implementer as u64
            && (midr >> 4) & 0xfff == self.part as u64
            && self.first <= revision
            && revision <= self.last
    }
}

const fn any(mut list: &[Cores], midr: u64) -> bool {
    while let [cores, rest @ ..] = list {
        if cores.concerns(midr) {
            return true;
        }
        list = rest;
    }
    false
}

/// Qualcomm's Kryo cores are all those whose part number begins with 2.
const fn is_kryo(midr: u64) -> bool {
    (midr >> 24) & 0xff == QUALCOMM as u64 && (midr >> 12) & 0xf == 0x2
}

impl Errata {
    /// No workaround at all.
    pub const NONE: Self = Self {
        repeat_tlbi: false,
        hpfar_unknown_on_translation: false,
        speculative_at: false,
        par_needs_dmb: false,
    };

    /// What the CPU with this MIDR_EL1 needs. `revidr`, REVIDR_EL1, would name fixes that a revision
    /// carries all the same; no erratum of this list has such a bit.
    pub const fn of(midr: u64, revidr: u64) -> Self {
        let _ = revidr;
        Self {
            repeat_tlbi: any(&REPEAT_TLBI, midr) || is_kryo(midr),
            hpfar_unknown_on_translation: any(&HPFAR_UNKNOWN, midr),
            speculative_at: any(&SPECULATIVE_AT, midr),
            par_needs_dmb: any(&PAR_NEEDS_DMB, midr),
        }
    }

    /// A bit for each, for a set that CPUs join.
    pub const fn bits(self) -> u64 {
        (self.repeat_tlbi as u64)
            | (self.hpfar_unknown_on_translation as u64) << 1
            | (self.speculative_at as u64) << 2
            | (self.par_needs_dmb as u64) << 3
    }

    /// The errata with these [`Errata::bits`].
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            repeat_tlbi: bits & 1 != 0,
            hpfar_unknown_on_translation: bits & 2 != 0,
            speculative_at: bits & 4 != 0,
            par_needs_dmb: bits & 8 != 0,
        }
    }

    /// What any of two CPUs needs: for a machine, or a VM, that has both.
    pub const fn union(self, other: Self) -> Self {
        Self {
            repeat_tlbi: self.repeat_tlbi || other.repeat_tlbi,
            hpfar_unknown_on_translation: self.hpfar_unknown_on_translation
                || other.hpfar_unknown_on_translation,
            speculative_at: self.speculative_at || other.speculative_at,
            par_needs_dmb: self.par_needs_dmb || other.par_needs_dmb,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    fn midr(implementer: u8, part: u16, variant: u8, revision: u8) -> u64 {
        u64::from(implementer) << 24
            | u64::from(variant) << 20
            | 0xf << 16
            | u64::from(part) << 4
            | u64::from(revision)
    }

    fn arm(part: u16, variant: u8, revision: u8) -> Errata {
        Errata::of(midr(ARM, part, variant, revision), 0)
    }

    #[test]
    fn a_clean_core_needs_nothing() {
        assert_eq!(Errata::of(0x410f_d034, 0), Errata::NONE, "Cortex-A53 r0p4");
        assert_eq!(Errata::of(0x000f_0510, 0), Errata::NONE, "QEMU's max");
        assert_eq!(Errata::of(0, 0), Errata::default());
    }

    // bug: 17
    #[test]
    fn cve_2025_10263_names_every_core_of_the_bulletin() {
        for part in [
            0xd0b, 0xd0e, 0xd0d, 0xd41, 0xd42, 0xd4b, 0xd47, 0xd44, 0xd4c, 0xd48, 0xd4e, 0xd82,
            0xd85, 0xd0c, 0xd49, 0xd40, 0xd4f, 0xd84, 0xd83, 0xd8c, 0xd90,
        ] {
            for (variant, revision) in [(0, 0), (4, 1), (15, 15)] {
                assert!(arm(part, variant, revision).repeat_tlbi, "{part:#x}");
            }
        }
        assert!(Errata::of(midr(0x6d, 0xd49, 0, 0), 0).repeat_tlbi, "Azure Cobalt 100");
        assert!(Errata::of(midr(0x4e, 0x010, 0, 0), 0).repeat_tlbi, "Olympus");
    }

    #[test]
    fn cores_beside_the_bulletin_are_not_slowed_down() {
        // A35, A53, A57, A72, A73, A75, A65, A715, A720, A725, N3, E1.
        for part in
            [0xd04, 0xd03, 0xd07, 0xd08, 0xd09, 0xd0a, 0xd06, 0xd4d, 0xd81, 0xd87, 0xd8e, 0xd4a]
        {
            assert!(!arm(part, 1, 0).repeat_tlbi, "{part:#x}");
        }
        // The same part number of another implementer is another core.
        assert!(!Errata::of(midr(0x43, 0xd0b, 0, 0), 0).repeat_tlbi);
    }

    #[test]
    fn a55_2441007_is_in_every_revision() {
        for revision in 0..=2 {
            assert!(arm(CORTEX_A55, revision, 0).repeat_tlbi);
        }
    }

    #[test]
    fn a510_2441009_ends_at_r1p1() {
        assert!(arm(0xd46, 0, 0).repeat_tlbi);
        assert!(arm(0xd46, 0, 3).repeat_tlbi);
        assert!(arm(0xd46, 1, 1).repeat_tlbi);
        assert!(!arm(0xd46, 1, 2).repeat_tlbi);
    }

    #[test]
    fn qualcomm_cores_that_repeat() {
        let q = |part, variant, revision| {
            Errata::of(midr(QUALCOMM, part, variant, revision), 0).repeat_tlbi
        };
        assert!(q(0x800, 0, 0), "Falkor v1");
        assert!(!q(0x800, 1, 0));
        assert!(!q(0xc00, 0, 0), "Falkor");
        assert!(q(0x201, 0, 0) && q(0x205, 0, 0) && q(0x211, 0, 0), "Kryo");
        assert!(q(KRYO_4XX_GOLD, 0xc, 0xe) && q(KRYO_4XX_GOLD, 0xf, 0xe));
        assert!(!q(KRYO_4XX_GOLD, 0xc, 0xd) && !q(KRYO_4XX_GOLD, 0xf, 0xf));
    }

    // bug: 35
    #[test]
    fn a57_834220_ends_at_r1p2() {
        assert!(arm(CORTEX_A57, 0, 0).hpfar_unknown_on_translation);
        assert!(Errata::of(0x411f_d070, 0).hpfar_unknown_on_translation, "QEMU's cortex-a57");
        assert!(arm(CORTEX_A57, 1, 2).hpfar_unknown_on_translation);
        assert!(!arm(CORTEX_A57, 1, 3).hpfar_unknown_on_translation);
        assert!(!arm(CORTEX_A72, 0, 0).hpfar_unknown_on_translation);
    }

    #[test]
    fn speculative_at_has_its_own_revisions() {
        assert!(arm(CORTEX_A57, 1, 3).speculative_at && arm(CORTEX_A72, 1, 0).speculative_at);
        assert!(arm(CORTEX_A76, 2, 0).speculative_at && !arm(CORTEX_A76, 3, 0).speculative_at);
        assert!(arm(CORTEX_A55, 2, 0).speculative_at && !arm(CORTEX_A55, 2, 1).speculative_at);
        assert!(Errata::of(midr(QUALCOMM, KRYO_4XX_SILVER, 0xd, 0xe), 0).speculative_at);
        assert!(!Errata::of(midr(QUALCOMM, KRYO_4XX_SILVER, 0xd, 0xf), 0).speculative_at);
    }

    #[test]
    fn a77_1508412_ends_at_r1p0() {
        assert!(arm(CORTEX_A77, 0, 0).par_needs_dmb && arm(CORTEX_A77, 1, 0).par_needs_dmb);
        assert!(!arm(CORTEX_A77, 1, 1).par_needs_dmb);
    }

    #[test]
    fn sets_of_errata_are_joined_by_their_bits() {
        let cores =
            [arm(CORTEX_A55, 2, 1), arm(CORTEX_A57, 1, 0), arm(CORTEX_A77, 0, 0), Errata::NONE];
        for (a, b) in cores.iter().flat_map(|a| cores.map(|b| (*a, b))) {
            assert_eq!(Errata::from_bits(a.bits() | b.bits()), a.union(b));
        }
        assert_eq!([0, 1, 2, 4, 8].map(|bit| Errata::from_bits(bit).bits()), [0, 1, 2, 4, 8]);
        let last = Errata { par_needs_dmb: true, ..Errata::NONE };
        assert_eq!((last.bits(), Errata { repeat_tlbi: true, ..last }.bits()), (8, 9));
    }

    #[test]
    fn union_has_what_either_has() {
        let (a55, a57) = (arm(CORTEX_A55, 2, 1), arm(CORTEX_A57, 1, 0));
        let both = a55.union(a57);
        assert_eq!(both, a57.union(a55));
        assert!(both.repeat_tlbi && both.hpfar_unknown_on_translation && both.speculative_at);
        assert!(!both.par_needs_dmb);
        for one in [a55, a57, arm(CORTEX_A77, 0, 0)] {
            assert_ne!(one, Errata::NONE);
            assert_eq!((one.union(Errata::NONE), Errata::NONE.union(one)), (one, one));
        }
    }
}
