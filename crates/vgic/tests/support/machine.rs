// SPDX-License-Identifier: MIT OR Apache-2.0
//! A [`Vgic`] with hardware interfaces under it, driven as docs/vgic.md says, beside the ideal GIC.

use super::hardware::{Ack, Interface};
use super::ideal::Ideal;
use arch::{VcpuSet, Width};
use std::collections::BTreeSet;
use vgic::{Config, Event, Frame, ListRegister, Sync, Version, Vgic};

pub struct Machine {
    pub gic: Vgic,
    pub ideal: Ideal,
    pub cpus: Vec<Interface>,
    /// Acknowledged and not yet EOIed, per vCPU.
    pub handling: Vec<Vec<Ack>>,
    /// EOIed and not yet deactivated (EOImode), per vCPU.
    pub dropped: Vec<Vec<Ack>>,
    /// Physical interrupts that are really active: the CPU where it is private, INTID.
    pub physical: BTreeSet<(Option<usize>, u32)>,
    /// Kicked, not yet served.
    pub kicked: VcpuSet,
    /// Serve kicks at once.
    pub prompt: bool,
    /// Take the short ways where there are any.
    pub short: bool,
    pub full_plans: usize,
    /// Of these, what [`Vgic::plan_first`] would have done.
    pub first_plans: usize,
    /// How often a list register could stay as it was.
    pub kept: usize,
    /// Hold every acknowledge against the ideal GIC. Not where kicks are late: then what is raised again while pending may come twice.
    pub strict: bool,
}

pub fn width(size: u64) -> Width {
    match size {
        1 => Width::B1,
        2 => Width::B2,
        4 => Width::B4,
        _ => Width::B8,
    }
}

pub fn frame(redist: Option<usize>) -> Frame {
    redist.map_or(Frame::Dist, Frame::Redist)
}

impl Machine {
    pub fn new(version: Version, vcpus: usize, lrs: usize, spis: usize) -> Self {
        let v3 = version == Version::V3;
        Self {
            gic: Vgic::new(Config::new(version, vcpus, lrs, spis)),
            ideal: Ideal::new(v3, vcpus, spis),
            cpus: (0..vcpus).map(|_| Interface::new(v3, lrs)).collect(),
            handling: vec![vec![]; vcpus],
            dropped: vec![vec![]; vcpus],
            physical: BTreeSet::new(),
            kicked: VcpuSet::EMPTY,
            prompt: true,
            short: true,
            full_plans: 0,
            first_plans: 0,
            kept: 0,
            strict: true,
        }
        .started()
    }

    /// First plan of every vCPU, as before its first entry.
    fn started(mut self) -> Self {
        for v in 0..self.cpus.len() {
            self.resync(v);
        }
        self
    }

    fn v3(&self) -> bool {
        self.ideal.v3
    }

    fn decode(&self, raw: u64) -> ListRegister {
        if self.v3() { ListRegister::from_v3(raw) } else { ListRegister::from_v2(raw as u32) }
    }

    fn encode(&self, lr: ListRegister) -> u64 {
        if self.v3() { lr.to_v3() } else { u64::from(lr.to_v2()) }
    }

    /// Folds `v`. Other vCPUs that it concerns are kicked.
    pub fn fold(&mut self, v: usize) {
        let lrs: Vec<_> = self.cpus[v].lr.iter().map(|&raw| self.decode(raw)).collect();
        let state = vgic::Interface::new(self.cpus[v].hcr, self.cpus[v].vmcr());
        let set = self.gic.sync_from_lrs(v, state, &lrs);
        assert!(!set.contains(v));
        self.cpus[v].hcr &= 0x07ff_ffff;
        self.kicked = self.kicked.union(set);
    }

    pub fn plan(&mut self, v: usize) {
        self.full_plans += 1;
        let mut lrs = vec![ListRegister::FREE; self.cpus[v].lr.len()];
        let before = self.gic.clone();
        let mut short = self.gic.clone();
        let first = short.sync(v, Event::Load { kept: false }, 0);
        let plan = self.gic.flush_to_lrs(v, &mut lrs);
        // The short plan is this one, or none.
        if let Sync::Write(0, first) = first {
            assert_eq!(lrs[0], first);
            assert!(lrs[1..].iter().all(|lr| *lr == ListRegister::FREE));
            assert_eq!((plan.hcr, plan.release), (1, false));
            assert_eq!(short, self.gic);
            self.first_plans += 1;
        } else {
            assert_eq!((first, short), (Sync::Full, before));
        }
        for (i, lr) in lrs.iter().enumerate() {
            let valid = lr.state != vgic::State::Invalid;
            assert_eq!(plan.used >> i & 1 != 0, valid);
            assert!(valid || *lr == ListRegister::FREE);
        }
        assert_eq!(plan.used, self.gic.used(v));
        self.cpus[v].lr = lrs.iter().map(|&lr| self.encode(lr)).collect();
        self.cpus[v].hcr = plan.hcr;
        self.cpus[v].check();
        if plan.release {
            while let Some(p) = self.gic.take_released(v) {
                self.deactivate_physical(v, p);
            }
        }
        assert!(!self.gic.needs_flush(v), "a plan leaves nothing to plan");
    }

    pub fn resync(&mut self, v: usize) {
        self.fold(v);
        if self.strict {
            let waits = !self.ideal.eligible(v, [true; 2]).is_empty();
            assert_eq!(self.gic.deliverable(v), waits, "deliverable");
        }
        self.plan(v);
    }

    /// `v` leaves its CPU, whose list registers are free then, and comes back to it.
    pub fn switch(&mut self, v: usize) {
        let raw = self.cpus[v].lr[0];
        let first = self.decode(raw);
        if self.gic.sync(v, Event::Put(first.state), 0) != Sync::Unchanged {
            return self.resync(v);
        }
        assert!(self.cpus[v].valid().eq([first.intid]), "it says that there is no other");
        assert_eq!(self.cpus[v].hcr & 0x07ff_ffff, 1);
        self.kept += 1;
        if self.gic.needs_flush(v) {
            self.fold(v);
            self.plan(v);
        }
        if self.strict {
            assert_eq!(self.cpus[v].lr[0], raw, "nothing has changed");
        }
    }

    fn deactivate_physical(&mut self, v: usize, p: u32) {
        let key = (if p < 32 { Some(v) } else { None }, p);
        assert!(self.physical.remove(&key), "physical {p} deactivated, which was not active");
    }

    fn write_lr(&mut self, v: usize, slot: usize, lr: ListRegister) {
        assert!(self.cpus[v].empty() >> slot & 1 != 0, "list register {slot} is not free");
        self.cpus[v].lr[slot] = self.encode(lr);
        self.cpus[v].check();
    }

    /// `v` has exited; `set` is whom its exit concerns.
    pub fn after(&mut self, v: usize, set: VcpuSet) {
        self.kicked = self.kicked.union(set.without(VcpuSet::single(v)));
        if set.contains(v) {
            self.serve(v);
        }
        self.settle();
    }

    /// What EL2 does for `v` after a kick or a maintenance interrupt.
    fn serve(&mut self, v: usize) {
        self.kicked.remove(v);
        if !self.short {
            return self.resync(v);
        }
        let empty = self.cpus[v].empty();
        let sync = match self.sync_kick(v, empty) {
            Sync::Fallback => self.gic.sync(v, Event::Marked, empty),
            sync => sync,
        };
        match sync {
            Sync::Unchanged => {}
            Sync::Write(slot, lr) => self.write_lr(v, slot, lr),
            Sync::Full => self.resync(v),
            other => panic!("{other:?}"),
        }
    }

    /// [`Event::Kick`] does what [`Event::Marked`] would have done, or nothing.
    fn sync_kick(&mut self, v: usize, empty: u16) -> Sync {
        let mut before = self.gic.clone();
        let sync = self.gic.sync(v, Event::Kick, empty);
        if sync != Sync::Fallback {
            assert_eq!(before.sync(v, Event::Marked, empty), sync);
        }
        assert!(self.gic == before);
        sync
    }

    /// Serves kicks, if they are served promptly, and maintenance interrupts until they cease.
    pub fn settle(&mut self) {
        if self.prompt {
            while let Some(v) = self.kicked.iter().next() {
                self.serve(v);
            }
        }
        for v in 0..self.cpus.len() {
            let mut rounds = 0;
            while self.cpus[v].maintenance() != 0 {
                rounds += 1;
                assert!(rounds < 3, "maintenance {:#x} does not cease", self.cpus[v].maintenance());
                self.serve(v);
            }
        }
        if self.prompt && !self.kicked.is_empty() {
            self.settle();
        }
        self.drain_hardware();
    }

    fn drain_hardware(&mut self) {
        for v in 0..self.cpus.len() {
            for p in std::mem::take(&mut self.cpus[v].deactivated) {
                self.deactivate_physical(v, p);
            }
        }
    }

    pub fn write(&mut self, v: usize, redist: Option<usize>, offset: u64, size: u64, value: u64) {
        self.ideal.write(v, redist, offset, size, value);
        let set = self.gic.write(v, frame(redist), offset, width(size), value);
        self.after(v, set);
    }

    /// A load, exact as [`Vgic::stale`] makes it.
    pub fn read(&mut self, v: usize, redist: Option<usize>, offset: u64, size: u64) -> u64 {
        for other in self.gic.stale(v, frame(redist), offset, width(size)) {
            self.fold(other);
        }
        let value = self.gic.read(v, frame(redist), offset, width(size));
        if let Some(constant) = self.gic.config().constant(frame(redist), offset, width(size)) {
            assert_eq!(constant, value, "constant {redist:?} {offset:#x}");
        }
        for other in 0..self.cpus.len() {
            if self.gic.needs_flush(other) {
                self.plan(other);
            }
        }
        self.settle();
        value
    }

    pub fn check_read(&mut self, v: usize, redist: Option<usize>, offset: u64, size: u64) {
        let value = self.read(v, redist, offset, size);
        assert_eq!(
            value,
            self.ideal.read(v, redist, offset, size),
            "read of {redist:?} {offset:#x}, {size} bytes, by {v}"
        );
    }

    pub fn sgi1r(&mut self, v: usize, value: u64) {
        self.ideal.sgi_register(v, value, true);
        let mut general = self.gic.clone();
        let set = general.sgi1r(v, value);
        let sync = if self.short {
            self.gic.sync(v, Event::Sgi1r(value), self.cpus[v].empty())
        } else {
            Sync::Fallback
        };
        match sync {
            Sync::Write(slot, lr) => self.write_lr(v, slot, lr),
            Sync::Fallback => {
                self.gic = general;
                self.after(v, set);
            }
            sync => {
                assert!(self.gic == general, "as the general way");
                let other = match sync {
                    Sync::Kick(other) => VcpuSet::single(other),
                    _ => VcpuSet::EMPTY,
                };
                assert_eq!((set, set.contains(v)), (other, false));
                self.after(v, set);
            }
        }
        self.settle();
    }

    pub fn sgi0r(&mut self, v: usize, value: u64) {
        self.ideal.sgi_register(v, value, false);
        let set = self.gic.sgi0r(v, value);
        self.after(v, set);
    }

    /// A device's line moves, noticed by `v`'s CPU.
    pub fn set_level(&mut self, v: usize, intid: u32, high: bool) {
        self.ideal.set_level(v, intid, high);
        let set = self.gic.set_level(v, intid, high);
        self.after(v, set);
    }

    /// The line behind a forwarded interrupt has fallen when `v` exits: withdrawn if the line is to be looked at, which it is
    /// wherever the interrupt is pending still.
    pub fn fall(&mut self, v: usize, intid: u32) {
        let Some(irq) = self.ideal.irq(v, intid) else { return };
        let (out, pending) = (irq.physical.is_some(), irq.latch && !irq.edge);
        let look = self.gic.awaits_level(v, intid, self.cpus[v].empty());
        assert!(look || !(out && pending), "INTID {intid} stays pending");
        assert!(out || !look || intid >= 32, "INTID {intid} is of no physical interrupt");
        if look {
            self.set_level(v, intid, false);
        }
    }

    /// A physical interrupt arrives at `v`'s CPU, if it is not active already.
    pub fn forward(&mut self, v: usize, intid: u32) {
        let key = (if intid < 32 { Some(v) } else { None }, intid);
        if intid < 16 || self.ideal.irq(v, intid).is_none() || !self.physical.insert(key) {
            return;
        }
        self.ideal.forward(v, intid, intid);
        let event = Event::Forward { intid, pintid: intid };
        let sync =
            if self.short { self.gic.sync(v, event, self.cpus[v].empty()) } else { Sync::Fallback };
        match sync {
            Sync::Write(slot, lr) => self.write_lr(v, slot, lr),
            sync => {
                assert_eq!(sync, Sync::Fallback);
                let set = self.gic.forward(v, intid, intid);
                self.after(v, set);
            }
        }
        self.settle();
    }

    pub fn ack(&mut self, v: usize) -> Option<Ack> {
        let ack = self.cpus[v].ack();
        if let Some(ack) = ack {
            if self.strict {
                self.ideal.ack(v, ack.intid, ack.source);
            }
            self.handling[v].push(ack);
        }
        self.settle();
        ack
    }

    /// The guest ends what it acknowledged last.
    pub fn eoi(&mut self, v: usize) {
        let Some(ack) = self.handling[v].pop() else { return };
        self.cpus[v].eoi(ack.intid, ack.source);
        if self.cpus[v].eoi_mode {
            self.dropped[v].push(ack);
        } else if self.strict {
            self.ideal.deactivate(v, ack.intid);
        }
        self.settle();
    }

    /// The guest deactivates one of those that it ended under EOImode.
    pub fn dir(&mut self, v: usize, which: usize) {
        if self.dropped[v].is_empty() {
            return;
        }
        let which = which % self.dropped[v].len();
        let ack = self.dropped[v].remove(which);
        self.ideal.deactivate(v, ack.intid);
        if self.cpus[v].dir_traps() {
            self.fold(v);
            let set = self.gic.deactivate(v, ack.intid);
            self.plan(v);
            self.kicked = self.kicked.union(set.without(VcpuSet::single(v)));
        } else {
            self.cpus[v].deactivate(ack.intid, ack.source);
        }
        self.settle();
    }

    /// No interrupt is in two list registers of the machine, unless each of them is private.
    pub fn check_unique(&self) {
        let mut seen = BTreeSet::new();
        for cpu in &self.cpus {
            cpu.check();
            for intid in cpu.valid().filter(|&intid| intid >= 32) {
                assert!(seen.insert(intid), "SPI {intid} with two vCPUs");
            }
        }
    }

    /// What each vCPU would be given next is what the ideal GIC would give it; and the physical side agrees.
    pub fn check(&mut self) {
        for v in 0..self.cpus.len() {
            let expected = self.ideal.eligible(v, self.cpus[v].groups);
            let best = expected.iter().map(|&(_, priority)| priority).min();
            let given = self.cpus[v].highest_pending();
            assert_eq!(given.map(|(_, p)| p), best, "vCPU {v}: given {given:?} of {expected:?}");
            if let Some(given) = given {
                assert!(expected.contains(&given), "vCPU {v}: given {given:?} of {expected:?}");
            }
            assert!(!self.gic.needs_flush(v));
        }
        self.check_unique();
        assert_eq!(self.physical, self.ideal.physical, "physical interrupts that are active");
    }

    /// Every register reads what the ideal GIC's does.
    pub fn check_registers(&mut self) {
        let vcpus = self.cpus.len();
        let spis = self.gic.config().spis() as u64;
        let banks = spis / 32 + 1;
        for v in 0..vcpus {
            let redist = if self.v3() { Some(v) } else { None };
            let base = if self.v3() { 0x1_0000 } else { 0 };
            let mut all: Vec<(Option<usize>, u64)> = vec![];
            for array in 1..8 {
                all.push((redist, base + 0x80 * array));
                if v == 0 {
                    all.extend((1..banks).map(|k| (None, 0x80 * array + 4 * k)));
                }
            }
            all.extend((0..8).map(|k| (redist, base + 0x400 + 4 * k)));
            all.extend([(redist, base + 0xc00), (redist, base + 0xc04)]);
            if !self.v3() {
                all.extend((0..8).map(|k| (None, 0xf10 + 4 * k)));
            }
            if v == 0 {
                all.push((None, 0));
                all.extend((8..8 * banks).map(|k| (None, 0x400 + 4 * k)));
                all.extend((2..2 * banks).map(|k| (None, 0xc00 + 4 * k)));
                if self.v3() {
                    all.extend((64..64 + 2 * spis).map(|k| (None, 0x6000 + 4 * k)));
                } else {
                    all.extend((8..8 * banks).map(|k| (None, 0x800 + 4 * k)));
                }
            }
            for (redist, offset) in all {
                self.check_read(v, redist, offset, 4);
            }
        }
    }
}
