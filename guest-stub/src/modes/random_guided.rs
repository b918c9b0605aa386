// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that keeps asking its guard: calls and accesses by chance, where something changes and where something
//! happened before. It checks nothing: that is for an image with the oracle in it.

use mmio_guard::{Call, abi};

use crate::guard::{self, hole};
use crate::hvc::{hvc, smc};
use crate::machine::{Machine, pstate};
use crate::mmu::View;
use crate::rng::Rng;
use crate::time::Deadline;
use crate::{cpu, probe, psci, smp, tree};

/// Where a bank of flash is, in a VM that has one: 256 KiB.
const FLASH: core::ops::Range<u64> = 0x0400_0000..0x0404_0000;

/// Does it for `seconds` on every vCPU.
pub fn run(seconds: u64) {
    let seed = tree::number("seed").unwrap_or(1);
    guard::declare_own();
    say!("guided: begins, seed={seed}");
    let milliseconds = seconds.saturating_mul(1000);
    for index in 1..tree::get().vcpus {
        // A vCPU that does not start leaves the work to others.
        let _ = smp::give(index, job, milliseconds);
    }
    let mut rounds = job(milliseconds);
    for index in 1..tree::get().vcpus {
        rounds += smp::finish(index, 60_000).unwrap_or(0);
    }
    // Whatever the others have undeclared meanwhile: the console first.
    guard::redeclare_own();
    say!("guided: {rounds} rounds");
}

/// What one vCPU is about.
struct Guide {
    rng: Rng,
    /// Pages that came up.
    recent: [u64; 8],
}

impl Guide {
    /// An address: where something changes, near one that came up, or any.
    fn address(&mut self) -> u64 {
        let (base, size) = tree::get().ram;
        let edges = [
            0,
            base,
            base + size,
            hole(0),
            hole(512),
            1 << 30,
            3 << 30,
            1 << 32,
            5 << 30,
            1 << 39,
            1 << 40,
            tree::get().uart,
            0x0800_0000,
            0x0801_0000,
            0x080a_0000,
            FLASH.start,
            FLASH.start,
            FLASH.end,
        ];
        let rng = &mut self.rng;
        let near = rng.below(7) as u64 * 4096;
        let recent = rng.choose(&self.recent, 0);
        let at = match rng.below(20) {
            0 => rng.next() >> rng.below(40),
            1..=10 => recent.wrapping_add(near).wrapping_sub(3 * 4096),
            _ => rng.choose(&edges, 0).wrapping_add(near).wrapping_sub(3 * 4096),
        };
        let at = if rng.below(12) == 0 { at } else { at & !0xfff };
        if let Some(slot) = self.recent.get_mut(self.rng.below(8)) {
            *slot = at & !0xfff;
        }
        at
    }

    fn count(&mut self) -> u64 {
        match self.rng.below(12) {
            0 => 0,
            1..=6 => 1 + self.rng.below(8) as u64,
            7 | 8 => self.rng.choose(&[64, 511, 512, 513, 1024, 1025, 1 << 18, 1 << 19], 1),
            9 => self.rng.next() >> self.rng.below(64),
            _ => self.rng.below(200) as u64,
        }
    }

    fn call(&mut self) {
        let calls = [
            guard::id(Call::Map),
            guard::id(Call::Map),
            guard::id(Call::Unmap),
            guard::id(Call::Unmap),
            guard::id(Call::Info),
            u64::from(abi::own::QUERY_PAGE),
            u64::from(abi::own::COUNTERS),
        ];
        // Those that only one dialect has; in the other their numbers are unknown, or the ones above.
        let ranges = [0xc600_0003, 0xc600_0004, 0xc600_000a, 0xc600_000a, 0xc600_000b];
        let power = [psci::id::AFFINITY_INFO, 0x8400_0000, 0x8000_0000, 0x8400_000a, 0xc400_0053];
        let id = match self.rng.below(16) {
            0..=8 => self.rng.choose(&calls, 0),
            9..=13 => self.rng.choose(&ranges, 0),
            14 => self.rng.choose(&power, 0),
            // The guard becomes active in the middle, for good.
            _ if self.rng.below(64) == 0 => guard::id(Call::Enroll),
            _ => 0xc600_0000 | (self.rng.below(256) as u64 + 12),
        };
        // In the series 3 is ENROLL and 5 UNMAP: all the same, nothing here needs a device meanwhile.
        let zero = if self.rng.below(12) == 0 { self.rng.next() } else { 0 };
        let arguments = [self.address(), self.count(), zero];
        if self.rng.below(16) == 0 {
            smc(id, arguments);
        } else {
            hvc(id, arguments);
        }
    }

    fn access(&mut self) {
        let at = self.address() & 0x7f_ffff_f000;
        let (base, size) = tree::get().ram;
        if (base..base + size).contains(&at) {
            return;
        }
        // The console's registers, the interrupt controller's: loads only.
        let device = (0x0800_0000..0x0a00_0000).contains(&at);
        let offset = self.rng.choose(&[0, 4, 0x18, 0x400, 0xff8, 0xffc, 0xffd, 0xfff], 0);
        let code = if device || self.rng.below(2) == 0 {
            self.rng.choose(&probe::LOADS, (4, probe::ldr_w)).1
        } else {
            self.rng.choose(&probe::STORES, (4, probe::str_w)).1
        };
        // What a bank takes for commands, and their ends.
        let command =
            self.rng.choose(&[0xff, 0xff, 0x70, 0x98, 0x20, 0x40, 0xe8, 1, 0x60, 0xd0], 0);
        let (code, value) = if FLASH.contains(&at) && self.rng.below(2) == 0 {
            (probe::str_w, command)
        } else {
            (code, self.rng.next())
        };
        let view = self.rng.choose(&[View::Normal, View::UserNormal], View::Normal);
        let state = self.rng.choose(&[pstate::EL1H, pstate::EL0], pstate::EL1H);
        probe::run(Machine::new(code).with(0, value).with(1, view.of(at + offset)).at(state));
    }
}

/// Calls and accesses until the time is over; how many.
fn job(milliseconds: u64) -> u64 {
    let seed = tree::number("seed").unwrap_or(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let rng = Rng::new(seed ^ (cpu::index() as u64 + 1) << 32);
    let mut guide = Guide { rng, recent: [hole(0); 8] };
    let deadline = Deadline::after(milliseconds);
    let mut rounds = 0;
    while !deadline.passed() {
        if guide.rng.below(3) == 0 {
            guide.access();
        } else {
            guide.call();
        }
        rounds += 1;
    }
    rounds
}
