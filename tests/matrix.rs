// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machines, and which of the guest's tests run on each.

use xtask::boards::model;
use xtask::qemu::{Gic, Machine, Start};
use xtask::stub::Test;

/// How much of the guest's tests a machine gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Those of one boot with the default options, and those for more than two vCPUs that all have a CPU here.
    Smoke,
    /// All but those flagged `slow`.
    Most,
    /// All.
    Full,
}

/// A machine of the matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Begins the names of its cases.
    pub name: &'static str,
    /// The machine, without images.
    pub machine: Machine,
    /// Physical address bits of its CPU: VMs cannot have more.
    pub pa_bits: u32,
    /// How much runs on it.
    pub depth: Depth,
    /// How much of that in a quick run, if it takes part.
    pub quick: Option<Depth>,
}

/// All machines.
// scenario: J9
#[must_use]
pub fn configurations() -> Vec<Configuration> {
    use Depth::{Full, Most, Smoke};
    let configuration = |name, machine, pa_bits, depth, quick| Configuration {
        name,
        machine,
        pa_bits,
        depth,
        quick,
    };
    let base = Machine::default;
    let cpu = |cpu: &str| Machine { cpu: cpu.into(), ..base() };
    let cpus = |cpus, gic| Machine { cpus, gic, ..base() };
    let memory = |memory_mib| Machine { memory_mib, ..base() };
    let board = |board, memory_mib| Machine { board: Some(board), cpus: 4, memory_mib, ..base() };
    vec![
        configuration("gicv3", base(), 44, Full, Some(Most)),
        configuration("gicv2", Machine { gic: Gic::V2, ..base() }, 44, Most, Some(Smoke)),
        // Without the slow pointer authentication of the architecture, which QEMU computes bit by bit.
        configuration("max", cpu("max,pauth-impdef=on"), 48, Most, Some(Smoke)),
        configuration("a53", cpu("cortex-a53"), 40, Most, None),
        configuration("a72", cpu("cortex-a72"), 44, Most, None),
        configuration("a76", cpu("cortex-a76"), 40, Most, None),
        configuration("n1", cpu("neoverse-n1"), 48, Most, None),
        configuration("secure", Machine { start: Start::El2Secure, ..base() }, 44, Most, None),
        configuration("smp1", cpus(1, Gic::V3), 44, Smoke, None),
        configuration("smp4", cpus(4, Gic::V3), 44, Smoke, None),
        configuration("smp8", cpus(8, Gic::V3), 44, Smoke, None),
        configuration("smp8-gicv2", cpus(8, Gic::V2), 44, Smoke, None),
        configuration("256m", memory(256), 44, Smoke, None),
        configuration("512m", memory(512), 44, Smoke, None),
        configuration("4g", memory(4096), 44, Smoke, None),
        configuration("8g", memory(8192), 44, Smoke, None),
        configuration("raspi4b", board(&model::RASPI4B, 2048), 44, Most, None),
        configuration("raspi4b-pl011", board(&model::RASPI4B_PL011, 2048), 44, Smoke, None),
        configuration("imx8mp-evk", board(&model::IMX8MP_EVK, 2048), 40, Most, None),
        configuration("zcu102", board(&model::ZCU102, 4096), 40, Smoke, None),
    ]
}

impl Configuration {
    /// Whether `test` runs on this machine at this depth.
    #[must_use]
    pub fn takes(&self, test: &Test, depth: Depth) -> bool {
        let wanted = match depth {
            Depth::Full => true,
            Depth::Most => !test.has("slow"),
            Depth::Smoke => {
                let plain = test.options.is_empty() || self.is_for_many_cpus(&test.options);
                !test.has("slow") && !test.has("alone") && plain
            }
        };
        wanted && self.can_run(&test.options)
    }

    /// Why `test` cannot pass on this machine, for a want of QEMU's model of it.
    #[must_use]
    pub fn lacks(&self, test: &Test) -> Option<&'static str> {
        /// Beginnings of the names of tests whose vCPUs wait for an interrupt.
        const WAITING: [&str; 12] = [
            "dev_uart_line_falls",
            "e05_pending_survives_off",
            "e10_",
            "i02_sgi_",
            "i03_all_pending",
            "i04_end_of_nothing",
            "i06_timer",
            "i07_physical_timer_interrupts",
            "i12_wait_for_interrupt",
            "i12_wait_for_sgi",
            "i12_wait_for_shared",
            "psci_cpu_suspend",
        ];
        let interrupts = self.machine.board.is_none_or(|board| board.virtual_interrupts);
        let waits = WAITING.iter().any(|begin| test.name.starts_with(begin));
        (waits && !interrupts).then_some("QEMU's model of this board passes no virtual interrupts")
    }

    /// Whether a VM with these words can be on this machine; the hypervisor would refuse it. The devices that tests are
    /// given are the virt machine's.
    fn can_run(&self, options: &str) -> bool {
        let devices = self.machine.board.is_none() || !options.contains("vm.dev=");
        devices && numbers(options, "vm.ipa=").all(|bits| bits <= u64::from(self.pa_bits))
    }

    /// Whether a VM with these words has more than two vCPUs, and each of them a CPU of its own here.
    fn is_for_many_cpus(&self, options: &str) -> bool {
        numbers(options, "vm.cpus=").any(|vcpus| vcpus > 2 && vcpus <= u64::from(self.machine.cpus))
    }
}

/// The values of the words that begin with `key`.
fn numbers<'a>(options: &'a str, key: &'a str) -> impl Iterator<Item = u64> + 'a {
    options.split_whitespace().filter_map(move |word| {
        let digits = word.strip_prefix(key)?;
        digits.trim_end_matches(|letter: char| !letter.is_ascii_digit()).parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_run_where_their_vm_can_be() {
        let test = |options: &str| Test {
            name: "t".into(),
            ids: Vec::new(),
            options: options.into(),
            flags: Vec::new(),
        };
        let takes = |machine: &str, options: &str| {
            let all = configurations();
            let machine = all.iter().find(|one| one.name == machine).unwrap();
            machine.takes(&test(options), machine.depth)
        };
        assert!(
            takes("smp4", "vm.cpus=4") && takes("smp8", "vm.cpus=4") && takes("gicv3", "vm.cpus=4")
        );
        assert!(
            !takes("smp4", "vm.cpus=2") && !takes("smp1", "vm.cpus=4") && !takes("4g", "vm.cpus=4")
        );
        // The virt machine's clock is no board's.
        let clock = "vm.dev=/pl031@9010000";
        assert!(takes("gicv2", clock) && !takes("raspi4b", clock) && takes("raspi4b", "vm.cpus=2"));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = configurations().iter().map(|one| one.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
