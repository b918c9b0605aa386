// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that aborts again and again at one instruction: how EL2 notices, what it logs, what follows.

use crate::StopReason;
use crate::trace::Event;
use arch::GuestRegs;
pub use arch::OnCrash;
use core::fmt;

/// A CPU checks once per so many exceptions that EL2 has injected there.
pub const EVERY: u64 = 1024;
/// Checks in a row that must find the same loop.
const LOOKS: u32 = 10;
/// Fewest exceptions at one instruction that count as a crash.
pub const BOUND: u64 = EVERY * LOOKS as u64;
/// Fewest events that each check must find.
const ENOUGH: u32 = 8;

/// What a vCPU has done besides its exceptions, and where the last exception came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Hypercalls since the last reset.
    pub hypercalls: u64,
    /// Accesses outside memory since the last reset, refused ones included.
    pub accesses: u64,
    /// The exception came from EL0: a program there does not stop the guest's kernel.
    pub from_el0: bool,
    /// Ticks of the counter, as in [`Event::time`], that a loop must last.
    pub second: u64,
}

/// Looks for a loop of exceptions at one instruction of a vCPU.
///
/// An exception that a guest's handler has dealt with returns elsewhere: to the next instruction, or to a fix-up. So a
/// vCPU is in a loop when exceptions come from EL1, from one PC and about one address only, when at each of them ELR_EL1
/// still is that PC, and when the vCPU does nothing else meanwhile: it makes no call, and no access is served. That is so
/// for a handler that cannot be fetched, for one that faults itself, and for one that returns to the same instruction for
/// ever. It must last for a second and [`BOUND`] exceptions. A guest that probes addresses, or that another vCPU keeps from
/// an access for a while, is in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    pc: u64,
    va: u64,
    hypercalls: u64,
    accesses: u64,
    looks: u32,
    /// Time of the loop's first look.
    since: u64,
}

impl Watch {
    /// No loop.
    pub const fn new() -> Self {
        Self { pc: 0, va: 0, hypercalls: 0, accesses: 0, looks: 0, since: 0 }
    }

    /// Looks at the last `events` of a CPU, [`EVERY`] later than the time before: whether vCPU `vcpu` of VM `vm` has
    /// crashed. Events of others do not count. `now` is what the vCPU has done so far.
    pub fn look(
        &mut self,
        vm: u16,
        vcpu: u8,
        now: Progress,
        events: impl Iterator<Item = Event>,
    ) -> bool {
        let mut own = events.filter(|event| event.vm == vm && event.vcpu == vcpu);
        let Some(first) = own.next() else { return false };
        let (pc, va) = (first.refusal.pc, first.refusal.va.raw());
        let stuck = |event: &Event| {
            event.refusal.pc == pc && event.refusal.va.raw() == va && event.return_address == pc
        };
        let (mut count, mut all) = (1_u32, stuck(&first) && !now.from_el0);
        for event in own {
            count = count.saturating_add(1);
            all &= stuck(&event);
        }
        if !all || count < ENOUGH {
            *self = Self::new();
            return false;
        }
        // One access for each exception at most: no other was served.
        let idle =
            now.hypercalls == self.hypercalls && now.accesses.wrapping_sub(self.accesses) <= EVERY;
        (self.hypercalls, self.accesses) = (now.hypercalls, now.accesses);
        let same = self.pc == pc && self.va == va && idle;
        if same {
            self.looks = self.looks.saturating_add(1);
        } else {
            (self.looks, self.since) = (1, first.time);
        }
        (self.pc, self.va) = (pc, va);
        let lasted = first.time.saturating_sub(self.since);
        let crashed = self.looks >= LOOKS && lasted >= now.second;
        if crashed {
            *self = Self::new();
        }
        crashed
    }
}

/// How long a VM that has crashed waits for its restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// Seconds of the last wait; 0 for none.
    last: u64,
}

impl Backoff {
    /// The longest wait. A VM that ran for longer did not crash at once.
    pub const LONGEST: u64 = 64;

    /// Of a VM that has not crashed yet.
    pub const fn new() -> Self {
        Self { last: 0 }
    }

    /// From the value of [`Backoff::raw`].
    pub const fn from_raw(last: u64) -> Self {
        Self { last }
    }

    /// The state as one number.
    pub const fn raw(self) -> u64 {
        self.last
    }

    /// The seconds to wait after a run of `lived` seconds: one, doubled after each short run.
    pub fn after(&mut self, lived: u64) -> u64 {
        self.last = match self.last {
            0 => 1,
            _ if lived > Self::LONGEST => 1,
            last => last.saturating_mul(2).min(Self::LONGEST),
        };
        self.last
    }
}

/// What follows when a VM has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the VM has stopped.
    End,
    /// A restart, at once.
    Restart,
    /// A restart in so many seconds.
    Rest(u64),
}

/// What follows a run of `lived` seconds that ended by `reason`.
pub fn next(reason: StopReason, on_crash: OnCrash, backoff: &mut Backoff, lived: u64) -> Next {
    match reason {
        StopReason::Reset | StopReason::Restart => Next::Restart,
        _ if reason.is_crash() && on_crash == OnCrash::Restart => Next::Rest(backoff.after(lived)),
        _ => Next::End,
    }
}

/// Exits of a vCPU that were decoded, the newest last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exits {
    last: [Seen; 8],
    next: usize,
}

/// An exit, and how often it came in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    esr: u32,
    pc: u64,
    count: u32,
}

impl Exits {
    /// None yet.
    pub const fn new() -> Self {
        let none = Seen { esr: 0, pc: 0, count: 0 };
        Self { last: [none; 8], next: 0 }
    }

    /// An exit with this ESR_EL2 at `pc`.
    pub fn note(&mut self, esr: u32, pc: u64) {
        let len = self.last.len();
        let before = self.next.checked_sub(1).unwrap_or(len.wrapping_sub(1));
        if let Some(seen) = self.last.get_mut(before)
            && seen.count != 0
            && (seen.esr, seen.pc) == (esr, pc)
        {
            seen.count = seen.count.saturating_add(1);
            return;
        }
        if let Some(seen) = self.last.get_mut(self.next) {
            *seen = Seen { esr, pc, count: 1 };
        }
        self.next = self.next.wrapping_add(1).checked_rem(len).unwrap_or(0);
    }
}

impl fmt::Display for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (newest, oldest) = self.last.split_at_checked(self.next).unwrap_or((&[], &self.last));
        let mut none = true;
        for seen in oldest.iter().chain(newest).filter(|seen| seen.count != 0) {
            let sign = if core::mem::take(&mut none) { "" } else { ", " };
            write!(f, "{sign}{:#010x} at {:#x}", seen.esr, seen.pc)?;
            if seen.count != 1 {
                write!(f, " ({} times)", seen.count)?;
            }
        }
        if none { f.write_str("none") } else { Ok(()) }
    }
}

/// General registers that are not zero, `0..31`, from `from` up to `to`.
pub struct Registers<'a> {
    /// The registers.
    pub regs: &'a GuestRegs,
    /// The first to be shown.
    pub from: u8,
    /// Behind the last to be shown.
    pub to: u8,
}

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sign = "";
        for n in self.from..self.to {
            write!(f, "{sign}x{n} {:#x}", self.regs.get(n))?;
            sign = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use crate::Refusal;
    use arch::Va;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec::Vec;

    /// An exception of vCPU 1 of VM 3.
    fn event(pc: u64, return_address: u64) -> Event {
        let refusal = Refusal { pc, ..Refusal::default() };
        Event { time: 0, vm: 3, vcpu: 1, refusal, return_address }
    }

    fn looks(watch: &mut Watch, times: u32, events: &[Event]) -> Option<u32> {
        let idle = Progress::default();
        (1..=times).find(|_| watch.look(3, 1, idle, events.iter().copied()))
    }

    #[test]
    fn vectors_that_cannot_be_fetched_are_a_crash_after_the_bound() {
        let mut watch = Watch::new();
        let events = [event(0x200, 0x200); 32];
        assert_eq!(looks(&mut watch, 100, &events), Some(LOOKS));
        assert_eq!(watch, Watch::new(), "it begins again");
        assert_eq!(looks(&mut watch, 100, &events), Some(LOOKS));
        assert_eq!(BOUND, 10_240);
    }

    #[test]
    fn a_handler_that_moves_on_is_no_crash() {
        let mut watch = Watch::new();
        // The same load repeats, skipped each time.
        assert_eq!(looks(&mut watch, 100, &[event(0x4000, 0x4004); 32]), None);
        // A fix-up elsewhere.
        assert_eq!(looks(&mut watch, 100, &[event(0x4000, 0x9000); 32]), None);
        // Two places in turn.
        let two: Vec<Event> = (0..32).map(|n| event(0x4000 + n % 2 * 8, 0x4000)).collect();
        assert_eq!(looks(&mut watch, 100, &two), None);
    }

    #[test]
    fn progress_in_between_begins_anew() {
        let mut watch = Watch::new();
        let stuck = [event(0x200, 0x200); 32];
        assert_eq!(looks(&mut watch, LOOKS - 1, &stuck), None);
        assert!(!watch.look(3, 1, Progress::default(), [event(0x300, 0x200); 32].into_iter()));
        assert_eq!(looks(&mut watch, LOOKS - 1, &stuck), None);
        // Another loop.
        assert_eq!(looks(&mut watch, LOOKS - 1, &[event(0x400, 0x400); 32]), None);
        assert_eq!(looks(&mut watch, LOOKS, &stuck), Some(LOOKS));
    }

    #[test]
    fn a_guest_that_does_something_else_meanwhile_has_not_crashed() {
        let stuck = [event(0x200, 0x200); 32];
        let crashes = |step: fn(u64) -> Progress| {
            let mut watch = Watch::new();
            (0..100).any(|n| watch.look(3, 1, step(n), stuck.into_iter()))
        };
        assert!(crashes(|n| Progress { accesses: n * EVERY, ..Progress::default() }));
        assert!(!crashes(|n| Progress { accesses: n * (EVERY + 1), ..Progress::default() }));
        assert!(!crashes(|n| Progress { hypercalls: n, ..Progress::default() }));
        assert!(!crashes(|_| Progress { from_el0: true, ..Progress::default() }));
    }

    #[test]
    fn a_loop_lasts_a_second() {
        let at = |time: u64| [Event { time, ..event(0x200, 0x200) }; 32].into_iter();
        let now = Progress { second: 1000, ..Progress::default() };
        let mut watch = Watch::new();
        // Each look 50 ticks after the one before.
        assert_eq!((0..100).find(|n| watch.look(3, 1, now, at(7 + n * 50))), Some(20));
    }

    #[test]
    fn a_guest_that_probes_addresses_has_not_crashed() {
        let probe = |n: u64| {
            let refusal = Refusal { va: Va::new(n * 8), ..event(0x4000, 0x4000).refusal };
            Event { refusal, ..event(0x4000, 0x4000) }
        };
        let events: Vec<Event> = (0..32).map(probe).collect();
        assert_eq!(looks(&mut Watch::new(), 100, &events), None);
        // Each address for as long as the ring holds events.
        let mut watch = Watch::new();
        let idle = Progress::default();
        assert!((0..100).all(|n| !watch.look(3, 1, idle, [probe(n); 32].into_iter())));
    }

    #[test]
    fn others_events_do_not_count_and_few_are_not_enough() {
        let other = Event { vm: 2, ..event(0x200, 0x200) };
        let mut watch = Watch::new();
        assert_eq!(looks(&mut watch, 100, &[other; 32]), None);
        let mut mixed = [other; 32];
        mixed[..7].fill(event(0x600, 0x600));
        assert_eq!(looks(&mut watch, 100, &mixed), None);
        mixed[20] = event(0x600, 0x600);
        assert_eq!(looks(&mut watch, 100, &mixed), Some(LOOKS));
        // A look by another vCPU.
        assert!((0..100).all(|_| !watch.look(3, 0, Progress::default(), mixed.into_iter())));
    }

    #[test]
    fn lives_that_end_at_once_are_spaced_out_ever_more() {
        let mut backoff = Backoff::new();
        let waits: Vec<u64> = (0..9).map(|_| backoff.after(0)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(backoff.after(Backoff::LONGEST), 64);
        assert_eq!(backoff.after(Backoff::LONGEST + 1), 1, "that run did not end at once");
        assert_eq!(backoff.after(3), 2);
        assert_eq!(Backoff::from_raw(backoff.raw()), backoff);
    }

    #[test]
    fn what_follows_the_end_of_a_life() {
        use StopReason::*;
        for on_crash in [OnCrash::Stop, OnCrash::Restart, OnCrash::Pause] {
            let mut backoff = Backoff::new();
            let mut next = |reason| next(reason, on_crash, &mut backoff, 0);
            for reason in [Reset, Restart] {
                assert_eq!(next(reason), Next::Restart);
            }
            for reason in [PowerOff, AllOff, Failure, Operator] {
                assert_eq!(next(reason), Next::End, "{reason}");
            }
            let again = on_crash == OnCrash::Restart;
            assert_eq!(next(Crash), if again { Next::Rest(1) } else { Next::End });
            assert_eq!(next(SError), if again { Next::Rest(2) } else { Next::End });
        }
    }

    #[test]
    fn the_last_exits_are_told_oldest_first_with_their_number() {
        let mut exits = Exits::new();
        assert_eq!(exits.to_string(), "none");
        exits.note(0x5a00_0000, 0x4020_0010);
        assert_eq!(exits.to_string(), "0x5a000000 at 0x40200010");
        for n in 0..9 {
            exits.note(0x9360_0046, 0x1000 + n * 4);
        }
        for _ in 0..3 {
            exits.note(0x8600_0010, 0x200);
        }
        let text = exits.to_string();
        assert!(text.starts_with("0x93600046 at 0x1008, "), "{text}");
        assert!(text.ends_with(", 0x93600046 at 0x1020, 0x86000010 at 0x200 (3 times)"), "{text}");
        assert_eq!(text.matches(" at ").count(), 8);
    }

    proptest! {
        #[test]
        fn no_guest_that_returns_elsewhere_has_crashed(
            pcs in prop::collection::vec((0..4_u64, 0..4_u64), 32),
            times in 1..200_u32,
        ) {
            let events: Vec<Event> = pcs.iter().map(|(pc, to)| event(pc * 4, to * 4)).collect();
            let stuck = pcs.iter().all(|(pc, to)| *pc == pcs[0].0 && to == pc);
            let crashed = looks(&mut Watch::new(), times, &events);
            prop_assert_eq!(crashed.is_some(), stuck && times >= LOOKS);
        }
    }
}
