// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flash: its commands against a model that reads them as sentences, and the guard over its pages.

use crate::common::*;
use arch::{Exit, Fault, FaultKind, Ipa, Pa, Width};
use mmio_guard::{Dialect, Policy};
use proptest::prelude::*;
use stage2::{Attr, Entry};
use std::collections::{BTreeMap, BTreeSet};
use vm::{Flash, Outcome, Reason};

const BANK: u64 = 0x0400_0000;
const BANK_PA: u64 = 0x9_0000_0000;
const SIZE: u64 = 0x8_0000;
const BLOCK: u64 = 0x4_0000;
const PAGES: u64 = SIZE / 0x1000;

fn config(policy: Policy, dialect: Dialect) -> Config {
    let flash = vec![Flash { ipa: range(BANK, SIZE), pa: Pa::new(BANK_PA), protected: false }];
    Config { flash, ..Config::of(policy, dialect) }
}

/// The entry of the bank's page number `n`.
fn entry(rig: &Rig, n: u64) -> Entry {
    rig.vm.stage2().lookup(Ipa::new(BANK + n * 0x1000)).unwrap().entry
}

fn is_leaf(rig: &Rig, n: u64) -> bool {
    match entry(rig, n) {
        Entry::Leaf { pa, attr: Attr::Rom } => {
            assert!(
                pa.raw() <= BANK_PA + n * 0x1000 && BANK_PA + n * 0x1000 < pa.raw() + 0x20_0000
            );
            true
        }
        Entry::Leaf { .. } => panic!("flash with a leaf of another kind"),
        _ => false,
    }
}

/// What the bank holds.
fn holds(rig: &Rig, offset: u64) -> u32 {
    *rig.machine.log().flash.get(&(BANK_PA + offset)).unwrap_or(&u32::MAX)
}

fn both(command: u32) -> u64 {
    u64::from(command << 16 | command)
}

/// A command that must be served.
fn send(rig: &mut Rig, offset: u64, command: u32) {
    assert_eq!(rig.write(BANK + offset, Width::B4, both(command)), Ok(()));
}

/// Accesses that an erasure takes, its confirmation among them.
const PIECES: u64 = BLOCK / 0x4000;

/// Reads the status until a block is erased; how often it was busy.
fn wait(rig: &mut Rig) -> u64 {
    (0..).find(|_| rig.read(BANK, Width::B1).unwrap() & 0x80 != 0).unwrap()
}

/// What loads find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Array,
    Status,
    Id,
    Query,
}

#[derive(Debug)]
struct Model {
    holds: BTreeMap<u64, u32>,
    locked: BTreeSet<u64>,
    status: u32,
    shows: Shows,
}

impl Model {
    fn program(&mut self, at: u64, value: u32) {
        *self.holds.entry(at).or_insert(u32::MAX) &= value;
    }

    fn is_locked(&self, at: u64) -> bool {
        self.locked.contains(&(at / BLOCK))
    }

    /// Reads all stores so far from the beginning, sentence by sentence.
    fn read(stores: &[(u64, u32)]) -> Self {
        let mut model = Self {
            holds: BTreeMap::new(),
            locked: BTreeSet::new(),
            status: 0,
            shows: Shows::Array,
        };
        let mut rest = stores.iter().copied();
        while let Some((_, verb)) = rest.next() {
            if model.sentence(verb as u8, &mut rest).is_none() {
                break;
            }
        }
        model
    }

    /// `None` where it is not finished.
    fn sentence(&mut self, verb: u8, rest: &mut impl Iterator<Item = (u64, u32)>) -> Option<()> {
        match verb {
            0xff => self.shows = Shows::Array,
            0x90 => self.shows = Shows::Id,
            0x98 => self.shows = Shows::Query,
            0x50 => self.status = 0,
            0x70 | 0xb0 | 0xd0 => self.shows = Shows::Status,
            0x10 | 0x40 | 0x20 | 0x60 | 0xe8 => {
                self.shows = Shows::Status;
                let (at, object) = rest.next()?;
                let word = object as u8;
                match verb {
                    0x10 | 0x40 if self.is_locked(at) => self.status |= 0x12,
                    0x10 | 0x40 => self.program(at, object),
                    0x20 if word != 0xd0 => self.status |= 0x30,
                    0x20 if self.is_locked(at) => self.status |= 0x22,
                    0x20 => self.holds.retain(|word, _| word / BLOCK != at / BLOCK),
                    0x60 => match word {
                        0x01 | 0x2f => drop(self.locked.insert(at / BLOCK)),
                        0xd0 => drop(self.locked.remove(&(at / BLOCK))),
                        _ => self.status |= 0x30,
                    },
                    _ if word > 31 => self.status |= 0x30,
                    _ => return self.buffer(word.into(), rest),
                }
            }
            _ => {}
        }
        Some(())
    }

    fn buffer(&mut self, last: u64, rest: &mut impl Iterator<Item = (u64, u32)>) -> Option<()> {
        let mut words = BTreeMap::new();
        let mut start = None;
        for _ in 0..=last {
            let (at, value) = rest.next()?;
            let start = *start.get_or_insert(at);
            if at < start || at > start + 4 * last {
                self.status |= 0x30;
                return Some(());
            }
            words.insert(at, value);
        }
        let start = start?;
        let (_, confirmed) = rest.next()?;
        if confirmed as u8 != 0xd0 || start / BLOCK != (start + 4 * last) / BLOCK {
            self.status |= 0x30;
        } else if self.is_locked(start) {
            self.status |= 0x12;
        } else {
            for (at, value) in words {
                self.program(at, value);
            }
        }
        Some(())
    }

    /// What a load at `at` finds but for the array.
    fn word(&self, at: u64) -> u32 {
        let byte = match (self.shows, at / 4 % 256) {
            (Shows::Status, _) => self.status | 0x80,
            (Shows::Id, 0) => 0x89,
            (Shows::Id, 1) => 0x18,
            (Shows::Id, 2) => u32::from(self.is_locked(at)),
            (Shows::Query, 0x10) => 0x51,
            (Shows::Query, 0x27) => 18,
            (Shows::Query, 0x2d) => 1,
            (Shows::Query, 0x30) => 2,
            _ => 0,
        };
        byte << 16 | byte
    }
}

fn store_strategy() -> impl Strategy<Value = (u64, u32)> {
    let near = (0_u64..6).prop_map(|n| BLOCK - 12 + 4 * n);
    let at = prop_oneof![3 => near, 2 => (0_u64..4).prop_map(|n| 4 * n), 1 => Just(SIZE - 4)];
    let word = prop_oneof![
        8 => prop::sample::select(vec![
            0xff_u32, 0x70, 0x90, 0x98, 0x50, 0x40, 0x10, 0xe8, 0x20, 0x60, 0xd0, 0x01, 0x2f, 0xb0,
        ]),
        3 => 0_u32..4,
        2 => any::<u32>(),
    ];
    // The confirmation is what most sentences need next.
    (at, prop_oneof![3 => word, 1 => Just(0xd0_u32)])
}

/// One store, or a whole sentence that programs a buffer, often across the border of the blocks.
fn sentence_strategy() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let buffer = (0_u64..6, prop::collection::vec(any::<u32>(), 1..5), 0_u64..8).prop_map(
        |(near, words, astray)| {
            let start = BLOCK - 12 + 4 * near;
            let mut stores = vec![(start, 0xe8), (start, words.len() as u32 - 1)];
            stores.extend((0..).zip(words).map(|(n, word)| (start + 4 * n, word)));
            // Now and then the last word goes elsewhere: below the start, or right behind the end.
            let behind = start + 4 * (stores.len() as u64 - 2);
            if let Some(last) = stores.last_mut().filter(|_| astray < 2) {
                last.0 = astray * behind;
            }
            stores.push((start, 0xd0));
            stores
        },
    );
    prop_oneof![8 => store_strategy().prop_map(|store| vec![store]), 1 => buffer]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn commands_are_read_as_the_model_reads_them(
        sentences in prop::collection::vec(sentence_strategy(), 1..30),
    ) {
        let stores: Vec<(u64, u32)> = sentences.concat();
        let mut rig = config(OFF, Dialect::Pkvm).build();
        for n in 0..stores.len() {
            let (at, value) = stores[n];
            prop_assert_eq!(rig.write(BANK + at, Width::B4, value.into()), Ok(()));
            let model = Model::read(&stores[..=n]);
            if model.shows == Shows::Status {
                wait(&mut rig);
            }
            prop_assert_eq!(is_leaf(&rig, 0), model.shows == Shows::Array);
            prop_assert_eq!(is_leaf(&rig, PAGES - 1), model.shows == Shows::Array);
            for at in [0, 4, 8, 0x40, 0x9c, 0xb4, 0xc0, BLOCK - 4, BLOCK, BLOCK + 8, SIZE - 4] {
                prop_assert_eq!(holds(&rig, at), *model.holds.get(&at).unwrap_or(&u32::MAX));
                if model.shows != Shows::Array {
                    let word = model.word(at);
                    prop_assert_eq!(rig.read(BANK + at, Width::B4), Ok(word.into()), "{:#x}", at);
                    let high = u64::from(word >> 16);
                    prop_assert_eq!(rig.read(BANK + at + 2, Width::B2), Ok(high));
                    prop_assert_eq!(rig.read(BANK + at + 1, Width::B1), Ok(u64::from(word >> 8 & 0xff)));
                }
            }
        }
        rig.machine.fake.assert_quiet();
    }
}

#[test]
fn it_is_read_without_a_trap_while_it_shows_what_it_holds() {
    let mut rig = config(OFF, Dialect::Pkvm).build();
    assert!((0..PAGES).all(|n| is_leaf(&rig, n)));
    assert_eq!(rig.load(BANK, Width::B4), Outcome::Resume, "a late trap");
    assert_eq!(rig.vm.declared_pages(), 0);
    // A store finds a leaf that is read-only; whichever fault it is, the IPA is known here.
    let mut abort = data(BANK, Width::B4, true);
    abort.fault = Fault { kind: FaultKind::Permission, level: 3 };
    rig.vcpus[0].regs.x[5] = both(0x70);
    let outcome = rig.exit_slow(0, Exit::DataAbort(abort));
    assert_eq!(outcome, Outcome::Advance { il: true });
    assert!(!is_leaf(&rig, 0));
    assert_eq!(rig.read(BANK + 12, Width::B8), Ok(0x0080_0080_0080_0080));
    let fetch = rig.exit(0, Exit::InstructionAbort(fetch(BANK)));
    assert!(matches!(fetch, Outcome::Abort(_)), "nothing to execute: {fetch:?}");
    send(&mut rig, 0, 0xff);
    assert!(is_leaf(&rig, 0));
    rig.machine.fake.assert_quiet();
}

#[test]
fn a_block_is_erased_by_the_accesses_that_find_it_busy() {
    let mut rig = config(OFF, Dialect::Pkvm).build();
    let fill = |rig: &mut Rig| {
        for at in (0..2 * BLOCK).step_by(0x4000) {
            send(rig, at, 0x40);
            send(rig, at, 0);
        }
    };
    let erased = |rig: &Rig| (0..SIZE).step_by(0x4000).filter(|at| holds(rig, *at) != 0).count();
    fill(&mut rig);
    send(&mut rig, BLOCK, 0x20);
    send(&mut rig, BLOCK, 0xd0);
    assert_eq!(erased(&rig), 1, "no more than one piece at once");
    assert_eq!(rig.read(BANK, Width::B4), Ok(0), "busy");
    assert_eq!(erased(&rig), 2);
    assert_eq!(wait(&mut rig), PIECES - 3);
    assert_eq!(rig.read(BANK, Width::B4), Ok(0x0080_0080));
    assert_eq!(erased(&rig), PIECES as usize);
    // A command waits for it, and is taken once.
    fill(&mut rig);
    send(&mut rig, 0, 0x20);
    send(&mut rig, 0, 0xd0);
    for _ in 2..PIECES {
        assert_eq!(rig.store(BANK, Width::B4, both(0xff)), Outcome::Resume);
        assert!(!is_leaf(&rig, 0));
    }
    send(&mut rig, 0, 0xff);
    assert!(is_leaf(&rig, 0));
    assert_eq!(erased(&rig), PIECES as usize);
    assert!((0..BLOCK).step_by(0x4000).all(|at| holds(&rig, at) != 0));
}

#[test]
fn a_reset_ends_an_erasure() {
    let mut rig = config(OFF, Dialect::Pkvm).build();
    send(&mut rig, 0, 0x20);
    send(&mut rig, 0, 0xd0);
    assert!(rig.vm.stop(&rig.order, vm::StopReason::Reset, None).is_some());
    rig.vm.park(&rig.vcpus[0]);
    rig.vm.reset(&rig.order).unwrap();
    rig.begin();
    assert!(is_leaf(&rig, 0), "it shows what it holds");
    send(&mut rig, 0, 0x70);
    assert_eq!(rig.read(BANK, Width::B4), Ok(0x0080_0080));
}

#[test]
fn stores_of_other_widths_are_errors() {
    let mut rig = config(OFF, Dialect::Pkvm).build();
    for (offset, width) in [(0, Width::B1), (0, Width::B2), (0, Width::B8), (2, Width::B4)] {
        assert_eq!(rig.write(BANK + offset, width, both(0x90)), Err(Reason::DeviceError));
    }
    assert!(is_leaf(&rig, 0));
}

#[test]
fn a_protected_bank_ignores_stores() {
    let mut config = config(OFF, Dialect::Pkvm);
    config.flash[0].protected = true;
    let mut rig = config.build();
    for (command, width) in [(0x90, Width::B4), (0x20, Width::B1), (0xd0, Width::B8)] {
        assert_eq!(rig.write(BANK, width, both(command)), Ok(()));
        assert!(is_leaf(&rig, 0));
    }
    assert!(rig.machine.log().flash.is_empty());
}

#[test]
fn undeclared_it_is_refused_and_nothing_reaches_it() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        let mut rig = config(ENFORCE, dialect).build();
        assert!((0..PAGES).all(|n| entry(&rig, n) == Entry::Empty));
        assert_eq!(rig.read(BANK, Width::B4), Err(Reason::Undeclared));
        assert_eq!(rig.write(BANK, Width::B4, both(0x90)), Err(Reason::Undeclared));
        for n in 0..PAGES {
            assert!(!is_leaf(&rig, 0), "{n} pages declared");
            assert_eq!(rig.call(ids(dialect).map, [BANK + n * 0x1000, 0, 0]), done(dialect));
            assert_eq!(rig.vm.declared_pages(), n + 1);
            // Again: nothing more is declared by it.
            assert_eq!(rig.call(ids(dialect).map, [BANK + n * 0x1000, 0, 0]), done(dialect));
            assert_eq!(rig.vm.declared_pages(), n + 1);
            if n + 1 < PAGES {
                assert_eq!(rig.read(BANK + n * 0x1000, Width::B4), Ok(0xffff_ffff), "by trap");
                let next = BANK + (n + 1) * 0x1000;
                assert_eq!(rig.read(next, Width::B4), Err(Reason::Undeclared));
            }
        }
        assert!((0..PAGES).all(|n| is_leaf(&rig, n)), "the command had not reached it");
        rig.machine.fake.assert_quiet();
    }
}

/// A VM with a bank that is declared as a whole.
fn declared(policy: Policy) -> Rig {
    let mut rig = config(policy, Dialect::Pkvm).build();
    assert_eq!(rig.call(RANGE_MAP, [BANK, PAGES + 9, 0]), [0, PAGES, 0, 0], "up to its end");
    rig
}

#[test]
fn while_it_shows_something_else_notes_say_what_is_declared() {
    let mut rig = declared(ENFORCE);
    send(&mut rig, 0, 0x90);
    assert!((0..PAGES).all(|n| matches!(entry(&rig, n), Entry::Guard(_))));
    assert_eq!(rig.vm.declared_pages(), PAGES);
    assert_eq!(rig.read(BANK, Width::B4), Ok(0x0089_0089));
    assert_eq!(rig.call(0xc600_0008, [BANK + 0x1000, 0, 0]), OK_1, "UNMAP");
    send(&mut rig, 0, 0xff);
    assert!((0..PAGES).all(|n| !is_leaf(&rig, n)), "a page is missing");
    assert_eq!(rig.read(BANK + 0x1000, Width::B4), Err(Reason::Undeclared));
    assert_eq!(rig.call(0xc600_0007, [BANK + 0x1000, 0, 0]), OK_1, "MAP");
    assert!((0..PAGES).all(|n| is_leaf(&rig, n)));
    assert_eq!(rig.vm.declared_pages(), PAGES);
    rig.machine.fake.assert_quiet();
}

#[test]
fn undeclaring_a_page_takes_the_leaves_away() {
    let mut rig = declared(ENFORCE);
    assert_eq!(rig.call(0xc600_0008, [BANK + 0x5000, 0, 0]), OK_1);
    for n in 0..PAGES {
        let expected = if n == 5 { Err(Reason::Undeclared) } else { Ok(0xffff_ffff) };
        assert_eq!(rig.read(BANK + n * 0x1000, Width::B4), expected, "page {n}");
    }
    assert_eq!(rig.vm.declared_pages(), PAGES - 1);
    assert_eq!(rig.call(RANGE_UNMAP, [BANK, PAGES, 0]), [0, PAGES, 0, 0]);
    assert_eq!(rig.vm.declared_pages(), 0);
    assert!((0..PAGES).all(|n| entry(&rig, n) == Entry::Empty));
    rig.machine.fake.assert_quiet();
}

#[test]
fn enroll_takes_away_what_is_not_declared() {
    let mut rig = config(ENROL, Dialect::Pkvm).build();
    assert!(is_leaf(&rig, 0));
    rig.call(0xc600_0006, [0; 3]);
    assert!((0..PAGES).all(|n| entry(&rig, n) == Entry::Empty));
    assert_eq!(rig.read(BANK, Width::B4), Err(Reason::Undeclared));
    // What was declared before stays; half a bank, by trap.
    for pages in [PAGES, 3] {
        let mut rig = config(ENROL, Dialect::Pkvm).build();
        assert_eq!(rig.call(RANGE_MAP, [BANK, pages, 0]), [0, pages, 0, 0]);
        assert_eq!(is_leaf(&rig, 0), pages == PAGES);
        let late = rig.load(BANK + 0x1000, Width::B4) == Outcome::Resume;
        assert_eq!(late, pages == PAGES, "by trap, unless there is a leaf");
        rig.call(0xc600_0006, [0; 3]);
        assert_eq!(is_leaf(&rig, 0), pages == PAGES);
        assert_eq!(rig.vm.declared_pages(), pages);
        assert_eq!(rig.call(RANGE_UNMAP, [BANK, pages, 0]), [0, pages, 0, 0]);
        assert_eq!(rig.read(BANK, Width::B4), Err(Reason::Undeclared));
        rig.machine.fake.assert_quiet();
    }
}

#[test]
fn declarations_before_enroll_are_forgotten_by_unmap() {
    let mut rig = declared(ENROL);
    assert_eq!(rig.call(RANGE_UNMAP, [BANK, PAGES, 0]), [0, PAGES, 0, 0]);
    assert!(is_leaf(&rig, 0), "the guard is not active");
    assert_eq!(rig.vm.declared_pages(), 0);
    rig.call(0xc600_0006, [0; 3]);
    assert!(!is_leaf(&rig, 0));
}

#[test]
fn a_reset_keeps_what_it_holds_and_nothing_else() {
    for policy in [OFF, ENROL, ENFORCE] {
        for preset in [0, PAGES, 3] {
            let mut config = config(policy, Dialect::Pkvm);
            if preset != 0 {
                config.preset = vec![range(BANK, preset * 0x1000)];
            }
            let mut rig = config.build();
            let first = rig.snapshot();
            let mapped_mmio = preset == PAGES || preset == 0 && policy != ENFORCE;
            assert_eq!(is_leaf(&rig, 0), mapped_mmio, "{policy:?} {preset}");
            assert_eq!(rig.vm.declared_pages(), preset);
            if policy != OFF {
                rig.call(RANGE_MAP, [BANK, PAGES, 0]);
            }
            for (offset, command) in [(0, 0x40), (0, 0x1234), (0, 0x60), (0, 0x01), (0, 0x98)] {
                send(&mut rig, offset, command);
            }
            rig.call(0xc600_0006, [0; 3]);
            assert!(rig.vm.stop(&rig.order, vm::StopReason::Reset, None).is_some());
            rig.vm.park(&rig.vcpus[0]);
            rig.vm.reset(&rig.order).unwrap();
            rig.begin();
            assert_eq!(rig.snapshot(), first, "{policy:?} {preset}");
            assert_eq!(holds(&rig, 0), 0x1234_1234);
            if policy != ENFORCE || preset != 0 {
                send(&mut rig, 0, 0x90);
                assert_eq!(rig.read(BANK + 8, Width::B4), Ok(0), "its lock is gone");
            }
            rig.machine.fake.assert_quiet();
        }
    }
}

#[test]
fn without_a_table_nothing_changes() {
    // A bank of 2 MiB needs no table of pages until its pages differ.
    let large = Flash { ipa: range(BANK, 2 << 20), pa: Pa::new(BANK_PA), protected: false };
    let base = Config {
        flash: vec![large],
        preset: vec![large.ipa],
        pool: 4,
        ..Config::of(ENFORCE, Dialect::Pkvm)
    };
    let mut rig = base.build();
    // Uses up what is left.
    let mut far = 0x10_0000_0000;
    while rig.call(0xc600_0007, [far, 0, 0]) == OK_1 {
        far += 0x4000_0000;
    }
    assert!(is_leaf(&rig, 0));
    rig.fails(0xc600_0008, [BANK, 0, 0], INVALID);
    rig.fails(RANGE_UNMAP, [BANK, 1, 0], INVALID);
    assert!(is_leaf(&rig, 0));
    rig.machine.fake.assert_quiet();
}

#[test]
fn banks_that_cannot_be_are_refused() {
    let possible = Flash { ipa: range(BANK, SIZE), pa: Pa::new(BANK_PA), protected: false };
    for flash in [
        vec![Flash { ipa: range(BANK, 0xc_0000), ..possible }],
        vec![Flash { ipa: range(BANK, 0x2_0000), ..possible }],
        vec![Flash { ipa: range(0x2000_0000, 0x200_0000), ..possible }],
        vec![Flash { ipa: range(BANK + 0x4_0000, SIZE), ..possible }],
        vec![Flash { pa: Pa::new(BANK_PA + 0x1000), ..possible }],
        vec![possible, possible],
        vec![Flash { ipa: range(RAM, SIZE), ..possible }],
        (0..5).map(|n| Flash { ipa: range(BANK + n * SIZE, SIZE), ..possible }).collect(),
    ] {
        assert!(
            Config { flash: flash.clone(), ..Config::default() }.try_build().is_err(),
            "{flash:?}"
        );
    }
}

#[test]
fn an_address_within_a_page_declares_nothing_wherever_it_is() {
    let mapped_mmio = 0x0801_0000;
    let mut config = config(ENFORCE, Dialect::Pkvm);
    config.mapped_mmio =
        vec![vm::MappedMmio { ipa: range(mapped_mmio, 0x1000), pa: Pa::new(0x1234_0000) }];
    let mut rig = config.build();
    let before = rig.snapshot();
    for at in [BANK + 8, mapped_mmio + 8, VOID + 8, RAM + 8] {
        assert_eq!(rig.call(0xc600_0007, [at, 0, 0]), INVALID, "{at:#x}");
        assert_eq!(rig.snapshot(), before, "{at:#x}");
    }
}
