// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cases in Rust are made of: machines with the images in place, and judgements over their consoles.

use anyhow::{Context, anyhow};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::asm::Asm;
use xtask::build::Artifacts;
use xtask::guests::Guest;
use xtask::paths;
use xtask::qemu::{Ended, Limits, Machine, Module, Run, Session};

/// What a case returns: nothing, or what was wrong.
pub type Checked = anyhow::Result<()>;

/// A case in Rust.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its file, which groups it.
    pub group: &'static str,
    /// Its function.
    pub name: &'static str,
    /// The case.
    pub check: fn(&Fixture) -> Checked,
    /// Guests without which it is skipped.
    pub needs: &'static [Guest],
    /// Left out of a quick run.
    pub slow: bool,
}

/// The cases of a file: `cases![function, function..]` makes its `CASES`; those behind `; slow:` are left out of a quick run.
macro_rules! cases {
    ($($name:ident),+ $(,)? $(; slow: $($slow:ident),+ $(,)?)?) => {
        /// The cases of this file.
        pub const CASES: &[$crate::fixture::Case] = &[
            $(cases!(@one $name, false),)+
            $($(cases!(@one $slow, true),)+)?
        ];
    };
    (@one $name:ident, $slow:literal) => {
        $crate::fixture::Case { group: $crate::fixture::group(module_path!()), name: stringify!($name), check: $name, needs: &[], slow: $slow }
    };
}

/// Cases that need files which may not have been made: `cases_with![function: GUESTS, slow; ..]`. Those with `true`
/// are left out of a quick run.
macro_rules! cases_with {
    ($($name:ident: $needs:expr, $slow:literal;)+) => {
        /// The cases of this file.
        pub const CASES: &[$crate::fixture::Case] = &[$(
            $crate::fixture::Case { group: $crate::fixture::group(module_path!()), name: stringify!($name), check: $name, needs: $needs, slow: $slow }
        ),+];
    };
}

/// Last part of a module's path.
#[must_use]
pub const fn group(path: &'static str) -> &'static str {
    let bytes = path.as_bytes();
    let mut start = bytes.len();
    while start > 0 && bytes[start - 1] != b':' {
        start -= 1;
    }
    path.split_at(start).1
}

/// Where a case boots its machines.
#[derive(Debug)]
pub struct Fixture {
    /// The images.
    pub images: Artifacts,
    /// Name of its logs and files.
    pub name: String,
}

impl Fixture {
    /// The usual machine with the hypervisor, no guest.
    #[must_use]
    pub fn machine(&self) -> Machine {
        Machine { kernel: Some(self.images.hypervisor.clone()), ..Machine::default() }
    }

    /// The usual machine with one guest per entry of `bootargs`.
    #[must_use]
    pub fn machine_with(&self, bootargs: &[&str]) -> Machine {
        let modules = bootargs.iter().map(|bootargs| self.guest(bootargs)).collect();
        Machine { modules, ..self.machine() }
    }

    /// The test guest with these boot arguments.
    #[must_use]
    pub fn guest(&self, bootargs: &str) -> Module {
        Module {
            kernel: self.images.guest_stub.clone(),
            bootargs: bootargs.into(),
            ..Module::default()
        }
    }

    /// A guest that runs `code` and nothing else.
    ///
    /// # Errors
    ///
    /// Its image cannot be written.
    pub fn code(&self, code: Asm, bootargs: &str) -> anyhow::Result<Module> {
        let bytes = code.bytes();
        let kernel = self.file(&format!("code-{:x}.bin", checksum(&bytes)), &bytes)?;
        Ok(Module { kernel, bootargs: bootargs.into(), ..Module::default() })
    }

    /// The usual machine with one guest, which runs `code`.
    ///
    /// # Errors
    ///
    /// Its image cannot be written.
    pub fn machine_code(&self, code: Asm, bootargs: &str) -> anyhow::Result<Machine> {
        Ok(Machine { modules: vec![self.code(code, bootargs)?], ..self.machine() })
    }

    /// Starts `machine`.
    ///
    /// # Errors
    ///
    /// QEMU cannot be started.
    pub fn boot(&self, machine: &Machine) -> anyhow::Result<Session> {
        let limits = Limits { total: Duration::from_secs(300), silence: Duration::from_secs(100) };
        Session::start(machine, &self.name, limits, false)
    }

    /// Starts `machine` and reads to its end.
    ///
    /// # Errors
    ///
    /// QEMU cannot be started.
    pub fn run(&self, machine: &Machine) -> anyhow::Result<Run> {
        Ok(self.boot(machine)?.finish())
    }

    /// A file of this case's own with these bytes.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn file(&self, name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let folder = paths::target().join("qemu-logs").join(format!("{}.files", self.name));
        let path = folder.join(name);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&path, bytes))
            .with_context(|| format!("{}", path.display()))?;
        Ok(path)
    }

    /// Boots `machine`, which must be refused in exactly one `[hyp] error:` line with all of `words` in it,
    /// run no guest, and go off.
    ///
    /// # Errors
    ///
    /// It is not.
    pub fn refused(&self, machine: &Machine, words: &[&str]) -> Checked {
        let run = self.run(machine)?;
        let errors: Vec<_> = run.with("[hyp] error:").collect();
        let [line] = errors.as_slice() else {
            return Err(anyhow!("{} lines `[hyp] error:`: {}", errors.len(), run.tail()));
        };
        for word in words {
            if !line.contains(word) {
                return Err(anyhow!("`{line}` does not name `{word}`"));
            }
        }
        if let Some(guest) = run.lines.iter().find(|line| !line.starts_with("[hyp]")) {
            return Err(anyhow!("a guest ran or QEMU complained: `{guest}`"));
        }
        powered_off(&run)
    }
}

/// A number that tells images of one case apart.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| sum.rotate_left(5).wrapping_add(u32::from(*byte)))
}

/// Whether the machine powered itself off.
///
/// # Errors
///
/// It did not.
pub fn powered_off(run: &Run) -> Checked {
    if run.ended == Ended::Exited(Some(0)) {
        Ok(())
    } else {
        Err(anyhow!("the machine was not powered off: {}", run.tail()))
    }
}

/// The one line of `run` that contains `text`. The line of the VM with the keyboard begins again where another's has come
/// between (crates/console/src/live_line.rs): that is one line.
///
/// # Errors
///
/// There is none, or more than one.
pub fn one<'a>(run: &'a Run, text: &'a str) -> anyhow::Result<&'a str> {
    let lines = &run.lines;
    let found: Vec<_> = (0..lines.len()).filter(|n| lines[*n].contains(text)).collect();
    let again =
        |pair: &[usize]| pair[0] + 1 < pair[1] && lines[pair[1]].starts_with(&lines[pair[0]]);
    match found.as_slice() {
        [.., last] if found.windows(2).all(again) => Ok(&lines[*last]),
        _ => Err(anyhow!("{} lines with `{text}`: {}", found.len(), run.tail())),
    }
}

/// Fails with `why` and the run's last lines unless `condition` holds.
///
/// # Errors
///
/// It does not.
pub fn ensure(condition: bool, why: &str, run: &Run) -> Checked {
    if condition { Ok(()) } else { Err(anyhow!("{why}: {}", run.tail())) }
}
