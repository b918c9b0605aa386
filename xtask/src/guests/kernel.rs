// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two small kernels that no distribution has, from Debian's source package: the guarded Linux, which is mainline with
//! CONFIG_ARM_PKVM_GUEST, and the enrolled one, with the series in `linux/`. The first takes about nine minutes of
//! CPU time; the second is built in the same tree, after it, where little has to be compiled again. Who asks for it also
//! gets the enrolled one with larger pages, each compiled from nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::apt::Package;
use crate::paths;
use crate::progress::{self, Progress};
use anyhow::{Context, Result, anyhow, bail};
use duct::cmd;

/// What the build runs, and the Debian package that has it.
pub const TOOLS: [(&str, &str); 9] = [
    ("gcc", "gcc"),
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("xz", "xz-utils"),
    ("perl", "perl"),
    ("patch", "patch"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
];

/// One of the kernels.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Files of `guests/` with its options, beyond `make tinyconfig`; what comes later counts.
    pub fragments: &'static [&'static str],
    /// Options without which it would not be what it is for; merging drops what it does not know.
    pub needed: &'static [&'static str],
    /// Whether the series is applied.
    pub series: bool,
    /// Where its object files go: those with the same size of pages share most of them.
    pub output: &'static str,
}

/// Mainline, and its client of the guard.
pub const GUARDED: Kernel = Kernel {
    fragments: &["linux-guarded.config", "device-client.config"],
    needed: &[
        "ARM_PKVM_GUEST",
        "DMA_RESTRICTED_POOL",
        "EXT4_FS",
        "VIRTIO_BLK",
        "VIRTIO_NET",
        "VIRTIO_VSOCKETS",
        "VIRTIO_FS",
        "HW_RANDOM_VIRTIO",
        "SMP",
        "SERIAL_AMBA_PL011_CONSOLE",
        "SERIAL_EARLYCON",
        "BLK_DEV_INITRD",
        "RD_GZIP",
        "DEVMEM",
    ],
    series: false,
    output: "out",
};

/// The series in `linux/`, with pages of 4, 16 and 64 KiB: `enrolled![option of the page size, output, fragments..]`.
macro_rules! enrolled {
    ($pages:literal, $output:literal $(, $fragment:literal)*) => {
        Kernel {
            fragments: &[
                "linux-guarded.config",
                "device-client.config",
                "linux-enrolled.config"
                $(, $fragment)*
            ],
            needed: &[
                $pages,
                "ARM_MMIO_GUARD",
                "ARM_MMIO_GUARD_TEST",
                "ARM_PKVM_GUEST",
                "DEBUG_FS",
                "PCI",
                "SMP",
                "SERIAL_AMBA_PL011_CONSOLE",
                "SERIAL_EARLYCON",
                "BLK_DEV_INITRD",
                "RD_GZIP",
                "DEVMEM",
            ],
            series: true,
            output: $output,
        }
    };
}

/// The series, in the tree of [`GUARDED`].
pub const ENROLLED: Kernel = enrolled!["ARM64_4K_PAGES", "out"];

/// The same with pages of four granules.
pub const ENROLLED_16K: Kernel =
    enrolled!["ARM64_16K_PAGES", "out-16k", "linux-enrolled-16k.config"];

/// The same with pages of sixteen granules.
pub const ENROLLED_64K: Kernel =
    enrolled!["ARM64_64K_PAGES", "out-64k", "linux-enrolled-64k.config"];

/// The series: a script that applies it, and what that applies.
#[must_use]
pub fn series() -> PathBuf {
    paths::root().join("linux")
}

/// An unpacked source tree, and what was built of it.
#[derive(Debug)]
pub struct Tree {
    folder: PathBuf,
    source: PathBuf,
    log: PathBuf,
    patched: bool,
}

impl Tree {
    /// Unpacks the package `source`, called `version`, into `folder`.
    ///
    /// # Errors
    ///
    /// A tool is missing, or the package is damaged.
    pub fn unpack(source: &Package, version: &str, folder: &Path) -> Result<Self> {
        tools("building Linux", &TOOLS)?;
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let mut progress = Progress::start("unpacking Linux");
        progress.set(0, 0, &source.version());
        source.pipe(&format!("./usr/src/{version}.tar.xz"), &cmd!("tar", "-xJ").dir(folder))?;
        Ok(Self {
            folder: folder.into(),
            source: folder.join(version),
            log: folder.join("build.log"),
            patched: false,
        })
    }

    /// Builds a kernel, and returns the Image's bytes. Those without the series come before those with it.
    ///
    /// # Errors
    ///
    /// The series does not fit, or the build fails; then the tree stays, with `build.log` in it.
    pub fn build(&mut self, kernel: &Kernel) -> Result<Vec<u8>> {
        if kernel.series && !self.patched {
            self.step(Command::new(series().join("apply")).arg(&self.source), "applying linux/")?;
            self.patched = true;
        }
        let output = self.folder.join(kernel.output);
        fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
        self.step(self.make(&output).arg("tinyconfig"), "configuring Linux")?;
        let config = output.join(".config");
        let mut merge = Command::new("./scripts/kconfig/merge_config.sh");
        merge.args(["-m".as_ref(), "-O".as_ref(), output.as_os_str(), config.as_os_str()]);
        merge.args(kernel.fragments.iter().map(|name| super::folders::sources().join(name)));
        self.step(merge.current_dir(&self.source), "configuring Linux")?;
        self.step(self.make(&output).arg("olddefconfig"), "configuring Linux")?;
        check(kernel, &fs::read_to_string(&config).with_context(|| config.display().to_string())?)?;
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let what = format!("building Linux on {jobs} CPUs, which takes minutes");
        self.step(self.make(&output).args([&format!("-j{jobs}"), "Image"]), &what)?;
        let image = output.join("arch/arm64/boot/Image");
        fs::read(&image).with_context(|| image.display().to_string())
    }

    /// Removes it all, 1.7 GB.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }

    /// Runs `command`, which is `what`, with its output in the log.
    fn step(&self, command: &mut Command, what: &str) -> Result<()> {
        step(&self.log, command, what)
    }

    /// `make`, out of tree, at the lowest priority, with nothing of this machine in its output.
    fn make(&self, output: &Path) -> Command {
        let mut command = Command::new("nice");
        command.args(["-n", "19", "make", "-C"]).arg(&self.source);
        command.arg(format!("O={}", output.display())).arg("ARCH=arm64");
        if std::env::consts::ARCH != "aarch64" {
            command.arg("CROSS_COMPILE=aarch64-linux-gnu-");
        }
        command.args([
            "KBUILD_BUILD_TIMESTAMP=1970-01-01",
            "KBUILD_BUILD_USER=portcullis",
            "KBUILD_BUILD_HOST=portcullis",
        ]);
        without_cargo(&mut command);
        command
    }
}

/// Runs `command`, which is `what`, with its output at the end of `log`.
///
/// # Errors
///
/// It fails; the error has its last lines.
pub(super) fn step(log: &Path, command: &mut Command, what: &str) -> Result<()> {
    let file = fs::File::options().create(true).append(true).open(log);
    let mut file = file.with_context(|| log.display().to_string())?;
    let (mut lines, mut written) = (0, Ok(()));
    let status = progress::run(command, &mut Progress::start(what), |progress, line| {
        lines += 1;
        progress.set(lines, 0, line);
        if written.is_ok() {
            written = writeln!(file, "{line}");
        }
    })?;
    written.with_context(|| log.display().to_string())?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(log).unwrap_or_default();
    let last: Vec<&str> = said.lines().rev().take(5).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(anyhow!("{what} failed; {}:\n  {}", log.display(), last.join("\n  ")))
}

/// Takes cargo's own variables from `command`: they must not become the kernel's.
pub(super) fn without_cargo(command: &mut Command) {
    for name in ["MAKEFLAGS", "MFLAGS", "CARGO_MAKEFLAGS", "RUSTC", "CC", "CFLAGS"] {
        command.env_remove(name);
    }
}

/// Debian packages that the programs of `tools` come from, as far as they are not installed.
#[must_use]
pub fn missing_tools(tools: &[(&str, &'static str)]) -> Vec<&'static str> {
    let native = std::env::consts::ARCH == "aarch64";
    tools
        .iter()
        .filter(|(program, _)| !(native && program.contains("aarch64-linux-gnu")))
        .filter(|(program, _)| !on_path(program))
        .map(|(_, package)| *package)
        .collect()
}

/// Whether `tools` are all installed.
///
/// # Errors
///
/// They are not: `what` needs packages, which are named.
pub(super) fn tools(what: &str, tools: &[(&str, &'static str)]) -> Result<()> {
    let missing = missing_tools(tools);
    if missing.is_empty() {
        return Ok(());
    }
    Err(anyhow!(
        "{what} needs what is not installed; run\n  apt-get install --no-install-recommends {}",
        missing.join(" ")
    ))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder: PathBuf| folder.join(program).is_file())
}

/// Whether `config` has all that is needed.
fn check(kernel: &Kernel, config: &str) -> Result<()> {
    for option in kernel.needed {
        let line = format!("CONFIG_{option}=y");
        if !config.lines().any(|other| other == line) {
            bail!(
                "{line} did not survive: guests/{} lacks something it depends on",
                kernel.fragments.join(" and guests/")
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_was_dropped_is_named() {
        let all: String =
            GUARDED.needed.iter().map(|option| format!("CONFIG_{option}=y\n")).collect();
        check(&GUARDED, &all).unwrap();
        let module = all.replace("CONFIG_DEVMEM=y", "CONFIG_DEVMEM=m");
        assert!(check(&GUARDED, &module).unwrap_err().to_string().contains("CONFIG_DEVMEM=y"));
        let unset = all.replace("CONFIG_ARM_PKVM_GUEST=y", "# CONFIG_ARM_PKVM_GUEST is not set");
        assert!(check(&GUARDED, &unset).unwrap_err().to_string().contains("ARM_PKVM_GUEST"));
    }

    #[test]
    fn the_fragments_ask_for_what_is_needed() {
        for kernel in [GUARDED, ENROLLED, ENROLLED_16K, ENROLLED_64K] {
            let read = |name: &&str| {
                fs::read_to_string(crate::guests::folders::sources().join(name)).unwrap()
            };
            check(&kernel, &kernel.fragments.iter().map(read).collect::<String>()).unwrap();
        }
    }

    /// Of the files that the series changes, the lines that it looks at: the least that it fits.
    fn least_tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path();
        fs::create_dir_all(tree.join("arch/arm64")).unwrap();
        fs::write(tree.join("Makefile"), "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 99\n").unwrap();
        for patch in crate::guests::folders::below(&series().join("patches")).unwrap() {
            let text = fs::read_to_string(&patch).unwrap();
            let mut files: Vec<(&str, String)> = Vec::new();
            let mut hunk = false;
            for line in text.lines() {
                if let Some(path) = line.strip_prefix("--- a/") {
                    files.push((path, String::new()));
                    hunk = false;
                } else if line.starts_with("@@ ") {
                    hunk = true;
                } else if let (true, Some((_, before))) = (hunk, files.last_mut())
                    && let Some(line) = line.strip_prefix([' ', '-'])
                {
                    *before += &format!("{line}\n");
                }
            }
            assert!(!files.is_empty(), "{}", patch.display());
            for (path, before) in files {
                let path = tree.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, before).unwrap();
            }
        }
        folder
    }

    /// All files of a tree and what is in them.
    fn content(tree: &Path) -> Vec<(PathBuf, String)> {
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        };
        crate::guests::folders::below(tree).unwrap().into_iter().map(read).collect()
    }

    fn apply(tree: &Path) -> (bool, String) {
        let output = Command::new(series().join("apply")).arg(tree).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    #[test]
    fn the_series_fits_what_it_was_made_for_and_once_only() {
        let folder = least_tree();
        let tree = folder.path();
        let (done, said) = apply(tree);
        if !on_path("patch") {
            assert!(!done && said.contains("apt-get install patch"), "{said}");
            return;
        }
        assert!(done, "{said}");
        let text = fs::read_to_string(tree.join("arch/arm64/mm/ioremap.c")).unwrap();
        assert!(text.contains("mmio_guard_map(phys_addr"));
        assert!(tree.join("drivers/firmware/smccc/mmio_guard.c").is_file());
        let (again, said) = apply(tree);
        assert!(!again && said.contains("has the series already"), "{said}");
    }

    #[test]
    fn a_tree_whose_anchors_have_changed_is_named_and_left_as_it_was() {
        if !on_path("patch") {
            return;
        }
        // The last of the files that are changed, so that all others would have fitted.
        let changed = "drivers/virt/coco/pkvm-guest/arm-pkvm-guest.c";
        let folder = least_tree();
        let tree = folder.path();
        let file = tree.join(changed);
        let text = fs::read_to_string(&file).unwrap();
        let other = text.replace("pkvm_granule = res.a0", "pkvm_granule = res.a1");
        assert_ne!(text, other);
        fs::write(&file, other).unwrap();
        let before = content(tree);
        let (done, said) = apply(tree);
        assert!(!done);
        for words in ["0005-", "does not fit Linux 6.12.99", changed, "nothing was changed"] {
            assert!(said.contains(words), "`{words}`: {said}");
        }
        assert_eq!(content(tree), before);
    }

    #[test]
    fn what_is_no_tree_gets_no_patches() {
        let said = Command::new(series().join("apply")).arg("/").output().unwrap();
        assert!(!said.status.success());
        assert!(String::from_utf8_lossy(&said.stderr).contains("/ is no Linux tree"));
    }
}
