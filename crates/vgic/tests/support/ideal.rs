// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reference model: a GIC that delivers straight from its state, one structure per interrupt, one bit at a time. Slow
//! and plain on purpose, and not written after the crate's own structure.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Irq {
    pub enabled: bool,
    pub group1: bool,
    pub edge: bool,
    pub priority: u8,
    pub latch: bool,
    pub line: bool,
    /// The vCPU for which it is active, and the source of a GICv2 SGI.
    pub active: Option<(usize, u8)>,
    /// GICv2 SGIs: senders that wait.
    pub sources: BTreeSet<u8>,
    /// Physical interrupt that is active on its behalf.
    pub physical: Option<u32>,
    /// IROUTER, or ITARGETSR.
    pub route: u64,
}

/// An interrupt's key: the vCPU where it is private, INTID.
type Key = (Option<usize>, u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ideal {
    pub v3: bool,
    pub vcpus: usize,
    pub spis: usize,
    pub group_enable: [bool; 2],
    pub asleep: Vec<bool>,
    pub irqs: BTreeMap<Key, Irq>,
    /// Physical interrupts that are active: the CPU where it is private, INTID.
    pub physical: BTreeSet<Key>,
}

/// The bit-per-interrupt registers.
const BITS: [(u64, &str); 7] = [
    (0x080, "group"),
    (0x100, "enable+"),
    (0x180, "enable-"),
    (0x200, "pending+"),
    (0x280, "pending-"),
    (0x300, "active+"),
    (0x380, "active-"),
];

impl Ideal {
    pub fn new(v3: bool, vcpus: usize, spis: usize) -> Self {
        let mut irqs = BTreeMap::new();
        let fresh = |intid: u32| Irq {
            enabled: intid < 16,
            group1: v3,
            edge: intid < 16,
            priority: 0,
            latch: false,
            line: false,
            active: None,
            sources: BTreeSet::new(),
            physical: None,
            route: u64::from(!v3 && vcpus == 1),
        };
        for v in 0..vcpus {
            for intid in 0..32 {
                irqs.insert((Some(v), intid), fresh(intid));
            }
        }
        for intid in 32..32 + spis as u32 {
            irqs.insert((None, intid), fresh(intid));
        }
        Self {
            v3,
            vcpus,
            spis,
            group_enable: [false; 2],
            asleep: vec![false; vcpus],
            irqs,
            physical: BTreeSet::new(),
        }
    }

    fn key(v: usize, intid: u32) -> Key {
        (if intid < 32 { Some(v) } else { None }, intid)
    }
    pub fn irq(&self, v: usize, intid: u32) -> Option<&Irq> {
        self.irqs.get(&Self::key(v, intid))
    }
    fn irq_mut(&mut self, v: usize, intid: u32) -> Option<&mut Irq> {
        self.irqs.get_mut(&Self::key(v, intid))
    }
    fn pending(irq: &Irq) -> bool {
        irq.latch || irq.line && !irq.edge || !irq.sources.is_empty()
    }
    /// The vCPU to which an SPI goes.
    pub fn target(&self, irq: &Irq) -> Option<usize> {
        if self.v3 {
            (0..self.vcpus).find(|&v| v as u64 == irq.route)
        } else {
            (0..self.vcpus).find(|v| irq.route >> v & 1 != 0)
        }
    }

    /// Those that `v` could acknowledge now, whatever its priority mask: (INTID, priority).
    pub fn eligible(&self, v: usize, takes: [bool; 2]) -> Vec<(u32, u8)> {
        let mut found = vec![];
        for (&(owner, intid), irq) in &self.irqs {
            let mine = match owner {
                Some(owner) => owner == v,
                None => self.target(irq) == Some(v),
            };
            let group = usize::from(irq.group1);
            if mine
                && irq.enabled
                && Self::pending(irq)
                && irq.active.is_none()
                && self.group_enable[group]
                && takes[group]
            {
                found.push((intid, irq.priority));
            }
        }
        found
    }

    /// `v` acknowledges `intid`.
    pub fn ack(&mut self, v: usize, intid: u32, source: u8) {
        let v2_sgi = !self.v3 && intid < 16;
        let irq = self.irq_mut(v, intid).expect("acknowledged what does not exist");
        assert!(irq.active.is_none(), "INTID {intid} acknowledged while active");
        if v2_sgi {
            assert!(irq.sources.remove(&source), "SGI {intid} from {source}, who did not send it");
        }
        irq.latch = false;
        irq.active = Some((v, source));
    }

    /// `v` deactivates `intid`; nothing where it is not active there.
    pub fn deactivate(&mut self, v: usize, intid: u32) {
        if let Some(irq) = self.irq_mut(v, intid)
            && irq.active.is_some_and(|(holder, _)| holder == v)
        {
            irq.active = None;
        }
        self.settle_physical(v, intid);
    }

    /// A physical interrupt without a virtual one that is pending or active is let go.
    fn settle_physical(&mut self, v: usize, intid: u32) {
        let key = Self::key(v, intid);
        let Some(irq) = self.irqs.get_mut(&key) else { return };
        if !irq.latch
            && irq.active.is_none()
            && let Some(p) = irq.physical.take()
        {
            self.physical.remove(&(if p < 32 { Some(v) } else { None }, p));
        }
    }

    pub fn set_level(&mut self, v: usize, intid: u32, high: bool) {
        if intid < 16 || v >= self.vcpus && intid < 32 {
            return;
        }
        let Some(irq) = self.irq_mut(v, intid) else { return };
        let rises = high && !irq.line;
        irq.line = high;
        if irq.edge {
            irq.latch |= rises;
        } else if !high && irq.physical.is_some() {
            irq.latch = false;
        }
        self.settle_physical(v, intid);
    }

    pub fn forward(&mut self, v: usize, intid: u32, physical: u32) {
        if let Some(irq) = self.irq_mut(v, intid) {
            irq.latch = true;
            irq.physical = Some(physical);
            self.physical.insert((if physical < 32 { Some(v) } else { None }, physical));
        }
    }

    /// An SGI arrives.
    fn sgi(&mut self, from: usize, to: usize, intid: u32) {
        let v3 = self.v3;
        if let Some(irq) = self.irq_mut(to, intid) {
            if v3 {
                irq.latch = true;
            } else {
                irq.sources.insert(from as u8);
            }
        }
    }

    /// ICC_SGI1R_EL1, or ICC_SGI0R_EL1.
    pub fn sgi_register(&mut self, from: usize, value: u64, any_group: bool) {
        if !self.v3 {
            return;
        }
        let field = |low: u32, bits: u32| value >> low & ((1 << bits) - 1);
        let intid = field(24, 4) as u32;
        for to in 0..self.vcpus {
            let hit = if field(40, 1) == 1 {
                to != from
            } else {
                let affinity =
                    [field(48, 8), field(32, 8), field(16, 8), to as u64 - to as u64 % 16];
                affinity[..3] == [0, 0, 0]
                    && field(44, 4) * 16 == affinity[3]
                    && field(to as u32 % 16, 1) == 1
            };
            let group1 = self.irq(to, intid).unwrap().group1;
            if hit && (any_group || !group1) {
                self.sgi(from, to, intid);
            }
        }
    }

    /// GICD_TYPER.
    fn typer(&self) -> u64 {
        let lines = (self.spis / 32) as u64;
        if self.v3 { lines + (9 << 19) + (1 << 25) } else { lines + ((self.vcpus as u64 - 1) << 5) }
    }

    /// The vCPU that owns the private interrupts of an access, the offset within a GICv2-like page of registers, and which INTIDs that page has.
    /// `None`: not such a page.
    fn page(&self, v: usize, redist: Option<usize>, offset: u64) -> Option<(usize, u64, u32, u32)> {
        let all = 32 + self.spis as u32;
        match (self.v3, redist) {
            (false, None) if offset < 0x1000 => Some((v, offset, 0, all)),
            (true, None) if offset < 0x1000 => Some((v, offset, 32, all)),
            (true, Some(r)) if r < self.vcpus && (0x1_0000..0x1_1000).contains(&offset) => {
                Some((r, offset - 0x1_0000, 0, 32))
            }
            _ => None,
        }
    }

    /// Identification registers.
    fn id(&self, offset: u64) -> u64 {
        let arch = if self.v3 { 3 } else { 2 };
        *BTreeMap::from([
            (0xfd0, 0x04),
            (0xfe0, if self.v3 { 0x92 } else { 0x90 }),
            (0xfe4, 0xb4),
            (0xfe8, arch * 16 + 0xb),
            (0xff0, 0x0d),
            (0xff4, 0xf0),
            (0xff8, 0x05),
            (0xffc, 0xb1),
        ])
        .get(&offset)
        .unwrap_or(&0)
    }

    pub fn read(&self, v: usize, redist: Option<usize>, offset: u64, size: u64) -> u64 {
        if !offset.is_multiple_of(size) || v >= self.vcpus {
            return 0;
        }
        // Registers that are not one of many.
        match (self.v3, redist, offset, size) {
            (_, None, 0, 4) => {
                return u64::from(self.group_enable[0])
                    + 2 * u64::from(self.group_enable[1])
                    + if self.v3 { 0x50 } else { 0 };
            }
            (_, None, 4, 4) => return self.typer(),
            (_, None, 8, 4) => return 0x5000_043b,
            (false, None, 0xfd0..0x1000, 4) => return self.id(offset),
            (true, None, 0xf000..0x1_0000, 4) => return self.id(offset - 0xf000),
            (true, None, 0x6000..0x8000, 4 | 8) => {
                let intid = ((offset - 0x6000) / 8) as u32;
                let route = match self.irq(v, intid) {
                    Some(irq) if intid >= 32 => irq.route,
                    _ => 0,
                };
                return match (size, offset % 8) {
                    (8, _) => route,
                    (_, 0) => route & 0xffff_ffff,
                    _ => route >> 32,
                };
            }
            (true, Some(r), _, _) if r < self.vcpus && offset < 0x1_0000 => {
                let typer = ((r as u64) << 32)
                    + ((r as u64) << 8)
                    + if r + 1 == self.vcpus { 1 << 4 } else { 0 };
                return match (offset, size) {
                    (4, 4) => 0x5000_043b,
                    (8, 8) => typer,
                    (8, 4) => typer & 0xffff_ffff,
                    (12, 4) => typer >> 32,
                    (0x14, 4) => 6 * u64::from(self.asleep[r]),
                    (0xf000.., 4) => self.id(offset - 0xf000),
                    _ => 0,
                };
            }
            _ => {}
        }
        let Some((owner, offset, first, end)) = self.page(v, redist, offset) else { return 0 };
        let exists = |intid: u32| intid >= first && intid < end;
        let byte = |base: u64, f: &dyn Fn(u32, &Irq) -> u8| -> u64 {
            (0..size).fold(0, |value, i| {
                let intid = (offset - base + i) as u32;
                let byte =
                    if exists(intid) { f(intid, self.irq(owner, intid).unwrap()) } else { 0 };
                value | u64::from(byte) << (8 * i)
            })
        };
        match (offset, size) {
            (0x080..0x400, 4) => {
                let (base, name) = *BITS.iter().rev().find(|(base, _)| *base <= offset).unwrap();
                (0..32).fold(0, |value, b| {
                    let intid = (offset - base) as u32 * 8 + b;
                    let on = exists(intid) && {
                        let irq = self.irq(owner, intid).unwrap();
                        match &name[..3] {
                            "gro" => irq.group1,
                            "ena" => irq.enabled,
                            "pen" => Self::pending(irq),
                            _ => irq.active.is_some(),
                        }
                    };
                    value | u64::from(on) << b
                })
            }
            (0x400..0x800, 1 | 4) => byte(0x400, &|_, irq| irq.priority),
            (0x800..0xc00, 1 | 4) if !self.v3 => byte(0x800, &|intid, irq| {
                if intid < 32 { 1 << v } else { irq.route as u8 }
            }),
            (0xc00..0xd00, 4) => (0..16).fold(0, |value, i| {
                let intid = (offset - 0xc00) as u32 * 4 + i;
                let edge = exists(intid) && self.irq(owner, intid).unwrap().edge;
                value | u64::from(edge) << (2 * i + 1)
            }),
            (0xf10..0xf30, 1 | 4) if !self.v3 => (0..size).fold(0, |value, i| {
                let sgi = ((offset + i) % 16) as u32;
                let sources = &self.irq(v, sgi).unwrap().sources;
                value | sources.iter().fold(0u64, |b, s| b | 1 << s) << (8 * i)
            }),
            _ => 0,
        }
    }

    pub fn write(&mut self, v: usize, redist: Option<usize>, offset: u64, size: u64, value: u64) {
        if !offset.is_multiple_of(size) || v >= self.vcpus {
            return;
        }
        match (self.v3, redist, offset, size) {
            (_, None, 0, 4) => {
                self.group_enable = [value & 1 != 0, value & 2 != 0];
                return;
            }
            (true, None, 0x6000..0x8000, 4 | 8) => {
                let intid = ((offset - 0x6000) / 8) as u32;
                if intid >= 32
                    && let Some(irq) = self.irq_mut(v, intid)
                {
                    // Aff3 in 39:32, Aff2..Aff0 in 23:0.
                    let (mask, value) = match (size, offset % 8) {
                        (8, _) => (0xff_00ff_ffff, value),
                        (_, 0) => (0x00ff_ffff, value),
                        _ => (0xff_0000_0000, value << 32),
                    };
                    irq.route = irq.route & !mask | value & mask;
                }
                return;
            }
            (true, Some(r), 0x14, 4) if r < self.vcpus => {
                self.asleep[r] = value & 2 != 0;
                return;
            }
            (false, None, 0xf00, 4) => {
                let to: Vec<usize> = match value >> 24 & 3 {
                    0 => (0..self.vcpus).filter(|to| value >> (16 + to) & 1 != 0).collect(),
                    1 => (0..self.vcpus).filter(|&to| to != v).collect(),
                    2 => vec![v],
                    _ => vec![],
                };
                for to in to {
                    self.sgi(v, to, value as u32 & 15);
                }
                return;
            }
            _ => {}
        }
        let Some((owner, offset, first, end)) = self.page(v, redist, offset) else { return };
        let exists = |intid: u32| intid >= first && intid < end;
        match (offset, size) {
            (0x080..0x400, 4) => {
                let (base, name) = *BITS.iter().rev().find(|(base, _)| *base <= offset).unwrap();
                for b in 0..32 {
                    let intid = (offset - base) as u32 * 8 + b;
                    if exists(intid) {
                        self.write_bit(owner, intid, name, value >> b & 1 != 0);
                    }
                }
            }
            (0x400..0x800, 1 | 4) => {
                for i in 0..size {
                    let intid = (offset - 0x400 + i) as u32;
                    if exists(intid) {
                        let priority = (value >> (8 * i)) as u8 / 8 * 8;
                        self.irq_mut(owner, intid).unwrap().priority = priority;
                    }
                }
            }
            (0x800..0xc00, 1 | 4) if !self.v3 => {
                for i in 0..size {
                    let intid = (offset - 0x800 + i) as u32;
                    if intid >= 32 && exists(intid) {
                        let list = (value >> (8 * i)) % 256 % (1 << self.vcpus);
                        self.irq_mut(v, intid).unwrap().route = list;
                    }
                }
            }
            (0xc00..0xd00, 4) => {
                for i in 0..16 {
                    let intid = (offset - 0xc00) as u32 * 4 + i;
                    let fixed = intid < if self.v3 { 16 } else { 32 };
                    if exists(intid) && !fixed {
                        self.irq_mut(owner, intid).unwrap().edge = value >> (2 * i + 1) & 1 != 0;
                    }
                }
            }
            (0xf10..0xf30, 1 | 4) if !self.v3 => {
                let set = offset >= 0xf20;
                let vcpus = self.vcpus;
                for i in 0..size {
                    let sgi = ((offset + i) % 16) as u32;
                    let irq = self.irq_mut(v, sgi).unwrap();
                    for s in 0..8 {
                        if value >> (8 * i + s) & 1 != 0 {
                            if !set {
                                irq.sources.remove(&(s as u8));
                            } else if (s as usize) < vcpus {
                                irq.sources.insert(s as u8);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn write_bit(&mut self, owner: usize, intid: u32, name: &str, on: bool) {
        let v2_sgi = !self.v3 && intid < 16;
        let irq = self.irq(owner, intid).unwrap();
        let holder = if intid < 32 { owner } else { self.target(irq).unwrap_or(0) };
        let irq = self.irq_mut(owner, intid).unwrap();
        match (name, on) {
            ("group", _) => irq.group1 = on,
            ("enable+", true) => irq.enabled = true,
            ("enable-", true) => irq.enabled = false,
            ("pending+", true) if !v2_sgi => irq.latch = true,
            ("pending-", true) if !v2_sgi => irq.latch = false,
            ("active+", true) if irq.active.is_none() => irq.active = Some((holder, 0)),
            ("active-", true) => irq.active = None,
            _ => {}
        }
        self.settle_physical(owner, intid);
    }
}
