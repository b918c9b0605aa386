// SPDX-License-Identifier: MIT OR Apache-2.0
//! Start of the other CPUs, and their first steps.

use core::sync::atomic::{AtomicPtr, Ordering};

use arch::Pa;
use platform::{Board, StartMethod};

use crate::cpu::{self, CPUS, Cpu, MAX_CPUS};

/// Of the CPUs that wait in `secondary_pen`, the one with this structure's MPIDR may leave. CPUs that share a
/// cpu-release-addr all arrive there when the first is released.
pub static PEN: AtomicPtr<Cpu> = AtomicPtr::new(core::ptr::null_mut());

/// Why a CPU was not started.
enum StartError {
    Firmware(smccc::psci::Error),
    NoMethod,
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Firmware(error) => error.fmt(f),
            Self::NoMethod => f.write_str(
                "its enable-method is neither PSCI, with firmware reached by SMC, nor spin-table",
            ),
        }
    }
}

/// Starts every other CPU of the tree. Returns how many CPUs are up, this one included.
#[inline(never)]
pub fn start_all(board: &Board) -> usize {
    unsafe extern "C" {
        fn secondary_entry();
    }
    let me = cpu::current().mpidr.load(Ordering::Relaxed);
    let mut next = 1;
    for description in &board.cpus {
        let mpidr = description.mpidr.raw();
        if mpidr == me {
            continue;
        }
        let Some(area) = CPUS.get(next) else {
            log::warn!("CPU {mpidr:#x} is not used: the image is built for {MAX_CPUS} CPUs");
            continue;
        };
        let cpu = &area.cpu;
        cpu.index.set(next);
        cpu.mpidr.store(mpidr, Ordering::Release);
        // The new CPU reads its structure and the tables with its caches off at first.
        crate::cpu::cache::clean_to_poc((&raw const *cpu) as usize, cpu::CPU_SIZE);
        let entry = secondary_entry as *const () as u64;
        // The call never returns if firmware is not as the tree says. Then this line names the CPU.
        log::debug!("starting CPU {mpidr:#x}");
        let started = match description.start {
            StartMethod::Psci if crate::firmware::present() => {
                crate::firmware::cpu_on(mpidr, entry, (&raw const *cpu) as u64)
                    .map_err(StartError::Firmware)
            }
            StartMethod::SpinTable(release) => {
                release_from_spin_table(release, cpu);
                Ok(())
            }
            _ => Err(StartError::NoMethod),
        };
        match started {
            Ok(()) => {
                if wait_until_online(cpu) {
                    next = next.saturating_add(1);
                } else {
                    log::warn!("CPU {mpidr:#x} does not answer");
                }
            }
            Err(why) => log::warn!("CPU {mpidr:#x} cannot be started: {why}"),
        }
    }
    next
}

/// Releases a CPU from firmware's loop, which polls `release` for an address with its caches off (booting.rst; the binding
/// arm/cpus.yaml).
fn release_from_spin_table(release: Pa, cpu: &'static Cpu) {
    unsafe extern "C" {
        fn secondary_pen();
    }
    let clean = |start: usize| crate::cpu::cache::clean_invalidate_to_poc(start, size_of::<u64>());
    PEN.store(core::ptr::from_ref(cpu).cast_mut(), Ordering::Release);
    clean((&raw const PEN) as usize);
    let release = release.raw() as usize;
    // SAFETY: by the tree this address, aligned to 8, is there to be written. `device_tree::map` mapped its page, and
    // nothing else in the image uses it.
    unsafe { (release as *mut u64).write_volatile(secondary_pen as *const () as u64) };
    clean(release);
    crate::cpu::barrier::sev();
}

/// Gives a started CPU two seconds.
fn wait_until_online(cpu: &Cpu) -> bool {
    let deadline =
        crate::cpu::timer::now().saturating_add(crate::cpu::timer::frequency().saturating_mul(2));
    while !cpu.online.load(Ordering::Acquire) {
        if crate::cpu::timer::now() > deadline {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// A CPU that has been started, on EL2's tables, on its own stack.
pub extern "C" fn secondary_main(cpu: &'static Cpu) -> ! {
    crate::memory::mmu::forbid_writable_code();
    crate::firmware::init_cpu();
    crate::exception::guest_exit::init_cpu();
    let index = cpu.index.get();
    if let Some(gic) = crate::gic::get()
        && let Err(why) = gic.init_cpu(index)
    {
        log::error!("CPU {index}: {why}; it is not used");
        crate::cpu::barrier::park();
    }
    crate::cpu::timer::init_cpu();
    crate::vcpu::interrupts::init_cpu(index);
    cpu.online.store(true, Ordering::Release);
    crate::vcpu::scheduler::first_entry()
}
