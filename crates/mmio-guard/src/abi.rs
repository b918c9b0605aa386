// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers of the interface: function ids, result codes, words and bits.
//!
//! Everything here is a constant or a pure function of one, so that a hypervisor, a guest and a test
//! can share it. What each call means is told in `docs/abi.md`.

pub mod device;
pub mod visible;

/// The protection granule in bytes: one call declares this much, and every address is a multiple of it.
pub const GRANULE: u64 = 4096;
/// log2 of [`GRANULE`].
pub const GRANULE_SHIFT: u32 = 12;

/// How many descriptors one range call of Portcullis writes at most; an aligned 2 MiB or 1 GiB counts as
/// one. A caller goes on where the call stopped and needs to know this number only to estimate.
pub const MAX_DESCRIPTORS_PER_CALL: u32 = 512;

/// x0 of a call that did what it was asked to.
pub const SUCCESS: u64 = 0;
/// x0 of a call that is unknown or, in the series dialect, of every one that failed: -1.
pub const NOT_SUPPORTED: u64 = -1_i64 as u64;
/// x0 of a call that was not needed: -2. Portcullis never answers it; a client may meet it elsewhere.
pub const NOT_REQUIRED: u64 = -2_i64 as u64;
/// x0 of a pkvm call that failed: -3.
pub const INVALID_PARAMETER: u64 = -3_i64 as u64;

/// Asks for the UID of the vendor-specific hypervisor service (SMCCC, HVC32, fast).
pub const CALL_UID: u32 = 0x8600_FF01;
/// Asks for the 128-bit map of functions (HVC32, fast).
pub const FEATURES: u32 = 0x8600_0000;

/// w0 to w3 of [`CALL_UID`]: KVM's UID 28b46fb6-2ec5-11e9-a9ca-4b564d003a74, which clients look for.
pub const KVM_UID: [u32; 4] = [0xB66F_B428, 0xE911_C52E, 0x564B_CAA9, 0x743A_004D];

/// w0 of [`FEATURES`] for a VM whose policy is off: only [`FEATURES`] itself.
pub const FEATURES_OFF: u32 = 0x1;
/// w0 of [`FEATURES`] in the pkvm dialect: functions 0 and 2 to 11.
pub const FEATURES_PKVM: u32 = 0xFFD;
/// w0 of [`FEATURES`] in the series dialect: functions 0 and 2 to 5.
pub const FEATURES_SERIES: u32 = 0x3D;

/// The id of fast HVC64 function `function` of the vendor-specific hypervisor owner.
///
/// Its HVC32 form, without bit 30, names no function: compare whole ids.
#[must_use]
pub const fn vendor64(function: u16) -> u32 {
    0xC600_0000 | function as u32
}

/// The bit of `function` in the map that [`FEATURES`] answers in w0, or 0 where it has none there.
#[must_use]
pub const fn feature_bit(function: u16) -> u32 {
    match 1_u32.checked_shl(function as u32) {
        Some(bit) => bit,
        None => 0,
    }
}

/// Ids of the pkvm dialect: the Android common kernel's table in its newest form, of which Linux 6.12
/// and later call a part.
pub mod pkvm {
    use super::vendor64;

    /// The granule, and in x1 whether ranges are offered ([`HAS_RANGE`]).
    pub const MEMINFO: u32 = vendor64(2);
    /// Shares pages of RAM: x1 = IPA, x2 = granules (0 means 1).
    pub const MEM_SHARE: u32 = vendor64(3);
    /// Takes a share back: x1 = IPA, x2 = granules (0 means 1).
    pub const MEM_UNSHARE: u32 = vendor64(4);
    /// The same answer as [`MEMINFO`]. A VM without the guard answers -1.
    pub const INFO: u32 = vendor64(5);
    /// Turns the guard on for the whole VM until its reset.
    pub const ENROLL: u32 = vendor64(6);
    /// Declares one granule: x1 = IPA.
    pub const MAP: u32 = vendor64(7);
    /// Takes the declaration of one granule back: x1 = IPA.
    pub const UNMAP: u32 = vendor64(8);
    /// Gives a page of RAM up: x1 = IPA. Portcullis wipes it in place.
    pub const RELINQUISH: u32 = vendor64(9);
    /// Declares a range: x1 = IPA, x2 = granules, x3 = 0.
    pub const RANGE_MAP: u32 = vendor64(10);
    /// Takes the declarations of a range back: x1 = IPA, x2 = granules, x3 = 0.
    pub const RANGE_UNMAP: u32 = vendor64(11);

    /// x1 of [`MEMINFO`] and [`INFO`]: the range calls are there.
    pub const HAS_RANGE: u64 = 1;
}

/// Ids of the series dialect: the numbers of the patches of 2021, with the meaning of their second
/// version.
pub mod series {
    use super::vendor64;

    /// The granule. Arguments are ignored.
    pub const INFO: u32 = vendor64(2);
    /// Turns the guard on for the whole VM until its reset. Arguments are ignored.
    pub const ENROLL: u32 = vendor64(3);
    /// Declares one granule: x1 = IPA, x2 = attribute hint.
    pub const MAP: u32 = vendor64(4);
    /// Takes the declaration of one granule back: x1 = IPA.
    pub const UNMAP: u32 = vendor64(5);
}

/// Portcullis' own calls, the same in both dialects and under every policy.
///
/// KVM uses functions 64 and 65 and may use more, so these begin far above.
pub mod own {
    use super::vendor64;

    /// x0 = [`VERSION_1_0`], x1 = [`FUNCTIONS`]. Elsewhere x0 = -1.
    pub const VERSION: u32 = vendor64(0xF000);
    /// What is at x1 = IPA: x0 = 0, x1 = a [`PageState`](super::PageState), x2 = a
    /// [`Hint`](super::Hint); -3 at or beyond the IPA size.
    pub const QUERY_PAGE: u32 = vendor64(0xF001);
    /// x0 = 0, x1 = accesses refused, x2 = pages declared, x3 = hypercalls made, each of this VM.
    pub const COUNTERS: u32 = vendor64(0xF002);

    /// x0 of [`VERSION`]: major << 16 | minor. A greater minor number only adds functions.
    pub const VERSION_1_0: u64 = 0x1_0000;
    /// x1 of [`VERSION`]: bit n stands for function 0xC600F000 + n.
    pub const FUNCTIONS: u64 = 0b111;
}

/// What [`own::QUERY_PAGE`] says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageState {
    /// Neither memory nor declared: an access is refused while the guard is active.
    Undeclared,
    /// RAM of the VM.
    Ram,
    /// Read-only memory of the VM.
    Rom,
    /// Declared: an access reaches the device there, if there is one.
    Declared,
    /// A device page that the guest reaches without a trap at this moment.
    Direct,
}

impl PageState {
    /// The number in x1.
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        match self {
            Self::Undeclared => 0,
            Self::Ram => 1,
            Self::Rom => 2,
            Self::Declared => 3,
            Self::Direct => 4,
        }
    }

    /// The state with this number, or `None` for a number of a later version.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        match raw {
            0 => Some(Self::Undeclared),
            1 => Some(Self::Ram),
            2 => Some(Self::Rom),
            3 => Some(Self::Declared),
            4 => Some(Self::Direct),
            _ => None,
        }
    }
}

/// What is remembered with a declaration. Nothing is ever judged by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hint {
    /// AttrIndx, 0..=7: which byte of MAIR_EL1 the guest maps the page with, so it says.
    pub index: u8,
    /// That byte of MAIR_EL1 as it was at the time of the call.
    pub mair: u8,
    /// The owner of the VM declared the page (`vm.preset`), not the guest.
    pub preset: bool,
}

impl Hint {
    /// As x2 of [`own::QUERY_PAGE`]: bits 4:2 index, 15:8 MAIR byte, 16 preset.
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        hint_argument(self.index) | (self.mair as u64) << 8 | (self.preset as u64) << 16
    }

    /// Reads x2 of [`own::QUERY_PAGE`]; other bits are ignored.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        let [_, mair, _, _, _, _, _, _] = raw.to_le_bytes();
        Self { index: hint_index(raw), mair, preset: raw >> 16 & 1 != 0 }
    }
}

/// x2 of MAP for MAIR_EL1 index `index`: the index where a stage-1 descriptor has it, bits 4:2.
#[must_use]
pub const fn hint_argument(index: u8) -> u64 {
    (index as u64 & 7) << 2
}

/// The MAIR_EL1 index in x2 of MAP, at bits 4:2; the other bits of a descriptor do not count.
#[must_use]
#[inline]
pub const fn hint_index(x2: u64) -> u8 {
    let [low, ..] = x2.to_le_bytes();
    low >> 2 & 7
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;

    #[test]
    fn ids_are_the_published_ones() {
        assert_eq!(
            [
                pkvm::MEMINFO,
                pkvm::MEM_SHARE,
                pkvm::MEM_UNSHARE,
                pkvm::INFO,
                pkvm::ENROLL,
                pkvm::MAP,
                pkvm::UNMAP,
                pkvm::RELINQUISH,
                pkvm::RANGE_MAP,
                pkvm::RANGE_UNMAP
            ],
            [
                0xC600_0002,
                0xC600_0003,
                0xC600_0004,
                0xC600_0005,
                0xC600_0006,
                0xC600_0007,
                0xC600_0008,
                0xC600_0009,
                0xC600_000A,
                0xC600_000B
            ]
        );
        assert_eq!(
            [series::INFO, series::ENROLL, series::MAP, series::UNMAP],
            [0xC600_0002, 0xC600_0003, 0xC600_0004, 0xC600_0005]
        );
        assert_eq!(
            [own::VERSION, own::QUERY_PAGE, own::COUNTERS],
            [0xC600_F000, 0xC600_F001, 0xC600_F002]
        );
    }

    #[test]
    fn result_codes_are_64_bit_twos_complement() {
        assert_eq!(NOT_SUPPORTED, 0xFFFF_FFFF_FFFF_FFFF);
        assert_eq!(NOT_REQUIRED, 0xFFFF_FFFF_FFFF_FFFE);
        assert_eq!(INVALID_PARAMETER, 0xFFFF_FFFF_FFFF_FFFD);
    }

    #[test]
    fn the_uid_is_the_one_of_kvm() {
        // 28b46fb6-2ec5-11e9-a9ca-4b564d003a74: each word holds four bytes, the first one lowest.
        let mut bytes = [0_u8; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(KVM_UID) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        assert_eq!(
            bytes,
            [
                0x28, 0xB4, 0x6F, 0xB6, 0x2E, 0xC5, 0x11, 0xE9, 0xA9, 0xCA, 0x4B, 0x56, 0x4D, 0x00,
                0x3A, 0x74
            ]
        );
    }

    #[test]
    fn the_own_bit_map_names_every_own_call() {
        for id in [own::VERSION, own::QUERY_PAGE, own::COUNTERS] {
            let bit = 1_u64 << (id - own::VERSION);
            assert_ne!(own::FUNCTIONS & bit, 0, "{id:#x}");
        }
        assert_eq!(own::FUNCTIONS.count_ones(), 3);
    }

    #[test]
    fn the_hint_of_a_whole_descriptor_is_its_index() {
        // What Linux passes: the whole protection word of a Device-nGnRE mapping, index 4.
        assert_eq!(hint_index(0x0068_0000_0000_0713), 4);
        // What U-Boot passes: the masked index.
        assert_eq!(hint_index(7 << 2), 7);
        // What a pkvm guest passes.
        assert_eq!(hint_index(0), 0);
        assert_eq!(hint_argument(4), 0x10);
        // More than an index cannot reach other bits.
        assert_eq!(hint_argument(0xFF), 0x1C);
    }

    #[test]
    fn hints_survive_the_register() {
        for index in 0..8 {
            for preset in [false, true] {
                let hint = Hint { index, mair: 0xA5, preset };
                assert_eq!(Hint::from_raw(hint.to_raw()), hint);
                assert_eq!(Hint::from_raw(hint.to_raw() | !0x1_FF1C), hint);
            }
        }
        assert_eq!(Hint { index: 3, mair: 0x04, preset: true }.to_raw(), 0x1_040C);
    }

    #[test]
    fn page_states_survive_the_register() {
        for raw in 0..5 {
            assert_eq!(PageState::from_raw(raw).map(PageState::to_raw), Some(raw));
        }
        assert_eq!(PageState::from_raw(5), None);
        assert_eq!(PageState::from_raw(u64::MAX), None);
    }
}
