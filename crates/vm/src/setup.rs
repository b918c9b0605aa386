// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a VM is made.

use crate::flash_bank::Bank;
use crate::link::Link;
use crate::memory::{MappedMmio, MappedMmioPages, Shares};
use crate::{SetupError, Workarounds};
use arch::guest_map::MAX_FLASH;
use arch::{Ipa, Range};
use lock::atomic::AtomicU64;
use mmio_guard::{Dialect, Policy};

/// Number of ID registers: op0 = 3, op1 = 0, CRn = 0, CRm 0..8, op2 0..8.
pub const ID_REGISTERS: usize = 64;

/// The description of a [`Vm`](crate::Vm). Addresses are the guest's.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Name in log lines, cut after 31 bytes.
    pub name: &'a str,
    /// Number in trace events.
    pub id: u16,
    /// Number of vCPUs, 1..=8.
    pub vcpus: usize,
    /// When the guard is active.
    pub policy: Policy,
    /// Which numbers its calls have.
    pub dialect: Dialect,
    /// RAM.
    pub ram: Range<Ipa>,
    /// Read-only memory, at most 8 regions.
    pub roms: &'a [Range<Ipa>],
    /// What may be declared, at most 16 ranges; empty: everything.
    pub allow: &'a [Range<Ipa>],
    /// What is declared on the guest's behalf, at most 16 ranges.
    pub preset: &'a [Range<Ipa>],
    /// Device pages that stage 2 maps, at most 8 regions. Under GICv2 GICV is one of them.
    pub mapped_mmio: &'a [MappedMmio],
    /// Banks of flash, at most 4.
    pub flash: &'static [Bank],
    /// Whether there is QEMU's firmware configuration device, for firmware that needs it.
    pub fw_cfg: bool,
    /// Page of the test device.
    pub test_device: Option<Ipa>,
    /// The interrupt controller.
    pub gic: vgic::Config,
    /// What the guest reads from its ID registers, at CRm << 3 | op2: filtered by
    /// `arch::visible_id_register`, zero if that has no answer.
    pub id_registers: &'a [u64; ID_REGISTERS],
    /// Whether [`Host::random`](crate::Host::random) has a source.
    pub trng: bool,
    /// Answers about the workarounds.
    pub workarounds: Workarounds,
    /// A bit per page of RAM: [`Vm::share_words`](crate::Vm::share_words) zeroed words.
    pub shares: &'static [AtomicU64],
    /// Its link to the VM that serves it.
    pub served: Option<&'static Link>,
    /// Its links to the VMs that it serves, by their numbers; `None` if it is no device VM.
    pub peers: Option<&'static [&'static Link]>,
}

/// Checks what can be checked without the machine.
pub(crate) fn check(setup: &Setup<'_>, ipa_limit: u64) -> Result<(), SetupError> {
    if setup.vcpus == 0 || setup.vcpus > arch::MAX_VCPUS || setup.vcpus != setup.gic.vcpus() {
        return Err(SetupError::Vcpus(setup.vcpus));
    }
    let ram = core::slice::from_ref(&setup.ram);
    let lists =
        [("ram", ram), ("rom", setup.roms), ("allow", setup.allow), ("preset", setup.preset)];
    for (kind, ranges) in lists {
        for range in ranges {
            check_range(kind, range, ipa_limit)?;
        }
    }
    for region in setup.mapped_mmio {
        check_range("direct", &region.ipa, ipa_limit)?;
        let pages = region.ipa.size() >> arch::PAGE_SHIFT;
        if pages > MappedMmioPages::MAX_PAGES || region.pa.page_offset() != 0 {
            return Err(SetupError::Range("direct", region.ipa));
        }
    }
    if setup.flash.len() > MAX_FLASH {
        return Err(SetupError::TooMany("flash"));
    }
    for bank in setup.flash {
        check_range("flash", &bank.range(), ipa_limit)?;
        if !bank.is_possible() {
            return Err(SetupError::Range("flash", bank.range()));
        }
    }
    // Memory, presets and mapped MMIO: memory is never declared, and no page has two meanings.
    for (i, rom) in setup.roms.iter().enumerate() {
        if rom.overlaps(&setup.ram) {
            return Err(SetupError::Overlap("rom", "ram", *rom));
        }
        if setup.roms.iter().skip(i).skip(1).any(|other| other.overlaps(rom)) {
            return Err(SetupError::Overlap("rom", "rom", *rom));
        }
    }
    let memory = || core::iter::once(&setup.ram).chain(setup.roms);
    for preset in setup.preset {
        if memory().any(|region| region.overlaps(preset)) {
            return Err(SetupError::Overlap("preset", "memory", *preset));
        }
    }
    for (i, mapped_mmio) in setup.mapped_mmio.iter().enumerate() {
        if memory().any(|region| region.overlaps(&mapped_mmio.ipa)) {
            return Err(SetupError::Overlap("direct", "memory", mapped_mmio.ipa));
        }
        if setup
            .mapped_mmio
            .iter()
            .skip(i)
            .skip(1)
            .any(|other| other.ipa.overlaps(&mapped_mmio.ipa))
        {
            return Err(SetupError::Overlap("direct", "direct", mapped_mmio.ipa));
        }
    }
    let mapped_mmio = || setup.mapped_mmio.iter().map(|mapped_mmio| &mapped_mmio.ipa);
    for (i, bank) in setup.flash.iter().enumerate() {
        let later = setup.flash.iter().skip(i).skip(1).map(Bank::range);
        let range = bank.range();
        if memory().chain(mapped_mmio()).copied().chain(later).any(|region| region.overlaps(&range))
        {
            return Err(SetupError::Overlap("flash", "memory or a device", range));
        }
    }
    if let Some(page) = setup.test_device {
        let page = Range::<Ipa>::new(page, arch::PAGE_SIZE).ok_or(SetupError::TestDevice(page))?;
        check_range("test device", &page, ipa_limit)?;
        if memory().any(|region| region.overlaps(&page)) {
            return Err(SetupError::Overlap("test device", "memory", page));
        }
    }
    let words = u64::try_from(setup.shares.len()).unwrap_or(u64::MAX);
    if words < Shares::words(setup.ram.size()) {
        return Err(SetupError::Shares);
    }
    Ok(())
}

fn check_range(kind: &'static str, range: &Range<Ipa>, limit: u64) -> Result<(), SetupError> {
    let good = range.size() != 0
        && range.start().page_offset() == 0
        && range.end().page_offset() == 0
        && range.end().raw() <= limit;
    if good { Ok(()) } else { Err(SetupError::Range(kind, *range)) }
}
