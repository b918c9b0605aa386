// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine as its device tree describes it.

use crate::board::types::{Cpu, Gic, Module, Psci, Reserved, Timer, Uart};
use crate::board::{chosen, cpus, gic, memory, timer, uart};
use crate::error::Error;
use crate::fdt::Tree;
use crate::ranges;
use crate::seed::Seeds;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Mpidr, Pa, Range};

/// What Portcullis must know of the machine it runs on.
#[derive(Clone, Debug)]
pub struct Board {
    /// `model` of the tree, else its first `compatible`; may be empty.
    pub model: String,
    /// RAM banks: sorted, joined where they touch, none empty, at least one.
    pub ram: Vec<Range<Pa>>,
    /// Memory that others use; may lie outside RAM.
    pub reserved: Vec<Reserved>,
    /// The CPUs, in the tree's order; at least one. No two have the same MPIDR.
    pub cpus: Vec<Cpu>,
    /// How to call the firmware's PSCI, where there is one.
    pub psci: Option<Psci>,
    /// The interrupt controller.
    pub gic: Gic,
    /// The generic timer's interrupts.
    pub timer: Timer,
    /// The console: what `hyp.console=`, stdout-path or the alias serial0 names, in that order.
    pub uart: Option<Uart>,
    /// /chosen's own bootargs: those of Portcullis, not of a VM.
    pub bootargs: String,
    /// The initial ramdisk handed to Portcullis (a bundle), where there is one.
    pub initrd: Option<Range<Pa>>,
    /// The boot loader's modules, sorted by address.
    pub modules: Vec<Module>,
    /// What the firmware gave us of randomness.
    pub seeds: Seeds,
}

impl Board {
    /// Reads the device tree at the start of `blob`, which may be longer than the tree.
    ///
    /// # Errors
    /// Where the tree is not whole or describes no machine that Portcullis can use; never panics.
    pub fn from_tree(blob: &[u8]) -> Result<Self, Error> {
        Self::with_console(blob).1
    }

    /// The same, and the console, if there is one, also where something else is wrong: the error can be printed there.
    /// Where `hyp.console=` is wrong, it is the console that the tree chooses.
    pub fn with_console(blob: &[u8]) -> (Option<Uart>, Result<Self, Error>) {
        let tree = match Tree::parse(blob) {
            Ok(tree) => tree,
            Err(error) => return (None, Err(error)),
        };
        let console = uart::console(&tree);
        let known = console.clone().or_else(|_| uart::by_tree(&tree)).unwrap_or_default();
        (known, Self::of(&tree, console))
    }

    fn of(tree: &Tree<'_>, console: Result<Option<Uart>, Error>) -> Result<Self, Error> {
        let psci = cpus::psci(tree)?;
        Ok(Self {
            model: chosen::model(tree),
            ram: memory::ram(tree)?,
            reserved: memory::reserved(tree)?,
            cpus: cpus::cpus(tree, psci.is_some())?,
            psci,
            gic: gic::gic(tree)?,
            timer: timer::timer(tree)?,
            uart: console?,
            bootargs: chosen::bootargs(tree)?,
            initrd: chosen::initrd(tree)?,
            modules: chosen::modules(tree)?,
            seeds: chosen::seeds(tree),
        })
    }

    /// How many CPUs can run vCPUs: those that can be started, and `boot`, which runs already.
    #[must_use]
    pub fn usable_cpus(&self, boot: Mpidr) -> usize {
        let usable = |cpu: &&Cpu| cpu.is_startable() || cpu.mpidr == boot;
        self.cpus.iter().filter(usable).count()
    }

    /// Free RAM: the banks without reservations, modules, initrd and `own` (Portcullis's
    /// image, the tree, ...), in whole pages of 4 KiB, sorted.
    #[must_use]
    pub fn free_ram(&self, own: &[Range<Pa>]) -> Vec<Range<Pa>> {
        let reserved = self.reserved.iter().map(|reserved| reserved.range);
        let modules = self.modules.iter().map(|module| module.range);
        let holes = reserved.chain(modules).chain(self.initrd).chain(own.iter().copied());
        let mut free = ranges::without(&self.ram, holes.collect());
        for range in &mut free {
            let start = range.start().raw().next_multiple_of(arch::PAGE_SIZE);
            let size = range.end().page().raw().saturating_sub(start);
            // Empty where it was less than a page; start and size stay within the former range.
            *range = Range::<Pa>::new(Pa::new(start), size).unwrap_or(*range);
        }
        free.retain(|range| range.size() != 0);
        free
    }
}
