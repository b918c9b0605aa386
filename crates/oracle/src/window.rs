// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device VM reaches of the VM that it serves, against what that one shares (promise P2).

use alloc::format;
use alloc::string::String;
use arch::{Ipa, Pa};
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
