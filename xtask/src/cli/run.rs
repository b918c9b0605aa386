// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask run`: guests in QEMU, to judge or to sit at.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};
use xtask::build::Artifacts;
use xtask::demo;
use xtask::guests::Guest;
use xtask::guests::boot::{self, BOOTS, Boot};
use xtask::qemu::{Gic, Limits, Machine, Module, Session, Start};

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
    #[arg(long, value_name = "N", default_value_t = 2)]
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

/// A guest on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    /// A guest by its name; the demonstration if none.
    boot: Option<Boot>,
    /// Boot arguments beyond its own.
    words: String,
}

/// The guests, each with the options that follow its name.
#[derive(Debug)]
struct Guests(Vec<Wanted>);

impl Args for Guests {
    fn augment_args(command: clap::Command) -> clap::Command {
        let names = ["demo", "stub"].into_iter().chain(BOOTS.iter().map(|boot| boot.name));
        let parser = PossibleValuesParser::new(names)
            .map(|name| Wanted { boot: Boot::called(&name), ..Wanted::default() });
        let guest = Arg::new("guest").value_name("GUEST").action(ArgAction::Append).num_args(1..);
        let vm = Arg::new("vm").long("vm").value_name("WORDS").action(ArgAction::Append);
        command
            .arg(guest.value_parser(parser).help(
                "A VM each: demo, which is judged and the default, or guests to sit at. Ctrl-A x ends \
                 QEMU. With several VMs, Ctrl-] and a number gives one the keyboard",
            ))
            .arg(vm.allow_hyphen_values(true).help(
                "More boot arguments for the guest named before it, such as \"vm.guard=enforce\"",
            ))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Guests {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        fn placed<'a, T: Clone + Send + Sync + 'static>(
            matches: &'a ArgMatches,
            name: &str,
        ) -> Vec<(usize, &'a T)> {
            let places = matches.indices_of(name).into_iter().flatten();
            places.zip(matches.get_many::<T>(name).into_iter().flatten()).collect()
        }
        let mut guests: Vec<(usize, Wanted)> = placed::<Wanted>(matches, "guest")
            .into_iter()
            .map(|(place, guest)| (place, guest.clone()))
            .collect();
        let options = placed::<String>(matches, "vm");
        // Options in front of every name are for the demonstration.
        let first = options.first().is_some_and(|(place, _)| guests.iter().all(|g| g.0 > *place));
        if first || guests.is_empty() {
            guests.insert(0, (0, Wanted::default()));
        }
        for (place, words) in options {
            if let Some((_, guest)) = guests.iter_mut().rev().find(|guest| guest.0 <= place) {
                guest.words.push(' ');
                guest.words.push_str(words);
            }
        }
        Ok(Self(guests.into_iter().map(|(_, guest)| guest).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
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
        Some(count) => Ok(count),
        None => bail!("a number of MiB, or one with M or G behind it"),
    }
}

impl RunArgs {
    /// The files that the guests need and that are fetched or built.
    pub fn files(&self) -> Vec<Guest> {
        let boots = self.guests.0.iter().filter_map(|guest| guest.boot);
        boots.flat_map(|boot| boot.files().collect::<Vec<_>>()).collect()
    }

    /// Boots the guests, and judges what they said.
    pub fn run(self) -> Result<()> {
        let guests = self.guests.0;
        let others: Vec<Boot> = guests.iter().filter_map(|guest| guest.boot).collect();
        let images = Artifacts::existing()?;
        let mut machine = Machine {
            gic: self.gic,
            cpus: self.smp,
            memory_mib: self.mem.unwrap_or_else(|| boot::memory_mib(&others)),
            append: self.append,
            kernel: Some(images.hypervisor),
            ..Machine::default()
        };
        let needed = || others.iter().find_map(|boot| boot.cpu).map(str::to_owned);
        machine.cpu = self.cpu.or_else(needed).unwrap_or(machine.cpu);
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
        for Wanted { boot, words } in &guests {
            machine.modules.push(match boot {
                Some(boot) => boot.module(words.trim())?,
                None => Module {
                    kernel: images.guest_stub.clone(),
                    bootargs: format!("demo{words}"),
                    ..Module::default()
                },
            });
        }
        let seconds = |total, silence| Limits {
            total: Duration::from_secs(total),
            silence: Duration::from_secs(silence),
        };
        // A person thinks as long as necessary.
        let endless = Limits { total: Duration::MAX, silence: Duration::MAX };
        if others.is_empty() {
            let limits = if self.gdb { endless } else { seconds(120, 60) };
            let run = Session::start(&machine, "run-demo", limits, true)?.finish();
            demo::judge(&run)?;
            let took = run.took.as_secs_f32();
            println!("run: all as promised, {took:.1} s; the console is in {}", run.log.display());
            return Ok(());
        }
        machine.attended = io::stdin().is_terminal();
        let limits = if machine.attended || self.gdb { endless } else { seconds(3600, 300) };
        let run = Session::start(&machine, "run-guests", limits, true)?.finish();
        boot::judge(&run, guests.len(), machine.attended)
    }
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
