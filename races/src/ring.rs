// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trace ring: one CPU writes, another reads.

use crate::{at_once, explore};
use arch::Va;
use std::sync::Arc;
use vm::trace::{Event, EventRing};
use vm::{Reason, Refusal};

fn event(n: u64) -> Event {
    let refusal =
        Refusal { pc: n * 3, va: Va::new(n * 5), reason: Reason::Undeclared, ..Refusal::default() };
    Event { time: n, vm: 3, vcpu: 1, refusal, return_address: n }
}

/// A reader gets whole events, those that it asked for, or none.
#[test]
fn a_reader_never_sees_half_an_event() {
    explore(|| {
        let ring = Arc::new(EventRing::<2>::new());
        let other = ring.clone();
        at_once::<()>(vec![
            Box::new(move || {
                for n in 1..=4 {
                    ring.push(&event(n));
                }
            }),
            Box::new(move || {
                for _ in 0..4 {
                    let last = other.written();
                    for n in last.saturating_sub(1)..=last + 1 {
                        if let Some(seen) = other.get(n) {
                            assert_eq!(seen, event(n));
                        }
                    }
                }
            }),
        ]);
    });
}
