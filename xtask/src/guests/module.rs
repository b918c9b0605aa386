// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel modules for Debian's stock kernels: that of the device VM, and those of its clients. They are built with the headers
//! of the very same version as the kernel, and with Debian's programs for that on this machine: a module of another version is
//! not loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folders::below;
use super::kernel;
use crate::apt::{Apt, Package};
use crate::paths;
use anyhow::{Context, Result, bail};

/// What the build runs, and the Debian package that has it.
pub const TOOLS: [(&str, &str); 4] = [
    ("make", "make"),
    ("aarch64-linux-gnu-gcc-12", "gcc-12-aarch64-linux-gnu"),
    ("aarch64-linux-gnu-strip", "binutils-aarch64-linux-gnu"),
    // Of the test program alone.
    ("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
];

/// Modules that are built together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modules {
    /// Their sources, below the project's root.
    pub folder: &'static str,
    /// Their names, without `.ko`.
    pub names: &'static [&'static str],
}

/// The module of a device VM.
pub const DEVICE: Modules = Modules { folder: "linux/device", names: &["portcullis-device"] };

/// The modules of a client.
pub const GUEST: Modules =
    Modules { folder: "linux/guest", names: &["portcullis-pool", "portcullis-guard"] };

impl Modules {
    /// Their folder.
    #[must_use]
    pub fn sources(self) -> PathBuf {
        paths::root().join(self.folder)
    }

    /// What of their sources goes into them.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn own_files(self) -> Result<Vec<PathBuf>> {
        let sources = self.sources();
        let is_source = |file: &PathBuf| {
            let named = file.file_name().is_some_and(|name| name == "Kbuild");
            named || file.extension().is_some_and(|it| it == "c" || it == "h")
        };
        let of_modules = |file: &PathBuf| file.parent() == Some(sources.as_path());
        Ok(below(&sources)?.into_iter().filter(of_modules).filter(is_source).collect())
    }

    /// Builds them below `folder`, for the kernel that the metapackage `image` stands for.
    ///
    /// # Errors
    ///
    /// A tool is missing, a package cannot be fetched, versions differ, or the build fails or warns; then the folder stays,
    /// with `build.log` in it.
    pub fn build(self, apt: &Apt, image: &str, folder: &Path) -> Result<Built> {
        kernel::tools("building a module of Linux", &TOOLS)?;
        let image = apt.stands_for(image, "linux-image-")?;
        let headers = image.replacen("linux-image-", "linux-headers-", 1);
        let kbuild = apt.stands_for(&headers, "linux-kbuild-")?;
        let common = apt.stands_for(&headers, "linux-headers-")?;
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let (image, headers) = (apt.package(&image)?, apt.package(&headers)?);
        let of_machine = Apt::machine(&super::folder().join("machine"));
        for package in [&headers, &apt.package(&common)?, &of_machine.package(&kbuild)?] {
            let (ours, wanted) = (version(package), version(&image));
            if ours != wanted {
                bail!(
                    "{} is for {ours}, and the kernel has {wanted}: run ./scripts/guests --update for both",
                    package.file.display()
                );
            }
            package.unpack("./usr/*", 2, folder)?;
        }
        let from = folder.join("src").join(file_name(&headers));
        let modules = compile(self, folder, &from, &common)?;
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        Ok(Built { modules, image, headers })
    }
}

/// Modules that were built.
#[derive(Debug)]
pub struct Built {
    /// Their bytes, in the order of their names.
    pub modules: Vec<Vec<u8>>,
    /// The package of the kernel that they are for.
    pub image: Package,
    /// The package of the headers that they were built with.
    pub headers: Package,
}

/// The version of a package: `6.1.192-3` of `linux-image-6.1.0-57-cloud-arm64 6.1.192-3`.
fn version(package: &Package) -> String {
    package.version().split(' ').nth(1).unwrap_or_default().to_owned()
}

/// The name of a package.
fn file_name(package: &Package) -> String {
    package.version().split(' ').next().unwrap_or_default().to_owned()
}

/// Compiles with the unpacked `headers`, whose makefile includes that of the package `common`.
fn compile(modules: Modules, folder: &Path, headers: &Path, common: &str) -> Result<Vec<Vec<u8>>> {
    let makefile = format!("include {}/Makefile\n", folder.join("src").join(common).display());
    let at = headers.join("Makefile");
    fs::write(&at, makefile).with_context(|| at.display().to_string())?;
    let module = folder.join("module");
    fs::create_dir_all(&module).with_context(|| module.display().to_string())?;
    for file in modules.own_files()? {
        let to = module.join(file.file_name().unwrap_or_default());
        fs::copy(&file, &to).with_context(|| file.display().to_string())?;
    }
    let log = folder.join("build.log");
    let mut make = Command::new("nice");
    make.args(["-n", "19", "make", "-C"]).arg(headers).arg(format!("M={}", module.display()));
    if std::env::consts::ARCH != "aarch64" {
        make.arg("CROSS_COMPILE=aarch64-linux-gnu-");
    }
    // The headers have a vmlinux, so that type information for BPF would be made of it, by a program that is not here.
    make.args(["ARCH=arm64", "CONFIG_DEBUG_INFO_BTF_MODULES=", "W=1", "modules"]);
    kernel::without_cargo(&mut make);
    kernel::step(&log, &mut make, &format!("building {}", modules.folder))?;
    let said = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
    if let Some(line) = warning(&said) {
        let (folder, log) = (modules.folder, log.display());
        bail!("{folder} is not built without a warning; {log}:\n  {line}");
    }
    let strip = match std::env::consts::ARCH {
        "aarch64" => "strip",
        _ => "aarch64-linux-gnu-strip",
    };
    let finished = |name: &&str| {
        let file = module.join(name).with_extension("ko");
        let what = format!("stripping {}", modules.folder);
        kernel::step(&log, Command::new(strip).arg("-g").arg(&file), &what)?;
        fs::read(&file).with_context(|| file.display().to_string())
    };
    modules.names.iter().map(finished).collect()
}

/// Builds the program that tests the module, without a need for a C library, and returns its file.
///
/// # Errors
///
/// A tool is missing, or the build fails.
pub fn test_program() -> Result<PathBuf> {
    kernel::tools("building the test of linux/device", &TOOLS)?;
    let folder = super::folder().join("device");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let program = folder.join("portcullis-test");
    let mut make = Command::new("make");
    make.arg("-s").arg("-C").arg(DEVICE.sources().join("test"));
    make.arg(format!("PROGRAM={}", program.display()));
    if std::env::consts::ARCH != "aarch64" {
        make.arg("CROSS_COMPILE=aarch64-linux-gnu-");
    }
    kernel::without_cargo(&mut make);
    let log = folder.join("portcullis-test.log");
    kernel::step(&log, &mut make, "building linux/device/test")?;
    Ok(program)
}

/// The first warning of a build.
fn warning(log: &str) -> Option<&str> {
    log.lines().find(|line| line.to_ascii_lowercase().contains("warning:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_found() {
        assert_eq!(warning("  CC [M]  main.o\nmain.c:1:2: note: x\n"), None);
        let line = "main.c:3:1: warning: unused variable";
        assert_eq!(warning(&format!("  CC\n{line}\n")), Some(line));
        assert!(warning("WARNING: modpost: missing MODULE_LICENSE()").is_some());
    }

    #[test]
    fn what_is_compiled_is_what_a_change_is_looked_for_in() {
        for (modules, header) in [(DEVICE, "portcullis.h"), (GUEST, "portcullis_hvc.h")] {
            let names: Vec<String> = modules
                .own_files()
                .unwrap()
                .iter()
                .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
                .collect();
            let kbuild = fs::read_to_string(modules.sources().join("Kbuild")).unwrap();
            for name in modules.names {
                let objects = |line| str::strip_prefix(line, &format!("{name}-y := "));
                let objects = kbuild.lines().find_map(objects).unwrap();
                for object in objects.split_whitespace() {
                    let source = object.replace(".o", ".c");
                    assert!(names.contains(&source), "{source}");
                }
            }
            assert!(names.iter().any(|name| name == header));
            assert!(!names.iter().any(|name| name == "README.md" || name == "Makefile"));
        }
    }
}
