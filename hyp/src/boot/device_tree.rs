// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device tree from the boot loader, and EL2's tables and VMs from it.

use alloc::vec::Vec;

use aarch64_paging::MapError;
use arch::{Pa, Range};
use platform::{Board, El2Image, Error, HostResources, ReservedRegion, Uart, VmConfig};

use crate::layout::{self, Span};
use crate::memory::mmu::Builder;

/// The boot protocol bounds a tree to 2 MiB.
const MAX_TREE: usize = 2 << 20;

/// The tree at `address`, which the early tables map. Empty if there is no tree.
pub fn find(address: usize) -> &'static [u8] {
    if !address.is_multiple_of(8) {
        return &[];
    }
    // SAFETY: `map_early` mapped 2 MiB from here; nothing writes to it while EL2 runs: it is kept out of free RAM.
    let all = unsafe { core::slice::from_raw_parts(address as *const u8, MAX_TREE) };
    let size = platform::tree_size(all).unwrap_or(0);
    all.get(..size).unwrap_or(&[])
}

/// What EL2 itself occupies.
pub fn own(tree: &[u8]) -> [ReservedRegion<'static>; 2] {
    let image = layout::image().start..layout::appended().end;
    let start = tree.as_ptr() as usize;
    [
        ReservedRegion { name: "Portcullis's image", range: range(&image) },
        ReservedRegion {
            name: "the device tree",
            range: range(&(start..start.saturating_add(tree.len()))),
        },
    ]
}

fn range(span: &Span) -> Range<Pa> {
    // It does not wrap: the end of what is appended saturates, and the rest is mapped memory.
    Range::<Pa>::new(Pa::new(span.start as u64), span.len() as u64).unwrap_or_else(|| {
        crate::boot::boot_error::halt_with(format_args!("memory at {:#x} wraps", span.start))
    })
}

/// The VMs that the tree's modules describe, or a bundle.
///
/// # Errors
/// What is wrong, in one line.
#[inline(never)]
pub fn vms(board: &Board, tree: &[u8], own: &[ReservedRegion<'_>]) -> Result<Vec<VmConfig>, Error> {
    let read = |range: Range<Pa>| {
        board.ram.iter().any(|bank| bank.encloses(&range)).then(|| {
            // SAFETY: RAM, mapped by EL2's tables; nothing writes modules.
            unsafe { crate::memory::slice(range) }
        })
    };
    let cpus = board.usable_cpus(crate::cpu::id_registers::mpidr()).min(crate::cpu::MAX_CPUS);
    let pa_bits = arch::physical_bits(crate::cpu::id_registers::pa_range());
    let appended = layout::appended();
    let appended = (!appended.is_empty()).then(|| range(&appended));
    platform::vms(&HostResources { board, tree, own, appended, cpus, pa_bits, read: &read })
}

/// Makes EL2's final tables and switches to them.
#[inline(never)]
pub fn map(tree: &[u8], uart: Option<&Uart>, board: Option<&Board>) {
    if build(tree, uart, board).is_err() {
        // Without tables there is no console.
        crate::boot::boot_error::halt_silently(
            "EL2's own translation tables cannot be made from this tree",
        );
    }
}

#[inline(never)]
fn build(tree: &[u8], uart: Option<&Uart>, board: Option<&Board>) -> Result<(), MapError> {
    let mut tables = Builder::new();
    let guards = crate::cpu::CPUS.each_ref().map(|area| range(&area.guard_page()));
    let image = El2Image {
        all: range(&layout::image()),
        code: range(&layout::text()),
        constants: range(&layout::rodata()),
        data: range(&layout::data()),
        guards: &guards,
    };
    let [_, tree] = own(tree).map(|own| own.range);
    platform::el2_map(&image, tree, uart, board, |range, memory| tables.add(range, memory))?;
    tables.activate();
    Ok(())
}
