// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the images: `portcullis`, `guest-stub` and `hello-guest`, each as `.elf` and `.bin`, in the build directory; and on
//! request the server of a device VM, a program for Linux.

use std::fs::{self, Permissions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::progress::{self, Progress};
use crate::toolchain::{TARGET, Toolchain};
use crate::{flat, paths};
use anyhow::{Context, Result, bail};

/// The images of one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifacts {
    /// The hypervisor as boot loaders take it: flat, with the arm64 Linux Image header.
    pub hypervisor: PathBuf,
    /// The same with symbols.
    pub hypervisor_elf: PathBuf,
    /// The test guest, flat.
    pub guest_stub: PathBuf,
    /// The same with symbols.
    pub guest_stub_elf: PathBuf,
    /// The smallest guest that enrols, flat.
    pub hello_guest: PathBuf,
}

/// Features of the hypervisor crate and the packages to build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Features of `hyp`, comma-separated.
    pub features: Option<String>,
    /// Only this one of [`PACKAGES`].
    pub package: Option<String>,
    /// Let cargo report its steps.
    pub verbose: bool,
}

/// Name of the hypervisor's images: one with the oracle in it lies beside the one without.
fn hypervisor(options: &Options) -> &'static str {
    let features = options.features.as_deref().unwrap_or_default();
    if features.split(',').any(|feature| feature == "oracle") {
        "portcullis-oracle"
    } else {
        "portcullis"
    }
}

impl Artifacts {
    /// Where a build puts its images, built or not. Another hypervisor than `portcullis` if `PORTCULLIS_HYPERVISOR` names
    /// one, such as `portcullis-oracle`.
    #[must_use]
    pub fn expected() -> Self {
        let wanted = std::env::var("PORTCULLIS_HYPERVISOR");
        Self::named(wanted.as_deref().unwrap_or(hypervisor(&Options::default())))
    }

    /// The same with a certain hypervisor.
    #[must_use]
    pub fn named(hypervisor: &str) -> Self {
        let at = |name: &str| paths::target().join(name);
        Self {
            hypervisor: at(&format!("{hypervisor}.bin")),
            hypervisor_elf: at(&format!("{hypervisor}.elf")),
            guest_stub: at("guest-stub.bin"),
            guest_stub_elf: at("guest-stub.elf"),
            hello_guest: at("hello-guest.bin"),
        }
    }

    /// The images of an earlier build.
    ///
    /// # Errors
    ///
    /// One of them is missing.
    pub fn existing() -> Result<Self> {
        let all = Self::expected();
        for file in [
            &all.hypervisor,
            &all.hypervisor_elf,
            &all.guest_stub,
            &all.guest_stub_elf,
            &all.hello_guest,
        ] {
            if !file.is_file() {
                bail!("{} is missing: run ./scripts/build", file.display());
            }
        }
        Ok(all)
    }
}

/// Packages of the images.
pub const IMAGES: [&str; 3] = ["hyp", "guest-stub", "hello-guest"];

/// The package of a device VM's server.
pub const DEVICE_SERVER: &str = "device-server";

/// What can be built: the images, and what is built on request alone.
pub const PACKAGES: [&str; 4] = ["hyp", "guest-stub", "hello-guest", DEVICE_SERVER];

/// Flags of rustc for the hypervisor alone, whose code has a limit: functions outside `.text.hot` share equal sequences of
/// instructions, also those that are not compiled at `z`, and six rounds of this find more than one.
const HYP_FLAGS: [&str; 1] =
    ["-Cllvm-args=-enable-machine-outliner=always -machine-outliner-reruns=6"];

/// Builds the images.
///
/// They are built one by one, so that none gets the features that another asks of a crate.
///
/// # Errors
///
/// No toolchain, or a build that failed (cargo has said why); the other images are built all the same.
pub fn build(options: &Options) -> Result<Artifacts> {
    let toolchain = Toolchain::find()?;
    let mut result = Ok(Artifacts::expected());
    if options.package.as_deref() == Some(DEVICE_SERVER) {
        for program in DEVICE_PROGRAMS {
            device_program(program, options.verbose)?;
        }
        return result;
    }
    for package in IMAGES {
        let name = if package == "hyp" { hypervisor(options) } else { package };
        if options.package.as_ref().is_none_or(|only| only == package) {
            let built = compile(&toolchain, package, options).and_then(|elf| install(&elf, name));
            if let Err(error) = built {
                result = result.and(Err(error));
            }
        }
    }
    result
}

/// The command that compiles `package`, with colours for a terminal. What is behind its `--` goes to rustc, so that an
/// option of cargo's appended here would reach the wrong program: colours are in the environment.
fn command(toolchain: &Toolchain, package: &str, options: &Options, terminal: bool) -> Command {
    let mut command = toolchain.cargo_build();
    if terminal {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command.args(["--release", "--package", package]);
    if let Some(features) = options.features.as_ref().filter(|_| package == "hyp") {
        command.args(["--features", features]);
    }
    if package == "hyp" {
        command.arg("--").args(HYP_FLAGS);
    }
    command
}

fn compile(toolchain: &Toolchain, package: &str, options: &Options) -> Result<PathBuf> {
    let terminal = !options.verbose && std::io::stderr().is_terminal();
    let mut command = command(toolchain, package, options, terminal);
    let status = if options.verbose {
        command.status().context("cannot run cargo")?
    } else {
        quietly(command, &format!("building {package}"))?
    };
    if !status.success() {
        bail!("building {package} with {} failed", toolchain.name());
    }
    Ok(paths::target().join(TARGET).join("release").join(package))
}

/// Programs of the package [`DEVICE_SERVER`]: the server, one that reads what the server can, and one end of a byte stream.
pub const DEVICE_PROGRAMS: [&str; 3] =
    ["portcullis-devices", "portcullis-window", "portcullis-stream"];

/// Where one of [`DEVICE_PROGRAMS`] is, built or not: a static program for arm64 Linux.
#[must_use]
pub fn device_program_file(program: &str) -> PathBuf {
    paths::target().join("guests/device").join(program)
}

/// Builds one of [`DEVICE_PROGRAMS`].
///
/// # Errors
///
/// The Rust target of Linux with musl is not installed, or the build failed (cargo has said why).
pub fn device_program(program: &str, verbose: bool) -> Result<PathBuf> {
    let (mut cargo, built) = Toolchain::cargo_linux(DEVICE_SERVER, program)?;
    let status = if verbose {
        cargo.status().context("cannot run cargo")?
    } else {
        quietly(cargo, &format!("building {program}"))?
    };
    if !status.success() {
        bail!("building {program} failed");
    }
    let file = device_program_file(program);
    let folder = file.parent().context("it has no folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let bytes = fs::read(&built).with_context(|| built.display().to_string())?;
    replace(&file, &bytes)?;
    let executable = Permissions::from_mode(0o755);
    fs::set_permissions(&file, executable).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// Runs cargo, whose diagnostics are shown, and whose steps are shown as progress.
fn quietly(mut cargo: Command, what: &str) -> Result<ExitStatus> {
    let mut done = 0;
    progress::run(&mut cargo, &mut Progress::start(what), |progress, line| {
        let plain = console::strip_ansi_codes(line);
        if !is_step(&plain) {
            progress.suspend(|| eprintln!("{line}"));
        } else if plain.contains("Compiling") {
            done += 1;
            progress.set(done, 0, &plain);
        }
    })
}

/// Whether cargo says what it does, such as `   Compiling vm v0.1.0`: a word that ends in column 12.
fn is_step(line: &str) -> bool {
    line.split_at_checked(12).is_some_and(|(word, rest)| {
        rest.starts_with(' ') && word.trim_start().chars().all(char::is_alphabetic)
    })
}

/// Puts `NAME.elf` and `NAME.bin` into the build directory.
fn install(elf: &Path, name: &str) -> Result<()> {
    let bytes = fs::read(elf).with_context(|| elf.display().to_string())?;
    let image = flat::flatten(&bytes).with_context(|| elf.display().to_string())?;
    replace(&paths::target().join(format!("{name}.elf")), &bytes)?;
    replace(&paths::target().join(format!("{name}.bin")), &image)
}

/// Writes `file` in one step, and not at all if it holds these bytes already: a QEMU that another run
/// has just started never reads half an image.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    // Beside the file, so that it is moved and not copied; with the permissions of other files.
    let mut new = tempfile::Builder::new();
    let new = new.permissions(Permissions::from_mode(0o644));
    let new =
        new.tempfile_in(file.parent().filter(|at| *at != Path::new("")).unwrap_or(Path::new(".")));
    let mut new = new.with_context(|| file.display().to_string())?;
    new.write_all(bytes).with_context(|| file.display().to_string())?;
    new.persist(file).map(drop).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_terminal_rustc_gets_its_own_flags_only() {
        for terminal in [false, true] {
            let command = command(&Toolchain::Rustup, "hyp", &Options::default(), terminal);
            let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
            let own = args.split(|arg| arg == "--").nth(1).unwrap();
            assert_eq!(own, HYP_FLAGS);
            let colour = command.get_envs().any(|(name, _)| name == "CARGO_TERM_COLOR");
            assert_eq!(colour, terminal);
        }
    }

    #[test]
    fn what_cargo_does_is_told_from_what_the_compiler_complains_of() {
        for step in [
            "   Compiling vm v0.1.0 (/x)",
            "    Finished `release` profile",
            "    Blocking waiting",
        ] {
            assert!(is_step(step), "{step}");
        }
        for other in [
            "warning: unused import",
            "error[E0425]: no",
            "  --> hyp/src/main.rs:1:1",
            "",
            "   |  let é = 1",
        ] {
            assert!(!is_step(other), "{other}");
        }
    }
}
