// SPDX-License-Identifier: MIT OR Apache-2.0
//! Consoles of several VMs, and their limits on log lines.

use crate::boards::Bench;
use crate::console::{guest_input, ring};
use crate::{at_once, explore, output};
use lock::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use vm::RateLimit;

/// What the console is given when two VMs are there and each of `writers`, a VM's number and its text, is a vCPU's.
fn said_by(writers: [(usize, &'static [u8]); 2]) -> String {
    let bench = Bench::new().kernel(0x5000_0000, 4096, "vm.name=aa").kernel(
        0x5100_0000,
        4096,
        "vm.name=bb",
    );
    output::init(&bench.vms().unwrap());
    guest_input::give(usize::MAX);
    ring::take();
    let threads = writers.map(|(vm, text)| {
        Box::new(move || {
            for byte in text {
                output::put(vm, *byte);
            }
        }) as Box<dyn FnOnce() + Send>
    });
    at_once(threads.into());
    // The last words of a VM that has not ended its line.
    for (vm, _) in writers {
        output::finish_line(vm);
    }
    String::from_utf8(ring::take()).unwrap()
}

/// Of two VMs: what they share is the console, and a line goes to it in one piece.
// scenario: F8
#[test]
fn lines_of_several_vms_come_whole() {
    explore(|| {
        let said = said_by([(0, b"one\n"), (1, b"two\n")]);
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines.len(), 2, "{said:?}");
        assert!(lines[0].contains("aa") && lines[0].ends_with("one"), "{said:?}");
        assert!(lines[1].contains("bb") && lines[1].ends_with("two"), "{said:?}");
    });
}

/// Of one VM: what they share is its line, under its lock. Every byte comes, once.
#[test]
fn bytes_of_two_vcpus_of_one_vm_all_come() {
    explore(|| {
        let said = said_by([(0, b"xxx"), (0, b"yyy")]);
        assert_eq!(said.matches('x').count(), 3, "{said:?}");
        assert_eq!(said.matches('y').count(), 3, "{said:?}");
        assert_eq!(said.lines().count(), 1, "{said:?}");
    });
}

/// Three CPUs ask the limit at one time: ten lines between them, and every refusal counted.
// bug: 59
#[test]
fn a_burst_is_ten_lines_whoever_asks() {
    explore(|| {
        let limit = Arc::new(RateLimit::new());
        let counted = Arc::new(AtomicU32::new(0));
        let askers = (0..3).map(|_| {
            let (limit, counted) = (limit.clone(), counted.clone());
            Box::new(move || {
                let mut lines = 0_u32;
                for _ in 0..5 {
                    if let Some(left_out) = limit.admit(1000, 100) {
                        lines += 1;
                        counted.fetch_add(left_out as u32, Ordering::SeqCst);
                    }
                }
                lines
            }) as Box<dyn FnOnce() -> u32 + Send>
        });
        let lines: u32 = at_once(askers.collect()).into_iter().sum();
        assert_eq!(lines, 10);
        let left_out = limit.left_out() as u32 + counted.load(Ordering::SeqCst);
        assert_eq!(lines + left_out, 15, "every refusal is a line or counted");
    });
}
