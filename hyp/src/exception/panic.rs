// SPDX-License-Identifier: MIT OR Apache-2.0
//! A panic of EL2: the other CPUs stop, one reason is logged with a backtrace, and the machine turns off.

use core::arch::asm;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{ELR_EL2, ESR_EL2, FAR_EL2, Readable, Writeable};
use arch::esr::{self, ec};

use crate::console::ring;
use crate::cpu::barrier;
use crate::{cpu, gic, layout};

static PANICKING: AtomicBool = AtomicBool::new(false);

/// What the vectors save of a fault of EL2 itself.
#[repr(C)]
pub struct FaultFrame {
    x: [u64; 31],
    sp: u64,
    kind: u64,
}

const KINDS: [&str; 8] = [
    "synchronous exception on SP_EL0",
    "IRQ on SP_EL0",
    "FIQ on SP_EL0",
    "SError on SP_EL0",
    "synchronous exception",
    "IRQ",
    "FIQ",
    "SError",
];

/// Handles exceptions taken from EL2. Returns only from faults that EL2 expects.
pub extern "C" fn el2_fault(frame: &FaultFrame) {
    let (esr, far, elr) = (ESR_EL2.get(), FAR_EL2.get(), ELR_EL2.get());
    if frame.kind == 4
        && (crate::cpu::address_translation::is_probe(elr)
            || crate::cpu::feature_probe::is_expected(elr))
    {
        cpu::current().fault_seen.set(true);
        ELR_EL2.set(elr.wrapping_add(4));
        return;
    }
    if frame.kind == 7 && crate::vcpu::serror::is_expected_at(elr) {
        return;
    }
    report(frame, esr, far, elr)
}

fn report(frame: &FaultFrame, esr: u64, far: u64, elr: u64) -> ! {
    begin();
    let mut out = ring::Raw;
    let kind = KINDS.get(frame.kind as usize).copied().unwrap_or("exception");
    let cpu = cpu::current();
    let _ = writeln!(
        out,
        "[hyp] panic on CPU {}: {kind} at EL2: {} (ESR {esr:#010x}) FAR {far:#x} ELR {elr:#x}",
        cpu.index.get(),
        class(esr),
    );
    let guard = cpu::CPUS.iter().position(|a| a.guard_page().contains(&(far as usize)));
    if let Some(n) = guard {
        let _ = writeln!(out, "[hyp]   the stack of CPU {n} overflowed into its guard page");
    }
    for (i, row) in frame.x.chunks(4).enumerate() {
        let _ = write!(out, "[hyp]  ");
        for (j, x) in row.iter().enumerate() {
            let _ = write!(out, " x{:<2} {x:016x}", i.saturating_mul(4).saturating_add(j));
        }
        let _ = writeln!(out);
    }
    let _ = writeln!(out, "[hyp]   sp  {:016x}", frame.sp);
    backtrace(&mut out, elr, frame.x.get(29).copied().unwrap_or(0));
    end()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    begin();
    let mut out = ring::Raw;
    let _ = write!(out, "[hyp] panic on CPU {}: {}", cpu::current().index.get(), info.message());
    if let Some(place) = info.location() {
        let _ = write!(out, " ({}:{})", place.file(), place.line());
    }
    let _ = writeln!(out);
    let (pc, fp): (u64, u64);
    // SAFETY: reads the program counter and the frame pointer.
    unsafe { asm!("adr {}, .", "mov {}, x29", out(reg) pc, out(reg) fp, options(nomem, nostack)) };
    backtrace(&mut out, pc, fp);
    end()
}

/// Stops the other CPUs. A second panic, here or elsewhere, logs nothing.
fn begin() {
    if PANICKING.swap(true, Ordering::AcqRel) {
        barrier::park();
    }
    let me = cpu::current().index.get();
    if let Some(gic) = gic::get() {
        for (n, _) in cpu::online().filter(|(n, _)| *n != me) {
            gic.send_sgi(n, gic::SGI_PANIC);
        }
    }
    // Gives them time to release locks. From here on the console is written without its lock.
    for _ in 0..100_000 {
        core::hint::spin_loop();
    }
    ring::take_over();
}

fn end() -> ! {
    let _ = writeln!(ring::Raw, "[hyp] stopped: EL2 panicked");
    crate::firmware::power_off();
    barrier::park()
}

/// Walks the frame records (AAPCS64 6.4.6) and prints offsets into the image, for `cargo xtask symbolize`.
fn backtrace(out: &mut impl Write, pc: u64, mut fp: u64) {
    let image = layout::image();
    let text = layout::text();
    let _ = writeln!(out, "[hyp] backtrace (image at {:#x}):", image.start);
    let mut line = |pc: u64| {
        if text.contains(&(pc as usize)) {
            let _ =
                writeln!(out, "[hyp]   at image+{:#x}", (pc as usize).wrapping_sub(image.start));
            true
        } else {
            false
        }
    };
    line(pc);
    for _ in 0..32 {
        // A frame record lies in this image's data (the stacks), aligned; anything else ends the walk.
        if !layout::data().contains(&(fp as usize)) || !fp.is_multiple_of(16) {
            break;
        }
        // SAFETY: inside the image's mapped data and aligned, as just checked.
        let [next, lr] = unsafe { (fp as *const [u64; 2]).read_volatile() };
        if lr == 0 || !line(lr.wrapping_sub(4)) || next <= fp {
            break;
        }
        fp = next;
    }
}

/// Name of an exception class (DDI 0487 D17.2.37).
fn class(esr: u64) -> &'static str {
    match esr::ec_of(esr) {
        ec::UNKNOWN => "unknown reason",
        ec::FP_SIMD => "FP/SIMD trapped",
        ec::ILLEGAL_STATE => "illegal execution state",
        ec::HVC64 => "HVC",
        ec::SMC64 => "SMC",
        ec::SYS64 => "trapped system register",
        ec::SVE => "SVE trapped",
        ec::INSTRUCTION_ABORT_SAME => "instruction abort",
        ec::PC_ALIGNMENT => "PC alignment fault",
        ec::DATA_ABORT_SAME => "data abort",
        ec::SP_ALIGNMENT => "SP alignment fault",
        ec::SERROR => "SError",
        ec::BRK64 => "BRK",
        _ => "exception",
    }
}
