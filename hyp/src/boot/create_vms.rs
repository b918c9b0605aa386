// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes the VMs and assigns their vCPUs to CPUs.

use alloc::vec::Vec;

use platform::{Board, VmConfig};

use crate::guest::instance::{self, VmInstance};
use crate::guest::passthrough;
use crate::guest::vm_error::VmError;
use crate::memory;
use crate::vcpu::context::VcpuContext;

/// Bytes that are wiped or copied at once.
const STEP: u64 = 256 << 10;

/// The CPUs of a VM's `count` vCPUs, for the boot log: one after the other from `first`, modulo `cpus`.
struct Placement {
    first: usize,
    count: usize,
    cpus: usize,
}

impl core::fmt::Display for Placement {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} vCPU{plural} on CPU{plural}", self.count)?;
        for cpu in (0..self.cpus).cycle().skip(self.first).take(self.count) {
            write!(f, " {cpu}")?;
        }
        Ok(())
    }
}

/// Makes every VM, loads it and assigns its vCPUs to CPUs.
///
/// # Errors
/// What a VM lacks. Nothing runs then.
#[inline(never)]
pub fn create_all(board: &Board, configs: Vec<VmConfig>, cpus: usize) -> Result<(), VmError> {
    let mut guests: Vec<&'static VmInstance> = Vec::new();
    let mut cpu = 0;
    for (index, config) in configs.into_iter().enumerate() {
        let heap = memory::heap_used();
        let guest = VmInstance::make(board, index, config)?;
        guest.clear()?;
        while !guest.prepare(STEP)? {}
        passthrough::route(guest, cpu);
        let first = cpu;
        for vcpu in 0..guest.config.vcpus {
            VcpuContext::assign(guest, vcpu, cpu)?;
            cpu = cpu.saturating_add(1);
            if cpu >= cpus {
                cpu = 0;
            }
        }
        let heap = memory::heap_used().saturating_sub(heap);
        guest.announce(heap, &Placement { first, count: guest.config.vcpus, cpus });
        guests.push(guest);
    }
    log::info!("{} MiB of RAM left free", memory::free() >> 20);
    instance::publish(guests);
    Ok(())
}
