// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guarded Linux: a small kernel with CONFIG_ARM_PKVM_GUEST, which no Debian kernel has, built from Debian's
//! own source package and the options in guests/linux-guarded.config. About eight minutes of CPU time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::apt::Package;
use crate::error::{Context, Error, Result};

/// What the build runs, and the Debian package that has it.
const TOOLS: [(&str, &str); 8] = [
    ("gcc", "gcc"),
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("xz", "xz-utils"),
    ("perl", "perl"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
];

/// Options without which the kernel would not be what it is for; merging drops what it does not know.
const NEEDED: [&str; 7] = [
    "ARM_PKVM_GUEST",
    "SMP",
    "SERIAL_AMBA_PL011_CONSOLE",
    "SERIAL_EARLYCON",
    "BLK_DEV_INITRD",
    "RD_GZIP",
    "DEVMEM",
];

/// Builds the kernel in `folder`, which is removed afterwards, and returns the Image's bytes.
///
/// # Errors
///
/// A tool is missing, or the build fails; then `folder` stays, with `build.log` in it.
pub fn build(source: &Package, version: &str, fragment: &Path, folder: &Path) -> Result<Vec<u8>> {
    tools()?;
    let _ = fs::remove_dir_all(folder);
    let output = folder.join("out");
    fs::create_dir_all(&output).context(|| output.display().to_string())?;
    eprintln!("guests: unpacking {}", source.version());
    let mut unpack = Command::new("tar");
    unpack.arg("-xJ").current_dir(folder);
    source.pipe(&format!("./usr/src/{version}.tar.xz"), &mut unpack)?;

    let tree = folder.join(version);
    let log = folder.join("build.log");
    let step = |command: &mut Command| -> Result<()> {
        let file = fs::File::options().create(true).append(true).open(&log);
        let file = file.context(|| log.display().to_string())?;
        let errors = file.try_clone().context(|| log.display().to_string())?;
        let status = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .status()
            .context(|| "cannot run make".into())?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        Err(Error(format!("building Linux failed; {}:\n  {}", log.display(), last.join("\n  "))))
    };
    step(make(&tree, &output).arg("tinyconfig"))?;
    let config = output.join(".config");
    step(
        Command::new("./scripts/kconfig/merge_config.sh")
            .args(["-m".as_ref(), "-O".as_ref(), output.as_os_str()])
            .args([config.as_os_str(), fragment.as_os_str()])
            .current_dir(&tree),
    )?;
    step(make(&tree, &output).arg("olddefconfig"))?;
    check(&fs::read_to_string(&config).context(|| config.display().to_string())?)?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    eprintln!("guests: building Linux on {jobs} CPUs; the first time takes minutes");
    step(make(&tree, &output).args([&format!("-j{jobs}"), "Image"]))?;
    let image = output.join("arch/arm64/boot/Image");
    let bytes = fs::read(&image).context(|| image.display().to_string())?;
    // 1.7 GB.
    fs::remove_dir_all(folder).context(|| folder.display().to_string())?;
    Ok(bytes)
}

/// Debian packages that a build needs and that are not installed.
#[must_use]
pub fn missing_tools() -> Vec<&'static str> {
    let native = std::env::consts::ARCH == "aarch64";
    TOOLS
        .iter()
        .filter(|(program, _)| !(native && program.starts_with("aarch64-")))
        .filter(|(program, _)| !on_path(program))
        .map(|(_, package)| *package)
        .collect()
}

fn tools() -> Result<()> {
    let missing = missing_tools();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error(format!(
        "building Linux needs what is not installed; run\n  apt-get install --no-install-recommends {}",
        missing.join(" ")
    )))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder: PathBuf| folder.join(program).is_file())
}

/// `make` on `tree`, out of tree, at the lowest priority, with nothing of this machine in its output.
fn make(tree: &Path, output: &Path) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "19", "make", "-s", "-C"]).arg(tree);
    command.arg(format!("O={}", output.display())).arg("ARCH=arm64");
    if std::env::consts::ARCH != "aarch64" {
        command.arg("CROSS_COMPILE=aarch64-linux-gnu-");
    }
    command.args([
        "KBUILD_BUILD_TIMESTAMP=1970-01-01",
        "KBUILD_BUILD_USER=portcullis",
        "KBUILD_BUILD_HOST=portcullis",
    ]);
    // Cargo's own variables must not become the kernel's.
    for name in ["MAKEFLAGS", "MFLAGS", "CARGO_MAKEFLAGS", "RUSTC", "CC", "CFLAGS"] {
        command.env_remove(name);
    }
    command
}

/// Whether `config` has all that is needed.
fn check(config: &str) -> Result<()> {
    for option in NEEDED {
        let line = format!("CONFIG_{option}=y");
        if !config.lines().any(|other| other == line) {
            return Err(Error(format!(
                "{line} did not survive: guests/linux-guarded.config lacks something it depends on"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_was_dropped_is_named() {
        let all: String = NEEDED.iter().map(|option| format!("CONFIG_{option}=y\n")).collect();
        check(&all).unwrap();
        let module = all.replace("CONFIG_DEVMEM=y", "CONFIG_DEVMEM=m");
        assert!(check(&module).unwrap_err().0.contains("CONFIG_DEVMEM=y"));
        let unset = all.replace("CONFIG_ARM_PKVM_GUEST=y", "# CONFIG_ARM_PKVM_GUEST is not set");
        assert!(check(&unset).unwrap_err().0.contains("ARM_PKVM_GUEST"));
    }

    #[test]
    fn the_fragment_asks_for_what_is_needed() {
        let fragment = crate::paths::root().join("guests/linux-guarded.config");
        check(&fs::read_to_string(fragment).unwrap()).unwrap();
    }
}
