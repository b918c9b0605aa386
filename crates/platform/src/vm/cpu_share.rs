// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which CPUs a VM runs on, and what part of them it has: `vm.affinity`, `vm.dedicated`, `vm.priority`, `vm.budget` and
//! `vm.slice`.

use crate::error::{Error, err};
use crate::vm::parse_number::number;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use arch::MAX_VCPUS;
use core::fmt;

/// vCPUs that a CPU can have.
pub const VCPUS_PER_CPU: usize = 32;
/// Microseconds that a VM may use of a CPU in each round, where others of its priority want it too, without `vm.slice`.
pub const DEFAULT_SLICE: u64 = 4000;
/// Least and most microseconds of a slice.
pub const SLICES: core::ops::RangeInclusive<usize> = 500..=100_000;
/// The highest priority.
pub const MAX_PRIORITY: u8 = 31;
/// Priority of a VM without `vm.priority` and `vm.budget`.
pub const DEFAULT_PRIORITY: u8 = 8;
/// Priority of a VM with `vm.budget` and without `vm.priority`.
pub const BUDGET_PRIORITY: u8 = 24;
/// Least microseconds of a budget: less is used up by the switches to the VM and back.
const MIN_BUDGET: u64 = 20;
/// Least and most microseconds of a budget's period.
const PERIODS: core::ops::RangeInclusive<u64> = 200..=1_000_000;
/// Most numbers in `vm.affinity`.
const MAX_LIST: usize = 64;

/// CPU time in each period, in microseconds. Periods begin at multiples of their length of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetUs {
    /// Time that the VM may use on each of its CPUs.
    pub us: u64,
    /// Length of a period.
    pub period: u64,
}

/// A VM's part of its CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuShare {
    /// The CPU of each vCPU.
    pub cpus: Vec<usize>,
    /// No other VM has these CPUs.
    pub dedicated: bool,
    /// 0 to [`MAX_PRIORITY`]; a higher one goes first, always.
    pub priority: u8,
    /// A limit on each CPU.
    pub budget: Option<BudgetUs>,
    /// Microseconds that its vCPUs on a CPU may use of it in each round, where others of its priority want it too.
    pub slice: u64,
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.cpus.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} vCPU{plural} on CPU{plural}")?;
        for cpu in &self.cpus {
            write!(f, " {cpu}")?;
        }
        if self.dedicated {
            write!(f, " alone")?;
        }
        write!(f, ", priority {}", self.priority)?;
        match self.budget {
            Some(budget) => write!(f, ", budget {}/{} us", budget.us, budget.period),
            None => Ok(()),
        }
    }
}

/// What a VM's options ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuOptions {
    /// CPUs for its vCPUs, in turn; empty: all that no VM has for itself.
    pub affinity: Vec<usize>,
    /// Whether no other VM may have them.
    pub dedicated: bool,
    /// 0 to [`MAX_PRIORITY`].
    pub priority: Option<u8>,
    /// A limit on each CPU.
    pub budget: Option<BudgetUs>,
    /// Microseconds of a slice.
    pub slice: Option<u64>,
}

impl CpuOptions {
    fn priority(&self) -> u8 {
        let default = if self.budget.is_some() { BUDGET_PRIORITY } else { DEFAULT_PRIORITY };
        self.priority.unwrap_or(default)
    }
}

/// `N[-N][:N[-N]...]`: numbers of CPUs, each once.
pub(crate) fn cpus(text: &str) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for part in text.split(':') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (small(first)?, small(last)?);
        if first > last || last.saturating_sub(first) >= MAX_LIST {
            return None;
        }
        for cpu in first..=last {
            if found.contains(&cpu) || found.len() >= MAX_LIST {
                return None;
            }
            found.push(cpu);
        }
    }
    Some(found)
}

fn small(text: &str) -> Option<usize> {
    let value = number(text)?;
    usize::try_from(value).ok().filter(|value| *value < 4096)
}

/// `US/PERIOD`, in microseconds.
pub(crate) fn budget(text: &str) -> Option<BudgetUs> {
    let (us, period) = text.split_once('/')?;
    let (us, period) = (number(us)?, number(period)?);
    let fits = PERIODS.contains(&period) && (MIN_BUDGET..=period).contains(&us);
    fits.then_some(BudgetUs { us, period })
}

/// A VM, for [`assign`].
pub(crate) struct Asking<'a> {
    pub name: &'a str,
    pub vcpus: usize,
    pub options: CpuOptions,
}

/// Gives each VM its CPUs, of a machine that has `cpus`.
///
/// A VM with `vm.affinity` has its vCPUs on the CPUs of that list in turn. Others have theirs, one after the other, on the CPUs
/// that no VM has for itself.
///
/// # Errors
/// One line that names the VM, what is wrong with its options, and what to do.
pub(crate) fn assign(vms: Vec<Asking<'_>>, cpus: usize) -> Result<Vec<CpuShare>, Error> {
    let mut owner: Vec<Option<&str>> = vec![None; cpus];
    for vm in &vms {
        check_list(vm, cpus)?;
        for cpu in vm.options.affinity.iter().filter(|_| vm.options.dedicated) {
            let Some(slot) = owner.get_mut(*cpu) else { continue };
            if let Some(other) = slot.replace(vm.name) {
                return Err(both_dedicated(vm.name, other, *cpu));
            }
        }
    }
    let shared: Vec<usize> =
        (0..cpus).filter(|cpu| owner.get(*cpu).is_some_and(Option::is_none)).collect();
    let mut shares = Vec::new();
    let mut turn = 0_usize;
    for vm in &vms {
        let list = if vm.options.affinity.is_empty() { &shared } else { &vm.options.affinity };
        if let Some((cpu, other)) = taken(vm, list, &owner) {
            return Err(err!(
                Vm,
                "{}: vm.affinity names CPU {cpu}, which {other} has for itself (vm.dedicated); \
                 name another CPU",
                vm.name
            ));
        }
        let mut own = Vec::new();
        for vcpu in 0..vm.vcpus {
            let at = if vm.options.affinity.is_empty() { turn } else { vcpu };
            let Some(cpu) = at.checked_rem(list.len()).and_then(|at| list.get(at)) else {
                return Err(err!(
                    Vm,
                    "{}: no CPU is left: other VMs have all {cpus} for themselves (vm.dedicated)",
                    vm.name
                ));
            };
            own.push(*cpu);
            if vm.options.affinity.is_empty() {
                turn = turn.saturating_add(1);
            }
        }
        shares.push(CpuShare {
            cpus: own,
            dedicated: vm.options.dedicated,
            priority: vm.options.priority(),
            budget: vm.options.budget,
            slice: vm.options.slice.unwrap_or(DEFAULT_SLICE),
        });
    }
    check_cpus(&vms, &shares, cpus)?;
    Ok(shares)
}

fn both_dedicated(name: &str, other: &str, cpu: usize) -> Error {
    err!(
        Vm,
        "{name}: CPU {cpu} is to be its own (vm.dedicated), and {other}'s; give one another CPU"
    )
}

/// A VM's list against the machine, and against its vCPUs.
fn check_list(vm: &Asking<'_>, cpus: usize) -> Result<(), Error> {
    let name = vm.name;
    if let Some(cpu) = vm.options.affinity.iter().find(|cpu| **cpu >= cpus) {
        let last = cpus.saturating_sub(1);
        return Err(err!(
            Vm,
            "{name}: vm.affinity names CPU {cpu}; this machine has CPUs 0 to {last}"
        ));
    }
    if vm.options.dedicated && vm.options.affinity.len() != vm.vcpus {
        return Err(err!(
            Vm,
            "{name}: vm.dedicated needs vm.affinity with as many CPUs as the VM has vCPUs ({}); it \
             names {}",
            vm.vcpus,
            vm.options.affinity.len()
        ));
    }
    Ok(())
}

/// A CPU of `list` that another VM has for itself, and that VM.
fn taken<'a>(
    vm: &Asking<'_>,
    list: &[usize],
    owner: &[Option<&'a str>],
) -> Option<(usize, &'a str)> {
    list.iter().find_map(|cpu| {
        let other = (*owner.get(*cpu)?)?;
        (other != vm.name).then_some((*cpu, other))
    })
}

/// What the VMs of each CPU want together.
fn check_cpus(vms: &[Asking<'_>], shares: &[CpuShare], cpus: usize) -> Result<(), Error> {
    for cpu in 0..cpus {
        let here = || {
            let all = vms.iter().zip(shares);
            all.filter(|(_, share)| share.cpus.contains(&cpu))
        };
        let count = |share: &CpuShare| share.cpus.iter().filter(|other| **other == cpu).count();
        let vcpus = here().fold(0_usize, |sum, (_, share)| sum.saturating_add(count(share)));
        if vcpus > VCPUS_PER_CPU {
            return Err(err!(
                Vm,
                "CPU {cpu} has {vcpus} vCPUs ({}): at most {VCPUS_PER_CPU} can share a CPU; lower vm.cpus, \
                 name other CPUs in vm.affinity, or start with more CPUs",
                names(here().map(|(vm, share)| format!("{} {}", vm.name, count(share))))
            ));
        }
        // Parts of a million, rounded up.
        let budgets = here().filter_map(|(vm, share)| Some((vm, share.budget?)));
        let part =
            |budget: BudgetUs| budget.us.saturating_mul(1_000_000).div_ceil(budget.period.max(1));
        let sum = budgets.clone().fold(0_u64, |sum, (_, budget)| sum.saturating_add(part(budget)));
        if sum > 1_000_000 {
            return Err(err!(
                Vm,
                "the budgets on CPU {cpu} are more than it has: {}; lower one, or name another CPU in \
                 vm.affinity",
                names(budgets.map(|(vm, b)| format!("{} {}/{}", vm.name, b.us, b.period)))
            ));
        }
    }
    Ok(())
}

fn names(all: impl Iterator<Item = String>) -> String {
    all.collect::<Vec<_>>().join(", ")
}

/// VMs that a VM of a higher priority without a budget may keep from a CPU: the CPU, that VM, and one below it.
///
/// `shares` has the VMs without a window of their own, with their numbers: no other VM runs in a window before the one that
/// has it, and its priority counts nowhere else.
pub fn unbounded(shares: &[(usize, &CpuShare)]) -> Option<(usize, usize, usize)> {
    shares.iter().filter(|(_, share)| share.budget.is_none()).find_map(|(above, share)| {
        share.cpus.iter().find_map(|cpu| {
            let lower =
                |other: &CpuShare| other.priority < share.priority && other.cpus.contains(cpu);
            let (below, _) = shares.iter().find(|(_, other)| lower(other))?;
            Some((*cpu, *above, *below))
        })
    })
}

const _: () = assert!(MAX_VCPUS <= VCPUS_PER_CPU);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn vm(name: &str, vcpus: usize, options: CpuOptions) -> Asking<'_> {
        Asking { name, vcpus, options }
    }

    fn on(list: &str) -> CpuOptions {
        CpuOptions { affinity: cpus(list).unwrap(), ..CpuOptions::default() }
    }

    fn dedicated(list: &str) -> CpuOptions {
        CpuOptions { dedicated: true, ..on(list) }
    }

    fn of(us: u64, period: u64) -> CpuOptions {
        CpuOptions { budget: Some(BudgetUs { us, period }), ..CpuOptions::default() }
    }

    fn places(vms: Vec<Asking<'_>>, cpus: usize) -> Vec<Vec<usize>> {
        assign(vms, cpus).unwrap().into_iter().map(|share| share.cpus).collect()
    }

    fn refused(vms: Vec<Asking<'_>>, cpus: usize) -> String {
        assign(vms, cpus).unwrap_err().to_string()
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpus("3"), Some(vec![3]));
        assert_eq!(cpus("0-2:7:5-6"), Some(vec![0, 1, 2, 7, 5, 6]));
        for bad in ["", "a", "1-", "-1", "2-1", "1:1", "0-2:2", "1,2", "0-4095", "+1"] {
            assert_eq!(cpus(bad), None, "{bad}");
        }
    }

    #[test]
    fn budgets_in_microseconds() {
        assert_eq!(budget("200/1000"), Some(BudgetUs { us: 200, period: 1000 }));
        assert_eq!(budget("1000/1000"), Some(BudgetUs { us: 1000, period: 1000 }));
        for bad in
            ["", "200", "0/1000", "19/1000", "1001/1000", "20/199", "20/1000001", "a/b", "1/2/3"]
        {
            assert_eq!(budget(bad), None, "{bad}");
        }
    }

    #[test]
    fn without_words_vcpus_go_round() {
        let vms = vec![vm("a", 3, CpuOptions::default()), vm("b", 2, CpuOptions::default())];
        assert_eq!(places(vms, 4), [vec![0, 1, 2], vec![3, 0]]);
        let vms = vec![vm("a", 2, CpuOptions::default())];
        assert_eq!(places(vms, 1), [vec![0, 0]]);
    }

    #[test]
    fn a_dedicated_cpu_is_left_out_for_others() {
        let vms = vec![vm("linux", 4, CpuOptions::default()), vm("rtos", 1, dedicated("1"))];
        assert_eq!(places(vms, 3), [vec![0, 2, 0, 2], vec![1]]);
    }

    #[test]
    fn affinity_is_in_the_order_of_its_list() {
        let vms = vec![vm("a", 3, on("2:0")), vm("b", 1, CpuOptions::default())];
        assert_eq!(places(vms, 4), [vec![2, 0, 2], vec![0]]);
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        let error = refused(vec![vm("a", 1, on("4"))], 4);
        assert_eq!(error, "a: vm.affinity names CPU 4; this machine has CPUs 0 to 3");
        let error = refused(vec![vm("a", 2, dedicated("1"))], 4);
        assert!(
            error.starts_with("a: vm.dedicated needs vm.affinity with as many CPUs"),
            "{error}"
        );
        let only = CpuOptions { dedicated: true, ..CpuOptions::default() };
        assert!(refused(vec![vm("a", 1, only)], 4).contains("it names 0"));
        let error = refused(vec![vm("a", 1, dedicated("1")), vm("b", 1, dedicated("1"))], 4);
        assert_eq!(
            error,
            "b: CPU 1 is to be its own (vm.dedicated), and a's; give one another CPU"
        );
        let error = refused(vec![vm("b", 1, on("0-1")), vm("a", 1, dedicated("1"))], 4);
        assert!(error.contains("b: vm.affinity names CPU 1, which a has for itself"), "{error}");
        let error =
            refused(vec![vm("a", 2, dedicated("0-1")), vm("b", 1, CpuOptions::default())], 2);
        assert!(error.starts_with("b: no CPU is left"), "{error}");
    }

    #[test]
    fn budgets_of_a_cpu_fit_into_it() {
        let two = |second| vec![vm("a", 1, of(600, 1000)), vm("b", 1, of(second, 1000))];
        assert!(assign(two(400), 1).is_ok());
        let error = refused(two(401), 1);
        assert!(
            error.contains("the budgets on CPU 0 are more than it has: a 600/1000, b 401/1000"),
            "{error}"
        );
        assert!(assign(two(401), 2).is_ok(), "each has a CPU");
    }

    #[test]
    fn priorities_have_defaults_and_warnings() {
        let high = CpuOptions { priority: Some(20), ..CpuOptions::default() };
        let vms =
            vec![vm("a", 1, CpuOptions::default()), vm("b", 1, of(100, 1000)), vm("c", 1, high)];
        let shares = assign(vms, 1).unwrap();
        assert_eq!(shares.iter().map(|s| s.priority).collect::<Vec<_>>(), [8, 24, 20]);
        let all: Vec<_> = shares.iter().enumerate().collect();
        assert_eq!(unbounded(&all), Some((0, 2, 0)), "c has no budget, a waits for it");
        assert_eq!(unbounded(&all[..2]), None);
        assert_eq!(unbounded(&all[1..]), None, "a has a window");
    }

    #[test]
    fn a_share_is_shown_with_what_was_asked_for() {
        let shown = |options| assign(vec![vm("a", 1, options)], 2).unwrap()[0].to_string();
        assert_eq!(shown(CpuOptions::default()), "1 vCPU on CPU 0, priority 8");
        assert_eq!(shown(dedicated("1")), "1 vCPU on CPU 1 alone, priority 8");
        let shares = assign(vec![vm("a", 2, of(200, 1000))], 2).unwrap();
        assert_eq!(shares[0].to_string(), "2 vCPUs on CPUs 0 1, priority 24, budget 200/1000 us");
    }

    #[test]
    fn a_cpu_has_room_for_32_vcpus() {
        let vms = |count| (0..count).map(|_| vm("a", 8, on("0"))).collect::<Vec<_>>();
        assert!(assign(vms(4), 2).is_ok());
        let error = refused(vms(5), 2);
        assert!(
            error.contains("CPU 0 has 40 vCPUs (a 8, a 8, a 8, a 8, a 8): at most 32"),
            "{error}"
        );
    }
}
