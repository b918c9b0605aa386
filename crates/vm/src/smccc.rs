// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls by HVC and SMC: SMC Calling Convention 1.1 (DEN0028).
//!
//! An id is W0 and is compared whole, so that the hint bits of later versions, other widths and slow
//! calls name nothing. Every answer fills x0 to x3; x4 and up are never touched.

use crate::firmware::WORKAROUNDS;
use crate::guard_calls::guard_call;
use crate::psci::psci_call;
use crate::smccc_ids::{SMCCC_1_1, SMCCC_ARCH_FEATURES, SMCCC_VERSION};
use crate::{Host, Outcome, Vcpu, Vm};
use mmio_guard::abi::{NOT_SUPPORTED, SUCCESS};

impl Vcpu {
    /// The results of a call.
    #[inline(always)]
    pub(crate) fn answer(&mut self, results: [u64; 4]) -> Outcome {
        let [x0, x1, x2, x3, ..] = &mut self.regs.x;
        [*x0, *x1, *x2, *x3] = results;
        Outcome::Resume
    }

    /// A result in x0, zeros in x1 to x3.
    #[inline(always)]
    pub(crate) fn answer0(&mut self, x0: u64) -> Outcome {
        self.answer([x0, 0, 0, 0])
    }

    /// Argument `n`, 1..=6, of a 64-bit call.
    #[inline(always)]
    pub(crate) fn argument(&self, n: u8) -> u64 {
        self.regs.get(n)
    }
}

/// HVC: ELR points behind it already. The frequent calls take the fast path.
#[inline(never)]
pub(crate) fn hvc<H: Host>(imm: u16, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    vm.counters(vcpu).hypercall();
    if imm != 0 {
        return vcpu.answer0(NOT_SUPPORTED);
    }
    let id = vcpu.regs.get(0) as u32;
    // The owner of the call and its width, then its number.
    match id >> 16 {
        0xc600 | 0x8600 => guard_call(id, vcpu, vm),
        0x8400 | 0xc400 => psci_call(id, vcpu, vm),
        0x8000 => architecture_call(id, vcpu, vm),
        _ => vcpu.answer0(NOT_SUPPORTED),
    }
}

/// SMC: answered like HVC, never forwarded; ELR points at it.
#[inline(never)]
pub(crate) fn smc<H: Host>(imm: u16, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    match hvc(imm, vcpu, vm) {
        Outcome::Resume => Outcome::Advance { il: true },
        Outcome::Wait { .. } => Outcome::Wait { advance: true, il: true },
        other => other,
    }
}

/// The Arm architecture's calls.
#[inline(always)]
fn architecture_call<H: Host>(id: u32, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    if id == SMCCC_VERSION {
        return vcpu.answer0(SMCCC_1_1);
    }
    architecture_call_cold(id, vcpu, vm)
}

#[cold]
#[inline(never)]
fn architecture_call_cold<H: Host>(id: u32, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    if id == SMCCC_ARCH_FEATURES {
        let about = vcpu.argument(1) as u32;
        return vcpu.answer0(match about {
            SMCCC_VERSION | SMCCC_ARCH_FEATURES => SUCCESS,
            _ => workaround(about, vm).map_or(NOT_SUPPORTED, |(_, x)| i64::from(x).cast_unsigned()),
        });
    }
    match workaround(id, vm) {
        Some((number, 0)) => {
            vm.host().workaround(number);
            // Called on the guest's exception paths: it may count on all but x0.
            vcpu.regs.set(0, SUCCESS);
            Outcome::Resume
        }
        _ => vcpu.answer0(NOT_SUPPORTED),
    }
}

/// Number (1 to 3) of the workaround with this id, and what is said of it.
fn workaround<H: Host>(id: u32, vm: &Vm<H>) -> Option<(u8, i8)> {
    let answers = (1..).zip(vm.workarounds.answers());
    WORKAROUNDS.iter().zip(answers).find(|(known, _)| **known == id).map(|(_, answer)| answer)
}
