// SPDX-License-Identifier: MIT OR Apache-2.0
//! The MMIO guard as the stub uses it for its own devices, through the client of `mmio-guard`, and the
//! raw calls that tests are about.
//!
//! Everything here belongs to the first vCPU, but for [`map`], [`unmap`] and the other raw calls.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

use mmio_guard::client::{AttrIndex, DetectError, Guard, Ioremap, Region};
use mmio_guard::{Call, Dialect, abi};

use crate::hvc::{Hvc, hvc};
use crate::scratch::Shared;
use crate::tree::{self, Gic};
use crate::verdict::{Verdict, Why, failed};

/// Accesses that find nothing: below RAM and above the devices of the `virt` machine.
pub const HOLE: u64 = 0x1000_0000;

/// The hole's page number `n`. Every test has numbers of its own.
pub const fn hole(n: u64) -> u64 {
    HOLE + n * 4096
}

/// MAIR_EL1 index that `mmu` maps devices with.
fn device() -> AttrIndex {
    AttrIndex::new(4).unwrap_or_default()
}

type Devices = Ioremap<'static, Hvc, 16>;

static RAM: Shared<Range<u64>> = Shared::new(0..0);
static DEVICES: Shared<Option<Devices>> = Shared::new(None);
/// 0: no guard, 1: pkvm, 2: series.
static DIALECT: AtomicU32 = AtomicU32::new(0);

fn devices() -> Option<&'static mut Devices> {
    // SAFETY: only the first vCPU comes here, and no caller keeps the reference.
    unsafe { (*DEVICES.get()).as_mut() }
}

/// The dialect, if there is a guard.
pub fn dialect() -> Option<Dialect> {
    match DIALECT.load(Ordering::Relaxed) {
        1 => Some(Dialect::Pkvm),
        2 => Some(Dialect::Series),
        _ => None,
    }
}

/// Whether the guard speaks the series' dialect.
pub fn series() -> bool {
    dialect() == Some(Dialect::Series)
}

/// Finds the guard. Changes nothing.
pub fn detect() {
    if !tree::get().psci_hvc {
        return;
    }
    let own = hvc(u64::from(abi::own::VERSION), [0; 3])[0] == abi::own::VERSION_1_0;
    let guard = match Guard::detect(Hvc, None) {
        // The numbers of the series are also the beginning of pkvm's. This one is Portcullis, which
        // shows a whole table or none.
        Err(DetectError::Ambiguous(_)) if own => Guard::detect(Hvc, Some(Dialect::Series)),
        other => other,
    };
    let Ok(guard) = guard else { return };
    let dialect = if guard.dialect() == Dialect::Series { 2 } else { 1 };
    let (base, size) = tree::get().ram;
    // SAFETY: only the first vCPU comes here, once.
    unsafe {
        *RAM.get() = base..base.saturating_add(size);
        *DEVICES.get() = Some(Ioremap::new(guard, core::slice::from_ref(&*RAM.get())));
    }
    DIALECT.store(dialect, Ordering::Relaxed);
}

/// The devices that the stub itself uses.
fn own_regions() -> [Region; 3] {
    let region = |ipa, bytes| Region { ipa, bytes, attribute: device() };
    let uart = region(tree::get().uart, 0x1000);
    match tree::get().gic {
        Gic::V2(distributor, interface) => {
            [uart, region(distributor, 0x1000), region(interface, 0x2000)]
        }
        Gic::V3(distributor, frames, _) => [
            uart,
            region(distributor, 0x1_0000),
            region(frames, 0x2_0000 * tree::get().vcpus as u64),
        ],
        Gic::None => [uart, uart, uart],
    }
}

/// Declares the stub's own devices, as far as the guard takes declarations now. In the series' dialect it
/// does so only while it is active.
pub fn declare_own() {
    let Some(devices) = devices() else { return };
    for region in own_regions() {
        if devices.count(region.ipa) == 0 {
            // Refused before ENROLL in the series' dialect, where nothing needs it yet.
            let _ = devices.map(region.ipa, region.bytes, region.attribute);
        }
    }
}

/// Declares the stub's own devices again, whatever has become of them behind the client's back. Their tables stay, so that
/// it cannot fail for want of one.
pub fn redeclare_own() {
    for region in own_regions() {
        for page in (region.ipa..region.ipa + region.bytes).step_by(4096) {
            map(page);
        }
    }
}

/// Takes a declaration back.
pub fn undeclare(ipa: u64, bytes: u64) -> Verdict {
    let Some(devices) = devices() else { return Ok(()) };
    devices.unmap(ipa, bytes).map_err(|error| failed(format_args!("{error:?}")))
}

/// Makes the guard active, the stub's own devices declared.
pub fn activate() -> Verdict {
    let Some(devices) = devices() else { return Err(Why::Skipped("no MMIO guard")) };
    if devices.count(tree::get().uart) > 0 {
        // pkvm, or active already: ENROLL may be repeated.
        return devices.guard().enrol().map_err(|error| failed(format_args!("{error:?}")));
    }
    devices.enrol(&own_regions()).map_err(|error| failed(format_args!("{error:?}")))
}

/// The same where there is a guard; for tests that do without one.
pub fn activate_if_there() -> Verdict {
    if dialect().is_some() { activate() } else { Ok(()) }
}

/// The id of a guard call in the VM's dialect; 0 where it has none.
pub fn id(call: Call) -> u64 {
    u64::from(match (dialect(), call) {
        (Some(Dialect::Pkvm), Call::Meminfo) => abi::pkvm::MEMINFO,
        (Some(Dialect::Pkvm), Call::Info) => abi::pkvm::INFO,
        (Some(Dialect::Pkvm), Call::Enroll) => abi::pkvm::ENROLL,
        (Some(Dialect::Pkvm), Call::Map) => abi::pkvm::MAP,
        (Some(Dialect::Pkvm), Call::Unmap) => abi::pkvm::UNMAP,
        (Some(Dialect::Series), Call::Info) => abi::series::INFO,
        (Some(Dialect::Series), Call::Enroll) => abi::series::ENROLL,
        (Some(Dialect::Series), Call::Map) => abi::series::MAP,
        (Some(Dialect::Series), Call::Unmap) => abi::series::UNMAP,
        _ => 0,
    })
}

/// MAP, every result register.
pub fn map(ipa: u64) -> [u64; 4] {
    hvc(id(Call::Map), [ipa, 0, 0])
}

/// UNMAP, every result register.
pub fn unmap(ipa: u64) -> [u64; 4] {
    hvc(id(Call::Unmap), [ipa, 0, 0])
}

/// What MAP and UNMAP answer when they did it.
pub fn done() -> [u64; 4] {
    [0, u64::from(!series()), 0, 0]
}

/// What a call answers that refuses its argument.
pub fn refused() -> [u64; 4] {
    [if series() { abi::NOT_SUPPORTED } else { abi::INVALID_PARAMETER }, 0, 0, 0]
}

/// What a call answers that does not exist.
pub const UNKNOWN: [u64; 4] = [abi::NOT_SUPPORTED, 0, 0, 0];

/// RGUARD_MAP (pkvm).
pub fn range_map(ipa: u64, granules: u64) -> [u64; 4] {
    hvc(u64::from(abi::pkvm::RANGE_MAP), [ipa, granules, 0])
}

/// RGUARD_UNMAP (pkvm).
pub fn range_unmap(ipa: u64, granules: u64) -> [u64; 4] {
    hvc(u64::from(abi::pkvm::RANGE_UNMAP), [ipa, granules, 0])
}

/// What is at a page, as Portcullis' own call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing, or a device that is not declared.
    Undeclared,
    /// Memory of the VM.
    Ram,
    /// Read-only memory of the VM.
    Rom,
    /// Declared.
    Declared,
    /// A page reached without a trap.
    Direct,
    /// Beyond the IPA space.
    Beyond,
    /// None of these: x0 and x1.
    Other(u64, u64),
}

/// Asks what is at a page.
pub fn query(ipa: u64) -> State {
    let [x0, x1, ..] = hvc(u64::from(abi::own::QUERY_PAGE), [ipa, 0, 0]);
    match (x0, x1) {
        (0, 0) => State::Undeclared,
        (0, 1) => State::Ram,
        (0, 2) => State::Rom,
        (0, 3) => State::Declared,
        (0, 4) => State::Direct,
        (abi::INVALID_PARAMETER, 0) => State::Beyond,
        _ => State::Other(x0, x1),
    }
}

/// Refused accesses, declared pages, hypercalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Accesses refused.
    pub refused: u64,
    /// Pages declared at the moment.
    pub declared: u64,
}

/// The VM's counters.
pub fn counters() -> Counters {
    let [_, refused, declared, _] = hvc(u64::from(abi::own::COUNTERS), [0; 3]);
    Counters { refused, declared }
}

/// Bits of the IPA space: the smallest power of two that is beyond it.
pub fn ipa_bits() -> u32 {
    (32..52).find(|bits| query(1 << bits) == State::Beyond).unwrap_or(52)
}

/// Gives the declaration of the interrupt controller up; [`declare_own`] makes it again.
pub fn undeclare_own_gic() -> Verdict {
    let [_, distributor, frames] = own_regions();
    undeclare(distributor.ipa, distributor.bytes)?;
    undeclare(frames.ipa, frames.bytes)
}

/// Pages of the VM's table pool that the stub's own devices have cost: a table for each GiB without RAM,
/// and for each 2 MiB of it, in which one is declared; but not those that GICV's leaves need anyway. Holds
/// while nothing else has been declared.
pub fn tables_used() -> u64 {
    let regions = own_regions();
    let free = match tree::get().gic {
        Gic::V2(_, interface) => Some(interface),
        _ => None,
    };
    let distinct = |shift: u32| {
        // Places that have their table: with 1 added, so that 0 is none.
        let mut seen = [0_u64; 4];
        let mut count = 0;
        if let (Some(ipa), Some(slot)) = (free, seen.last_mut()) {
            *slot = (ipa >> shift) + 1;
        }
        for region in &regions {
            let place = (region.ipa >> shift) + 1;
            if !seen.contains(&place) {
                if let Some(slot) = seen.get_mut(count) {
                    *slot = place;
                }
                count += 1;
            }
        }
        count as u64
    };
    distinct(30) + distinct(21)
}
