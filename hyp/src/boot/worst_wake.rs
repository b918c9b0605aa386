// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a VM may wait for its CPU after it woke, for the boot log: docs/scheduling.md.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use platform::{CpuShare, Schedule, VmConfig};
use sched::{Budget, Costs, Frame, Tenant, WorstWake, worst_wake};

/// In microseconds (docs/performance.md, rows `masked`): the longest section of EL2, 10, and behind it what a look at the CPU may
/// do before it chooses a vCPU, 15: four interrupts (3.0), 64 bytes for the UART (6.7 beside a flood of lines), keys that
/// are typed; a switch; the time for which no equal interrupts a vCPU.
const COSTS: Costs = Costs { section: 25, switch: 1, turn: 50 };

/// The VMs of a machine with their CPUs, and its windows.
pub struct Places<'a> {
    vms: Vec<(String, CpuShare)>,
    schedule: Option<&'a Schedule>,
}

/// What a VM may have to wait for, on the worst of its CPUs.
pub struct Wakes<'a>(Worst<'a>);

enum Worst<'a> {
    Within(u64),
    Behind(&'a str),
    Full,
}

impl<'a> Places<'a> {
    /// Notes what `configs` say, which are used up before anything can be said about them.
    pub fn new(configs: &[VmConfig], schedule: Option<&'a Schedule>) -> Self {
        let place = |config: &VmConfig| (config.name.clone(), config.share.clone());
        Self { vms: configs.iter().map(place).collect(), schedule }
    }

    /// The worst wake-up of VM `index`.
    pub fn wakes(&self, index: usize) -> Wakes<'_> {
        let cpus = self.vms.get(index).map_or(&[][..], |(_, share)| &share.cpus);
        let mut longest = 0;
        for cpu in cpus {
            match self.on(index, *cpu) {
                Worst::Within(time) => longest = time.max(longest),
                worst => return Wakes(worst),
            }
        }
        Wakes(Worst::Within(longest))
    }

    /// The same on one CPU.
    fn on(&self, index: usize, cpu: usize) -> Worst<'_> {
        let windowed = |vm| self.schedule.is_some_and(|schedule| schedule.number(vm).is_some());
        let here = |vm: usize| self.vms.get(vm).is_some_and(|(_, share)| share.cpus.contains(&cpu));
        let frame = match self.schedule {
            None => Frame::None,
            Some(schedule) if windowed(index) => Frame::Own(schedule.longest_gap(index)),
            Some(schedule) => {
                Frame::Others(Budget { ticks: schedule.kept(here), period: schedule.frame })
            }
        };
        let present =
            || (0..self.vms.len()).filter(|vm| here(*vm) && (*vm == index || !windowed(*vm)));
        let tenants: Vec<Tenant> = present().filter_map(|vm| self.tenant(vm)).collect();
        let own = present().position(|vm| vm == index).unwrap_or(0);
        match worst_wake(&tenants, own, frame, COSTS) {
            WorstWake::Within(time) => Worst::Within(time),
            WorstWake::Behind(other) => {
                let other = present().nth(other).and_then(|vm| self.vms.get(vm));
                Worst::Behind(other.map_or("", |(name, _)| name))
            }
            WorstWake::Full => Worst::Full,
        }
    }

    fn tenant(&self, vm: usize) -> Option<Tenant> {
        let (_, share) = self.vms.get(vm)?;
        let budget = share.budget.map(|budget| Budget { ticks: budget.us, period: budget.period });
        Some(Tenant { priority: share.priority, budget })
    }
}

impl fmt::Display for Wakes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Worst::Within(us) => write!(f, "wakes within {us} us"),
            Worst::Behind(name) => write!(f, "may wait for {name} for ever"),
            Worst::Full => {
                write!(f, "may wait for ever: budgets and windows may use all of its CPU")
            }
        }
    }
}
