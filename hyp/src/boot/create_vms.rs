// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes the VMs and assigns their vCPUs to CPUs.

use alloc::vec::Vec;

use platform::{Board, CpuShare, Schedule, VmConfig};

use crate::boot::boot_error;
use crate::boot::worst_wake::Places;
use crate::cpu::{self, CPUS};
use crate::guest::host;
use crate::guest::instance::{self, VmInstance};
use crate::guest::links::Links;
use crate::guest::passthrough;
use crate::guest::vm_error::VmError;
use crate::memory;
use crate::vcpu::context::VcpuContext;

/// Makes every VM, assigns its vCPUs to CPUs and asks for its start: the CPU of its first vCPU fills its memory, once the CPUs
/// schedule, so that no VM waits for the memory of another.
///
/// # Errors
/// What a VM lacks. Nothing runs then.
#[inline(never)]
pub fn create_all(board: &Board, mut configs: Vec<VmConfig>, cpus: usize) -> Result<(), VmError> {
    if configs.iter().flat_map(|config| &config.share.cpus).any(|cpu| *cpu >= cpus) {
        platform::assign_cpus(&mut configs, cpus)
            .unwrap_or_else(|e| boot_error::halt_with(format_args!("{e}")));
    }
    let mut guests: Vec<&'static VmInstance> = Vec::new();
    let names: Vec<&str> = configs.iter().map(|config| config.name.as_str()).collect();
    let schedule = Schedule::parse(&board.bootargs, &names)
        .unwrap_or_else(|e| boot_error::halt_with(format_args!("{e}")));
    warn_of_unbounded(&configs, schedule.as_ref());
    let places = Places::new(&configs, schedule.as_ref());
    let links = Links::make(&configs)?;
    let mut heaps: Vec<usize> = Vec::new();
    for (index, config) in configs.into_iter().enumerate() {
        let heap = memory::heap_used();
        let guest = VmInstance::make(board, index, config, &links)?;
        host::publish(&guest.vm);
        passthrough::route(guest, guest.config.share.cpus.first().copied().unwrap_or(0));
        for (vcpu, cpu) in guest.config.share.cpus.iter().enumerate() {
            let window = schedule.as_ref().and_then(|schedule| schedule.number(index));
            VcpuContext::assign(guest, vcpu, *cpu, window)?;
        }
        heaps.push(memory::heap_used().saturating_sub(heap));
        guests.push(guest);
    }
    // A VM that is served is prepared with its server there, and the other way round.
    for (index, (guest, heap)) in guests.iter().zip(heaps).enumerate() {
        guest.announce(&places.wakes(index), heap);
        guest.vm.lifecycle().ask_first_start(&cpu::current().order);
    }
    drop(places);
    if let Some(schedule) = &schedule {
        for area in CPUS.iter().take(cpus) {
            area.cpu.queue.set_windows(schedule);
        }
    }
    announce_servers(&guests);
    log::info!("{} MiB of RAM left free", memory::free() >> 20);
    instance::publish(guests);
    Ok(())
}

/// Warns of a VM that may keep another from a CPU for ever.
#[inline(never)]
fn warn_of_unbounded(configs: &[VmConfig], schedule: Option<&Schedule>) {
    let windowed = |vm| schedule.is_some_and(|schedule| schedule.number(vm).is_some());
    let shares = configs.iter().map(|config| &config.share).enumerate();
    let shares: Vec<(usize, &CpuShare)> = shares.filter(|(vm, _)| !windowed(*vm)).collect();
    if let Some((cpu, above, below)) = platform::unbounded(&shares) {
        let name = |index: usize| configs.get(index).map_or("", |config| config.name.as_str());
        log::warn!(
            "{} has a higher priority than {} on CPU {cpu} and no vm.budget: it may keep the CPU for ever",
            name(above),
            name(below)
        );
    }
}

/// Logs who serves whom, and what that party can see.
#[inline(never)]
fn announce_servers(guests: &[&VmInstance]) {
    for guest in guests {
        let Some(served) = &guest.config.served else { continue };
        let server = guests.get(served.server).map_or("", |server| server.config.name.as_str());
        log::info!("{}: {}", guest.config.name, served.described(server));
    }
}
