// SPDX-License-Identifier: MIT OR Apache-2.0
//! Started as an EFI application: takes the device tree and the memory map, leaves boot services, and goes on as if a
//! boot loader had entered the image. What firmware keeps for itself is taken out of RAM later.
//!
//! Runs on firmware's stack and tables, before the image is relocated: no formatting, no `dyn`, nothing that may panic.
//!
//! Sources: UEFI Specification 2.10, sections 4.3, 4.6, 7.2 and 7.4.6; EBBR 2.1 (the tree's table).

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arch::{Pa, Range};
use platform::{EfiMap, Reserved};

/// GUID of the flattened tree's table, b1b621d5-f19c-41a5-830b-d9152c69aae0, as it lies in memory.
const DEVICE_TREE: [u64; 2] = [0x41a5_f19c_b1b6_21d5, 0xe0aa_692c_15d9_0b83];
const UNSUPPORTED: usize = 1 << 63 | 3;
const OUT_OF_RESOURCES: usize = 1 << 63 | 9;
const ABORTED: usize = 1 << 63 | 21;

/// Ranges of firmware's that are kept at most.
const RANGES: usize = 64;
/// What firmware keeps: start and size of each. Not in .bss, which is cleared after this was written.
#[unsafe(link_section = ".data.efi")]
static KEPT: [[AtomicU64; 2]; RANGES] = [const { [const { AtomicU64::new(0) }; 2] }; RANGES];
#[unsafe(link_section = ".data.efi")]
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// UTF-16 of a text, and a NUL.
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler"
)]
const fn wide<const N: usize>(text: &[u8]) -> [u16; N] {
    let mut wide = [0; N];
    let mut n = 0;
    while n < text.len() {
        wide[n] = text[n] as u16;
        n += 1;
    }
    wide
}

const NO_TREE_TEXT: &[u8] =
    b"[hyp] error: firmware has no device tree for Portcullis; turn ACPI off\r\n";
static NO_TREE: [u16; NO_TREE_TEXT.len() + 1] = wide(NO_TREE_TEXT);

/// The parts of EFI's tables that are used, at their offsets.
#[repr(C)]
pub struct SystemTable {
    _before: [u64; 8],
    output: *const TextOutput,
    _between: [u64; 3],
    services: *const BootServices,
    tables: usize,
    table: *const Table,
}

#[repr(C)]
struct TextOutput {
    _reset: usize,
    put: unsafe extern "C" fn(*const TextOutput, *const u16) -> usize,
}

#[repr(C)]
struct BootServices {
    _before: [u64; 7],
    memory_map:
        unsafe extern "C" fn(*mut usize, *mut u64, *mut usize, *mut usize, *mut u32) -> usize,
    _between: [u64; 21],
    exit: unsafe extern "C" fn(usize, usize) -> usize,
}

#[repr(C)]
struct Table {
    guid: [u64; 2],
    address: usize,
}

/// The image's entry as a PE/COFF application. Returns an EFI status where it cannot go on.
///
/// # Safety
/// Firmware calls it, with its handle of the image and its system table.
pub unsafe extern "C" fn entry(handle: usize, system: *const SystemTable) -> usize {
    unsafe extern "C" {
        fn primary_entry(tree: usize) -> !;
    }
    // SAFETY: firmware's tables are as the specification has them while boot services last. The map is a buffer of the
    // size that it says. `primary_entry` is called with boot services left, so that nobody uses this stack any more.
    unsafe {
        let system = &*system;
        let tables = core::slice::from_raw_parts(system.table, system.tables);
        let Some(tree) = tables.iter().find(|table| table.guid == DEVICE_TREE) else {
            ((*system.output).put)(system.output, (&raw const NO_TREE).cast());
            return UNSUPPORTED;
        };
        let tree = tree.address;
        let services = &*system.services;
        let mut map = [0_u64; 2048];
        // The map changes under one's hands; its key says whether it has.
        for _ in 0..4 {
            let (mut bytes, mut key, mut each, mut version) = (size_of_val(&map), 0, 0, 0);
            let status = (services.memory_map)(
                &raw mut bytes,
                map.as_mut_ptr(),
                &raw mut key,
                &raw mut each,
                &raw mut version,
            );
            if status != 0 {
                return status;
            }
            if !keep(EfiMap::new(map.get(..bytes / 8).unwrap_or_default(), each)) {
                return OUT_OF_RESOURCES;
            }
            if (services.exit)(handle, key) == 0 {
                primary_entry(tree);
            }
        }
    }
    ABORTED
}

/// Notes what firmware keeps; false where that is too much.
fn keep(map: EfiMap<'_>) -> bool {
    let mut count = 0;
    for (start, size) in map {
        let Some([kept_start, kept_size]) = KEPT.get(count) else { return false };
        kept_start.store(start, Ordering::Relaxed);
        kept_size.store(size, Ordering::Relaxed);
        count = count.saturating_add(1);
    }
    COUNT.store(count, Ordering::Relaxed);
    true
}

/// What firmware keeps, if it was EFI's: nothing else may be used of RAM.
pub fn reserved() -> impl Iterator<Item = Reserved> {
    KEPT.iter().take(COUNT.load(Ordering::Relaxed)).filter_map(|[start, size]| {
        let start = Pa::new(start.load(Ordering::Relaxed));
        let range = Range::<Pa>::new(start, size.load(Ordering::Relaxed))?;
        Some(Reserved { name: "EFI's memory map".into(), range })
    })
}
