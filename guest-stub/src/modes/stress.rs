// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest doing its worst. Nothing here is checked but that the stub itself goes on: what it shall not
//! harm are EL2 and the other VMs.

use crate::guard::hole;
use crate::hvc::{hvc, smc};
use crate::machine::{Machine, pstate};
use crate::mmu::{self, View};
use crate::rng::Rng;
use crate::{cpu, exception, guard, probe, psci, scratch, smp, tree};

/// Does `rounds` of this kind on every vCPU.
pub fn run(kind: &'static str, rounds: u64) {
    guard::declare_own();
    let job: smp::Job = match kind {
        "calls" => calls,
        "registers" => registers,
        "devices" => devices,
        "walks" => walks,
        "all" => all,
        "abort" => abort,
        "vbar" => vbar,
        _ => {
            say!("FAIL worst: no such kind: {kind}");
            return;
        }
    };
    say!("worst {kind}: begins");
    for index in 1..tree::get().vcpus {
        // A vCPU that does not start does no harm.
        let _ = smp::give(index, job, rounds);
    }
    // Once with the devices in reach, and once with the guard in between.
    job(rounds / 2);
    let _ = guard::activate_if_there();
    job(rounds - rounds / 2);
    for index in 1..tree::get().vcpus {
        let _ = smp::finish(index, 60_000);
    }
    say!("worst {kind}: {rounds} rounds");
}

fn rng() -> Rng {
    let seed = tree::number("seed").unwrap_or(1);
    Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (cpu::index() as u64 + 1) << 32)
}

/// Something that an argument may be: small, aligned, around edges, or anything.
fn argument(rng: &mut Rng) -> u64 {
    let (base, size) = tree::get().ram;
    let edges = [
        0,
        1,
        0x1000,
        0xfff,
        base,
        base + size,
        base - 4096,
        hole(400),
        1 << 30,
        1 << 32,
        1 << 39,
        1 << 40,
        1 << 48,
        1 << 52,
        1 << 63,
        u64::MAX,
        u64::MAX - 4095,
        512,
        513,
        0x4000_0000,
        tree::get().uart,
    ];
    match rng.below(4) {
        0 => rng.next(),
        1 => rng.next() & 0xff_ffff_f000,
        2 => rng.next() & 0xfff,
        _ => rng.choose(&edges, 0),
    }
}

/// Random calls. Those that end this VM or this vCPU, or enrol it, are left out: the console must go on.
fn calls(rounds: u64) -> u64 {
    let mut rng = rng();
    for _ in 0..rounds {
        let id = match rng.below(6) {
            0 => 0xc600_0000 | rng.next() & 0x1f,
            1 => 0xc600_f000 | rng.next() & 0xf,
            2 => 0x8400_0000 | (rng.next() & 1) << 30 | rng.next() & 0x1f,
            3 => 0x8000_0000 | (rng.next() & 0x3) << 30 | rng.next() & 0xffff,
            4 => rng.next() & 0xffff_ffff,
            _ => rng.next(),
        };
        let arguments = [argument(&mut rng), argument(&mut rng), argument(&mut rng)];
        if ends_it(id, arguments) {
            continue;
        }
        if rng.below(16) == 0 {
            smc(id, arguments);
        } else {
            hvc(id, arguments);
        }
    }
    guard::declare_own();
    0
}

/// Whether a call would end the VM, this vCPU, its memory or its console.
fn ends_it(id: u64, [x1, ..]: [u64; 3]) -> bool {
    let id = id & 0xffff_ffff;
    let both = |function| id == function || id == function | 1 << 30;
    let own = crate::image_layout::footprint();
    both(psci::id::SYSTEM_OFF)
        || both(psci::id::SYSTEM_RESET)
        || both(psci::id::SYSTEM_RESET2 & !(1 << 30))
        || both(psci::id::CPU_OFF)
        || both(psci::id::CPU_SUSPEND & !(1 << 30))
        || both(psci::id::CPU_ON & !(1 << 30))
        // ENROLL by its number in either dialect, and what gives the console or memory away.
        || id == 0xc600_0006
        || guard::series() && matches!(id, 0xc600_0003 | 0xc600_0005)
        || matches!(id, 0xc600_0008 | 0xc600_000b) && x1 < 1 << 30
        // RELINQUISH of the device tree, in front of the image, or of the image.
        || id == 0xc600_0009 && x1 < own.end
}

/// Random system registers, written with anything, but for those that the stub depends on.
fn registers(rounds: u64) -> u64 {
    let mut rng = rng();
    for _ in 0..rounds {
        let word = 0xd500_0000 | (rng.next() as u32 & 0x003f_ffe0);
        let (op0, op1, crn, crm) =
            (word >> 19 & 3, word >> 16 & 7, word >> 12 & 15, word >> 8 & 15);
        let read = word >> 21 & 1 != 0;
        let stands_on = op0 == 3
            && (op1 == 0 && matches!((crn, crm), (1 | 2, 0) | (4 | 10, _) | (12 | 13, 0))
                || op1 == 3 && matches!((crn, crm), (13, 0) | (4, 2))
                // Breakpoints that would hit the stub, timers that QEMU cannot bear.
                || op1 == 3 && crn == 14);
        let debug = op0 == 2;
        // op0 0: hints, barriers and PSTATE; a wait would wait. op0 1: DC ZVA at anything.
        if op0 < 2 || !read && (stands_on || debug) {
            continue;
        }
        let code = scratch::code(&[word]);
        let state = rng.choose(&[pstate::EL1H, pstate::EL0], pstate::EL1H);
        probe::run(Machine::new(code).with(0, rng.next()).at(state));
    }
    exception::restore();
    mmu::enable();
    0
}

/// Random accesses at random places, of all kinds.
fn devices(rounds: u64) -> u64 {
    snippet!(ldp, "ldp x2, x3, [x1]");
    snippet!(stp, "stp x2, x3, [x1]");
    snippet!(post, "str x0, [x1], #8");
    snippet!(vector, "ldr q0, [x1]");
    snippet!(exclusive, "ldaxr x0, [x1]");
    snippet!(zero, "dc zva, x1");
    snippet!(clean, "dc civac, x1");
    let odd = [ldp, stp, post, vector, exclusive, zero, clean];
    let mut rng = rng();
    let uart = tree::get().uart;
    for _ in 0..rounds {
        let place = match rng.below(4) {
            0 => 0x0800_0000 + (rng.next() & 0xff_ffff),
            1 => rng.next() & 0x3fff_ffff,
            2 => 0x8000_0000 + (rng.next() & 0x1f_7fff_ffff),
            _ => 0x0800_0000 + (rng.next() & 0x1_ffff),
        };
        // The console's data and control registers: the output must stay readable.
        if (uart..uart + 0x1000).contains(&place) {
            continue;
        }
        let view = rng.choose(&[View::Normal, View::UserNormal, View::UserDevice], View::Normal);
        let state = rng.choose(&[pstate::EL1H, pstate::EL1T, pstate::EL0], pstate::EL0);
        let code = match rng.below(3) {
            0 => rng.choose(&odd, ldp),
            1 => rng.choose(&probe::LOADS, (4, probe::ldr_w)).1,
            _ => rng.choose(&probe::STORES, (4, probe::str_w)).1,
        };
        let va = view.of(place & 0x7f_ffff_ffff);
        probe::run(Machine::new(code).with(0, rng.next()).with(1, va).at(state));
    }
    0
}

/// Tables at random places.
fn walks(rounds: u64) -> u64 {
    let mut rng = rng();
    msr!("tcr_el1", mmu::tcr() & !(1 << 23));
    for _ in 0..rounds {
        let table = argument(&mut rng) & 0x0000_ffff_ffff_f000;
        let (base, size) = tree::get().ram;
        if (base..base + size).contains(&table) {
            continue;
        }
        msr!("ttbr1_el1", table);
        plain!("isb");
        mmu::flush_all();
        let va = 0xffff_0000_0000_0000 | rng.next() & 0xffff_ffff_fff8;
        probe::load(va);
        let mut machine = Machine::new(probe::ldr_w);
        machine.pc = va & !3;
        probe::run(machine);
        snippet!(at, "at s1e1r, x1");
        probe::access(at, va);
    }
    msr!("ttbr1_el1", 0);
    msr!("tcr_el1", mmu::tcr());
    plain!("isb");
    mmu::flush_all();
    0
}

fn all(rounds: u64) -> u64 {
    for job in [calls, registers, devices, walks] {
        job(rounds);
    }
    0
}

/// Vectors of which the first instruction aborts: an abort in the handler of an abort, for ever.
fn abort(_: u64) -> u64 {
    snippet!(
        into_it,
        // A word `ldr x0, [x1]` at each vector.
        "msr vbar_el1, x2",
        "isb",
        "ldr x0, [x1]",
        "b .",
    );
    #[repr(align(2048))]
    struct Vectors {
        _words: [u32; 512],
    }
    static VECTORS: Vectors = Vectors { _words: [0xf940_0020; 512] };
    let machine = Machine::new(into_it).with(1, hole(401)).with(2, &raw const VECTORS as u64);
    // Never comes back: not even a fault does, as the vectors are its own.
    probe::run(machine);
    0
}

/// Vectors where nothing is.
fn vbar(_: u64) -> u64 {
    msr!("vbar_el1", View::Executable.of(hole(402) & !0x7ff));
    plain!("isb", "svc #0");
    0
}
