// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stub's own translation: 4 KiB granule, 48-bit addresses, one set of tables for all vCPUs, and
//! several views of the same guest-physical space side by side, so that one test can reach one page with
//! different attributes and rights.
//!
//! | virtual | what |
//! |---|---|
//! | 0 to 1 GiB | identity, device, EL1 |
//! | 1 to 2 GiB | identity; RAM normal and executable, the rest device, EL1 |
//! | 2 to 3 GiB | the same of 1 to 2 GiB for EL0 ([`user`]) |
//! | 3 to 4 GiB | guest-physical 0 to 1 GiB for EL0 |
//! | 4 GiB to 1 TiB | identity, device, EL1 |
//! | [`View`]s | guest-physical 0 to 512 GiB with other attributes |
//! | [`WINDOW`] | 512 pages that a test maps as it likes |
//!
//! With the MMU off every address is what it says, at EL0 too.

use core::cell::UnsafeCell;

use crate::{features, tree};

/// A table.
#[repr(C, align(4096))]
pub struct Table(UnsafeCell<[u64; 512]>);

// SAFETY: entries are written by one vCPU at a time, as single words; the reader is the hardware.
unsafe impl Sync for Table {}

impl Table {
    /// Nothing mapped.
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; 512]))
    }

    /// Where it is; RAM is mapped by identity.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// Writes entry `index`, visible to the walks that follow.
    pub fn set(&self, index: usize, descriptor: u64) {
        // SAFETY: in bounds by the remainder; a whole word is written at once.
        unsafe { self.0.get().cast::<u64>().add(index % 512).write_volatile(descriptor) };
        plain!("dsb ishst", "isb");
    }
}

static L0: Table = Table::new();
static L1_LOW: Table = Table::new();
static L1_SECOND: Table = Table::new();
static L2_RAM: Table = Table::new();
static L2_USER: Table = Table::new();
static VIEWS: [Table; View::COUNT] = [const { Table::new() }; View::COUNT];
static L1_WINDOW: Table = Table::new();
static L2_WINDOW: Table = Table::new();
static L3_WINDOW: Table = Table::new();

/// Descriptor bits.
pub mod attribute {
    /// A block, or with [`PAGE`] a page, that is accessed.
    pub const VALID: u64 = 1 | 1 << 10;
    /// At level 3.
    pub const PAGE: u64 = 2;
    /// A table.
    pub const TABLE: u64 = 3;
    /// Inner shareable.
    pub const SHARED: u64 = 3 << 8;
    /// EL0 may access it (and EL1 may not execute it).
    pub const USER: u64 = 1 << 6;
    /// Not executable at EL1.
    pub const PXN: u64 = 1 << 53;
    /// Not executable at EL0.
    pub const UXN: u64 = 1 << 54;
    /// Not executable.
    pub const XN: u64 = PXN | UXN;
    /// MAIR index 0: Normal, write-back.
    pub const NORMAL: u64 = 0;
    /// MAIR index 4: Device-nGnRE, as Linux numbers it.
    pub const DEVICE: u64 = 4 << 2;
    /// MAIR index 2: Normal, not cacheable.
    pub const UNCACHED: u64 = 2 << 2;
}
use attribute::{DEVICE, NORMAL, PAGE, PXN, SHARED, TABLE, UNCACHED, USER, UXN, VALID, XN};

/// MAIR_EL1, by the indices of [`attribute`].
const MAIR: u64 = 0xff | 0xff << 8 | 0x44 << 16 | 0x04 << 32;

const GIB: u64 = 1 << 30;
const MIB2: u64 = 2 << 20;

/// Guest-physical 0 to 512 GiB once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Normal memory that EL1 may execute.
    Executable,
    /// Normal memory that EL0 may execute.
    UserExecutable,
    /// Normal write-back memory, EL1.
    Normal,
    /// Normal write-back memory, EL0 too.
    UserNormal,
    /// Device, EL0 too.
    UserDevice,
}

impl View {
    const COUNT: usize = 5;

    /// The entry of the level-0 table.
    const fn slot(self) -> usize {
        16 + self as usize
    }

    /// The virtual address of guest-physical `ipa`, below 512 GiB.
    pub const fn of(self, ipa: u64) -> u64 {
        (self.slot() as u64) << 39 | ipa
    }

    const fn attributes(self) -> u64 {
        VALID
            | match self {
                Self::Executable => UNCACHED | SHARED | UXN,
                Self::UserExecutable => UNCACHED | SHARED | USER | PXN,
                Self::Normal => NORMAL | SHARED | XN,
                Self::UserNormal => NORMAL | SHARED | XN | USER,
                Self::UserDevice => DEVICE | XN | USER,
            }
    }
}

/// Where EL0 finds guest-physical `ipa`, below 2 GiB.
pub const fn user(ipa: u64) -> u64 {
    if ipa < GIB { ipa + 3 * GIB } else { ipa + GIB }
}

/// The virtual address of the window's first page.
pub const WINDOW: u64 = 32 << 39;

/// Maps page `slot` of the window to guest-physical `ipa` with these [`attribute`]s; its address.
pub fn window(slot: usize, ipa: u64, attributes: u64) -> u64 {
    let slot = slot % 512;
    let address = WINDOW + (slot as u64) * 4096;
    L3_WINDOW.set(slot, 0);
    flush(address);
    L3_WINDOW.set(slot, ipa & !0xfff & 0xffff_ffff_ffff | attributes | VALID | PAGE);
    address
}

/// Forgets what the TLBs know of one page.
pub fn flush(address: u64) {
    // SAFETY: TLB maintenance of the stub's own translation.
    unsafe {
        core::arch::asm!(
            "dsb ishst", "tlbi vaae1is, {}", "dsb ish", "isb",
            in(reg) address >> 12, options(nostack)
        );
    }
}

/// Forgets everything.
pub fn flush_all() {
    plain!("dsb ishst", "tlbi vmalle1is", "dsb ish", "isb");
}

/// TCR_EL1 as the stub uses it: 48 bits, TTBR0 only, the physical size that the CPU shows.
pub fn tcr() -> u64 {
    let ips = (mrs!("id_aa64mmfr0_el1") & 0xf).min(5);
    16 | 1 << 8
        | 1 << 10
        | 3 << 12
        | 16 << 16
        | 1 << 23
        | 1 << 24
        | 1 << 26
        | 3 << 28
        | 2 << 30
        | ips << 32
}

/// SCTLR_EL1 without M, C and I: its bits that are always one.
pub const SCTLR_OFF: u64 = 0x30d0_0800;
/// SCTLR_EL1 with translation and caches.
pub const SCTLR_ON: u64 = SCTLR_OFF | 0x1005;

/// Fills the tables. Once, by the first vCPU.
pub fn init() {
    let (base, size) = tree::get().ram;
    let ram = base..base.saturating_add(size);
    for n in 0..512 {
        let block = (n as u64) * GIB;
        L1_LOW.set(n, block | VALID | DEVICE | XN);
        L1_SECOND.set(n, (512 * GIB + block) | VALID | DEVICE | XN);
        let at = GIB + (n as u64) * MIB2;
        let (own, user) = if ram.contains(&at) {
            (NORMAL | SHARED | UXN, NORMAL | SHARED | USER | PXN)
        } else {
            (DEVICE | XN, DEVICE | XN | USER)
        };
        L2_RAM.set(n, at | VALID | own);
        L2_USER.set(n, at | VALID | user);
    }
    L1_LOW.set(1, L2_RAM.address() | TABLE);
    L1_LOW.set(2, L2_USER.address() | TABLE);
    L1_LOW.set(3, VALID | DEVICE | XN | USER);
    L0.set(0, L1_LOW.address() | TABLE);
    if features::pa_bits() > 39 {
        L0.set(1, L1_SECOND.address() | TABLE);
    }
    use View::{Executable, Normal, UserDevice, UserExecutable, UserNormal};
    for view in [Executable, UserExecutable, Normal, UserNormal, UserDevice] {
        let table = &VIEWS[view as usize];
        for n in 0..512 {
            table.set(n, ((n as u64) * GIB) | view.attributes());
        }
        L0.set(view.slot(), table.address() | TABLE);
    }
    L0.set((WINDOW >> 39) as usize, L1_WINDOW.address() | TABLE);
    L1_WINDOW.set(0, L2_WINDOW.address() | TABLE);
    L2_WINDOW.set(0, L3_WINDOW.address() | TABLE);
}

/// Switches translation and caches of the calling vCPU on.
pub fn enable() {
    msr!("mair_el1", MAIR);
    msr!("tcr_el1", tcr());
    msr!("ttbr0_el1", L0.address());
    msr!("ttbr1_el1", 0);
    plain!("dsb sy", "tlbi vmalle1", "ic iallu", "dsb sy", "isb");
    msr!("sctlr_el1", SCTLR_ON);
    plain!("isb");
}

/// Switches them off. Code and data are mapped by identity, so the next instruction is the next one.
pub fn disable() {
    clean_image();
    msr!("sctlr_el1", SCTLR_OFF);
    plain!("isb", "tlbi vmalle1", "dsb sy", "isb");
}

/// Whether they are on.
pub fn enabled() -> bool {
    mrs!("sctlr_el1") & 1 != 0
}

/// Cleans the whole image with its data to the point of coherency, as accesses go past the caches from
/// here on, and invalidates it, so that nothing old comes back.
pub fn clean_image() {
    let line = 4_u64 << (mrs!("ctr_el0") >> 16 & 0xf);
    let footprint = crate::image_layout::footprint();
    let mut at = footprint.start;
    while at < footprint.end {
        // SAFETY: writes back what is in the caches; changes nothing that a program sees.
        unsafe { core::arch::asm!("dc civac, {}", in(reg) at, options(nostack)) };
        at += line;
    }
    plain!("dsb sy");
}
