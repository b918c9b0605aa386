// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bundle`: VMs and their images in one file, compiled by dtc and checked as EL2 will check it.
//! docs/bundle.md describes bundles.

use std::fs;
use std::path::Path;
use std::process::Command;

use arch::{Mpidr, Pa, Range};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::DeviceTree;
use dtoolkit::{Node, Property};
use platform::{BUNDLE_MAGIC, Board, Cpu, Gic, HostResources, Seeds, StartMethod, Timer, VmConfig};

use crate::build::replace;
use crate::image;
use anyhow::{Context, Result, bail};

/// Where a bundle lies on the machine that checks it.
const BASE: u64 = 0x1000_0000;
/// Offset of the size in an arm64 Image header, and of its magic.
const IMAGE_SIZE: usize = 16;
const MAGIC: usize = 56;
/// Where the offset of the PE/COFF header lies.
const PE_HEADER: usize = 60;

/// Makes `output` from the device-tree source `source`: a bundle, or `image` with the bundle behind it.
///
/// # Errors
///
/// dtc or the check refuses the source, or a file cannot be read or written. `output` is then as it was.
pub fn make(source: &Path, output: &Path, image: Option<&Path>) -> Result<Vec<VmConfig>> {
    let name = || source.display().to_string();
    let blob = [&BUNDLE_MAGIC[..], &unpacked(compile(source)?).with_context(name)?].concat();
    let vms = check(&blob).with_context(name)?;
    let bytes = match image {
        None => blob,
        Some(image) => {
            let bytes = fs::read(image)
                .with_context(|| format!("{}: run ./scripts/build", image.display()))?;
            append(&bytes, &blob).with_context(|| image.display().to_string())?
        }
    };
    replace(output, &bytes)?;
    Ok(vms)
}

/// The blob that dtc makes of `source`. Images are looked for beside the source.
///
/// # Errors
///
/// There is no dtc, or it refuses the source.
pub fn compile(source: &Path) -> Result<Vec<u8>> {
    let output = Command::new("dtc")
        .args(["-I", "dts", "-O", "dtb"])
        .arg(source)
        .output()
        .context("cannot run dtc (Debian's device-tree-compiler; ./scripts/setup --bundle)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("dtc refuses {}: {}", source.display(), said.trim());
    }
    if !said.trim().is_empty() {
        eprintln!("{}", said.trim());
    }
    Ok(output.stdout)
}

/// The tree of a bundle with its kernels unpacked, where they are packed in what [`image::unpack`] knows.
///
/// # Errors
///
/// A kernel that cannot be unpacked, by the name of its VM.
fn unpacked(blob: Vec<u8>) -> Result<Vec<u8>> {
    // What dtc has made and cannot be read is for the check to refuse.
    let Ok(tree) = Fdt::new(&blob) else { return Ok(blob) };
    let mut tree = DeviceTree::from_fdt(&tree);
    let mut changed = false;
    for vm in tree.root.children_mut() {
        let name = vm.name().to_owned();
        let Some(kernel) = vm.property_mut("kernel") else { continue };
        let packed = &*kernel;
        let found = image::unpack(packed.value().to_vec())
            .with_context(|| format!("bundle:/{name}: kernel"))?;
        if found.layers.is_empty() {
            continue;
        }
        eprintln!("bundle:/{name}: kernel unpacked from {}", found.layers.join(" in "));
        kernel.set_value(&found.bytes[..]);
        changed = true;
    }
    Ok(if changed { tree.to_dtb() } else { blob })
}

/// The VMs of a bundle, checked by what EL2 checks them with, on a machine that has everything.
///
/// # Errors
///
/// The line that EL2 would say.
pub fn check(blob: &[u8]) -> Result<Vec<VmConfig>> {
    let range = |start: u64, size: u64| {
        Range::<Pa>::new(Pa::new(start), size).context("the bundle is too large")
    };
    let initrd = range(BASE, blob.len() as u64)?;
    let registers = range(0, 0x1_0000)?;
    let board = Board {
        model: String::new(),
        ram: vec![range(0, 1 << 47)?],
        reserved: Vec::new(),
        cpus: vec![Cpu {
            mpidr: Mpidr::new(0),
            start: StartMethod::Psci,
            compatible: String::new(),
        }],
        psci: None,
        gic: Gic::V3 {
            gicd: registers,
            redistributors: vec![registers],
            stride: None,
            maintenance: None,
        },
        timer: Timer {
            secure_physical: None,
            physical: 30,
            virt: 27,
            hypervisor: 26,
            frequency: None,
        },
        uart: None,
        bootargs: String::new(),
        initrd: Some(initrd),
        modules: Vec::new(),
        seeds: Seeds::default(),
    };
    let read = |range: Range<Pa>| {
        let start = usize::try_from(range.start().raw().checked_sub(BASE)?).ok()?;
        blob.get(start..start.checked_add(usize::try_from(range.size()).ok()?)?)
    };
    let host = HostResources {
        board: &board,
        tree: &[],
        own: &[],
        appended: None,
        cpus: 64,
        pa_bits: 48,
        read: &read,
    };
    Ok(platform::vms(&host)?)
}

/// `image` with `blob` behind its BSS, which its header's size then covers.
///
/// # Errors
///
/// It is no arm64 Image, or has something behind it already.
pub fn append(image: &[u8], blob: &[u8]) -> Result<Vec<u8>> {
    let size = image.get(IMAGE_SIZE..).and_then(|rest| rest.first_chunk::<8>());
    let is_image = image.get(MAGIC..).is_some_and(|rest| rest.starts_with(b"ARM\x64"));
    let size = size.filter(|_| is_image).map(|bytes| u64::from_le_bytes(*bytes) as usize);
    let size = size.context("it is no arm64 Image")?;
    if size < image.len() || !size.is_multiple_of(4096) {
        bail!("its image_size is {size:#x}, its file has {:#x}", image.len());
    }
    let mut whole = image.to_vec();
    // The BSS: EL2 clears it at its start, and keeps what lies behind it.
    whole.resize(size, 0);
    whole.extend(blob);
    let total = whole.len() as u64;
    if let Some(field) = whole.get_mut(IMAGE_SIZE..IMAGE_SIZE + 8) {
        field.copy_from_slice(&total.to_le_bytes());
    }
    lengthen_section(&mut whole)?;
    Ok(whole)
}

/// Makes the only section of a PE/COFF `image` end where the file does. Without such a header nothing is to do.
fn lengthen_section(image: &mut [u8]) -> Result<()> {
    let word = |image: &[u8], at: usize| {
        let bytes = image.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map(|bytes| u32::from_le_bytes(*bytes) as usize)
    };
    let header = word(image, PE_HEADER).filter(|_| image.starts_with(b"MZ"));
    let Some(header) = header.filter(|at| image.get(*at..*at + 4) == Some(b"PE\0\0")) else {
        return Ok(());
    };
    // UEFI 2.10 takes these from Microsoft's PE and COFF specification, 2.3 and 2.4.
    let optional = header + 24;
    let section = word(image, header + 20).map(|size| optional + (size & 0xffff));
    let section = section.context("its PE header is cut")?;
    let start = word(image, section + 12).context("its PE header is cut")?;
    let total = image.len().next_multiple_of(512);
    for (at, value) in [
        (optional + 4, total - start),
        (optional + 56, total),
        (section + 8, total - start),
        (section + 16, image.len() - start),
    ] {
        let value = u32::try_from(value).context("it would be too large")?;
        if let Some(field) = image.get_mut(at..at + 4) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    }
    Ok(())
}

/// What a bundle holds, a line for each VM.
#[must_use]
pub fn table(vms: &[VmConfig]) -> String {
    let mut text = String::new();
    for vm in vms {
        let kib = |bytes: u64| bytes.div_ceil(1024);
        let ramdisk = match &vm.ramdisk {
            Some(ramdisk) => format!(", ramdisk {} KiB", kib(ramdisk.size())),
            None => String::new(),
        };
        text += &format!(
            "  {}: {} MiB, {} vCPU{}, guard {} ({}), kernel {} KiB{ramdisk}\n",
            vm.name,
            vm.ram_size() >> 20,
            vm.vcpus(),
            if vm.vcpus() == 1 { "" } else { "s" },
            vm.policy,
            vm.dialect,
            kib(vm.kernel.size()),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(size: u64, file: usize) -> Vec<u8> {
        let mut bytes = vec![7; file];
        bytes[IMAGE_SIZE..IMAGE_SIZE + 8].copy_from_slice(&size.to_le_bytes());
        bytes[MAGIC..MAGIC + 4].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn what_is_appended_stands_behind_the_bss_and_the_size_covers_it() {
        let whole = append(&image(0x3000, 0x1800), b"bundle").unwrap();
        assert_eq!(whole.len(), 0x3006);
        assert_eq!(whole[0x3000..], *b"bundle");
        assert!(whole[0x1800..0x3000].iter().all(|byte| *byte == 0));
        assert_eq!(whole[IMAGE_SIZE..IMAGE_SIZE + 8], 0x3006_u64.to_le_bytes());
        // All else is as it was.
        assert_eq!(whole[..IMAGE_SIZE], image(0x3000, 0x1800)[..IMAGE_SIZE]);
        assert_eq!(whole[24..0x1800], image(0x3000, 0x1800)[24..]);
    }

    #[test]
    fn what_is_no_image_or_has_a_bundle_already_is_refused() {
        let mut other = image(0x3000, 0x1800);
        other[MAGIC] = 0;
        assert!(append(&other, b"x").unwrap_err().to_string().contains("no arm64 Image"));
        assert!(append(b"short", b"x").unwrap_err().to_string().contains("no arm64 Image"));
        let twice = append(&image(0x3000, 0x1800), b"bundle").unwrap();
        assert!(append(&twice, b"bundle").unwrap_err().to_string().contains("image_size"));
    }

    #[test]
    fn what_is_no_bundle_is_refused() {
        assert!(check(b"no bundle").unwrap_err().to_string().contains("no bundle"));
    }
}
