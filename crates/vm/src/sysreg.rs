// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trapped system registers. What is not in a table here is UNDEFINED to the guest.

use crate::{Host, Outcome, Vcpu, Vm};
use arch::SysRegAccess;
use arch::sysreg::{ICC_ASGI1R_EL1, ICC_SGI0R_EL1, ICC_SGI1R_EL1, ICC_SRE_EL1, sys};
use vgic::Version;

/// op0, op1 and CRn of the ID registers; CRm 0..8 and op2 count them.
const ID_SPACE: u16 = sys(3, 0, 0, 0, 0);
const ID_MASK: u16 = 0x3f;

/// A trapped MSR, MRS or SYS.
#[inline(always)]
pub(crate) fn access<H: Host>(access: SysRegAccess, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    if access.reg & !ID_MASK == ID_SPACE && !access.write {
        let value = vm.id_registers.get(usize::from(access.reg & ID_MASK)).copied().unwrap_or(0);
        vcpu.regs.set(access.rt, value);
        return Outcome::Advance { il: true };
    }
    if access.reg == ICC_SGI1R_EL1 && access.write && vm.gic.version() == Version::V3 {
        let value = vcpu.regs.get(access.rt);
        vm.interrupts(&vcpu.order, Some(vcpu.index), |vgic| vgic.sgi1r(vcpu.index, value));
        return Outcome::Advance { il: true };
    }
    rare(access, vcpu, vm)
}

#[cold]
#[inline(never)]
fn rare<H: Host>(access: SysRegAccess, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let done = match access.reg {
        ICC_SGI0R_EL1 | ICC_ASGI1R_EL1 if access.write && vm.gic.version() == Version::V3 => {
            let value = vcpu.regs.get(access.rt);
            vm.interrupts(&vcpu.order, Some(vcpu.index), |vgic| vgic.sgi0r(vcpu.index, value));
            true
        }
        ICC_SRE_EL1 if vm.gic.version() == Version::V3 => {
            // SRE, DFB and DIB read one; there is no other interface to go back to.
            if !access.write {
                vcpu.regs.set(access.rt, 0b111);
            }
            true
        }
        reg => {
            let known = debug_register(reg);
            let allowed = known.is_some_and(|a| if access.write { a.write } else { a.read });
            if allowed && !access.write {
                vcpu.regs.set(access.rt, 0);
            }
            allowed
        }
    };
    if done { Outcome::Advance { il: true } } else { Outcome::Undefined }
}

/// Which directions a register that reads as zero and ignores writes has.
#[derive(Clone, Copy)]
struct Allowed {
    read: bool,
    write: bool,
}

const BOTH: Allowed = Allowed { read: true, write: true };
const READ: Allowed = Allowed { read: true, write: false };
const WRITE: Allowed = Allowed { read: false, write: true };

/// Self-hosted debug of Armv8.0 where EL2 traps it: nothing to break on, nothing to lock. The OS lock is
/// open and stays so (DDI 0487 D19.3).
const fn debug_register(reg: u16) -> Option<Allowed> {
    const BREAKPOINTS: u16 = sys(2, 0, 0, 0, 4);
    // DBGBVR, DBGBCR, DBGWVR and DBGWCR: op2 4 to 7, CRm counts them.
    if reg & !sys(0, 0, 0, 15, 3) == BREAKPOINTS {
        return Some(BOTH);
    }
    Some(match reg {
        MDCCINT_EL1 | MDSCR_EL1 | OSDTRRX_EL1 | OSDTRTX_EL1 | OSECCR_EL1 | OSDLR_EL1
        | DBGPRCR_EL1 | DBGCLAIMSET_EL1 | DBGCLAIMCLR_EL1 | DBGDTR_EL0 | DBGDTRRX_EL0 => BOTH,
        OSLAR_EL1 => WRITE,
        MDRAR_EL1 | OSLSR_EL1 | DBGAUTHSTATUS_EL1 | MDCCSR_EL0 => READ,
        _ => return None,
    })
}

const OSDTRRX_EL1: u16 = sys(2, 0, 0, 0, 2);
const MDCCINT_EL1: u16 = sys(2, 0, 0, 2, 0);
const MDSCR_EL1: u16 = sys(2, 0, 0, 2, 2);
const OSDTRTX_EL1: u16 = sys(2, 0, 0, 3, 2);
const OSECCR_EL1: u16 = sys(2, 0, 0, 6, 2);
const MDRAR_EL1: u16 = sys(2, 0, 1, 0, 0);
const OSLAR_EL1: u16 = sys(2, 0, 1, 0, 4);
const OSLSR_EL1: u16 = sys(2, 0, 1, 1, 4);
const OSDLR_EL1: u16 = sys(2, 0, 1, 3, 4);
const DBGPRCR_EL1: u16 = sys(2, 0, 1, 4, 4);
const DBGCLAIMSET_EL1: u16 = sys(2, 0, 7, 8, 6);
const DBGCLAIMCLR_EL1: u16 = sys(2, 0, 7, 9, 6);
const DBGAUTHSTATUS_EL1: u16 = sys(2, 0, 7, 14, 6);
const MDCCSR_EL0: u16 = sys(2, 3, 0, 1, 0);
const DBGDTR_EL0: u16 = sys(2, 3, 0, 4, 0);
const DBGDTRRX_EL0: u16 = sys(2, 3, 0, 5, 0);
