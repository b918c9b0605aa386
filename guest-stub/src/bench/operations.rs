// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one vCPU asks of a hypervisor.

use mmio_guard::{Call, abi};

use super::clock::{BATCHES, LENGTH, LOOP, batches, each, figure};
use super::results::note;
use super::vectors;
use crate::tree::Gic;
use crate::{gic, guard, psci, tree};

timed!(nops_0, "");
timed!(nops_100, ".rept 100", "nop", ".endr");
timed!(nops_1000, ".rept 1000", "nop", ".endr");
timed!(call, "mov x0, x9", "hvc #0");
timed!(call_1, "mov x0, x9", "mov x1, x10", "hvc #0");
timed!(pub call_pages, "mov x0, x9", "mov x1, x10", "hvc #0", "add x10, x10, #1, lsl #12");
timed!(
    call_range,
    "mov x0, x9",
    "mov x1, x10",
    "mov x2, x11",
    "mov x3, xzr",
    "hvc #0",
    "add x10, x10, x11, lsl #12"
);
timed!(pub load, "ldr w0, [x9]");
timed!(store, "str w10, [x9]");
timed!(id_register, "mrs x0, id_aa64isar0_el1");
timed!(call_smc, "mov x0, x9", "smc #0");
timed!(physical_timer, "mrs x0, cntp_ctl_el0");
timed!(
    two_sgis,
    "msr daifset, #2",
    "msr S3_0_C12_C11_5, x9",
    "msr S3_0_C12_C11_5, x10",
    "msr daifclr, #2",
    "isb"
);
timed!(pend_spi, "str w10, [x9]", "isb");
timed!(self_sgi, "msr S3_0_C12_C11_5, x9", "isb");

/// Where nothing is: above 4 GiB, mapped by identity as a device.
pub const VOID: u64 = 0x20_0000_0000;
const GIB: u64 = 1 << 30;
const PAGE: u64 = 4096;

/// Loops of a known length prove the clock.
fn calibrate() {
    for (length, nops) in
        [(0, nops_0 as fn(u64, [u64; 3]) -> (u64, u64)), (100, nops_100), (1000, nops_1000)]
    {
        note(
            format_args!("loop of {length} nops"),
            batches(LENGTH, LOOP, |_| nops(LENGTH, [0; 3]).0),
        );
    }
}

/// A call without further arguments: MOV and HVC included.
fn plain_call(name: &str, id: u64) {
    note(format_args!("{name}"), batches(LENGTH, LOOP, |_| call(LENGTH, [id, 0, 0]).0));
}

/// Everything that a floor has.
pub fn floor() {
    calibrate();
    plain_call("call", psci::id::VERSION);
    interrupts();
}

/// Everything.
pub fn all() {
    calibrate();
    plain_call("SMCCC_VERSION", psci::id::SMCCC_VERSION);
    plain_call("PSCI_VERSION", psci::id::VERSION);
    calls();
    accesses();
    note(
        format_args!("ID register read"),
        batches(LENGTH, LOOP, |_| id_register(LENGTH, [0; 3]).0),
    );
    pages();
    ranges();
    refusals();
    interrupts();
}

/// Calls that need not come by HVC, or that firmware answers where it is there.
fn calls() {
    let smc = [psci::id::SMCCC_VERSION, 0, 0];
    note(format_args!("SMCCC_VERSION by SMC"), batches(LENGTH, LOOP, |_| call_smc(LENGTH, smc).0));
    for (name, id) in [
        ("SMCCC_ARCH_WORKAROUND_1", 0x8000_8000),
        ("SMCCC_ARCH_WORKAROUND_2", 0x8000_7fff),
        ("SMCCC_ARCH_WORKAROUND_3", 0x8000_3fff),
    ] {
        plain_call(name, id);
    }
}

fn accesses() {
    let Gic::V3(distributor, frames, _) = tree::get().gic else { return };
    for (name, at) in [
        ("GICD_TYPER read", distributor + 4),
        ("PL011 flag register read", tree::get().uart + 0x18),
        ("GICR_TYPER read", frames + 8),
        ("GICD_ISENABLER read", distributor + 0x104),
        ("GICD_ISPENDR read", distributor + 0x204),
        ("PL011 IMSC read", tree::get().uart + 0x38),
    ] {
        note(format_args!("{name}"), batches(LENGTH, LOOP, |_| load(LENGTH, [at, 0, 0]).0));
    }
    let enable = [distributor + 0x104, 2, 0];
    note(format_args!("GICD_ISENABLER write"), batches(LENGTH, LOOP, |_| store(LENGTH, enable).0));
    let masks = [tree::get().uart + 0x38, 0, 0];
    note(format_args!("PL011 IMSC write"), batches(LENGTH, LOOP, |_| store(LENGTH, masks).0));
    let timer = batches(LENGTH, LOOP, |_| physical_timer(LENGTH, [0; 3]).0);
    note(format_args!("physical timer access"), timer);
}

/// MAP and UNMAP of single pages; the ADD to the next page is not counted.
fn pages() {
    let (map, unmap) = (guard::id(Call::Map), guard::id(Call::Unmap));
    let at = |batch: u64| VOID + batch % 4 * LENGTH * PAGE;
    // The table is there.
    guard::map(VOID + 511 * PAGE);
    note(
        format_args!("MAP"),
        batches(LENGTH, LOOP + 1, |batch| {
            let took = call_pages(LENGTH, [map, at(batch), 0]).0;
            call_pages(LENGTH, [unmap, at(batch), 0]);
            took
        }),
    );
    note(
        format_args!("UNMAP"),
        batches(LENGTH, LOOP + 1, |batch| {
            call_pages(LENGTH, [map, at(batch), 0]);
            call_pages(LENGTH, [unmap, at(batch), 0]).0
        }),
    );
    guard::map(VOID);
    note(format_args!("MAP again"), batches(LENGTH, LOOP, |_| call_1(LENGTH, [map, VOID, 0]).0));
    guard::unmap(VOID);
    guard::unmap(VOID + 511 * PAGE);
}

/// Ranges, eight in a batch, one after the other.
fn ranges() {
    const COUNT: u64 = 8;
    let (map, unmap) = (u64::from(abi::pkvm::RANGE_MAP), u64::from(abi::pkvm::RANGE_UNMAP));
    for (name, start, granules) in [
        ("RGUARD_MAP of 512 pages", VOID + PAGE, 512),
        ("RGUARD_MAP of 1 GiB", VOID + 64 * GIB, GIB / PAGE),
    ] {
        let figure = batches(COUNT, LOOP + 1, |_| {
            let took = call_range(COUNT, [map, start, granules]).0;
            call_range(COUNT, [unmap, start, granules]);
            took
        });
        note(format_args!("{name}"), figure);
    }
}

/// From the load to the first instruction of the guest's handler, whose own are not counted.
fn refusals() {
    let refuse = |name: &str, at: u64| {
        vectors::with(|| {
            // EL2's limit on its log is reached.
            load(LENGTH, [at, 0, 0]);
            let own = LOOP + vectors::SKIP;
            note(format_args!("{name}"), batches(LENGTH, own, |_| load(LENGTH, [at, 0, 0]).0));
        });
    };
    refuse("refusal", VOID + GIB + 8);
    refuse("refusal of a page's first byte", VOID + GIB);
}

/// Own SGI and own timer.
fn interrupts() {
    gic::init();
    gic::init_cpu();
    let target = gic::to_own() | 1 << 24;
    let sgi = vectors::with(|| {
        gic::unmask();
        let figure = batches(LENGTH, LOOP + 1, |_| {
            let (took, taken) = self_sgi(LENGTH, [target, 0, 0]);
            if taken != LENGTH {
                say!("FAIL bench: {taken} of {LENGTH} SGIs came");
            }
            took
        });
        gic::mask();
        figure
    });
    note(format_args!("self-SGI and back"), sgi);
    if let Gic::V3(distributor, ..) = tree::get().gic {
        several_at_once(target, distributor);
    }
    timer();
}

/// Two SGIs that wait together, and an SPI that software makes pending.
fn several_at_once(target: u64, distributor: u64) {
    const SPI: u32 = 40;
    let handled = |each: u64, took: (u64, u64)| {
        if took.1 != each * LENGTH {
            say!("FAIL bench: {} of {} interrupts came", took.1, each * LENGTH);
        }
        took.0
    };
    let both = [target, target ^ 3 << 24, 0];
    gic::give_edge_spi(SPI, 0);
    let pend = [distributor + 0x204, 1 << (SPI - 32), 0];
    let (two, spi) = vectors::with(|| {
        let two = batches(LENGTH, LOOP + 3, |_| handled(2, two_sgis(LENGTH, both)));
        gic::unmask();
        let spi = batches(LENGTH, LOOP + 1, |_| handled(1, pend_spi(LENGTH, pend)));
        gic::mask();
        (two, spi)
    });
    note(format_args!("two SGIs at once"), two);
    note(format_args!("SPI by ISPENDR, and back"), spi);
}

timed!(
    /// Waits in a loop for an interrupt; x14 is when it came.
    wait_for_it,
    "cbz x16, 2b",
    "mov x16, x14",
);

/// From the deadline to the first instruction of the handler.
fn timer() {
    let mut samples = [0; BATCHES];
    for sample in &mut samples {
        let due = vectors::with(|| {
            let due = crate::time::now() + 64;
            msr!("cntv_cval_el0", due);
            msr!("cntv_ctl_el0", 1);
            gic::unmask();
            let (_, came) = wait_for_it(1, [0; 3]);
            gic::mask();
            came.wrapping_sub(due)
        });
        *sample = each(due, 1, 0);
    }
    note(format_args!("virtual timer to handler"), figure(&mut samples));
}
