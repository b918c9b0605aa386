// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trace events: one fixed record per refusal, in a ring per CPU.

use crate::{Reason, Refusal};
use arch::{AbortKind, Width};
use lock::atomic::{AtomicU64, Ordering, fence};

/// Words of a record: 64 bytes.
pub const WORDS: usize = 8;

/// One refusal or other abort.
///
/// | word | contents |
/// |---|---|
/// | 0 | number of the event on its CPU, from 1; 0 while it is being written |
/// | 1 | time: CNTPCT_EL0 |
/// | 2 | PC |
/// | 3 | VA |
/// | 4 | IPA; all ones where unknown |
/// | 5 | VM 15:0, vCPU 23:16, reason 31:24, bytes 39:32 (0: unknown), 40 store, 41 instruction, 47:42 zero |
/// | 6 | ELR_EL1 before it: where the handler of the exception before returns to |
/// | 7 | zero |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// CNTPCT_EL0 when it was recorded.
    pub time: u64,
    /// Number of the VM.
    pub vm: u16,
    /// Number of the vCPU in it.
    pub vcpu: u8,
    /// What happened.
    pub refusal: Refusal,
    /// ELR_EL1 before the exception was injected.
    pub return_address: u64,
}

const UNKNOWN_IPA: u64 = u64::MAX;

impl Event {
    /// Words 1 to 7.
    #[inline(always)]
    const fn encode(&self) -> [u64; 7] {
        let r = &self.refusal;
        let ipa = match r.ipa {
            Some(ipa) => ipa.raw(),
            None => UNKNOWN_IPA,
        };
        let bytes = match r.width {
            Some(width) => width.bytes(),
            None => 0,
        };
        let who = self.vm as u64 | (self.vcpu as u64) << 16 | (r.reason as u64) << 24;
        let what = bytes << 32
            | (r.write as u64) << 40
            | (matches!(r.kind, AbortKind::Instruction) as u64) << 41;
        [self.time, r.pc, r.va.raw(), ipa, who | what, self.return_address, 0]
    }

    /// Reads words 1 to 7; `None` for a reason of a later version.
    pub fn decode(words: &[u64; 7]) -> Option<Self> {
        let [time, pc, va, ipa, packed, return_address, _] = *words;
        let [vm0, vm1, vcpu, reason, bytes, flags, ..] = packed.to_le_bytes();
        Some(Self {
            time,
            vm: u16::from_le_bytes([vm0, vm1]),
            vcpu,
            refusal: Refusal {
                pc,
                va: arch::Va::new(va),
                ipa: (ipa != UNKNOWN_IPA).then_some(arch::Ipa::new(ipa)),
                reason: Reason::from_raw(reason)?,
                kind: if flags & 2 != 0 { AbortKind::Instruction } else { AbortKind::Data },
                width: match bytes {
                    1 => Some(Width::B1),
                    2 => Some(Width::B2),
                    4 => Some(Width::B4),
                    8 => Some(Width::B8),
                    _ => None,
                },
                write: flags & 1 != 0,
            },
            return_address,
        })
    }
}

/// The last `N` events (a power of two) of one CPU: that CPU alone writes; others may read at any time.
#[repr(C, align(64))]
pub struct EventRing<const N: usize> {
    records: [[AtomicU64; WORDS]; N],
    /// Events ever written.
    written: AtomicU64,
}

impl<const N: usize> Default for EventRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> EventRing<N> {
    const POWER_OF_TWO: () = assert!(N.is_power_of_two());

    /// An empty ring.
    pub const fn new() -> Self {
        let () = Self::POWER_OF_TWO;
        Self {
            records: [const { [const { AtomicU64::new(0) }; WORDS] }; N],
            written: AtomicU64::new(0),
        }
    }

    /// Adds an event over the oldest, and returns its number. Only the CPU that owns the ring may call this.
    #[inline(always)]
    pub fn push(&self, event: &Event) -> u64 {
        let number = self.written.load(Ordering::Relaxed);
        let Some(record) = self.records.get(number as usize & N.wrapping_sub(1)) else { return 0 };
        // Word by word: a loop would go through memory.
        let [sequence, w1, w2, w3, w4, w5, w6, w7] = record;
        let [v1, v2, v3, v4, v5, v6, v7] = event.encode();
        // A reader that sees any word of the new event sees that its number is not the old one.
        sequence.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        w1.store(v1, Ordering::Relaxed);
        w2.store(v2, Ordering::Relaxed);
        w3.store(v3, Ordering::Relaxed);
        w4.store(v4, Ordering::Relaxed);
        w5.store(v5, Ordering::Relaxed);
        w6.store(v6, Ordering::Relaxed);
        w7.store(v7, Ordering::Relaxed);
        let number = number.wrapping_add(1);
        sequence.store(number, Ordering::Release);
        self.written.store(number, Ordering::Release);
        number
    }

    /// The events in the ring, the newest first. For the CPU that owns it.
    pub fn newest_first(&self) -> impl Iterator<Item = Event> + '_ {
        let newest = self.written();
        (0..N as u64).map_while(move |age| self.get(newest.checked_sub(age)?))
    }

    /// Events ever written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Event `number`, counted from 1; `None` if it was overwritten or does not exist yet.
    pub fn get(&self, number: u64) -> Option<Event> {
        let index = number.checked_sub(1)? as usize & N.wrapping_sub(1);
        let [sequence, body @ ..] = self.records.get(index)?;
        if sequence.load(Ordering::Acquire) != number {
            return None;
        }
        let mut words = [0; 7];
        for (value, word) in words.iter_mut().zip(body) {
            *value = word.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        if sequence.load(Ordering::Relaxed) != number {
            return None;
        }
        Event::decode(&words)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use arch::{Ipa, Va};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn event(n: u64) -> Event {
        Event {
            time: n,
            vm: 3,
            vcpu: 1,
            refusal: Refusal { pc: n * 3, va: Va::new(n * 5), ..Refusal::default() },
            return_address: n * 7,
        }
    }

    #[test]
    fn a_record_is_64_bytes_in_the_documented_places() {
        let refusal = Refusal {
            pc: 0x1111,
            va: Va::new(0x2222),
            ipa: Some(Ipa::new(0x3333)),
            reason: Reason::CrossesPage,
            kind: AbortKind::Instruction,
            width: Some(Width::B8),
            write: true,
        };
        let event = Event { time: 0x4444, vm: 0xabcd, vcpu: 7, refusal, return_address: 0x8888 };
        let packed = 0xabcd | 7 << 16 | 3 << 24 | 8 << 32 | 1 << 40 | 1 << 41;
        assert_eq!(event.encode(), [0x4444, 0x1111, 0x2222, 0x3333, packed, 0x8888, 0]);
        assert_eq!(size_of::<[AtomicU64; WORDS]>(), 64);
        assert_eq!(core::mem::align_of::<EventRing<4>>(), 64);
        let unknown = Event { refusal: Refusal { ipa: None, width: None, ..refusal }, ..event };
        assert_eq!(unknown.encode()[3], u64::MAX);
        assert_eq!(unknown.encode()[4] >> 32 & 0xff, 0);
    }

    #[test]
    fn the_ring_keeps_the_last_ones() {
        let ring = EventRing::<4>::new();
        assert_eq!((ring.written(), ring.get(0), ring.get(1)), (0, None, None));
        for n in 1..=10 {
            ring.push(&event(n));
            assert_eq!(ring.written(), n);
            assert_eq!(ring.get(n), Some(event(n)));
        }
        let kept: Vec<_> = (0..15).filter(|n| ring.get(*n).is_some()).collect();
        assert_eq!(kept, [7, 8, 9, 10]);
    }

    #[test]
    fn a_reader_never_sees_half_an_event() {
        // An interpreter takes its time.
        const EVENTS: u64 = if cfg!(miri) { 200 } else { 50_000 };
        let ring = EventRing::<2>::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 1..=EVENTS {
                    ring.push(&event(n));
                }
            });
            let reader = scope.spawn(|| {
                let mut seen = 0_u64;
                while ring.written() < EVENTS {
                    let newest = ring.written();
                    for n in newest.saturating_sub(2)..=newest {
                        if let Some(found) = ring.get(n) {
                            assert_eq!(found, event(n));
                            seen += 1;
                        }
                    }
                }
                seen
            });
            writer.join().unwrap();
            reader.join().unwrap();
        });
        assert_eq!(ring.get(EVENTS), Some(event(EVENTS)));
    }

    proptest! {
        #[test]
        fn events_survive_the_record(
            time: u64, vm: u16, vcpu: u8, pc: u64, va: u64, ipa in 0..u64::MAX, known: bool, write: bool,
            reason in 0..10_u8, width in 0..5_usize, fetch: bool,
        ) {
            let widths = [None, Some(Width::B1), Some(Width::B2), Some(Width::B4), Some(Width::B8)];
            let refusal = Refusal {
                pc,
                va: Va::new(va),
                ipa: known.then_some(Ipa::new(ipa)),
                reason: Reason::from_raw(reason).unwrap(),
                kind: if fetch { AbortKind::Instruction } else { AbortKind::Data },
                width: widths[width],
                write,
            };
            let event = Event { time, vm, vcpu, refusal, return_address: time };
            prop_assert_eq!(Event::decode(&event.encode()), Some(event));
        }
    }

    #[test]
    fn a_reason_of_a_later_version_is_not_guessed() {
        let mut words = event(1).encode();
        words[4] |= 0xff << 24;
        assert_eq!(Event::decode(&words), None);
        for raw in 0..=255 {
            assert_eq!(Reason::from_raw(raw).map(|reason| reason as u8), (raw < 12).then_some(raw));
        }
    }
}
