// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls of device VMs, made by a VM that is none. What a device VM does with them: `modes`.

use mmio_guard::abi::{device, own};

use crate::device_calls::{ALL, DENIED, call};
use crate::hvc::hvc;
use crate::rng::Rng;
use crate::verdict::Verdict;
use crate::{guard, tree};

tests! {
    h01_device_calls_are_denied: "H1", "", "" => denied;
}

/// -1 and zeros whatever the arguments, no bit of VERSION says that they exist, and nothing has changed.
fn denied() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    let [x0, x1, ..] = hvc(u64::from(own::VERSION), [0; 3]);
    equal!((x0, x1 & device::FUNCTIONS), (own::VERSION_1_0, 0), "VERSION");
    let before = guard::counters();
    let mut rng = Rng::new(11);
    for id in ALL {
        // A peer that might exist, in a life that might be its own, and what calls look for first.
        for args in [[0; 4], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [tree::get().ram.0; 4]] {
            equal!(call(id, args), DENIED, "{id:#x} with {args:x?}");
        }
        for _ in 0..32 {
            let args = [rng.next() & 0xf_000f, rng.next() & 3, rng.next(), rng.next() & 1];
            equal!(call(id, args), DENIED, "{id:#x} with {args:x?}");
        }
    }
    equal!(guard::counters(), before, "counters");
    Ok(())
}
