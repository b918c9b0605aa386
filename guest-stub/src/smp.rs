// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other vCPUs: started by PSCI, given work, waited for, switched off.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::cpu::{self, Cpu};
use crate::machine::{self, Machine, pstate};
use crate::verdict::{Verdict, failed};
use crate::{boot, exception, psci, time, tree};

/// [`Cpu::state`]: not started, or off again.
const OFF: u32 = 0;
/// Waits for a job.
const IDLE: u32 = 1;
/// Has one.
const BUSY: u32 = 2;
/// Shall switch itself off.
const LEAVE: u32 = 3;

/// Work for another vCPU.
pub type Job = fn(u64) -> u64;

/// Skips the test unless the VM has so many vCPUs.
pub fn need_vcpus(count: usize) -> Verdict {
    need!(tree::get().vcpus >= count, "needs more vCPUs");
    Ok(())
}

/// Starts vCPU `index` and waits until it is there.
pub fn start(index: usize) -> Verdict {
    let cpu = cpu::of(index);
    if cpu.state.load(Acquire) == IDLE {
        return Ok(());
    }
    let answer = power_on(index);
    // It may be on its way already.
    let (on, pending) = (psci::result::ALREADY_ON, psci::result::ON_PENDING);
    if ![psci::result::SUCCESS, on, pending].contains(&answer) {
        return Err(failed(format_args!("CPU_ON of vCPU {index}: {answer}")));
    }
    check!(
        time::wait_until(20_000, || cpu.state.load(Acquire) == IDLE),
        "vCPU {index} did not come up"
    );
    Ok(())
}

/// CPU_ON with the stub's own entry.
pub fn power_on(index: usize) -> i64 {
    let cpu = cpu::of(index);
    let entry = boot::secondary_entry as *const () as usize as u64;
    psci::call(psci::id::CPU_ON, [cpu.mpidr, entry, cpu as *const Cpu as u64])
}

/// Gives vCPU `index` something to do.
pub fn give(index: usize, job: Job, argument: u64) -> Verdict {
    start(index)?;
    let cpu = cpu::of(index);
    cpu.argument.store(argument, Relaxed);
    cpu.job.store(job as *mut (), Relaxed);
    cpu.state.store(BUSY, Release);
    plain!("dsb ish", "sev");
    Ok(())
}

/// Waits until vCPU `index` has finished; its result.
pub fn finish(index: usize, milliseconds: u64) -> Result<u64, crate::verdict::Why> {
    let cpu = cpu::of(index);
    check!(
        time::wait_until(milliseconds, || cpu.state.load(Acquire) != BUSY),
        "vCPU {index} has not finished"
    );
    Ok(cpu.result.load(Relaxed))
}

/// Whether vCPU `index` still works.
pub fn busy(index: usize) -> bool {
    cpu::of(index).state.load(Acquire) == BUSY
}

/// Switches vCPU `index` off and waits until PSCI says so.
pub fn stop(index: usize) -> Verdict {
    let cpu = cpu::of(index);
    if cpu.state.compare_exchange(IDLE, LEAVE, Acquire, Relaxed).is_err() {
        return Ok(());
    }
    plain!("dsb ish", "sev");
    check!(
        time::wait_until(20_000, || {
            psci::call(psci::id::AFFINITY_INFO, [cpu.mpidr, 0, 0]) == 1
        }),
        "vCPU {index} did not go off"
    );
    Ok(())
}

/// Tells vCPU `index` to switch itself off, and does not wait.
pub fn leave(index: usize) {
    cpu::of(index).state.store(LEAVE, Release);
    plain!("dsb ish", "sev");
}

/// Whether vCPU `index` waits for work.
pub fn idle(index: usize) -> bool {
    cpu::of(index).state.load(Acquire) == IDLE
}

/// What a vCPU that PSCI started does: jobs, until it shall leave.
#[unsafe(no_mangle)]
extern "C" fn secondary_main(cpu: &'static Cpu) -> ! {
    crate::mmu::enable();
    // SAFETY: this vCPU's own record; an earlier boot may have left a run in it.
    unsafe { (*cpu::own()).run = core::ptr::null_mut() };
    // SAFETY: as above.
    unsafe { (*cpu::own()).frame_top = cpu::frame_base(cpu.index) };
    cpu.state.store(IDLE, Release);
    loop {
        match cpu.state.load(Acquire) {
            BUSY => {
                let result = work(cpu);
                exception::restore();
                cpu.result.store(result, Relaxed);
                cpu.state.store(IDLE, Release);
            }
            LEAVE => {
                cpu.state.store(OFF, Release);
                psci::call(psci::id::CPU_OFF, [0; 3]);
            }
            // Under QEMU this lets another CPU go first where one thread runs them all.
            _ => plain!("yield"),
        }
    }
}

/// Result of a job that an exception ended: this, and the syndrome below.
pub const DIED: u64 = 0xdead << 48;

/// Runs the job in a machine, as the harness runs tests.
fn work(cpu: &'static Cpu) -> u64 {
    extern "C" fn call(cpu: &'static Cpu, result: &mut u64) {
        let job = cpu.job.load(Relaxed);
        // SAFETY: `give` stored a `Job` there.
        let job = unsafe { core::mem::transmute::<*mut (), Job>(job) };
        *result = job(cpu.argument.load(Relaxed));
    }
    snippet!(trampoline, "mov x29, xzr", "blr x2");

    let mut result = 0;
    let mut machine = Machine::new(trampoline)
        .with(0, cpu as *const Cpu as u64)
        .with(1, &raw mut result as u64)
        .with(2, call as *const () as usize as u64)
        .at(pstate::EL1H);
    // The upper part of the stack holds this function's frame and its callers'.
    machine.sp = cpu.stack - (cpu::STACK_SIZE / 2) as u64;
    let exit = machine::run(&mut machine);
    if exit.done() {
        return result;
    }
    say!(
        "stub: vCPU {}: exception ended the job: vector {:#x} ESR {:#x} FAR {:#x} ELR {:#x}",
        cpu.index,
        exit.vector,
        exit.esr,
        exit.far,
        exit.elr
    );
    DIED | exit.esr
}
