// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask run`: guests in QEMU, to judge or to sit at.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use xtask::build::Artifacts;
use xtask::guests::Guest;
use xtask::guests::boot::{self, Boot};
use xtask::guests::file::{self, Description, Kind};
use xtask::qemu::{Gic, Limits, Machine, Module, Session, Start};
use xtask::{demo, devices, realtime};

use super::wanted::{Guests, Image, Show, Wanted};

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    guests: Guests,
    /// Version of the interrupt controller
    #[arg(long, default_value = "3", value_parser = super::named(["2", "3"], gic))]
    gic: Gic,
    /// CPU model as QEMU calls it [default: cortex-a57, or one that a guest needs]
    #[arg(long, value_name = "NAME")]
    cpu: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    smp: u32,
    /// RAM, in MiB or with M or G [default: 1G, or what the guests need]
    #[arg(long, value_name = "SIZE", value_parser = mebibytes)]
    mem: Option<u64>,
    /// A machine that has EL3 too
    #[arg(long)]
    secure: bool,
    /// The hypervisor's own boot arguments
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    append: Option<String>,
    /// Wait for a debugger on port 1234; see ./scripts/gdb
    #[arg(long)]
    gdb: bool,
    /// Further arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    qemu: Vec<String>,
}

fn gic(version: &str) -> Option<Gic> {
    match version {
        "2" => Some(Gic::V2),
        "3" => Some(Gic::V3),
        _ => None,
    }
}

/// `512`, `512M` or `2G` as MiB.
fn mebibytes(text: &str) -> Result<u64> {
    let (digits, unit) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (text.trim_end_matches(['M', 'm']), 1),
    };
    match digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit)) {
        Some(count) if count > 0 => Ok(count),
        _ => bail!("a number of MiB above 0, or one with M or G behind it"),
    }
}

/// What the guests are to QEMU.
#[derive(Default)]
struct Guested {
    modules: Vec<Module>,
    description: Option<Description>,
    /// All are the demonstration, which is judged by its own line.
    demo: bool,
    vms: usize,
    memory_mib: u64,
}

impl Guested {
    fn of(guests: &[Wanted], stub: &Artifacts) -> Result<Self> {
        let mut all = Self { vms: guests.len(), ..Self::default() };
        all.demo = guests.iter().all(|guest| guest.image == Image::Demo);
        for Wanted { image, words, initrd } in guests {
            let initrd = initrd.clone();
            let module = match image {
                Image::Demo => Module {
                    kernel: stub.guest_stub.clone(),
                    bootargs: format!("demo{words}"),
                    ramdisk: initrd,
                    address: None,
                },
                Image::Show(show) => {
                    let name = show.name();
                    bail!("{name} is several VMs: it takes no other guest, no --vm and no --initrd")
                }
                Image::Named(boot) => {
                    all.memory_mib += boot.memory_mib;
                    let module = boot.module(words.trim())?;
                    Module { ramdisk: initrd.or(module.ramdisk), ..module }
                }
                Image::File(path) => {
                    let kind = file::kind(path)?;
                    if kind == Kind::Kernel {
                        let taken: Vec<String> =
                            all.modules.iter().filter_map(file::name_of).collect();
                        let (module, needed) =
                            file::module(path, initrd.as_deref(), words, &taken)?;
                        all.memory_mib += needed;
                        module
                    } else {
                        let name = path.display();
                        if guests.len() > 1 {
                            bail!("{name} describes VMs: it cannot be combined with other guests");
                        }
                        if initrd.is_some() || !words.is_empty() {
                            bail!("{name} describes VMs: put --initrd and --vm into it");
                        }
                        let description = file::description(path, kind)?;
                        all.vms = description.vms;
                        all.memory_mib += description.memory_mib;
                        all.description = Some(description);
                        continue;
                    }
                }
            };
            all.modules.push(module);
        }
        Ok(all)
    }
}

impl RunArgs {
    /// The files that the guests need and that are fetched or built.
    pub fn files(&self) -> Vec<Guest> {
        match self.show() {
            Some(Show::Devices) => return devices::setup::FILES.to_vec(),
            Some(Show::Realtime) => return realtime::FILES.to_vec(),
            None => {}
        }
        self.named().flat_map(|boot| boot.files().collect::<Vec<_>>()).collect()
    }

    /// The files without which there are fewer devices.
    pub fn optional_files(&self) -> Vec<Guest> {
        match self.show() {
            Some(Show::Devices) => devices::setup::DAEMONS.to_vec(),
            _ => Vec::new(),
        }
    }

    /// The VMs that show something together, if it is they.
    fn show(&self) -> Option<Show> {
        match self.guests.0.as_slice() {
            [Wanted { image: Image::Show(show), words, initrd: None }] if words.is_empty() => {
                Some(*show)
            }
            _ => None,
        }
    }

    fn named(&self) -> impl Iterator<Item = Boot> {
        self.guests.0.iter().filter_map(|guest| match guest.image {
            Image::Named(boot) => Some(boot),
            _ => None,
        })
    }

    /// Boots the guests, and judges what they said.
    pub fn run(self) -> Result<()> {
        let images = Artifacts::existing()?;
        if let Some(show) = self.show() {
            return several(show, &images);
        }
        let needed = self.named().find_map(|boot| boot.cpu).map(str::to_owned);
        let guests = Guested::of(&self.guests.0, &images)?;
        let mut machine = Machine {
            gic: self.gic,
            cpus: self.smp,
            memory_mib: self.mem.unwrap_or_else(|| boot::machine_mib(guests.memory_mib)),
            append: self.append,
            kernel: Some(images.hypervisor),
            initrd: guests.description.as_ref().map(|all| all.bundle.clone()),
            modules: guests.modules,
            ..Machine::default()
        };
        machine.cpu = self.cpu.or(needed).unwrap_or(machine.cpu);
        if self.secure {
            machine.start = Start::El2Secure;
        }
        if self.gdb {
            machine.extra.extend(["-s".to_owned(), "-S".to_owned()]);
            println!(
                "run: waiting for a debugger; in another shell: ./scripts/gdb, then `continue`"
            );
        }
        machine.extra.extend(self.qemu);
        let seconds = |total, silence| Limits {
            total: Duration::from_secs(total),
            silence: Duration::from_secs(silence),
        };
        // A person thinks as long as necessary.
        let endless = Limits { total: Duration::MAX, silence: Duration::MAX };
        if guests.demo {
            let limits = if self.gdb { endless } else { seconds(120, 60) };
            let run = Session::start(&machine, "run-demo", limits, true)?.finish();
            demo::judge(&run)?;
            let took = run.took.as_secs_f32();
            println!("run: all as promised, {took:.1} s; the console is in {}", run.log.display());
            return Ok(());
        }
        machine.attended = io::stdin().is_terminal();
        if machine.attended {
            println!("run: Ctrl-A x ends QEMU");
        }
        let limits = if machine.attended || self.gdb { endless } else { seconds(3600, 300) };
        let run = Session::start(&machine, "run-guests", limits, true)?.finish();
        boot::judge(&run, guests.vms, machine.attended)
    }
}

/// VMs that show something together: for a person a shell in the first one, else all checks.
fn several(show: Show, images: &Artifacts) -> Result<()> {
    let name = format!("run-{}", show.name());
    if io::stdin().is_terminal() {
        let (machine, vms, keys) = match show {
            Show::Devices => (
                devices::setup::machine(images)?,
                devices::setup::VMS.len(),
                "Ctrl-] 0 and Ctrl-] 1 give web and store the keyboard",
            ),
            Show::Realtime => (
                realtime::machine(images)?,
                realtime::VMS.len(),
                "the keyboard is linux's; rt says each second how late it was (QEMU's host is no real-time machine)",
            ),
        };
        println!("run: Ctrl-A x ends QEMU; {keys}");
        let endless = Limits { total: Duration::MAX, silence: Duration::MAX };
        let machine = Machine { attended: true, ..machine };
        let run = Session::start(&machine, &name, endless, true)?.finish();
        return boot::judge(&run, vms, true);
    }
    let mut say = |line: &str| println!("{line}");
    let report = match show {
        Show::Devices => devices::judge(images, &name, &mut say)?,
        Show::Realtime => realtime::judge(images, &name, &mut say)?,
    };
    let (kept, closing) = (report.all_kept(), report.closing());
    println!("{closing}");
    if kept { Ok(()) } else { bail!("not everything was as promised") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(mebibytes("512").unwrap(), 512);
        assert_eq!(mebibytes("512M").unwrap(), 512);
        assert_eq!(mebibytes("2G").unwrap(), 2048);
        assert!(mebibytes("2T").is_err());
        assert!(mebibytes("18446744073709551615G").is_err());
    }
}
