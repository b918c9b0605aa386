// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine for tests.
#![allow(dead_code)]

use arch::{Ipa, Pa, VcpuSet, Width};
use lock::Order;
use lock::atomic::{AtomicBool, Ordering};
use stage2::fake::Fake;
use stage2::{Stage2, TableMemory, Tlb};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use vgic::Vgic;
use vm::{Host, Vm};

/// What happened outside the VM.
#[derive(Default, Debug)]
pub struct Log {
    pub kicked: Vec<VcpuSet>,
    pub output: Vec<u8>,
    pub input: VecDeque<u8>,
    /// Bytes that the console still takes; `None`: any number.
    pub room: Option<usize>,
    pub wiped: Vec<(Pa, u64)>,
    pub planned: Vec<usize>,
    pub folded: Vec<usize>,
    /// SGIs that were sent at once, by whom; `None`: none can be.
    pub sgis: Option<Vec<(usize, u64)>>,
    pub random: Option<[u64; 3]>,
    pub asked_bits: Vec<u32>,
    pub workarounds: Vec<u8>,
    /// Flash, by word.
    pub flash: BTreeMap<u64, u32>,
    pub mair: u64,
    pub sctlr: u64,
    pub counter: u64,
    /// Physical interrupts, by their INTID in the VM, whose lines have fallen.
    pub fallen: Vec<u32>,
    /// Bytes of pages that EL2 publishes or peeks at.
    pub pages: BTreeMap<u64, u8>,
    /// Interrupts of other VMs that rose and fell.
    pub pulses: Vec<(u16, u32)>,
    /// Lines of other VMs, and what they are now.
    pub levels: Vec<(u16, u32, bool)>,
    /// vCPUs of other VMs that were woken.
    pub woken: Vec<(u16, VcpuSet)>,
}

impl Log {
    /// `bytes` little-endian bytes at `at`.
    pub fn word(&self, at: u64, bytes: u64) -> u64 {
        let byte = |n: u64| u64::from(*self.pages.get(&(at + n)).unwrap_or(&0));
        (0..bytes).rev().fold(0, |all, n| all << 8 | byte(n))
    }
}

/// VMs with their numbers.
type Others = Vec<(u16, Arc<Vm<Machine>>)>;

/// stage2's recording fake, and the rest of a machine.
#[derive(Clone)]
pub struct Machine {
    pub fake: Fake,
    pub log: Arc<Mutex<Log>>,
    /// The VMs that reach each other, by number.
    pub others: Arc<OnceLock<Others>>,
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

impl Machine {
    pub fn new(fake: Fake) -> Self {
        Self { fake, log: Arc::default(), others: Arc::default() }
    }

    /// For streams of exits: forgets what happened, and lets the console be full, empty or in between.
    pub fn vary(&self, full: bool, input: usize) {
        let mut log = self.log();
        log.kicked.clear();
        log.output.clear();
        log.planned.clear();
        log.folded.clear();
        log.asked_bits.clear();
        log.workarounds.clear();
        log.room = full.then_some(input % 3);
        log.input.clear();
        log.input.extend((0..input % 5).map(|n| n as u8));
    }

    pub fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }
}

impl Host for Machine {
    fn kick(&self, vcpus: VcpuSet) {
        self.log().kicked.push(vcpus);
    }
    fn sync_interrupts(&self, vcpu: usize, _: &mut Vgic) {
        self.log().folded.push(vcpu);
    }
    fn flush_interrupts(&self, vcpu: usize, _: &mut Vgic) {
        self.log().planned.push(vcpu);
    }
    fn sample_lines(&self, vcpu: usize, vgic: &mut Vgic) -> VcpuSet {
        self.log().fallen.iter().fold(VcpuSet::EMPTY, |touched, &intid| {
            if vgic.awaits_level(vcpu, intid, 0) {
                touched.union(vgic.set_level(vcpu, intid, false))
            } else {
                touched
            }
        })
    }
    fn send_sgi(&self, vcpu: usize, value: u64, _: lock::Guard<'_, Vgic>) -> bool {
        let mut log = self.log();
        log.sgis.as_mut().map(|sent| sent.push((vcpu, value))).is_some()
    }
    fn console_put(&self, byte: u8) {
        let mut log = self.log();
        if let Some(room) = &mut log.room {
            if *room == 0 {
                return;
            }
            *room -= 1;
        }
        log.output.push(byte);
    }
    fn console_has_room(&self) -> bool {
        self.log().room != Some(0)
    }
    fn console_ready(&self) -> bool {
        !self.log().input.is_empty()
    }
    fn console_take(&self) -> Option<u8> {
        self.log().input.pop_front()
    }
    fn random(&self, bits: u32) -> Option<[u64; 3]> {
        let mut log = self.log();
        log.asked_bits.push(bits);
        log.random
    }
    fn wipe(&self, pa: Pa, bytes: u64) {
        self.log().wiped.push((pa, bytes));
    }
    fn counter(&self) -> u64 {
        self.log().counter
    }
    fn flash_load(&self, pa: Pa, width: Width) -> u64 {
        let log = self.log();
        let byte =
            |at: u64| log.flash.get(&(at & !3)).unwrap_or(&u32::MAX) >> (8 * (at & 3)) & 0xff;
        (0..width.bytes()).rev().fold(0, |all, n| all << 8 | u64::from(byte(pa.raw() + n)))
    }
    fn flash_program(&self, pa: Pa, value: u32) {
        assert!(pa.raw().is_multiple_of(4));
        *self.log().flash.entry(pa.raw()).or_insert(u32::MAX) &= value;
    }
    fn flash_erase(&self, pa: Pa, bytes: u64) {
        self.log().flash.retain(|at, _| at.wrapping_sub(pa.raw()) >= bytes);
    }
    fn sctlr_el1(&self) -> u64 {
        self.log().sctlr
    }
    fn mair_el1(&self) -> u64 {
        self.log().mair
    }
    fn workaround(&self, number: u8) {
        self.log().workarounds.push(number);
    }
    fn stage2_of(&self, vm: u16) -> Option<&Stage2<Self>> {
        let mut others = self.others.get()?.iter();
        others.find(|(id, _)| *id == vm).map(|(_, other)| other.stage2())
    }
    fn pulse_of(&self, _: &Order, vm: u16, intid: u32) {
        self.log().pulses.push((vm, intid));
    }
    fn level_of(&self, _: &Order, vm: u16, intid: u32, level: &AtomicBool) {
        // Before the log is locked: another thread may run meanwhile.
        let level = level.load(Ordering::SeqCst);
        self.log().levels.push((vm, intid, level));
    }
    fn wake_of(&self, vm: u16, vcpus: VcpuSet) {
        self.log().woken.push((vm, vcpus));
    }
    fn peek(&self, page: Pa, offset: u64, width: Width) -> u64 {
        assert!(offset.is_multiple_of(width.bytes()) && offset < 4096);
        self.log().word(page.raw() + offset, width.bytes())
    }
    fn publish(&self, page: Pa, offset: u64, width: Width, value: u64) {
        assert!(offset.is_multiple_of(width.bytes()) && offset < 4096);
        assert_eq!(value & !width.mask(), 0, "more than a word");
        for (n, byte) in (0..width.bytes()).zip(value.to_le_bytes()) {
            self.log().pages.insert(page.raw() + offset + n, byte);
        }
    }
}
