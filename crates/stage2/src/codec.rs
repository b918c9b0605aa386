// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptors: what the 64 bits mean.
//!
//! | descriptor | 63:60 | 59:14 | 13 | 12:5 | 4:2 | 1 | 0 | levels |
//! |---|---|---|---|---|---|---|---|---|
//! | empty | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0..3 |
//! | locked | 1 | - | - | - | - | 0 | 0 | 0..3 |
//! | owner | 2 | 0 in 59:18, owner id in 17:2 | id | id | id | 0 | 0 | 0..3 |
//! | mmio guard | 3 | 0 | PRESET | byte of MAIR_EL1 | AttrIndx | 0 | 0 | 0..3 |
//! | table | 0 | 47:12 next table, others 0 | | | 0 | 1 | 1 | 0..2 |
//! | window | 0 | the same | | | 1 | 1 | 1 | 1 |
//! | block | 0 | output address, XN, AF, SH, S2AP, MemAttr as below | | | | 0 | 1 | 1, 2 |
//! | page | 0 | the same | | | | 1 | 1 | 3 |
//!
//! Anything else is [`Entry::Unknown`]: never written, and never a reason to let an access pass.
//! `locked` carries in 47:12 the address of a table on its way back to the pool; no other code reads it.
//!
//! | leaf | MemAttr 5:2 | S2AP 7:6 | SH 9:8 | AF 10 | XN 54:53 |
//! |---|---|---|---|---|---|
//! | [`Attr::Ram`] | 1111 Normal write-back | 11 read and write | 11 inner | 1 | 00 |
//! | [`Attr::Rom`] | 1111 Normal write-back | 01 read only | 11 inner | 1 | 00 |
//! | [`Attr::Device`] | 0001 Device-nGnRE | 11 read and write | 10 outer | 1 | 10 |
//! | [`Attr::Shared`] | 1111 Normal write-back | 11 read and write | 11 inner | 1 | 10 |
//! | [`Attr::SharedRead`] | 1111 Normal write-back | 01 read only | 11 inner | 1 | 10 |
//!
//! The MemAttr values are those of HCR_EL2.FWB = 0. Access flag and dirty state are not managed by
//! hardware (VTCR_EL2.HA = HD = 0), so a descriptor never changes by itself.
//!
//! Sources: DDI 0487 D8.3.1 (VMSAv8-64 descriptor formats; an invalid descriptor's bits 63:1 are
//! ignored by hardware, and so are bits 11:2 of a table descriptor), D8.4.2, D8.5 (stage-2 permissions and memory types).

use arch::Pa;

/// What a descriptor that is no table means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Nothing here.
    Empty,
    /// A change is in progress: a reader re-enters the guest, which tries again.
    Locked,
    /// Memory at this IPA was given away, to the owner with this id.
    Owner(u16),
    /// Declared as MMIO by the guest, or on its behalf.
    Guard(GuardAnnotation),
    /// A valid leaf.
    Leaf {
        /// Start of what it maps.
        pa: Pa,
        /// How it maps it.
        attr: Attr,
    },
    /// A descriptor that this crate does not write.
    Unknown(u64),
}

/// Memory type and permissions of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attr {
    /// Normal write-back memory, readable, writable, executable.
    Ram,
    /// Normal write-back memory, readable and executable.
    Rom,
    /// Device-nGnRE, readable and writable, never executed.
    Device,
    /// Normal write-back memory that belongs to another VM or to EL2: readable, writable, never executed.
    Shared,
    /// The same, but read only.
    SharedRead,
}

impl Attr {
    /// Whether this is memory that caches may hold.
    #[inline]
    pub const fn is_memory(self) -> bool {
        !matches!(self, Self::Device)
    }

    /// Whether a store finds a permission fault.
    #[inline]
    pub const fn is_read_only(self) -> bool {
        matches!(self, Self::Rom | Self::SharedRead)
    }
}

/// What is kept of a declaration: a hint, never judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GuardAnnotation {
    /// AttrIndx of the guest's mapping, 0..=7.
    pub hint: u8,
    /// The byte of the guest's MAIR_EL1 which that index chose when the call was made.
    pub mair: u8,
    /// Declared on the guest's behalf (`vm.preset`), not by a call.
    pub preset: bool,
}

impl GuardAnnotation {
    /// The annotation of a call with `x2` (a stage-1 descriptor's attribute bits) under `mair_el1`.
    #[inline]
    pub const fn of_call(x2: u64, mair_el1: u64) -> Self {
        let hint = (x2 >> 2) & 7;
        Self {
            hint: hint as u8,
            mair: mair_el1.wrapping_shr((hint as u32) << 3) as u8,
            preset: false,
        }
    }

    /// The annotation of a page declared on the guest's behalf.
    pub const PRESET: Self = Self { hint: 0, mair: 0, preset: true };
}

/// What may be left where a leaf was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Annotation {
    /// Nothing.
    Empty,
    /// The memory now belongs to the owner with this id.
    Owner(u16),
    /// A declaration without hints.
    Declared,
}

/// A descriptor, tables included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Descriptor {
    /// Points to a table of the next level.
    Table(Pa),
    /// Points to the level-2 table of a [`Window`](crate::Window).
    Window(Pa),
    /// Ends the walk.
    Entry(Entry),
}

const VALID: u64 = 1;
/// With VALID: a table below level 3, a page at level 3.
const TABLE_OR_PAGE: u64 = 2;
const TYPE_SHIFT: u32 = 60;
const LOCKED: u64 = 1 << TYPE_SHIFT;
const OWNER: u64 = 2 << TYPE_SHIFT;
const GUARD: u64 = 3 << TYPE_SHIFT;
const OWNER_ID: u64 = 0xffff << 2;
const GUARD_HINT: u64 = 7 << 2;
const GUARD_MAIR: u64 = 0xff << 5;
const GUARD_PRESET: u64 = 1 << 13;
/// The constant bits of a guard annotation.
const GUARD_FIXED: u64 = !(GUARD_HINT | GUARD_MAIR | GUARD_PRESET);
/// Output or next-level address, bits 47:12.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

const AF: u64 = 1 << 10;
const SH_OUTER: u64 = 2 << 8;
const SH_INNER: u64 = 3 << 8;
const S2AP_READ: u64 = 1 << 6;
const S2AP_READ_WRITE: u64 = 3 << 6;
const MEMATTR_WRITE_BACK: u64 = 0xf << 2;
const MEMATTR_DEVICE_NGNRE: u64 = 1 << 2;
const XN: u64 = 2 << 53;

const RAM: u64 = MEMATTR_WRITE_BACK | S2AP_READ_WRITE | SH_INNER | AF;
const ROM: u64 = MEMATTR_WRITE_BACK | S2AP_READ | SH_INNER | AF;
const DEVICE: u64 = MEMATTR_DEVICE_NGNRE | S2AP_READ_WRITE | SH_OUTER | AF | XN;
const SHARED: u64 = RAM | XN;
const SHARED_READ: u64 = ROM | XN;

/// In a table descriptor of level 1: what is below belongs to a [`Window`](crate::Window), not to this VM's pool. Hardware
/// ignores the bit. It is beside the two that make a table, so that one comparison keeps all other walks out.
const WINDOW: u64 = 1 << 2;

/// The empty descriptor.
pub(crate) const EMPTY: u64 = 0;

/// Log2 of the bytes that one descriptor of `level` (0..=3) translates: 39, 30, 21, 12.
#[inline(always)]
pub const fn level_shift(level: u8) -> u32 {
    39u32.wrapping_sub((level as u32).wrapping_mul(9))
}

/// Bytes that one descriptor of `level` (0..=3) translates: 512 GiB, 1 GiB, 2 MiB, 4 KiB.
#[inline(always)]
pub const fn level_size(level: u8) -> u64 {
    1u64.wrapping_shl(level_shift(level))
}

/// Whether `raw`, found at `level`, points to a table of this VM: not to that of a window.
#[inline(always)]
pub(crate) const fn is_table(raw: u64, level: u8) -> bool {
    raw & (VALID | TABLE_OR_PAGE | WINDOW) == (VALID | TABLE_OR_PAGE) && level < 3
}

/// Whether `raw`, found at `level`, points to the level-2 table of a window.
#[inline(always)]
pub(crate) const fn is_window(raw: u64, level: u8) -> bool {
    const ALL: u64 = VALID | TABLE_OR_PAGE | WINDOW;
    level == 1 && raw & ALL == ALL
}

/// Whether `raw` in a table of level 3 is a leaf.
#[inline(always)]
pub(crate) const fn is_page(raw: u64) -> bool {
    raw & (VALID | TABLE_OR_PAGE) == (VALID | TABLE_OR_PAGE)
}

/// Whether two leaves of one level differ in their address at most.
#[inline(always)]
pub(crate) const fn are_alike(one: u64, other: u64) -> bool {
    (one ^ other) & !ADDRESS == 0
}

/// Whether `raw` is an annotation of the guard.
#[inline(always)]
pub(crate) const fn is_guard(raw: u64) -> bool {
    raw & GUARD_FIXED == GUARD
}

/// Whether hardware would use `raw`.
#[inline(always)]
pub(crate) const fn is_valid(raw: u64) -> bool {
    raw & VALID != 0
}

/// The table that `raw` points to.
#[inline(always)]
pub(crate) const fn table_address(raw: u64) -> Pa {
    Pa::new(raw & ADDRESS)
}

/// Descriptor of a table at `table`.
#[inline]
pub(crate) const fn table(table: Pa) -> u64 {
    (table.raw() & ADDRESS) | TABLE_OR_PAGE | VALID
}

/// Descriptor of the level-2 table of a window.
#[inline]
pub(crate) const fn window_table(at: Pa) -> u64 {
    table(at) | WINDOW
}

/// Descriptor of a leaf: a block at levels 1 and 2, a page at level 3.
#[inline]
pub(crate) const fn leaf(pa: Pa, attr: Attr, level: u8) -> u64 {
    let kind = if level == 3 { TABLE_OR_PAGE | VALID } else { VALID };
    let attributes = match attr {
        Attr::Ram => RAM,
        Attr::Rom => ROM,
        Attr::Device => DEVICE,
        Attr::Shared => SHARED,
        Attr::SharedRead => SHARED_READ,
    };
    (pa.raw() & ADDRESS) | attributes | kind
}

/// The break of break-before-make.
pub(crate) const fn locked() -> u64 {
    LOCKED
}

/// In place of a table that goes back to the pool once no TLB can know it.
pub(crate) const fn detached(table: Pa) -> u64 {
    LOCKED | (table.raw() & ADDRESS)
}

/// The table that a [`detached`] descriptor names.
pub(crate) const fn detached_table(raw: u64) -> Option<Pa> {
    if raw & !ADDRESS == LOCKED && raw & ADDRESS != 0 { Some(table_address(raw)) } else { None }
}

/// Descriptor of a guard annotation.
#[inline]
pub(crate) const fn guard(note: GuardAnnotation) -> u64 {
    GUARD
        | ((note.hint as u64 & 7) << 2)
        | ((note.mair as u64) << 5)
        | if note.preset { GUARD_PRESET } else { 0 }
}

/// Descriptor of what is left where a leaf was.
pub(crate) const fn annotation(annotation: Annotation) -> u64 {
    match annotation {
        Annotation::Empty => EMPTY,
        Annotation::Owner(id) => OWNER | ((id as u64) << 2),
        Annotation::Declared => guard(GuardAnnotation { hint: 0, mair: 0, preset: false }),
    }
}

/// What `raw`, found at `level`, means. Total: every value has a meaning, if only `Unknown`.
#[inline(always)]
pub const fn decode(raw: u64, level: u8) -> Descriptor {
    if is_table(raw, level) {
        return Descriptor::Table(table_address(raw));
    }
    if is_window(raw, level) {
        return Descriptor::Window(table_address(raw));
    }
    Descriptor::Entry(entry(raw, level))
}

/// What `raw` means where it is known to be no table.
#[inline(always)]
pub(crate) const fn entry(raw: u64, level: u8) -> Entry {
    if raw == EMPTY {
        return Entry::Empty;
    }
    if is_guard(raw) {
        return Entry::Guard(GuardAnnotation {
            hint: ((raw & GUARD_HINT) >> 2) as u8,
            mair: ((raw & GUARD_MAIR) >> 5) as u8,
            preset: raw & GUARD_PRESET != 0,
        });
    }
    if is_valid(raw) {
        return leaf_entry(raw, level);
    }
    if raw & !OWNER_ID == OWNER {
        return Entry::Owner(((raw & OWNER_ID) >> 2) as u16);
    }
    if raw >> TYPE_SHIFT == 1 && raw & 3 == 0 {
        return Entry::Locked;
    }
    Entry::Unknown(raw)
}

#[inline]
const fn leaf_entry(raw: u64, level: u8) -> Entry {
    let output = ADDRESS & !level_size(level).wrapping_sub(1);
    let kind = if level == 3 { TABLE_OR_PAGE | VALID } else { VALID };
    let fixed = raw & !output;
    let attr = if fixed == RAM | kind {
        Attr::Ram
    } else if fixed == ROM | kind {
        Attr::Rom
    } else if fixed == DEVICE | kind {
        Attr::Device
    } else if fixed == SHARED | kind {
        Attr::Shared
    } else if fixed == SHARED_READ | kind {
        Attr::SharedRead
    } else {
        return Entry::Unknown(raw);
    };
    // There are no level-0 blocks with the 4 KiB granule and 48-bit addresses.
    if level == 0 { Entry::Unknown(raw) } else { Entry::Leaf { pa: Pa::new(raw & output), attr } }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// What a raw value is written for, so that decoding can be inverted.
    fn encode(descriptor: Descriptor, level: u8) -> Option<u64> {
        Some(match descriptor {
            Descriptor::Table(pa) => table(pa),
            Descriptor::Window(pa) => window_table(pa),
            Descriptor::Entry(Entry::Empty) => EMPTY,
            Descriptor::Entry(Entry::Locked) => locked(),
            Descriptor::Entry(Entry::Owner(id)) => annotation(Annotation::Owner(id)),
            Descriptor::Entry(Entry::Guard(note)) => guard(note),
            Descriptor::Entry(Entry::Leaf { pa, attr }) => leaf(pa, attr, level),
            Descriptor::Entry(Entry::Unknown(_)) => return None,
        })
    }

    fn decoded(raw: u64, level: u8) -> Entry {
        match decode(raw, level) {
            Descriptor::Entry(entry) => entry,
            Descriptor::Table(pa) | Descriptor::Window(pa) => panic!("a table at {pa:?}"),
        }
    }

    /// Every row of the module's table: value, level, meaning.
    #[test]
    fn the_table_of_descriptors() {
        let pa = Pa::new(0x0000_8000_4000_0000);
        let note = GuardAnnotation { hint: 5, mair: 0xa6, preset: true };
        let annotations = [
            (0, Entry::Empty),
            (0x1000_0000_0000_0000, Entry::Locked),
            (0x2000_0000_0000_0000, Entry::Owner(0)),
            (0x2000_0000_0000_0004, Entry::Owner(1)),
            (0x2000_0000_0003_fffc, Entry::Owner(0xffff)),
            (0x3000_0000_0000_0000, Entry::Guard(GuardAnnotation::default())),
            (0x3000_0000_0000_34d4, Entry::Guard(note)),
        ];
        for level in 0..=3 {
            for (raw, entry) in annotations {
                assert_eq!(decode(raw, level), Descriptor::Entry(entry), "{raw:#x} at {level}");
                assert_eq!(encode(Descriptor::Entry(entry), level), Some(raw), "{entry:?}");
            }
        }
        for level in 0..3 {
            assert_eq!(decode(0x0000_8000_4000_0003, level), Descriptor::Table(pa));
            let window = decode(0x0000_8000_4000_0007, level);
            assert_eq!(window == Descriptor::Window(pa), level == 1, "{level}");
        }
        let leaves = [
            (Attr::Ram, 0x0000_0000_0000_07fd_u64),
            (Attr::Rom, 0x0000_0000_0000_077d),
            (Attr::Device, 0x0040_0000_0000_06c5),
            (Attr::Shared, 0x0040_0000_0000_07fd),
            (Attr::SharedRead, 0x0040_0000_0000_077d),
        ];
        for (attr, attributes) in leaves {
            for level in 1..=3u8 {
                let kind = if level == 3 { 2 } else { 0 };
                let raw = attributes | kind | pa.raw();
                assert_eq!(leaf(pa, attr, level), raw, "{attr:?} at {level}");
                assert_eq!(decoded(raw, level), Entry::Leaf { pa, attr });
            }
        }
    }

    // bug: 76
    #[test]
    fn attributes_of_leaves_field_by_field() {
        for (attr, memattr, s2ap, sh, xn) in [
            (Attr::Ram, 0b1111, 0b11, 0b11, 0b00),
            (Attr::Rom, 0b1111, 0b01, 0b11, 0b00),
            (Attr::Device, 0b0001, 0b11, 0b10, 0b10),
            (Attr::Shared, 0b1111, 0b11, 0b11, 0b10),
            (Attr::SharedRead, 0b1111, 0b01, 0b11, 0b10),
        ] {
            let raw = leaf(Pa::new(0), attr, 3);
            assert_eq!(raw >> 2 & 0xf, memattr, "MemAttr of {attr:?}");
            assert_eq!(raw >> 6 & 3, s2ap, "S2AP of {attr:?}");
            assert_eq!(raw >> 8 & 3, sh, "SH of {attr:?}");
            assert_eq!(raw >> 10 & 1, 1, "AF of {attr:?}: no access-flag faults");
            assert_eq!(raw >> 53 & 3, xn, "XN of {attr:?}");
            assert_eq!(raw & !0x0060_0000_0000_07ff, 0, "nothing else in {attr:?}");
        }
    }

    /// Bit 1 set without bit 0 is reserved, and some walkers take it for a table.
    // bug: 1
    #[test]
    fn annotations_have_bits_one_and_zero_clear_and_a_type_of_their_own() {
        let mut all: Vec<(u64, u64)> = std::vec![(EMPTY, 0), (locked(), 1)];
        all.push((detached(Pa::new(0xffff_ffff_f000)), 1));
        all.extend((0..=u16::MAX).map(|id| (annotation(Annotation::Owner(id)), 2)));
        for hint in 0..8 {
            for mair in 0..=255 {
                for preset in [false, true] {
                    all.push((guard(GuardAnnotation { hint, mair, preset }), 3));
                }
            }
        }
        assert_eq!(all.len(), 3 + 65536 + 4096);
        for (raw, kind) in all {
            assert_eq!(raw & 3, 0, "{raw:#x}");
            assert_eq!(raw >> 60, kind, "{raw:#x}");
            assert!(!is_valid(raw));
            for level in 0..=3 {
                assert!(!is_table(raw, level));
                assert!(!matches!(decoded(raw, level), Entry::Leaf { .. } | Entry::Unknown(_)));
            }
        }
    }

    #[test]
    fn every_note_and_every_owner_comes_back() {
        for id in 0..=u16::MAX {
            assert_eq!(decoded(annotation(Annotation::Owner(id)), 3), Entry::Owner(id));
        }
        for raw in 0..4096u32 {
            let note = GuardAnnotation {
                hint: raw as u8 & 7,
                mair: (raw >> 3) as u8,
                preset: raw >> 11 != 0,
            };
            assert!(is_guard(guard(note)));
            assert_eq!(decoded(guard(note), 1), Entry::Guard(note));
        }
    }

    #[test]
    fn reserved_types_and_reserved_bits_are_unknown() {
        for level in 0..=3 {
            for kind in 4..16u64 {
                assert_eq!(decoded(kind << 60, level), Entry::Unknown(kind << 60));
            }
            for bit in 14..60 {
                let raw = guard(GuardAnnotation::default()) | 1 << bit;
                assert_eq!(decoded(raw, level), Entry::Unknown(raw), "guard with bit {bit}");
            }
            for bit in 18..60 {
                let raw = annotation(Annotation::Owner(7)) | 1 << bit;
                assert_eq!(decoded(raw, level), Entry::Unknown(raw), "owner with bit {bit}");
            }
            for bit in 2..60 {
                assert_eq!(decoded(1 << bit, level), Entry::Unknown(1 << bit), "bit {bit}");
            }
            for raw in [
                EMPTY,
                locked(),
                guard(GuardAnnotation::default()),
                annotation(Annotation::Owner(1)),
            ] {
                let raw = raw | 2;
                assert_eq!(decoded(raw, level), Entry::Unknown(raw), "0b10 in {raw:#x}");
            }
        }
    }

    /// THREATS 2a 8: a level-0 entry taken for a leaf, or a page's bits for a table.
    // bug: 8
    #[test]
    fn threat_08_leaves_and_tables_are_told_apart_by_level() {
        let pa = Pa::new(0x8000_0000_0000);
        let page = leaf(pa, Attr::Ram, 3);
        let block = leaf(pa, Attr::Ram, 1);
        assert_eq!(decoded(block, 0), Entry::Unknown(block), "no block at level 0");
        assert_eq!(decoded(block, 3), Entry::Unknown(block), "no block at level 3");
        assert_eq!(decoded(page, 3), Entry::Leaf { pa, attr: Attr::Ram });
        // Above level 3 a page's bits point to a table, whatever else they say.
        let device = leaf(pa, Attr::Device, 3);
        for level in 0..3 {
            assert_eq!(decode(page & !WINDOW, level), Descriptor::Table(pa));
            for page in [page, device] {
                let found = decode(page, level);
                let window = found == Descriptor::Window(pa);
                assert!(window || level != 1 && found == Descriptor::Entry(Entry::Unknown(page)));
            }
        }
    }

    #[test]
    fn a_block_with_low_address_bits_is_unknown() {
        for (level, bad) in [(1, 1 << 29), (1, 1 << 12), (2, 1 << 20), (2, 1 << 12)] {
            let raw = leaf(Pa::new(0x4000_0000 | bad), Attr::Ram, level);
            assert_eq!(decoded(raw, level), Entry::Unknown(raw));
        }
    }

    #[test]
    fn a_note_takes_the_attribute_index_from_x2_and_its_byte_from_mair() {
        let mair = 0x8877_6655_4433_2211;
        for index in 0..8u64 {
            let note = GuardAnnotation::of_call(!0x1c | index << 2, mair);
            let byte = (index as u8 + 1) * 0x11;
            assert_eq!(note, GuardAnnotation { hint: index as u8, mair: byte, preset: false });
        }
    }

    #[test]
    fn an_index_that_is_none_does_not_spill_into_its_neighbours() {
        let note = GuardAnnotation { hint: 0xff, mair: 0, preset: false };
        assert_eq!(guard(note), guard(GuardAnnotation { hint: 7, ..note }));
    }

    #[test]
    fn sizes_of_levels() {
        assert_eq!([0, 1, 2, 3].map(level_size), [512 << 30, 1 << 30, 2 << 20, 4096]);
    }

    #[test]
    fn a_detached_table_reads_as_locked_and_is_found_again() {
        let pa = Pa::new(0x8765_4321_f000);
        assert_eq!(decoded(detached(pa), 2), Entry::Locked);
        assert_eq!(detached_table(detached(pa)), Some(pa));
        for raw in
            [EMPTY, locked(), table(pa), guard(GuardAnnotation::PRESET), leaf(pa, Attr::Ram, 3)]
        {
            assert_eq!(detached_table(raw), None, "{raw:#x}");
        }
    }

    fn raws() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            // Near something known: one or two bits away.
            (0..4u64, any::<u64>(), 0..64u32, 0..64u32).prop_map(|(kind, payload, a, b)| {
                let near = kind << 60 | payload & 0x3ffc;
                near ^ 1 << a ^ 1 << b
            }),
            (any::<u64>(), 1..=3u8, 0..64u32)
                .prop_map(|(pa, level, bit)| { leaf(Pa::new(pa), Attr::Ram, level) ^ 1 << bit }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        /// Decoding is total, and what it knows it knows exactly: encoding gives the same bits.
        #[test]
        fn decoding_is_total_and_exact(raw in raws(), level in 0..=3u8) {
            let descriptor = decode(raw, level);
            match encode(descriptor, level) {
                None => prop_assert_eq!(descriptor, Descriptor::Entry(Entry::Unknown(raw))),
                // `locked` and tables carry bits without a meaning here.
                Some(again) => {
                    let ignored = match descriptor {
                        Descriptor::Table(_) | Descriptor::Window(_) => !(ADDRESS | 7),
                        Descriptor::Entry(Entry::Locked) => !(15 << 60 | 3),
                        Descriptor::Entry(_) => 0,
                    };
                    prop_assert_eq!(raw & !ignored, again & !ignored);
                }
            }
        }
    }
}
