// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host to test against: docs/abi.md's table, written down once more.
//!
//! It shares no code with the crate: every number is literal, so that a wrong constant does not agree
//! with itself.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

use mmio_guard::client::{AttrIndex, Guard, Hypercall, Ioremap};
use mmio_guard::{Dialect, Policy};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub const PAGE: u64 = 0x1000;
pub const UART: u64 = 0x0900_0000;
pub const DEV: u64 = 0x0A00_0000;
pub const RAM: Range<u64> = 0x4000_0000..0x4800_0000;
pub const MINUS_1: u64 = u64::MAX;
pub const MINUS_3: u64 = u64::MAX - 2;

/// A call and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub id: u32,
    pub args: [u64; 3],
    pub result: [u64; 4],
}

#[derive(Debug)]
pub struct State {
    pub dialect: Dialect,
    pub policy: Policy,
    pub ram: Vec<Range<u64>>,
    pub allow: Option<Range<u64>>,
    pub ipa_bits: u32,
    /// Granules that one range call does at most.
    pub per_call: u64,
    /// Pages for which there is room.
    pub pool: usize,
    pub enrolled: bool,
    /// Page -> x2 of its declaration.
    pub declared: BTreeMap<u64, u64>,
    pub shared: BTreeSet<u64>,
    pub refused: u64,
    pub calls: Vec<Made>,
    /// Which of the calls that change declarations, counted from 0, fail whatever they ask for.
    pub failing: BTreeSet<usize>,
    /// How many of those were made.
    pub changes: usize,
    /// Answers given instead of the table's.
    pub instead: BTreeMap<u32, [u64; 4]>,
}

#[derive(Debug)]
pub struct Host(pub RefCell<State>);

impl Host {
    pub fn new(dialect: Dialect, policy: Policy) -> Self {
        Self(RefCell::new(State {
            dialect,
            policy,
            ram: vec![RAM],
            allow: None,
            ipa_bits: 40,
            per_call: 512,
            pool: usize::MAX,
            enrolled: policy == Policy::Enforce,
            declared: BTreeMap::new(),
            shared: BTreeSet::new(),
            refused: 0,
            calls: Vec::new(),
            failing: BTreeSet::new(),
            changes: 0,
            instead: BTreeMap::new(),
        }))
    }

    pub fn pkvm() -> Self {
        Self::new(Dialect::Pkvm, Policy::Enrol)
    }

    pub fn series() -> Self {
        Self::new(Dialect::Series, Policy::Enrol)
    }

    /// Both dialects.
    pub fn both() -> [Self; 2] {
        [Self::pkvm(), Self::series()]
    }

    pub fn with(self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.0.borrow_mut());
        self
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.borrow_mut());
    }

    /// Answers `id` with `result`, whatever the table says.
    pub fn answer(self, id: u32, result: [u64; 4]) -> Self {
        self.with(|state| {
            state.instead.insert(id, result);
        })
    }

    /// Makes the calls with these ordinals fail, counted from the next one.
    pub fn fail_next(&self, ordinals: impl IntoIterator<Item = usize>) {
        self.change(|state| {
            let base = state.changes;
            state.failing = ordinals.into_iter().map(|n| base + n).collect();
        });
    }

    /// The guard, found with the dialect told.
    pub fn guard(&self) -> Guard<&Self> {
        let dialect = self.0.borrow().dialect;
        let guard = Guard::detect(self, Some(dialect)).unwrap();
        self.forget();
        guard
    }

    /// The guard, enrolled.
    pub fn enrolled(&self) -> Guard<&Self> {
        let guard = self.guard();
        guard.enrol().unwrap();
        self.forget();
        guard
    }

    pub fn ioremap<const N: usize>(&self) -> Ioremap<'static, &Self, N> {
        const ALL: &[Range<u64>] = &[RAM];
        Ioremap::new(self.enrolled(), ALL)
    }

    /// Forgets the calls made so far.
    pub fn forget(&self) {
        self.change(|state| state.calls.clear());
    }

    pub fn calls(&self) -> Vec<Made> {
        self.0.borrow().calls.clone()
    }

    /// Id and arguments of the calls made.
    pub fn asked(&self) -> Vec<(u32, [u64; 3])> {
        self.calls().into_iter().map(|made| (made.id, made.args)).collect()
    }

    pub fn declared(&self) -> Vec<u64> {
        self.0.borrow().declared.keys().copied().collect()
    }

    pub fn is_enrolled(&self) -> bool {
        self.0.borrow().enrolled
    }

    /// A load or store of the guest: whether it is served. RAM is; a device page as the guard says.
    pub fn access(&self, ipa: u64) -> bool {
        let mut state = self.0.borrow_mut();
        let page = ipa & !(PAGE - 1);
        let served = state.is_ram(page) || !state.active() || state.declared.contains_key(&page);
        state.refused += u64::from(!served);
        served
    }
}

impl Hypercall for Host {
    fn call(&self, id: u32, args: [u64; 3]) -> [u64; 4] {
        let mut state = self.0.borrow_mut();
        let result = match state.instead.get(&id) {
            Some(result) => *result,
            None => state.answer(id, args),
        };
        state.calls.push(Made { id, args, result });
        result
    }
}

impl State {
    fn active(&self) -> bool {
        self.policy != Policy::Off && self.enrolled
    }

    fn is_ram(&self, page: u64) -> bool {
        self.ram.iter().any(|ram| ram.contains(&page))
    }

    fn limit(&self) -> u64 {
        1 << self.ipa_bits
    }

    fn answer(&mut self, id: u32, [x1, x2, x3]: [u64; 3]) -> [u64; 4] {
        const UNKNOWN: [u64; 4] = [MINUS_1, 0, 0, 0];
        match (id, self.policy, self.dialect) {
            // Its upper halves have no meaning.
            (0x8600_FF01, ..) => [
                0xDEAD_0000_B66F_B428,
                0xDEAD_0000_E911_C52E,
                0xDEAD_0000_564B_CAA9,
                0xDEAD_0000_743A_004D,
            ],
            (0x8600_0000, Policy::Off, _) => [1, 0, 0, 0],
            (0x8600_0000, _, Dialect::Pkvm) => [0xFFD, 0, 0, 0],
            (0x8600_0000, _, Dialect::Series) => [0x3D, 0, 0, 0],
            (0x8400_0000, ..) => [0x1_0001, 0, 0, 0],
            (0x8400_000A, ..) => [if x1 == 0x8000_0000 { 0 } else { MINUS_1 }, 0, 0, 0],
            (0x8000_0000, ..) => [0x1_0001, 0, 0, 0],
            (0xC600_F000, ..) => [0x1_0000, 7, 0, 0],
            (0xC600_F001, ..) => self.query(x1),
            (0xC600_F002, ..) => {
                [0, self.refused, self.declared.len() as u64, self.calls.len() as u64]
            }
            (0xC600_0002..=0xC600_000B, Policy::Off, _) => UNKNOWN,
            (0xC600_0002..=0xC600_0005, _, Dialect::Series) => {
                [self.series(id & 0xF, x1, x2), 0, 0, 0]
            }
            (0xC600_0002..=0xC600_000B, _, Dialect::Pkvm) => {
                let (x0, x1) = self.pkvm(id & 0xF, x1, x2, x3);
                [x0, x1, 0, 0]
            }
            _ => UNKNOWN,
        }
    }

    fn query(&self, ipa: u64) -> [u64; 4] {
        let page = ipa & !(PAGE - 1);
        if ipa >= self.limit() {
            return [MINUS_3, 0, 0, 0];
        }
        match self.declared.get(&page) {
            _ if self.is_ram(page) => [0, 1, 0, 0],
            Some(x2) => [0, 3, x2 & 0x1C, 0],
            None => [0, 0, 0, 0],
        }
    }

    fn series(&mut self, function: u32, x1: u64, x2: u64) -> u64 {
        let done = match function {
            2 => return 4096,
            3 => {
                self.enrolled = true;
                return 0;
            }
            4 => self.may_change() && self.active() && self.declare(x1, x2),
            5 => {
                self.may_change()
                    && self.active()
                    && self.declared.remove(&(x1 & !(PAGE - 1))).is_some()
            }
            _ => false,
        };
        if done { 0 } else { MINUS_1 }
    }

    fn pkvm(&mut self, function: u32, x1: u64, x2: u64, x3: u64) -> (u64, u64) {
        const FAILED: (u64, u64) = (MINUS_3, 0);
        match function {
            2 | 5 if (x1, x2, x3) == (0, 0, 0) => (4096, 1),
            6 => {
                self.enrolled = true;
                (0, 0)
            }
            7 if self.may_change() && self.declare(x1, x2) => (0, 1),
            8 if self.may_change() && x1 % PAGE == 0 => {
                self.declared.remove(&x1);
                (0, 1)
            }
            10 | 11 => {
                let end = x2.checked_mul(PAGE).and_then(|bytes| x1.checked_add(bytes));
                let fits = end.is_some_and(|end| end <= self.limit());
                if !self.may_change() || x2 == 0 || x3 != 0 || x1 % PAGE != 0 || !fits {
                    return FAILED;
                }
                let mut done = 0;
                while done < x2.min(self.per_call) {
                    let page = x1 + done * PAGE;
                    if function == 11 {
                        self.declared.remove(&page);
                    } else if !self.declare(page, 0) {
                        break;
                    }
                    done += 1;
                }
                if done == 0 { FAILED } else { (0, done) }
            }
            3 | 4 => {
                let share = function == 3;
                let count = x2.max(1).min(self.per_call);
                let aligned = x1 % PAGE == 0 && x3 == 0;
                let able = |n: &u64| {
                    let page = x1.wrapping_add(n * PAGE);
                    aligned && self.is_ram(page) && self.shared.contains(&page) != share
                };
                let done = (0..count).take_while(able).count() as u64;
                for page in (0..done).map(|n| x1 + n * PAGE) {
                    if share {
                        self.shared.insert(page)
                    } else {
                        self.shared.remove(&page)
                    };
                }
                if done == 0 { FAILED } else { (0, done) }
            }
            9 if x1 % PAGE == 0 && !self.shared.contains(&x1) => (0, 0),
            _ => FAILED,
        }
    }

    /// Counts a call that may change declarations; false if it is one that is to fail.
    fn may_change(&mut self) -> bool {
        self.changes += 1;
        !self.failing.contains(&(self.changes - 1))
    }

    fn declare(&mut self, page: u64, x2: u64) -> bool {
        let allowed = self.allow.as_ref().is_none_or(|allow| allow.contains(&page));
        let room = self.declared.contains_key(&page) || self.declared.len() < self.pool;
        let fine = page % PAGE == 0 && page < self.limit() && !self.is_ram(page) && allowed && room;
        if fine {
            self.declared.insert(page, x2);
        }
        fine
    }
}

/// The attribute with this index.
pub fn attr(index: u8) -> AttrIndex {
    AttrIndex::new(index).unwrap()
}

/// `count` pages from `ipa` on.
pub fn pages(ipa: u64, count: u64) -> Vec<u64> {
    (0..count).map(|n| ipa + n * PAGE).collect()
}
