// SPDX-License-Identifier: MIT OR Apache-2.0
//! The entry as an EFI application: takes the device tree and the memory map, leaves boot services, and goes on as if a
//! boot loader had entered the image. Memory that firmware keeps is taken out of RAM later.
//!
//! Runs on firmware's stack and tables, before the image is relocated: no formatting, no `dyn`, no possible panic.
//!
//! Sources: UEFI Specification 2.10, sections 4.3, 4.6, 7.2 and 7.4.6; EBBR 2.1 (the tree's table).

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arch::{Pa, Range};
use platform::{EfiMap, Reserved};
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Guid, Handle, Status, guid};

/// The table with the flattened device tree.
const DEVICE_TREE: Guid = guid!("b1b621d5-f19c-41a5-830b-d9152c69aae0");

/// The largest number of firmware's ranges.
const RANGES: usize = 64;
/// Start and size of each range that firmware keeps. Not in .bss, which is cleared later.
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

/// The image's entry as a PE/COFF application. Returns an EFI status if it cannot go on.
///
/// # Safety
/// Firmware calls it, with its handle of the image and its system table.
pub unsafe extern "C" fn entry(handle: Handle, system: *const SystemTable) -> Status {
    unsafe extern "C" {
        fn primary_entry(tree: usize) -> !;
    }
    // SAFETY: firmware's tables are as the specification has them while boot services last. The map is a buffer of the
    // stated size. `primary_entry` runs after boot services have ended, so that nothing else uses this stack.
    unsafe {
        let system = &*system;
        let tables = core::slice::from_raw_parts(
            system.configuration_table,
            system.number_of_configuration_table_entries,
        );
        let Some(tree) = tables.iter().find(|table| table.vendor_guid == DEVICE_TREE) else {
            // The status returned says the same.
            let _ = ((*system.stdout).output_string)(system.stdout, (&raw const NO_TREE).cast());
            return Status::UNSUPPORTED;
        };
        let tree = tree.vendor_table as usize;
        let services = &*system.boot_services;
        let mut map = [0_u64; 2048];
        // The map may change between these calls; its key says whether it has.
        for _ in 0..4 {
            let (mut bytes, mut key, mut each, mut version) = (size_of_val(&map), 0, 0, 0);
            let status = (services.get_memory_map)(
                &raw mut bytes,
                map.as_mut_ptr().cast(),
                &raw mut key,
                &raw mut each,
                &raw mut version,
            );
            if status != Status::SUCCESS {
                return status;
            }
            if !keep(EfiMap::new(map.get(..bytes / 8).unwrap_or_default(), each)) {
                return Status::OUT_OF_RESOURCES;
            }
            if (services.exit_boot_services)(handle, key) == Status::SUCCESS {
                primary_entry(tree);
            }
        }
    }
    Status::ABORTED
}

/// Stores what firmware keeps. Returns false if there are too many ranges.
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

/// The memory that EFI firmware keeps. EL2 does not use it.
pub fn reserved() -> impl Iterator<Item = Reserved> {
    KEPT.iter().take(COUNT.load(Ordering::Relaxed)).filter_map(|[start, size]| {
        let start = Pa::new(start.load(Ordering::Relaxed));
        let range = Range::<Pa>::new(start, size.load(Ordering::Relaxed))?;
        Some(Reserved { name: "EFI's memory map".into(), range })
    })
}
