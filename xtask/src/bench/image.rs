// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes of the image.

use std::fs;

use super::boots::{DENSE_POOL, heap_of};
use super::figure::{Figure, Figures};
use crate::build::Artifacts;
use crate::elf;
use anyhow::{Context, Result};

/// Bytes of a table page.
pub const PAGE: u64 = 4096;

/// Code, file, and memory with BSS, heap and the stacks of all CPUs.
///
/// # Errors
///
/// An image is missing or not an ELF file.
pub fn sizes(images: &Artifacts) -> Result<Figures> {
    let path = &images.hypervisor_elf;
    let elf = fs::read(path).with_context(|| path.display().to_string())?;
    let file = fs::metadata(&images.hypervisor)
        .with_context(|| images.hypervisor.display().to_string())?;
    let text = elf::text(&elf)?.len() as u64 * 4;
    let memory = elf::symbol(&elf, |name| name == "image_end")?;
    Ok(Figures::from([
        ("image: code (.text)".into(), Figure::exact(text)),
        ("image: file".into(), Figure::exact(file.len())),
        ("image: memory, 8 CPUs' stacks and heap included".into(), Figure::exact(memory)),
    ]))
}

/// Bytes of tables per page that was declared with [`DENSE_POOL`] of them, in hundredths.
pub fn table_bytes_per_page(figures: &Figures) -> Option<Figure> {
    let pages = figures.get("pages declared")?.median / 100;
    let value = (DENSE_POOL * PAGE * 100).checked_div(pages)?;
    Some(Figure { median: value, min: value, max: value })
}

/// Bytes of EL2's heap that each vCPU takes beyond the first.
pub fn heap_per_vcpu(figures: &Figures) -> Option<Figure> {
    let of = |vcpus| Some(figures.get(&heap_of(vcpus))?.median);
    let value = of(8)?.checked_sub(of(1)?)? / 7;
    Some(Figure { median: value, min: value, max: value })
}
