// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device VM reaches of the VM that it serves, against what that one shares (promise P2).

use alloc::format;
use alloc::string::String;
use arch::{Ipa, Pa, Width};
use stage2::{Parties, Stage2, TableMemory, Tlb, Window};
use vm::{Host, Vm};

/// The window of `vm`, if it is served, while neither it nor its server changes: every leaf is the granule of RAM at its place,
/// of which `parties` are the VM and its server, and every granule that is shared has its leaf.
///
/// # Errors
/// The first leaf that should not be, or how many there are.
pub fn window<H: Host>(
    vm: &Vm<H>,
    parties: impl Fn(Pa, Ipa) -> Option<Parties>,
) -> Result<(), String> {
    let Some(setup) = vm.link().map(|link| link.setup()) else { return Ok(()) };
    let Some(tables) = vm.host().stage2_of(setup.server) else { return Ok(()) };
    let right = Parties { owner: vm.id(), shared_with: Some(setup.server) };
    leaves(tables, &setup.window, vm.shared_pages(), |offset, pa| {
        let at = setup.ram.start().checked_add(offset);
        at.is_some_and(|at| vm.ram_pa(at) == Some(pa) && parties(pa, at) == Some(right))
    })
}

/// Every granule that `window` shows is `right` for its offset, and they are `shared` many: so none that is shared is missing.
///
/// # Errors
/// The first leaf that is not right, or how many there are.
pub fn leaves<H: TableMemory + Tlb>(
    tables: &Stage2<H>,
    window: &Window,
    shared: u64,
    right: impl Fn(u64, Pa) -> bool,
) -> Result<(), String> {
    let (mut count, mut wrong) = (0_u64, None);
    tables.visit_window(window, |offset, pa| {
        count = count.wrapping_add(1);
        if wrong.is_none() && !right(offset, pa) {
            wrong = Some((offset, pa));
        }
    });
    if let Some((offset, pa)) = wrong {
        return Err(format!("the window shows {pa} at {offset:#x}, which is not shared as that"));
    }
    if count == shared {
        return Ok(());
    }
    Err(format!("the window shows {count} granules, {shared} are shared"))
}

/// What the control page says of the access of `vcpu` that waits, against what it may say (promise P3). While neither the VM nor
/// its server runs.
///
/// # Errors
/// What differs.
pub fn told<H: Host>(vm: &Vm<H>, spec: &spec::Vm, vcpu: usize) -> Result<(), String> {
    let (Some(told), Some(link)) = (spec.link.told(vcpu), vm.link()) else { return Ok(()) };
    // docs/devices.md, "The control page": number, address, value, kind.
    let slot = 0x200_u64.wrapping_add((vcpu as u64).wrapping_mul(0x40));
    let read =
        |offset: u64, width| vm.host().peek(link.setup().control, slot.wrapping_add(offset), width);
    let is = [read(0, Width::B8), read(8, Width::B8), read(0x10, Width::B8), read(0x18, Width::B4)];
    let kind = told.bytes | u64::from(told.store.is_some()) << 8 | (vcpu as u64) << 16;
    let should = [told.number, told.ipa, told.store.unwrap_or(0), kind];
    if is == should {
        return Ok(());
    }
    Err(format!("the server is told {is:x?} of vCPU {vcpu}, should be {should:x?}"))
}
