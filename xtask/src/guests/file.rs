// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests from the user's own files: kernels, and descriptions of VMs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use platform::BUNDLE_MAGIC;
use tempfile::NamedTempFile;

use crate::qemu::Module;
use crate::{bundle, image, paths};

/// A file that describes VMs: nothing else may.
#[derive(Debug)]
pub struct Description {
    /// The bundle to pass as the initrd.
    pub bundle: PathBuf,
    /// How many VMs it has.
    pub vms: usize,
    /// RAM of all of them, in MiB.
    pub memory_mib: u64,
    /// The bundle that was compiled of a source, removed with this.
    _compiled: Option<NamedTempFile>,
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A description of VMs as a device-tree source.
    Source,
    /// The same as a bundle.
    Bundle,
    /// A kernel: an arm64 Image, an ELF file or a flat binary.
    Kernel,
}

/// Part of a file name that names a VM, if that is possible: 1 to 31 letters, digits, `-`, `_`, `.`, but not `hyp`.
fn vm_name(file: &Path) -> Option<String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let stem = file.file_stem()?.to_string_lossy();
    let name: String = stem.chars().map(|c| if plain(c) { c } else { '-' }).take(31).collect();
    (!name.is_empty() && !name.eq_ignore_ascii_case("hyp")).then_some(name)
}

/// The value of the last `KEY=VALUE` in `words`.
fn value<'a>(words: &'a str, key: &str) -> Option<&'a str> {
    words.split_whitespace().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// A size as `vm.mem` takes it, in MiB, rounded up.
fn mebibytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'K' | 'k') => (text.get(..at)?, 10),
        (at, 'M' | 'm') => (text.get(..at)?, 20),
        (at, 'G' | 'g') => (text.get(..at)?, 30),
        _ => (text, 0),
    };
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(number.checked_mul(1 << shift)?.div_ceil(1 << 20))
}

/// What is in `file`.
///
/// # Errors
///
/// It cannot be read.
pub fn kind(file: &Path) -> Result<Kind> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let source = file.extension().is_some_and(|extension| extension == "dts");
    Ok(if bytes.starts_with(BUNDLE_MAGIC) {
        Kind::Bundle
    } else if source || bytes.trim_ascii_start().starts_with(b"/dts-v1/") {
        Kind::Source
    } else {
        Kind::Kernel
    })
}

/// The VMs that `file`, which is no kernel, describes. EL2's checks are made here already.
///
/// # Errors
///
/// It is refused, or cannot be read or compiled.
pub fn description(file: &Path, kind: Kind) -> Result<Description> {
    let compiled = match kind {
        Kind::Source => {
            let output = NamedTempFile::with_prefix("portcullis-").context("a temporary file")?;
            bundle::make(file, output.path(), None)?;
            Some(output)
        }
        _ => None,
    };
    let bundle = compiled.as_ref().map_or(file, |file| file.path()).to_owned();
    let bytes = fs::read(&bundle).with_context(|| bundle.display().to_string())?;
    let vms = bundle::check(&bytes).with_context(|| file.display().to_string())?;
    let memory = vms.iter().map(|vm| vm.ram_size()).sum::<u64>() + bytes.len() as u64;
    let memory_mib = memory.div_ceil(1 << 20);
    Ok(Description { bundle, vms: vms.len(), memory_mib, _compiled: compiled })
}

/// The kernel in `file`, taken out of what it is packed in, as a file of its own below `target/`; and its size in bytes.
fn unpacked(file: &Path) -> Result<(PathBuf, u64)> {
    let name = || file.display().to_string();
    let found = image::unpack(fs::read(file).with_context(name)?).with_context(name)?;
    let size = found.bytes.len() as u64;
    if size == 0 {
        bail!("{}: the file is empty", file.display());
    }
    if found.layers.is_empty() {
        return Ok((file.to_owned(), size));
    }
    eprintln!("{}: unpacked from {}", file.display(), found.layers.join(" in "));
    let folder = paths::target().join("unpacked");
    let stem = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kernel = folder.join(format!("{}-{stem}.img", std::process::id()));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&kernel, &found.bytes))
        .with_context(|| kernel.display().to_string())?;
    Ok((kernel, size))
}

/// The kernel in `file` as a VM, with `words` as its boot arguments, and how much memory it needs in MiB.
///
/// Its name is the file's, if `taken` has no such name, and its RAM eight times its files, if `words` do not say
/// something else.
///
/// # Errors
///
/// A file cannot be read.
pub fn module(
    file: &Path,
    ramdisk: Option<&Path>,
    words: &str,
    taken: &[String],
) -> Result<(Module, u64)> {
    let (kernel, size) = unpacked(file)?;
    let mut files = size.div_ceil(1 << 20);
    if let Some(file) = ramdisk {
        let size = fs::metadata(file).with_context(|| file.display().to_string())?.len();
        if size == 0 {
            bail!("{}: the file is empty", file.display());
        }
        files += size.div_ceil(1 << 20);
    }
    let mut bootargs = Vec::new();
    if value(words, "vm.name").is_none() {
        let name = vm_name(file).filter(|name| !taken.contains(name));
        bootargs.extend(name.map(|name| format!("vm.name={name}")));
    }
    let ram = match value(words, "vm.mem") {
        Some(size) => mebibytes(size).unwrap_or(0),
        None => {
            let size = (files * 8).next_multiple_of(128);
            bootargs.push(format!("vm.mem={size}M"));
            size
        }
    };
    bootargs.extend(words.split_whitespace().map(str::to_owned));
    let module = Module {
        kernel,
        bootargs: bootargs.join(" "),
        ramdisk: ramdisk.map(Path::to_owned),
        address: None,
    };
    Ok((module, ram + files))
}

/// The VM's name in a module's boot arguments.
#[must_use]
pub fn name_of(module: &Module) -> Option<String> {
    value(&module.bootargs, "vm.name").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(suffix: &str, bytes: &[u8]) -> NamedTempFile {
        let file = tempfile::Builder::new().prefix("a,b").suffix(suffix).tempfile().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn a_description_is_told_from_a_kernel() {
        for (suffix, bytes, expected) in [
            (".img", &b"PCBUNDLE\0"[..], Kind::Bundle),
            (".dts", b"// a comment\n/dts-v1/;", Kind::Source),
            (".txt", b"\n/dts-v1/;", Kind::Source),
            (".elf", b"\x7fELF", Kind::Kernel),
            ("", b"", Kind::Kernel),
        ] {
            assert_eq!(kind(file(suffix, bytes).path()).unwrap(), expected, "{suffix}");
        }
        assert!(kind(Path::new("/no/such/file")).unwrap_err().to_string().contains("/no/such"));
    }

    #[test]
    fn a_source_becomes_a_bundle_that_is_checked() {
        let source = |text: &str| file(".dts", format!("/dts-v1/;\n/ {{ {text} }};").as_bytes());
        let vm = "compatible = \"portcullis,bundle\"; a { kernel = [00 00 00 14]; mem = <0 0x4000000>; };";
        let good = source(vm);
        let made = description(good.path(), Kind::Source).unwrap();
        assert_eq!((made.vms, made.memory_mib), (1, 65));
        let bundle = made.bundle.clone();
        assert_eq!(description(&bundle, Kind::Bundle).unwrap().vms, 1);
        drop(made);
        assert!(!bundle.exists());
        let bad = source(&vm.replace("mem", "memm"));
        let error = format!("{:#}", description(bad.path(), Kind::Source).unwrap_err());
        assert!(error.contains("did you mean mem?"), "{error}");
    }

    #[test]
    fn a_kernel_is_called_after_its_file_and_gets_eight_times_its_size() {
        let kernel = file(" 1.img", &vec![0; 17 << 20]);
        let (module, needed) = super::module(kernel.path(), None, "", &[]).unwrap();
        let name = name_of(&module).unwrap();
        assert!(name.starts_with("a-b") && name.ends_with("-1"), "{name}");
        assert_eq!(module.bootargs, format!("vm.name={name} vm.mem=256M"));
        assert_eq!(needed, 256 + 17);
        let (module, _) = super::module(kernel.path(), None, "x", &[name]).unwrap();
        assert_eq!(module.bootargs, "vm.mem=256M x");
    }

    #[test]
    fn a_packed_kernel_is_unpacked() {
        let kernel = vec![7; 3 << 20];
        let packed = file(".gz", &image::gzip(&kernel));
        let (module, needed) = super::module(packed.path(), None, "", &[]).unwrap();
        assert!(fs::read(&module.kernel).unwrap() == kernel);
        // Its size counts, and not the file's.
        assert_eq!(needed, 128 + 3);
        fs::remove_file(&module.kernel).unwrap();
        let broken = file(".gz", b"\x1f\x8b\x08\0");
        let error = super::module(broken.path(), None, "", &[]).unwrap_err();
        assert!(format!("{error:#}").contains("a gzip file that cannot be unpacked"), "{error:#}");
    }

    #[test]
    fn the_users_words_count() {
        let (kernel, disk) = (file("", b"kernel"), file("", b"disk"));
        let words = " vm.mem=1G vm.name=a quiet";
        let (module, needed) = super::module(kernel.path(), Some(disk.path()), words, &[]).unwrap();
        assert_eq!(module.bootargs, "vm.mem=1G vm.name=a quiet");
        assert_eq!(module.ramdisk.as_deref(), Some(disk.path()));
        assert_eq!(needed, 1024 + 2);
        let empty = file("", b"");
        let error = super::module(kernel.path(), Some(empty.path()), "", &[]).unwrap_err();
        assert!(error.to_string().ends_with("the file is empty"), "{error}");
    }

    #[test]
    fn sizes_are_those_of_vm_mem() {
        for (text, expected) in [("64M", 64), ("0x4000000", 64), ("2g", 2048), ("1K", 1)] {
            assert_eq!(mebibytes(text), Some(expected), "{text}");
        }
        assert_eq!(mebibytes("x"), None);
        assert_eq!(mebibytes(""), None);
    }

    #[test]
    fn not_every_file_can_name_a_vm() {
        assert_eq!(vm_name(Path::new("a/Hyp.elf")), None);
        assert_eq!(vm_name(Path::new("a/zephyr.elf")).as_deref(), Some("zephyr"));
        assert_eq!(vm_name(Path::new(&"x".repeat(40))).unwrap().len(), 31);
    }
}
