// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trapped system registers. A register without a rule here is UNDEFINED to the guest.

use crate::timer_access::timer_access;
use crate::{Host, Outcome, Vcpu, Vm, gic_access, physical_timer};
use arch::SysRegAccess;
use arch::sysreg::*;
use vgic::Version;

/// CRm and op2 of an ID register: its place in [`Setup::id_registers`](crate::Setup::id_registers).
const ID_INDEX: u16 = 0x3f;
const OSDTRRX_EL1: u16 = sys(2, 0, 0, 0, 2);
const OSDTRTX_EL1: u16 = sys(2, 0, 0, 3, 2);
const OSECCR_EL1: u16 = sys(2, 0, 0, 6, 2);
const DBGDTR_EL0: u16 = sys(2, 3, 0, 4, 0);
const DBGDTRRX_EL0: u16 = sys(2, 3, 0, 5, 0);

/// OSLSR_EL1: OSLM says that there is a lock, OSLK that it is open.
const OS_LOCK_OPEN: u64 = 0b1000;

/// A trapped MSR, MRS or SYS.
#[inline(always)]
pub(crate) fn sysreg_access<H: Host>(access: SysRegAccess, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    if is_id_space(access.reg) && !access.write {
        let value = vm.id_registers.get(usize::from(access.reg & ID_INDEX)).copied().unwrap_or(0);
        vcpu.regs.set(access.rt, value);
        return Outcome::Advance { il: true };
    }
    if access.reg == ICC_SGI1R_EL1 && access.write && vm.gic.version() == Version::V3 {
        gic_access::send_sgi(access.rt, vcpu, vm);
        return Outcome::Advance { il: true };
    }
    sysreg_access_cold(access, vcpu, vm)
}

#[cold]
#[inline(never)]
fn sysreg_access_cold<H: Host>(access: SysRegAccess, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    if physical_timer::owns(access.reg) {
        timer_access(access, vcpu, vm);
        return Outcome::Timer;
    }
    let done = match access.reg {
        ICC_SGI0R_EL1 | ICC_ASGI1R_EL1 if access.write && vm.gic.version() == Version::V3 => {
            let value = vcpu.regs.get(access.rt);
            vm.interrupts(&vcpu.order, Some(vcpu.index), |vgic| vgic.sgi0r(vcpu.index, value));
            true
        }
        ICC_DIR_EL1 if access.write && vm.gic.version() == Version::V3 => {
            // Traps when active interrupts were left out of the list registers.
            let (me, intid) = (vcpu.index, vcpu.regs.get(access.rt) as u32 & 0xff_ffff);
            vm.synced_interrupts(&vcpu.order, me, |vgic| vgic.deactivate(me, intid));
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
            let known = inert_register(reg);
            let allowed = known.is_some_and(|a| if access.write { a.write } else { a.read });
            if allowed && !access.write {
                let value = if reg == OSLSR_EL1 { OS_LOCK_OPEN } else { 0 };
                vcpu.regs.set(access.rt, value);
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

/// Registers that read as zero (OSLSR_EL1: [`OS_LOCK_OPEN`]) and ignore writes.
///
/// ACTLR_EL1: what it controls is the implementation's and EL2's. Set/way maintenance: stepped over, as it
/// would reach other VMs' lines; see docs/vm.md. Self-hosted debug of Armv8.0 where EL2 traps it: nothing to
/// break on. The OS lock always traps: it is the CPU's, not a vCPU's, is open and stays so (DDI 0487 D19.3).
const fn inert_register(reg: u16) -> Option<Allowed> {
    const BREAKPOINTS: u16 = sys(2, 0, 0, 0, 4);
    const NUMBER: u16 = sys(0, 0, 0, 15, 3);
    // DBGBVR, DBGBCR, DBGWVR and DBGWCR: op2 4 to 7, CRm counts them.
    if reg & !NUMBER == BREAKPOINTS {
        return Some(BOTH);
    }
    Some(match reg {
        MDCCINT_EL1 | MDSCR_EL1 | OSDTRRX_EL1 | OSDTRTX_EL1 | OSECCR_EL1 | OSDLR_EL1
        | DBGPRCR_EL1 | DBGCLAIMSET_EL1 | DBGCLAIMCLR_EL1 | DBGDTR_EL0 | DBGDTRRX_EL0 => BOTH,
        ACTLR_EL1 => BOTH,
        DC_ISW | DC_CSW | DC_CISW | OSLAR_EL1 => WRITE,
        MDRAR_EL1 | OSLSR_EL1 | DBGAUTHSTATUS_EL1 | MDCCSR_EL0 => READ,
        _ => return None,
    })
}
