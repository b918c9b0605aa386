// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of a VM.

use crate::bank::Bank;
use crate::power_state::{Phase, Power};
use crate::{Config, Entry, Full, Hint, Link, Policy, Tables};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// What a VM's counters say: docs/vm.md, counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// HVC and SMC, known or not.
    pub hypercalls: u64,
    /// Data accesses outside memory that were judged.
    pub mmio: u64,
    /// Those of them that the guard refused.
    pub refused: u64,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// What its owner fixed.
    pub config: Config,
    /// Its stage 2.
    pub tables: Tables,
    /// It has enrolled.
    pub enrolled: bool,
    /// Declared pages among those that are reached without a trap.
    pub mapped_mmio: BTreeSet<u64>,
    /// Its banks of flash, in the order of the configuration.
    pub banks: Vec<Bank>,
    /// Pages of RAM that it shares.
    pub shared: BTreeSet<u64>,
    /// What it and the VM that serves it have in common.
    pub link: Link,
    /// How often it has stopped or was reset. The code that sees this change calls [`leave_peers`](crate::leave_peers).
    pub life: u64,
    /// Its phase.
    pub phase: Phase,
    /// Its holders: a running VM with one is paused.
    pub holders: BTreeSet<u8>,
    /// Its vCPUs.
    pub vcpus: Vec<Power>,
    /// Since its last reset.
    pub counters: Counters,
}

impl Vm {
    /// A VM before its first start, with `tables` that hold its memory.
    pub fn new(config: Config, tables: Tables) -> Self {
        let vcpus = vec![Power::Off; config.vcpus];
        let banks = vec![Bank::new(); config.flash.len()];
        let link = Link::new(config.vcpus);
        Self {
            config,
            tables,
            enrolled: false,
            mapped_mmio: BTreeSet::new(),
            banks,
            shared: BTreeSet::new(),
            link,
            life: 0,
            phase: Phase::Parked,
            holders: BTreeSet::new(),
            vcpus,
            counters: Counters::default(),
        }
    }

    /// Whether what is not declared is refused.
    pub fn active(&self) -> bool {
        match self.config.policy {
            Policy::Off => false,
            Policy::Enrol => self.enrolled,
            Policy::Enforce => true,
        }
    }

    /// Whether the page of `ipa` is declared.
    pub fn is_declared(&self, ipa: u64) -> bool {
        if ipa >= self.config.limit() {
            return false;
        }
        let page = crate::page_of(ipa);
        match (self.config.mapped_mmio_at(ipa), self.bank_at(ipa)) {
            (Some(_), _) => self.mapped_mmio.contains(&page),
            (None, Some(n)) => self.banks[n].declared.contains(&page),
            (None, None) => matches!(self.tables.at(ipa).entry, Entry::Declared(_)),
        }
    }

    /// Pages declared now.
    pub fn declared(&self) -> u64 {
        let mapped = self.banks.iter().filter(|bank| bank.mapped);
        let in_banks: usize = mapped.map(|bank| bank.declared.len()).sum();
        self.tables.declared() + self.mapped_mmio.len() as u64 + in_banks as u64
    }

    /// Resets the VM: nothing of the former run is left, presets are declared again. Only while the
    /// VM is parked.
    ///
    /// # Errors
    /// The tables do not suffice for presets and direct pages; the VM must not run.
    pub fn reset(&mut self) -> Result<(), Full> {
        self.enrolled = false;
        self.life_ends();
        self.shared.clear();
        self.mapped_mmio.clear();
        self.counters = Counters::default();
        self.tables.reset();
        self.reset_banks();
        let preset = Hint { preset: true, ..Hint::default() };
        for range in self.config.preset.clone() {
            let mut at = range.start;
            while at < range.end {
                if self.config.mapped_mmio_at(at).is_some() {
                    self.mapped_mmio.insert(at);
                    at += crate::PAGE;
                    continue;
                }
                if let Some(n) = self.bank_at(at) {
                    if self.is_whole_bank_declared(n) {
                        at = self.config.flash[n].at.end;
                    } else if self.declare_in_bank(n, at, preset) {
                        at += crate::PAGE;
                    } else {
                        return Err(Full::NoTable);
                    }
                    continue;
                }
                let next = self.next_mapped_mmio(at).unwrap_or(range.end).min(range.end);
                at += self.tables.declare(at, next, preset)? * crate::PAGE;
            }
        }
        for mapped_mmio in self.config.mapped_mmio.clone() {
            for page in mapped_mmio.at.pages() {
                if self.mapped_mmio.contains(&page) || !self.active() {
                    self.tables.install(page, mapped_mmio.pa + (page - mapped_mmio.at.start))?;
                }
            }
        }
        for n in 0..self.banks.len() {
            self.map_or_unmap_bank(n)?;
        }
        Ok(())
    }

    /// Where the next pages behind `ipa` begin that may be reached without a trap.
    pub(crate) fn next_mapped_mmio(&self, ipa: u64) -> Option<u64> {
        let mapped_mmio = self.config.mapped_mmio.iter().map(|mapped_mmio| mapped_mmio.at.start);
        let banks = self.config.flash.iter().map(|flash| flash.at.start);
        mapped_mmio.chain(banks).filter(|start| *start > ipa).min()
    }
}
