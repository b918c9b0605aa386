// SPDX-License-Identifier: MIT OR Apache-2.0
//! Power: PSCI 1.1 (DEN0022).

use crate::lifecycle::Power;
use crate::smccc_ids::*;
use crate::trng::trng_call;
use crate::{Host, Outcome, StopReason, Vcpu, Vm};
use arch::{Ipa, VcpuSet};
use mmio_guard::abi::{NOT_SUPPORTED, SUCCESS};

/// There is no trusted OS.
const TRUSTED_OS_ABSENT: u64 = 2;
/// SYSTEM_RESET2's only architected type.
const SYSTEM_WARM_RESET: u32 = 0;

#[inline(always)]
pub(crate) fn psci_call<H: Host>(id: u32, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    if id == PSCI_VERSION {
        return vcpu.answer0(PSCI_1_1);
    }
    psci_call_cold(id, vcpu, vm)
}

#[inline(never)]
fn psci_call_cold<H: Host>(id: u32, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    match id {
        PSCI_CPU_SUSPEND_32 | PSCI_CPU_SUSPEND_64 => suspend(vcpu),
        PSCI_CPU_OFF => match vm.lifecycle().turn_off(&vcpu.order, vcpu.index) {
            None => Outcome::Off,
            Some(reason) => stop(reason, vcpu, vm),
        },
        PSCI_CPU_ON_32 => {
            let [target, entry, context] = [1, 2, 3].map(|n| u64::from(vcpu.argument(n) as u32));
            turn_on(target, entry, context, vcpu, vm)
        }
        PSCI_CPU_ON_64 => {
            let [target, entry, context] = [1, 2, 3].map(|n| vcpu.argument(n));
            turn_on(target, entry, context, vcpu, vm)
        }
        PSCI_AFFINITY_INFO_32 => {
            let [target, level] = [1, 2].map(|n| u64::from(vcpu.argument(n) as u32));
            affinity_info(target, level, vcpu, vm)
        }
        PSCI_AFFINITY_INFO_64 => {
            let (target, level) = (vcpu.argument(1), vcpu.argument(2));
            affinity_info(target, level, vcpu, vm)
        }
        PSCI_MIGRATE_INFO_TYPE => vcpu.answer0(TRUSTED_OS_ABSENT),
        PSCI_SYSTEM_OFF => stop(StopReason::PowerOff, vcpu, vm),
        PSCI_SYSTEM_RESET => stop(StopReason::Reset, vcpu, vm),
        PSCI_SYSTEM_RESET2_32 | PSCI_SYSTEM_RESET2_64 => {
            if vcpu.argument(1) as u32 == SYSTEM_WARM_RESET {
                stop(StopReason::Reset, vcpu, vm)
            } else {
                vcpu.answer0(INVALID_PARAMETERS)
            }
        }
        PSCI_FEATURES => {
            let known = is_known(vcpu.argument(1) as u32);
            vcpu.answer0(if known { SUCCESS } else { NOT_SUPPORTED })
        }
        TRNG_VERSION | TRNG_FEATURES | TRNG_GET_UUID | TRNG_RND32 | TRNG_RND64 => {
            trng_call(id, vcpu, vm)
        }
        _ => vcpu.answer0(NOT_SUPPORTED),
    }
}

/// CPU_SUSPEND: every state is served as standby, which the interface permits: the call returns here.
#[inline(always)]
pub(crate) fn suspend(vcpu: &mut Vcpu) -> Outcome {
    vcpu.answer0(SUCCESS);
    Outcome::Wait { advance: false, il: true }
}

/// Calls that PSCI_FEATURES answers with 0: no flag applies to any of them.
const fn is_known(id: u32) -> bool {
    matches!(
        id,
        PSCI_VERSION
            | PSCI_CPU_SUSPEND_32
            | PSCI_CPU_SUSPEND_64
            | PSCI_CPU_OFF
            | PSCI_CPU_ON_32
            | PSCI_CPU_ON_64
            | PSCI_AFFINITY_INFO_32
            | PSCI_AFFINITY_INFO_64
            | PSCI_MIGRATE_INFO_TYPE
            | PSCI_SYSTEM_OFF
            | PSCI_SYSTEM_RESET
            | PSCI_FEATURES
            | PSCI_SYSTEM_RESET2_32
            | PSCI_SYSTEM_RESET2_64
            | SMCCC_VERSION
    )
}

/// The vCPU with this MPIDR: its affinity, and zeros where MPIDR_EL1 has other fields.
fn target<H: Host>(mpidr: u64, vm: &Vm<H>) -> Option<usize> {
    (0..vm.vcpus()).find(|index| Vm::<H>::mpidr(*index).raw() == mpidr)
}

fn turn_on<H: Host>(mpidr: u64, entry: u64, context: u64, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let Some(index) = target(mpidr, vm) else { return vcpu.answer0(INVALID_PARAMETERS) };
    // Bit 0 would ask for AArch32, which EL1 here lacks.
    if entry & 3 != 0 || !vm.memory().is_memory(Ipa::new(entry)) {
        return vcpu.answer0(INVALID_ADDRESS);
    }
    match vm.lifecycle().turn_on(&vcpu.order, index, entry, context) {
        Ok(()) => {
            vm.host().power_changed(VcpuSet::single(index));
            vcpu.answer0(SUCCESS)
        }
        Err(Power::OnPending) => vcpu.answer0(ON_PENDING),
        Err(_) => vcpu.answer0(ALREADY_ON),
    }
}

fn affinity_info<H: Host>(mpidr: u64, level: u64, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    // Levels above 0 need not be served since PSCI 1.0.
    let power = if level == 0 { target(mpidr, vm) } else { None }
        .and_then(|index| vm.lifecycle().power(&vcpu.order, index));
    match power {
        Some(power) => vcpu.answer0(power as u64),
        None => vcpu.answer0(INVALID_PARAMETERS),
    }
}

/// Stops the VM. The first reason counts; the calling vCPU does not run on either way.
fn stop<H: Host>(reason: StopReason, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let reason = vm.stop(&vcpu.order, reason, Some(vcpu)).map_or(reason, |stop| stop.reason);
    Outcome::Stop(reason)
}
