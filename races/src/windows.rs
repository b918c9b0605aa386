// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two vCPUs of a served VM share and unshare what its device VM reads meanwhile.

use crate::{at_once, explore};
use arch::{Ipa, PAGE_SIZE, Pa, Range};
use lock::Order;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use stage2::fake::{self, Fake};
use stage2::{Attr, Entry, NeedsTable, Pool, Stage2, Window, Windowed};
use std::sync::Arc;

/// Where the window is for the device VM.
const BASE: u64 = 0x10_0000_0000;
/// Where the machine has the served VM's RAM.
const PEER: u64 = 0x9_0000_0000;
const RAM: u64 = 4 << 21;
const POOL: usize = 4;
const ONE: u64 = 0x3000;
/// In the same 2 MiB, and in the next.
const BESIDE: u64 = 0x4000;
const FAR: u64 = 0x20_1000;

struct Served {
    fakes: Vec<Fake>,
    server: Stage2<Fake>,
    client: Stage2<Fake>,
    window: Window,
    /// A bit per granule: whether it is shared.
    bits: [AtomicU64; 2],
}

type Thread = Box<dyn FnOnce() + Send>;

impl Served {
    fn new() -> Arc<Self> {
        let pages = Window::pages(RAM);
        let shapes = [(fake::geometry(40), 0), (fake::geometry(40), pages as usize + POOL)];
        let fakes = Fake::several(shapes, false);
        let first = fakes[1].root().raw() + 2 * PAGE_SIZE;
        let window = Window::new(Ipa::new(BASE), RAM, Pa::new(first)).unwrap();
        let rest = Pa::new(first + pages * PAGE_SIZE);
        let rest = Range::<Pa>::new(rest, POOL as u64 * PAGE_SIZE).unwrap();
        let pool = Pool::of(&fakes[1], rest);
        let client = Stage2::new(fakes[1].clone(), fake::geometry(40), fakes[1].root(), pool);
        let server = fakes[0].stage2();
        server.add_window(&Order::new(), &window).unwrap();
        Arc::new(Self { fakes, server, client, window, bits: Default::default() })
    }

    fn bit(offset: u64) -> (usize, u64) {
        ((offset >> 21) as usize, 1 << (offset >> 12 & 63))
    }

    fn is_set(&self, offset: u64) -> bool {
        let (word, bit) = Self::bit(offset);
        self.bits[word].load(Ordering::Acquire) & bit != 0
    }

    /// MEM_SHARE of a granule; whether it was this call that shared it.
    fn share(&self, offset: u64) -> bool {
        let order = Order::new();
        let (word, bit) = Self::bit(offset);
        let mut spare = None;
        let claim = || self.bits[word].fetch_or(bit, Ordering::AcqRel) & bit == 0;
        let granule = (offset, Pa::new(PEER + offset));
        let shared = loop {
            match self.server.window_share(&order, &self.window, granule, &mut spare, claim) {
                Ok(done) => break done == Windowed::Done,
                Err(NeedsTable) => spare = Some(self.client.take_spare(&order).unwrap()),
            }
        };
        if let Some(page) = spare {
            self.client.refill(&order, page);
        }
        shared
    }

    /// MEM_UNSHARE of a granule; whether it was this call that ended the share.
    fn unshare(&self, offset: u64) -> bool {
        let (word, bit) = Self::bit(offset);
        let release = || self.bits[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        let done = self.server.window_unshare(&Order::new(), &self.window, offset, release);
        done == Windowed::Done
    }

    fn clear(&self) {
        let order = Order::new();
        let mut freed = self.server.window_clear(&order, &self.window);
        self.client.refill_all(&order, &mut freed);
    }

    /// Whether a walk finds the granule; `None` for `locked`, which tries again.
    fn sees(&self, offset: u64) -> Option<bool> {
        match self.server.lookup(Ipa::new(BASE + offset)).unwrap().entry {
            Entry::Locked => None,
            Entry::Leaf { pa, attr: Attr::Shared } if pa == self.window.scratch() => Some(false),
            Entry::Leaf { pa, attr: Attr::Shared } if pa.raw() == PEER + offset => Some(true),
            other => panic!("{offset:#x}: {other:x?}"),
        }
    }

    /// After all threads: what is shared is seen, and nothing else; no table is lost.
    fn check(&self) {
        for offset in [ONE, BESIDE, FAR] {
            assert_eq!(self.sees(offset), Some(self.is_set(offset)), "{offset:#x}");
        }
        self.clear();
        assert_eq!(self.client.pool_free(&Order::new()), POOL);
        let mut left = 0;
        self.server.visit_window(&self.window, |_, _| left += 1);
        assert_eq!(left, 0);
        self.fakes.iter().for_each(Fake::assert_quiet);
    }
}

/// Each call of two that are the same counts once, and the last state is what all see.
// scenario: C9
#[test]
fn two_share_and_unshare_one_granule() {
    explore(|| {
        let served = Served::new();
        let counts = Arc::new([const { AtomicU64::new(0) }; 2]);
        let vcpu = |_| {
            let (served, counts) = (served.clone(), counts.clone());
            Box::new(move || {
                if served.share(ONE) {
                    counts[0].fetch_add(1, Ordering::SeqCst);
                }
                if served.unshare(ONE) {
                    counts[1].fetch_add(1, Ordering::SeqCst);
                }
            }) as Thread
        };
        let reader = served.clone();
        let look: Thread = Box::new(move || {
            for _ in 0..4 {
                reader.sees(ONE);
                assert_ne!(reader.sees(BESIDE), Some(true));
            }
        });
        at_once([0, 1].map(vcpu).into_iter().chain([look]).collect());
        // Both have called unshare last: it is over, and what was shared was taken back as often.
        let counts = [0, 1].map(|n| counts[n].load(Ordering::SeqCst));
        assert_eq!(counts[0], counts[1]);
        assert!(counts[0] >= 1 && !served.is_set(ONE));
        served.check();
    });
}

/// Once unshare has returned the device VM never finds the granule, whatever becomes of those beside it.
// scenario: C4
#[test]
fn what_was_unshared_is_not_seen() {
    explore(|| {
        let served = Served::new();
        // Odd from before a share until after its end.
        let epoch = Arc::new(AtomicU64::new(0));
        let (a, b, c) = (served.clone(), served.clone(), served.clone());
        let (writes, reads) = (epoch.clone(), epoch.clone());
        at_once::<()>(vec![
            Box::new(move || {
                for _ in 0..2 {
                    writes.fetch_add(1, Ordering::SeqCst);
                    assert!(a.share(ONE));
                    assert!(a.unshare(ONE));
                    writes.fetch_add(1, Ordering::SeqCst);
                }
            }),
            Box::new(move || {
                for offset in [BESIDE, FAR] {
                    assert!(b.share(offset));
                    assert_ne!(b.sees(offset), Some(false), "share has returned");
                }
                assert!(b.unshare(BESIDE));
                assert_ne!(b.sees(BESIDE), Some(true));
            }),
            Box::new(move || {
                loop {
                    let before = reads.load(Ordering::SeqCst);
                    let seen = c.sees(ONE);
                    let same = reads.load(Ordering::SeqCst) == before;
                    assert!(!same || before & 1 != 0 || seen != Some(true), "epoch {before}");
                    if before == 4 {
                        return;
                    }
                    shuttle::thread::yield_now();
                }
            }),
        ]);
        served.check();
    });
}

/// A window is cleared while vCPUs that are about to stop still call: each table comes back once.
#[test]
fn a_window_is_cleared_beside_calls_and_a_reader() {
    explore(|| {
        let served = Served::new();
        served.share(ONE);
        let vcpu = |offset| {
            let served = served.clone();
            Box::new(move || {
                served.share(offset);
                served.unshare(offset);
                served.share(offset);
            }) as Thread
        };
        let (clear, look) = (served.clone(), served.clone());
        let clear: Thread = Box::new(move || clear.clear());
        let look: Thread = Box::new(move || {
            for _ in 0..3 {
                for offset in [ONE, BESIDE, FAR] {
                    look.sees(offset);
                }
            }
        });
        at_once([BESIDE, FAR].map(vcpu).into_iter().chain([clear, look]).collect());
        // The bit of what was cleared is the caller's to clear: here none is kept.
        for bits in &served.bits {
            bits.store(0, Ordering::Release);
        }
        served.clear();
        served.check();
    });
}

/// A table goes back to the served VM's pool while a reader is on its way to it: its first word is a link then.
#[test]
fn a_table_goes_back_under_a_reader() {
    explore(|| {
        let served = Served::new();
        served.share(0);
        let (clear, look) = (served.clone(), served.clone());
        at_once::<()>(vec![
            Box::new(move || clear.clear()),
            Box::new(move || {
                let mut gone = false;
                for _ in 0..3 {
                    let seen = look.sees(0);
                    assert!(!gone || seen != Some(true), "it came back");
                    gone |= seen == Some(false);
                }
            }),
        ]);
        assert_eq!(served.sees(0), Some(false));
        served.check();
    });
}
