// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine: stage2's recording fake, and as much of the rest as a VM can ask for.

use arch::{Ipa, Pa, VcpuSet};
use stage2::fake::Fake;
use stage2::{TableMemory, Tlb};
use std::sync::{Arc, Mutex};
use vgic::Vgic;
use vm::Host;

/// What it says, and what was done to it.
#[derive(Default)]
pub struct State {
    pub entropy: Option<[u64; 3]>,
    pub mair: u64,
    pub sctlr: u64,
    pub wiped: Vec<(Pa, u64)>,
    pub workarounds: Vec<u8>,
}

#[derive(Clone)]
pub struct Machine {
    pub fake: Fake,
    state: Arc<Mutex<State>>,
}

impl Machine {
    pub fn new(fake: Fake) -> Self {
        Self { fake, state: Arc::default() }
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap())
    }
}

impl TableMemory for Machine {
    fn load(&self, table: Pa, index: usize) -> u64 {
        self.fake.load(table, index)
    }
    fn store(&self, table: Pa, index: usize, raw: u64) {
        self.fake.store(table, index, raw);
    }
}

impl Tlb for Machine {
    fn dsb_ishst(&self) {
        self.fake.dsb_ishst();
    }
    fn dsb_ish(&self) {
        self.fake.dsb_ish();
    }
    fn isb(&self) {
        self.fake.isb();
    }
    fn tlbi_ipas2e1is(&self, ipa: Ipa, level: Option<u8>) {
        self.fake.tlbi_ipas2e1is(ipa, level);
    }
    fn tlbi_vmalle1is(&self) {
        self.fake.tlbi_vmalle1is();
    }
    fn tlbi_vmalls12e1is(&self) {
        self.fake.tlbi_vmalls12e1is();
    }
    fn repeat(&self) -> bool {
        self.fake.repeat()
    }
    fn clean_invalidate_to_poc(&self, pa: Pa, bytes: u64) {
        self.fake.clean_invalidate_to_poc(pa, bytes);
    }
}

impl Host for Machine {
    fn kick(&self, _: VcpuSet) {}
    fn fold_interrupts(&self, _: usize, _: &mut Vgic) {}
    fn plan_interrupts(&self, _: usize, _: &mut Vgic) {}
    fn console_put(&self, _: u8) {}
    fn console_has_room(&self) -> bool {
        true
    }
    fn console_ready(&self) -> bool {
        false
    }
    fn console_take(&self) -> Option<u8> {
        None
    }
    fn random(&self, _: u32) -> Option<[u64; 3]> {
        self.with(|state| state.entropy)
    }
    fn wipe(&self, pa: Pa, bytes: u64) {
        self.with(|state| state.wiped.push((pa, bytes)));
    }
    fn counter(&self) -> u64 {
        0
    }
    fn sctlr_el1(&self) -> u64 {
        self.with(|state| state.sctlr)
    }
    fn mair_el1(&self) -> u64 {
        self.with(|state| state.mair)
    }
    fn workaround(&self, number: u8) {
        self.with(|state| state.workarounds.push(number));
    }
}
