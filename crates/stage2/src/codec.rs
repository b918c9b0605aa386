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
//! | block | 0 | output address, XN, AF, SH, S2AP, MemAttr as below | | | | 0 | 1 | 1, 2 |
//! | page | 0 | the same | | | | 1 | 1 | 3 |
//!
//! Anything else is [`Entry::Unknown`]: never written, and never a reason to let an access pass.
//! `locked` carries in 47:12 the address of a table on its way back to the pool; nobody else looks.
//!
//! | leaf | MemAttr 5:2 | S2AP 7:6 | SH 9:8 | AF 10 | XN 54:53 |
//! |---|---|---|---|---|---|
//! | [`Attr::Ram`] | 1111 Normal write-back | 11 read and write | 11 inner | 1 | 00 |
//! | [`Attr::Rom`] | 1111 Normal write-back | 01 read only | 11 inner | 1 | 00 |
//! | [`Attr::Device`] | 0001 Device-nGnRE | 11 read and write | 10 outer | 1 | 10 |
//!
//! The MemAttr values are those of HCR_EL2.FWB = 0. Access flag and dirty state are not managed by
//! hardware (VTCR_EL2.HA = HD = 0), so a descriptor never changes by itself.
//!
//! Sources: DDI 0487 D8.3.1 (VMSAv8-64 descriptor formats; an invalid descriptor's bits 63:1 are
//! ignored by hardware), D8.4.2, D8.5 (stage-2 permissions and memory types).

use arch::Pa;

/// What a descriptor that is no table means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Nothing here.
    Empty,
    /// A change is under way; whoever reads this re-enters the guest, which tries again.
    Locked,
    /// Memory at this IPA was given away, to the owner with this id.
    Owner(u16),
    /// Declared as MMIO by the guest, or on its behalf.
    Guard(Note),
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
}

impl Attr {
    /// Whether this is memory that caches may hold.
    #[inline]
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Ram | Self::Rom)
    }
}

/// What is kept of a declaration: a hint, never judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Note {
    /// AttrIndx of the guest's mapping, 0..=7.
    pub hint: u8,
    /// The byte of the guest's MAIR_EL1 which that index chose when the call was made.
    pub mair: u8,
    /// Declared on the guest's behalf (`vm.preset`), not by a call.
    pub preset: bool,
}

impl Note {
    /// The note of a call with `x2` (a stage-1 descriptor's attribute bits) under `mair_el1`.
    #[inline]
    pub const fn of_call(x2: u64, mair_el1: u64) -> Self {
        let hint = (x2 >> 2) & 7;
        Self {
            hint: hint as u8,
            mair: mair_el1.wrapping_shr((hint as u32) << 3) as u8,
            preset: false,
        }
    }

    /// The note of a page declared on the guest's behalf.
    pub const PRESET: Self = Self { hint: 0, mair: 0, preset: true };
}

/// What may be left where a leaf was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Annotation {
    /// Nothing.
    Empty,
    /// The memory now belongs to the owner with this id.
    Owner(u16),
}

/// A descriptor, tables included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Descriptor {
    /// Points to a table of the next level.
    Table(Pa),
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
/// Everything of a guard note that does not vary.
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

/// Whether `raw`, found at `level`, points to a table.
#[inline(always)]
pub(crate) const fn is_table(raw: u64, level: u8) -> bool {
    raw & (VALID | TABLE_OR_PAGE) == (VALID | TABLE_OR_PAGE) && level < 3
}

/// Whether `raw` is a note of the guard.
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

/// Descriptor of a leaf: a block at levels 1 and 2, a page at level 3.
#[inline]
pub(crate) const fn leaf(pa: Pa, attr: Attr, level: u8) -> u64 {
    let kind = if level == 3 { TABLE_OR_PAGE | VALID } else { VALID };
    let attributes = match attr {
        Attr::Ram => RAM,
        Attr::Rom => ROM,
        Attr::Device => DEVICE,
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

/// The table which a [`detached`] descriptor stands for.
pub(crate) const fn detached_table(raw: u64) -> Option<Pa> {
    if raw & !ADDRESS == LOCKED && raw & ADDRESS != 0 { Some(table_address(raw)) } else { None }
}

/// Descriptor of a guard note.
#[inline]
pub(crate) const fn guard(note: Note) -> u64 {
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
    }
}

/// What `raw`, found at `level`, means. Total: every value has a meaning, if only `Unknown`.
#[inline(always)]
pub const fn decode(raw: u64, level: u8) -> Descriptor {
    if is_table(raw, level) {
        return Descriptor::Table(table_address(raw));
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
        return Entry::Guard(Note {
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
    } else {
        return Entry::Unknown(raw);
    };
    // There are no level-0 blocks with the 4 KiB granule and 48-bit addresses.
    if level == 0 { Entry::Unknown(raw) } else { Entry::Leaf { pa: Pa::new(raw & output), attr } }
}
