// SPDX-License-Identifier: MIT OR Apache-2.0
//! Consoles of several VMs, and their limits on log lines.

use crate::boards::Bench;
use crate::{at_once, console, explore, input, output};
use lock::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use vm::RateLimit;

/// Two VMs of two vCPUs each write lines: none is torn, and nothing is lost.
// scenario: F8
#[test]
fn lines_of_several_vms_come_whole() {
    let bench = || {
        Bench::new().kernel(0x5000_0000, 4096, "vm.name=aa").kernel(0x5100_0000, 4096, "vm.name=bb")
    };
    explore(move || {
        output::init(&bench().vms().unwrap());
        input::give(usize::MAX);
        console::take();
        let writers = [(0, b"one\n"), (1, b"two\n")].map(|(vm, text)| {
            Box::new(move || {
                for byte in text {
                    output::put(vm, *byte);
                }
                // And the last words of a VM that has none.
                output::finish_line(vm);
            }) as Box<dyn FnOnce() + Send>
        });
        at_once(writers.into());
        let said = String::from_utf8(console::take()).unwrap();
        let mut lines: Vec<&str> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines.len(), 2, "{said:?}");
        assert!(lines[0].contains("aa") && lines[0].ends_with("one"), "{said:?}");
        assert!(lines[1].contains("bb") && lines[1].ends_with("two"), "{said:?}");
    });
}

/// Two vCPUs of one VM write: every byte comes, once.
#[test]
fn bytes_of_two_vcpus_of_one_vm_all_come() {
    let bench = || {
        Bench::new().kernel(0x5000_0000, 4096, "vm.name=aa").kernel(0x5100_0000, 4096, "vm.name=bb")
    };
    explore(move || {
        output::init(&bench().vms().unwrap());
        input::give(usize::MAX);
        console::take();
        let writers = [b"xxx", b"yyy"].map(|text| {
            Box::new(move || {
                for byte in text {
                    output::put(0, *byte);
                }
            }) as Box<dyn FnOnce() + Send>
        });
        at_once(writers.into());
        output::finish_line(0);
        let said = String::from_utf8(console::take()).unwrap();
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
