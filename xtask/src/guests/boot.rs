// SPDX-License-Identifier: MIT OR Apache-2.0
//! How each guest is booted: with which words, beside which ramdisk, on how much memory.

use super::Guest;
use crate::qemu::{Ended, Module, Run};
use anyhow::{Result, anyhow, bail};

/// A guest that `run` boots by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// The word for it at a shell, and the VM's name.
    pub name: &'static str,
    /// Its image.
    pub image: Guest,
    /// Its ramdisk.
    pub ramdisk: Option<Guest>,
    /// RAM of its VM in MiB.
    pub memory_mib: u64,
    /// Boot arguments beyond `vm.name` and `vm.mem`.
    pub words: &'static str,
    /// The CPU model it takes, where the usual one does not do.
    pub cpu: Option<&'static str>,
}

/// Words of the kernels with the series.
const ENROLLED: &str =
    "vm.cpus=2 vm.guard=enrol vm.dialect=pkvm console=ttyAMA0 earlycon ioremap_guard panic=-1";

/// Its code is in the first bank of flash, its variables in the second; it wants a clock. It declares nothing: what
/// it uses is declared for it.
const EDK2: &str = "vm.flash=0x0+4M:0x4000000+1M vm.load=0x0 vm.dev=/pl031@9010000 vm.guard=enforce \
                vm.preset=0x0+4M:0x4000000+1M:0x8000000+64K:0x8010000+64K:0x80a0000+128K:\
                0x9000000+4K:0x9010000+4K:0x9020000+4K";

/// Those that boot to a prompt.
pub const BOOTS: [Boot; 8] = [
    Boot {
        name: "linux",
        image: Guest::Linux,
        ramdisk: Some(Guest::Initramfs),
        memory_mib: 512,
        words: "vm.cpus=2 console=ttyAMA0 panic=-1",
        cpu: None,
    },
    Boot {
        name: "linux-guarded",
        image: Guest::LinuxGuarded,
        ramdisk: Some(Guest::Initramfs),
        memory_mib: 256,
        words: "vm.cpus=2 vm.guard=enforce vm.dialect=pkvm console=ttyAMA0 panic=-1",
        cpu: None,
    },
    Boot {
        name: "linux-enrolled",
        image: Guest::LinuxEnrolled,
        ramdisk: Some(Guest::Initramfs),
        memory_mib: 256,
        words: ENROLLED,
        cpu: None,
    },
    // A Cortex-A57 has no 16 KiB pages.
    Boot {
        name: "linux-enrolled-16k",
        image: Guest::LinuxEnrolled16K,
        ramdisk: Some(Guest::Initramfs),
        memory_mib: 256,
        words: ENROLLED,
        cpu: Some("cortex-a76"),
    },
    Boot {
        name: "linux-enrolled-64k",
        image: Guest::LinuxEnrolled64K,
        ramdisk: Some(Guest::Initramfs),
        memory_mib: 256,
        words: ENROLLED,
        cpu: None,
    },
    // Its driver has the UART before anything could declare it; its environment is in flash there on QEMU's machine.
    Boot {
        name: "u-boot",
        image: Guest::UBoot,
        ramdisk: None,
        memory_mib: 128,
        words: "vm.guard=enforce vm.preset=0x9000000+4K vm.rom=0x4000000+256K",
        cpu: None,
    },
    Boot {
        name: "edk2",
        image: Guest::Edk2,
        ramdisk: None,
        memory_mib: 256,
        words: EDK2,
        cpu: None,
    },
    Boot {
        name: "edk2-unstable",
        image: Guest::Edk2Unstable,
        ramdisk: None,
        memory_mib: 256,
        words: EDK2,
        cpu: None,
    },
];

impl Boot {
    /// The one called `name`.
    #[must_use]
    pub fn called(name: &str) -> Option<Self> {
        BOOTS.into_iter().find(|boot| boot.name == name)
    }

    /// The files it needs.
    pub fn files(&self) -> impl Iterator<Item = Guest> {
        std::iter::once(self.image).chain(self.ramdisk)
    }

    /// The guest as QEMU loads it, with `words` behind its own.
    ///
    /// # Errors
    ///
    /// One of its files was not made.
    pub fn module(&self, words: &str) -> Result<Module> {
        let own = format!("vm.name={} vm.mem={}M {}", self.name, self.memory_mib, self.words);
        let key = |word: &str| word.split_once('=').map(|(key, _)| key.to_owned());
        let given: Vec<String> = words
            .split_whitespace()
            .filter(|word| word.starts_with("vm."))
            .filter_map(key)
            .collect();
        // What is given twice is refused: the caller's word counts.
        let kept = own
            .split_whitespace()
            .filter(|word| !key(word).is_some_and(|key| given.contains(&key)));
        let bootargs = kept.chain(words.split_whitespace()).collect::<Vec<_>>().join(" ");
        let ramdisk = self.ramdisk.map(Guest::existing).transpose()?;
        Ok(Module { kernel: self.image.existing()?, bootargs, ramdisk, address: None })
    }
}

/// RAM of a machine for `boots`, in MiB.
#[must_use]
pub fn memory_mib(boots: &[Boot]) -> u64 {
    machine_mib(boots.iter().map(|boot| boot.memory_mib).sum())
}

/// RAM of a machine for guests that need `guests`, in MiB: that, their images, and the hypervisor.
#[must_use]
pub const fn machine_mib(guests: u64) -> u64 {
    let all = (guests + 256).next_multiple_of(512);
    if all < 1024 { 1024 } else { all }
}

/// Names of all, for messages.
#[must_use]
pub fn names() -> String {
    BOOTS.map(|boot| boot.name).join(", ")
}

/// Whether a run of guests ended well: QEMU without an error, EL2 without one, and, unless somebody at a terminal
/// may have left it before (`left`), each VM powered off.
///
/// # Errors
///
/// What went wrong.
pub fn judge(run: &Run, vms: usize, left: bool) -> Result<()> {
    if let Some(line) = run
        .lines
        .iter()
        .find(|line| ["[hyp] error", "[hyp] panic"].iter().any(|bad| line.starts_with(bad)))
    {
        bail!("EL2 said `{line}`: {}", run.tail());
    }
    if run.ended != Ended::Exited(Some(0)) {
        bail!("the machine was not powered off: {}", run.tail());
    }
    // What lies before it may be the end of a guest's line.
    let off = run.lines.iter().filter(|line| line.contains(": stopped (power off)")).count();
    if off == vms || left {
        Ok(())
    } else {
        Err(anyhow!("{off} of {vms} VMs powered off: {}", run.tail()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_room_for_its_guests() {
        assert_eq!(memory_mib(&[]), 1024);
        assert_eq!(memory_mib(&BOOTS[..1]), 1024);
        assert_eq!(memory_mib(&BOOTS), 2560);
    }

    #[test]
    fn the_callers_words_replace_its_own() {
        let Ok(module) = Boot::called("u-boot").unwrap().module("vm.guard=off vm.mem=64M md")
        else {
            // Not made on this machine.
            return;
        };
        assert_eq!(
            module.bootargs,
            "vm.name=u-boot vm.preset=0x9000000+4K vm.rom=0x4000000+256K vm.guard=off vm.mem=64M md"
        );
    }

    #[test]
    fn a_run_is_judged_by_its_lines() {
        let run = |text: &str, ended| Run {
            lines: text.lines().map(str::to_owned).collect(),
            ended,
            took: std::time::Duration::ZERO,
            log: "LOG".into(),
        };
        let (off, stop) = (Ended::Exited(Some(0)), "[hyp] a: stopped (power off): 1 hypercalls");
        judge(&run(stop, off), 1, false).unwrap();
        judge(&run("guest# ", off), 1, true).unwrap();
        for (text, ended, vms) in [
            (stop.to_owned(), off, 2),
            (stop.replace("power off", "reset"), off, 1),
            (format!("{stop}\n[hyp] error: x"), off, 1),
            (format!("[hyp] panic on CPU 0\n{stop}"), off, 1),
            (stop.to_owned(), Ended::Silent, 1),
            (stop.to_owned(), Ended::Exited(Some(1)), 1),
        ] {
            assert!(judge(&run(&text, ended), vms, false).is_err(), "{text}");
        }
    }
}
