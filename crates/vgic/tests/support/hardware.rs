// SPDX-License-Identifier: MIT OR Apache-2.0
//! A CPU's virtual interface as the architecture describes it: list registers, acknowledge, EOI, deactivate, maintenance.
//! Works on raw register values with field positions of its own.

use std::collections::BTreeSet;

/// Field positions of a list register, by version.
#[derive(Clone, Copy)]
struct Layout {
    intid: u64,
    physical: (u32, u64),
    eoi: u32,
    source: u32,
    priority: (u32, u32),
    group: u32,
    hw: u32,
    state: u32,
}
const V3: Layout = Layout {
    intid: 0xffff_ffff,
    physical: (32, 0x1fff),
    eoi: 41,
    source: 0,
    priority: (48, 0),
    group: 60,
    hw: 61,
    state: 62,
};
const V2: Layout = Layout {
    intid: 0x3ff,
    physical: (10, 0x3ff),
    eoi: 19,
    source: 10,
    priority: (23, 3),
    group: 30,
    hw: 31,
    state: 28,
};

/// What an acknowledge returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub intid: u32,
    pub source: u8,
    pub priority: u8,
}

#[derive(Clone)]
pub struct Interface {
    v3: bool,
    /// Raw values, as EL2 wrote them.
    pub lr: Vec<u64>,
    pub hcr: u32,
    pub groups: [bool; 2],
    pub pmr: u32,
    pub eoi_mode: bool,
    /// Priorities of what was acknowledged and not dropped.
    pub running: Vec<u8>,
    /// Physical INTIDs that were deactivated through a list register.
    pub deactivated: Vec<u32>,
}

impl Interface {
    pub fn new(v3: bool, count: usize) -> Self {
        Self {
            v3,
            lr: vec![0; count],
            hcr: 0,
            groups: [true, true],
            pmr: 0x100,
            eoi_mode: false,
            running: vec![],
            deactivated: vec![],
        }
    }
    fn layout(&self) -> Layout {
        if self.v3 { V3 } else { V2 }
    }
    fn state(&self, i: usize) -> u64 {
        self.lr[i] >> self.layout().state & 3
    }
    fn set_state(&mut self, i: usize, state: u64) {
        let shift = self.layout().state;
        self.lr[i] = self.lr[i] & !(3 << shift) | state << shift;
    }
    pub fn intid(&self, i: usize) -> u32 {
        (self.lr[i] & self.layout().intid) as u32
    }
    fn priority(&self, i: usize) -> u8 {
        let (shift, drop) = self.layout().priority;
        if self.v3 {
            (self.lr[i] >> shift) as u8
        } else {
            ((self.lr[i] >> shift & 0x1f) << drop) as u8
        }
    }
    fn group(&self, i: usize) -> usize {
        (self.lr[i] >> self.layout().group & 1) as usize
    }
    fn hw(&self, i: usize) -> bool {
        self.lr[i] >> self.layout().hw & 1 != 0
    }
    fn wants_eoi(&self, i: usize) -> bool {
        !self.hw(i) && self.lr[i] >> self.layout().eoi & 1 != 0
    }
    fn source(&self, i: usize) -> u8 {
        if self.v3 || self.hw(i) { 0 } else { (self.lr[i] >> self.layout().source & 7) as u8 }
    }
    /// EL2 must not program what the architecture leaves unpredictable.
    pub fn check(&self) {
        let mut seen = BTreeSet::new();
        for i in 0..self.lr.len() {
            if self.state(i) == 0 {
                continue;
            }
            assert!(seen.insert(self.intid(i)), "INTID {} in two list registers", self.intid(i));
            assert!(!(self.hw(i) && self.state(i) == 3), "HW=1 and pending and active");
        }
    }
    /// INTIDs of the list registers that are not free.
    pub fn valid(&self) -> impl Iterator<Item = u32> {
        (0..self.lr.len()).filter(|&i| self.state(i) != 0).map(|i| self.intid(i))
    }
    /// Free in the sense of ICH_ELRSR_EL2.
    pub fn empty(&self) -> u16 {
        (0..self.lr.len())
            .filter(|&i| self.state(i) == 0 && !self.wants_eoi(i))
            .fold(0, |bits, i| bits | 1 << i)
    }
    /// The list register that would be acknowledged, whatever the running priority and the mask are.
    fn highest(&self) -> Option<usize> {
        (0..self.lr.len())
            .filter(|&i| self.hcr & 1 != 0 && self.state(i) == 1 && self.groups[self.group(i)])
            .min_by_key(|&i| self.priority(i))
    }
    /// INTID and priority of the highest pending interrupt of the groups that are enabled.
    pub fn highest_pending(&self) -> Option<(u32, u8)> {
        self.highest().map(|i| (self.intid(i), self.priority(i)))
    }
    /// Whether an interrupt is signalled to the guest.
    pub fn signalled(&self) -> bool {
        self.highest().is_some_and(|i| {
            let p = self.priority(i);
            u32::from(p) < self.pmr && self.running.iter().all(|&r| p < r)
        })
    }
    pub fn ack(&mut self) -> Option<Ack> {
        if !self.signalled() {
            return None;
        }
        let i = self.highest()?;
        self.set_state(i, 2);
        self.running.push(self.priority(i));
        Some(Ack { intid: self.intid(i), source: self.source(i), priority: self.priority(i) })
    }
    pub fn eoi(&mut self, intid: u32, source: u8) {
        self.running.sort();
        if !self.running.is_empty() {
            self.running.remove(0);
        }
        if !self.eoi_mode {
            self.deactivate(intid, source);
        }
    }
    /// A write of DIR that does not trap, and EOI without EOImode.
    pub fn deactivate(&mut self, intid: u32, source: u8) {
        let found = (0..self.lr.len()).find(|&i| {
            self.state(i) & 2 != 0
                && self.intid(i) == intid
                && (self.v3 || intid >= 16 || self.source(i) == source)
        });
        match found {
            Some(i) => {
                self.set_state(i, self.state(i) & 1);
                if self.hw(i) {
                    let (shift, mask) = self.layout().physical;
                    self.deactivated.push((self.lr[i] >> shift & mask) as u32);
                }
            }
            None => {
                let count = (self.hcr >> 27).min(30) + 1;
                self.hcr = self.hcr & 0x07ff_ffff | count << 27;
            }
        }
    }
    /// ICH_MISR_EL2.
    pub fn maintenance(&self) -> u32 {
        let bit = |n: u32, on: bool| u32::from(on) << n;
        let asks = |n: u32| self.hcr >> n & 1 != 0;
        let valid = (0..self.lr.len()).filter(|&i| self.state(i) != 0).count();
        let pending = (0..self.lr.len()).any(|i| self.state(i) == 1);
        if !asks(0) {
            return 0;
        }
        bit(0, (0..self.lr.len()).any(|i| self.state(i) == 0 && self.wants_eoi(i)))
            | bit(1, asks(1) && valid <= 1)
            | bit(2, asks(2) && self.hcr >> 27 != 0)
            | bit(3, asks(3) && !pending)
            | bit(4, asks(4) && self.groups[0])
            | bit(5, asks(5) && !self.groups[0])
            | bit(6, asks(6) && self.groups[1])
            | bit(7, asks(7) && !self.groups[1])
    }
    /// Whether a write of ICC_DIR_EL1 traps.
    pub fn dir_traps(&self) -> bool {
        self.hcr >> 14 & 1 != 0
    }
    /// ICH_VMCR_EL2 as far as EL2 reads it.
    pub fn vmcr(&self) -> u32 {
        u32::from(self.groups[0]) | u32::from(self.groups[1]) << 1
    }
}
