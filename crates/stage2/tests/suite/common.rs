// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shorthand.

use arch::{Ipa, Pa, Range};
pub use lock::Order;
pub use stage2::fake::{self, Event, Fake};
pub use stage2::{
    Annotation, Attr, BUDGET, DeclareError, Entry, GuardAnnotation, MapError, Over, Stage2,
    TableMemory, Tlb,
};

pub const KIB4: u64 = 4 << 10;
pub const MIB2: u64 = 2 << 20;
pub const GIB: u64 = 1 << 30;
pub const RAM: u64 = 0x4000_0000;
/// Where RAM comes from in these tests: another address than its IPA, same alignment.
pub const FRAMES: u64 = 0x8_0000_0000;

pub const NOTE: GuardAnnotation = GuardAnnotation { hint: 2, mair: 0x04, preset: false };
pub const OTHER: GuardAnnotation = GuardAnnotation { hint: 3, mair: 0x44, preset: false };

/// Tables under test, with everything an assertion needs.
pub struct Bench {
    pub s2: Stage2<Fake>,
    pub order: Order,
}

impl Bench {
    pub fn new(ipa_bits: u8, pool: usize) -> Self {
        Self { s2: fake::stage2(ipa_bits, pool), order: Order::new() }
    }

    /// 40 bits, and as many tables as a test needs.
    pub fn roomy() -> Self {
        Self::new(40, 64)
    }

    /// With RAM of `size` at [`RAM`], mapped in blocks.
    pub fn with_ram(size: u64) -> Self {
        let bench = Self::roomy();
        bench.map(RAM, FRAMES + RAM, size).unwrap();
        bench.fake().take_events();
        bench
    }

    pub fn fake(&self) -> &Fake {
        self.s2.host()
    }

    pub fn map(&self, ipa: u64, pa: u64, size: u64) -> Result<(), MapError> {
        self.s2.map(&self.order, Ipa::new(ipa), Pa::new(pa), size, Attr::Ram)
    }

    pub fn unmap(&self, ipa: u64, size: u64, leave: Annotation) -> Result<(), MapError> {
        self.s2.unmap(&self.order, range(ipa, size), leave)
    }

    pub fn declare(&self, ipa: u64, size: u64) -> Result<u64, DeclareError> {
        self.s2.declare(&self.order, range(ipa, size), NOTE, BUDGET)
    }

    pub fn undeclare(&self, ipa: u64, size: u64) -> Result<u64, DeclareError> {
        self.s2.undeclare(&self.order, range(ipa, size), BUDGET)
    }

    pub fn free(&self) -> usize {
        self.s2.pool_free(&self.order)
    }

    /// Takes pages out of the pool until `left` are left.
    pub fn drain(&self, left: usize) {
        while self.free() > left {
            self.s2.take_spare(&self.order).unwrap();
        }
    }

    pub fn entry(&self, ipa: u64) -> Entry {
        self.s2.lookup(Ipa::new(ipa)).unwrap().entry
    }

    pub fn level(&self, ipa: u64) -> u8 {
        self.s2.lookup(Ipa::new(ipa)).unwrap().level
    }

    /// Every entry that is not empty: address, level, what.
    pub fn dump(&self) -> Vec<(u64, u8, Entry)> {
        let mut all = Vec::new();
        self.s2.visit(|ipa, level, entry| {
            if entry != Entry::Empty {
                all.push((ipa.raw(), level, entry));
            }
        });
        all
    }

    pub fn quiet(&self) {
        self.fake().assert_quiet();
    }

    /// Events that touch a TLB or a cache.
    pub fn take_maintenance(&self) -> Vec<Event> {
        let barrier_or_store = |event: &Event| {
            matches!(event, Event::Store { .. } | Event::DsbIshst | Event::DsbIsh | Event::Isb)
        };
        self.fake().take_events().into_iter().filter(|e| !barrier_or_store(e)).collect()
    }
}

pub fn range(ipa: u64, size: u64) -> Range<Ipa> {
    Range::<Ipa>::new(Ipa::new(ipa), size).unwrap()
}

pub fn frames(pa: u64, size: u64) -> Range<Pa> {
    Range::<Pa>::new(Pa::new(pa), size).unwrap()
}

pub fn ram(pa: u64) -> Entry {
    Entry::Leaf { pa: Pa::new(pa), attr: Attr::Ram }
}
