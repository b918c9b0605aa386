// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which compiler builds the images.
//!
//! Usually the one that built this tool, with the bare-metal target that rustup adds to it. Where rustup
//! cannot add it (no way to its server), Debian's `rustc-web` with the standard library's sources from
//! `rust-web-src`: cargo then builds `core` and `alloc` too, an unstable feature that
//! `RUSTC_BOOTSTRAP` unlocks. `PORTCULLIS_TOOLCHAIN` = `rustup` or `debian` forces one of the two.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::paths;
use anyhow::{Context, Result, anyhow, bail};

/// The bare-metal target: softfloat, so that the compiler never touches a guest's FP/SIMD registers.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";

/// The target of programs for a VM's Linux: static, with musl.
const LINUX_TARGET: &str = "aarch64-unknown-linux-musl";

/// How the images are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// The active toolchain has the target's precompiled `core` and `alloc`.
    Rustup,
    /// Debian's compiler and library sources; the linker is the one given.
    Debian {
        /// rustup's `rust-lld` or `ld.lld`.
        linker: PathBuf,
    },
}

/// Debian's compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

impl Toolchain {
    /// The toolchain that `PORTCULLIS_TOOLCHAIN` names, else the first that is there.
    ///
    /// # Errors
    ///
    /// None is there, or not the one named.
    pub fn find() -> Result<Self> {
        match env::var("PORTCULLIS_TOOLCHAIN").as_deref() {
            Ok("rustup") => Self::rustup(),
            Ok("debian") => Self::debian(),
            Err(_) | Ok("") => {
                Self::rustup().or_else(|first| Self::debian().map_err(|_second| first))
            }
            Ok(other) => Err(anyhow!(
                "PORTCULLIS_TOOLCHAIN={other}: it may be `rustup` or `debian`, or unset"
            )),
        }
    }

    fn rustup() -> Result<Self> {
        let libraries = print(&rustc(), &["--target", TARGET, "--print", "target-libdir"])?;
        if Path::new(&libraries).is_dir() {
            Ok(Self::Rustup)
        } else {
            Err(anyhow!("the Rust target {TARGET} is not installed: run ./scripts/setup"))
        }
    }

    fn debian() -> Result<Self> {
        let missing =
            |what: &str| anyhow!("{what}: run PORTCULLIS_TOOLCHAIN=debian ./scripts/setup");
        let sysroot = print(DEBIAN_RUSTC.as_ref(), &["--print", "sysroot"])
            .map_err(|_| missing("Debian's rustc-web is not installed"))?;
        if !new_enough(&print(DEBIAN_RUSTC.as_ref(), &["--version"])?) {
            return Err(missing("Debian's rustc-web is too old"));
        }
        if !Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.toml").is_file() {
            return Err(missing("Debian's rust-web-src is not installed"));
        }
        Ok(Self::Debian { linker: linker()? })
    }

    /// A `cargo rustc` for the images' target, to which packages and profile are yet to be added.
    #[must_use]
    pub fn cargo_build(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(paths::root()).arg("rustc").args(["--target", TARGET]);
        // What cargo set for this tool's own run is not meant for the images.
        command.env("CARGO_TARGET_DIR", paths::target()).env_remove("RUSTFLAGS");
        if let Self::Debian { linker } = self {
            command
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_LINKER", linker)
                .arg("-Zbuild-std=core,alloc,compiler_builtins")
                .arg("-Zbuild-std-features=compiler-builtins-mem");
        }
        command
    }

    /// A `cargo build` of a program for Linux on arm64, and where it puts the program.
    ///
    /// # Errors
    ///
    /// The target is not installed, and cannot be: Debian has no standard library for it.
    pub fn cargo_linux(package: &str, program: &str) -> Result<(Command, PathBuf)> {
        let mut command = Self::for_linux("build")?;
        command.args(["--release", "--package", package, "--bin", program]);
        command.env("CARGO_TARGET_DIR", paths::target());
        Ok((command, paths::target().join(LINUX_TARGET).join("release").join(program)))
    }

    /// A `cargo install` of the programs of the published crate `NAME@VERSION` for Linux on arm64, into `bin` below `root`,
    /// with the versions of its own lock file.
    ///
    /// # Errors
    ///
    /// As [`Self::cargo_linux`].
    pub fn cargo_install(package: &str, root: &Path) -> Result<Command> {
        let mut command = Self::for_linux("install")?;
        command.args(["--quiet", "--locked", "--no-track", package, "--root"]).arg(root);
        // It builds in a folder that it removes.
        command.env_remove("CARGO_TARGET_DIR");
        Ok(command)
    }

    /// A command of cargo for Linux on arm64. The linker is the toolchain's own, so that no cross compiler is needed.
    fn for_linux(subcommand: &str) -> Result<Command> {
        let installed = || print(&rustc(), &["--target", LINUX_TARGET, "--print", "target-libdir"]);
        let there = || installed().is_ok_and(|libraries| Path::new(&libraries).is_dir());
        if !there() {
            // Adds it to the active toolchain; without rustup, or its server, it fails.
            let _ = print("rustup".as_ref(), &["target", "add", LINUX_TARGET]);
        }
        if !there() {
            bail!(
                "the Rust target {LINUX_TARGET} is missing: run rustup target add {LINUX_TARGET}"
            );
        }
        let mut command = Command::new(cargo());
        command.current_dir(paths::root()).args([subcommand, "--target", LINUX_TARGET]);
        command.env_remove("RUSTFLAGS");
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
        // It is loaded into small VMs.
        command.env("CARGO_PROFILE_RELEASE_DEBUG", "none");
        command.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
        Ok(command)
    }

    /// For messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rustup => "rustup's target",
            Self::Debian { .. } => "Debian's rustc-web, building core and alloc",
        }
    }
}

/// Whether `rustc --version` is one of the workspace's `rust-version` or newer.
fn new_enough(version: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        text.split('.').map_while(|number| number.parse().ok()).take(2).collect()
    };
    let ours = version.split_whitespace().nth(1).unwrap_or_default();
    numbers(ours) >= numbers(env!("CARGO_PKG_RUST_VERSION"))
}

/// The linker that comes with the active toolchain, else LLVM's from the path.
fn linker() -> Result<PathBuf> {
    if let Ok(sysroot) = print(&rustc(), &["--print", "sysroot"])
        && let Ok(host) = host()
    {
        let lld = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
        if lld.is_file() {
            return Ok(lld);
        }
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join("ld.lld"))
        .find(|lld| lld.is_file())
        .context("no rust-lld and no ld.lld: apt-get install lld")
}

/// The host's triple, as the active compiler calls it.
pub(crate) fn host() -> Result<String> {
    let version = print(&rustc(), &["-vV"])?;
    version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}

/// The cargo that runs this tool.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// The compiler beside the cargo that runs this tool.
fn rustc() -> PathBuf {
    let beside = cargo().with_file_name("rustc");
    if beside.is_file() { beside } else { "rustc".into() }
}

/// Standard output of `program args`, without its last newline.
fn print(program: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!(
            "{} {}: {}",
            program.display(),
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(new_enough("rustc 1.95.0 (59807616e 2026-04-14)"));
        assert!(new_enough("rustc 1.100.0-nightly (59807616e 2026-04-14)"));
        assert!(new_enough("rustc 2.0.0"));
        assert!(!new_enough("rustc 1.85.0 (x) (built from a source tarball)"));
        assert!(!new_enough("nonsense"));
    }
}
