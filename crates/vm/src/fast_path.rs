// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fast path: the exits that guests make most, decided from the raw syndrome by code that calls nothing.
//!
//! Every other exit falls back to the slow path, [`on_exit`](crate::on_exit): `access.rs`, `smccc.rs`, `sysreg.rs`. A rule
//! that is added there must be added here, and the other way round. `tests/suite/fast_vs_slow.rs` and `random_sequences.rs` fail where
//! the two differ.

use crate::bus::Device;
use crate::forward::fast_forward;
use crate::outcome::{Deferred, FastPath, GicAccess, GicdStore};
use crate::smccc_ids::{PSCI_1_1, PSCI_CPU_SUSPEND_64, PSCI_VERSION, SMCCC_1_1, SMCCC_VERSION};
use crate::{Abort, Host, Outcome, Reason, Refusal, Vcpu, Vm, gic_access, guard_calls, psci};
use arch::esr::{self, ec};
use arch::{AbortKind, Errata, ExitInfo, Ipa, PAGE_SIZE, Va, Width, pstate, sysreg};
use stage2::Probe;
use vgic::Version;

const OFFSET_SHIFT: u32 = 32;
const OFFSET: u64 = 0xf_ffff;
const REDISTRIBUTOR: u64 = 1 << 20;

/// ESR_EL2 of HVC #0.
const HVC_0: u32 = (esr::class(ec::HVC64) | esr::IL) as u32;
/// A trapped WFI of 32 bits.
const WFI_MASK: u64 = esr::EC | esr::IL | esr::WFX_TI;
const WFI: u64 = esr::class(ec::WFX) | esr::IL;
/// A translation fault of a plain load or store of 32 bits, as all of A64 are: nothing to extend, no walk, no maintenance.
const PLAIN_MASK: u64 = esr::EC
    | esr::IL
    | esr::ISV
    | esr::SSE
    | esr::VNCR
    | esr::LST
    | esr::CM
    | esr::S1PTW
    | esr::FSC_TYPE;
const PLAIN: u64 = esr::class(ec::DATA_ABORT_LOWER) | esr::IL | esr::ISV | esr::FSC_TRANSLATION;
/// From the offset behind this one on, an access might reach into the next page.
const LAST: u64 = PAGE_SIZE - 8;
/// MSR ICC_SGI1R_EL1 but for its general register.
const SGI1R_MASK: u32 = !(esr::SYS_RT as u32);
const SGI1R: u32 =
    (esr::class(ec::SYS64) | esr::IL | esr::iss_of(sysreg::ICC_SGI1R_EL1, false)) as u32;
/// MRS of op0 = 3, op1 = 0, CRn = 0.
const MRS_ID_MASK: u64 = esr::EC | esr::SYS_OP0 | esr::SYS_OP1 | esr::SYS_CRN | esr::SYS_READ;
const MRS_ID: u64 = esr::class(ec::SYS64) | esr::SYS_OP0 | esr::SYS_READ;

/// Handles an exit of `vcpu` if it is one of the frequent ones.
#[inline(always)]
pub fn try_fast_path<H: Host>(
    info: &ExitInfo,
    errata: &Errata,
    vcpu: &mut Vcpu,
    vm: &Vm<H>,
) -> FastPath {
    if info.esr as u32 == HVC_0 {
        return hypercall(vcpu, vm);
    }
    if info.esr & PLAIN_MASK == PLAIN {
        return data_abort(info, errata, vcpu, vm);
    }
    // MRS or MSR, if it is one of them.
    if info.esr & esr::SYS_READ != 0 {
        if info.esr & MRS_ID_MASK == MRS_ID {
            return id_register(info.esr, vcpu, vm);
        }
    } else if info.esr as u32 & SGI1R_MASK == SGI1R && vm.gic.version() == Version::V3 {
        return FastPath::Deferred(Deferred::Sgi(esr::sys_rt(info.esr)));
    } else if info.esr & WFI_MASK == WFI && vcpu.regs.spsr & pstate::M_AARCH32 == 0 {
        return FastPath::Done(Outcome::Wait { advance: true, il: true });
    }
    FastPath::Fallback
}

#[inline(always)]
fn hypercall<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    let id = vcpu.regs.get(0) as u32;
    if id == SMCCC_VERSION {
        vm.counters(vcpu).hypercall();
        return FastPath::Done(vcpu.answer0(SMCCC_1_1));
    }
    if id == PSCI_VERSION {
        vm.counters(vcpu).hypercall();
        return FastPath::Done(vcpu.answer0(PSCI_1_1));
    }
    if u64::from(id) == vm.ids.map {
        return FastPath::Deferred(Deferred::Map);
    }
    if u64::from(id) == vm.ids.unmap {
        return FastPath::Deferred(Deferred::Unmap);
    }
    if id >> 16 == 0xc600 {
        return FastPath::Deferred(Deferred::Call);
    }
    if id == PSCI_CPU_SUSPEND_64 {
        vm.counters(vcpu).hypercall();
        let _ = psci::suspend(vcpu);
        return FastPath::Done(Outcome::Wait { advance: false, il: true });
    }
    FastPath::Fallback
}

#[inline(always)]
fn id_register<H: Host>(esr: u64, vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    let crm = esr::sys_crm(esr) as usize;
    if crm.wrapping_sub(1) >= 7 {
        return FastPath::Fallback;
    }
    let index = (crm << 3) | esr::sys_op2(esr) as usize;
    let Some(value) = vm.id_registers.get(index) else { return FastPath::Fallback };
    vcpu.regs.set(esr::sys_rt(esr), *value);
    FastPath::ADVANCE
}

#[inline(always)]
fn data_abort<H: Host>(info: &ExitInfo, errata: &Errata, vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    let esr = info.esr;
    let offset = info.far & (PAGE_SIZE - 1);
    let width = esr::width(esr);
    if vcpu.regs.spsr & pstate::M_AARCH32 != 0 || offset > LAST {
        return FastPath::Fallback;
    }
    if errata.hpfar_unknown_on_translation && esr::load_may_cross_page(esr, info.far) {
        return FastPath::Done(Outcome::ResolveIpa);
    }
    let ipa = Ipa::new(esr::hpfar_page(info.hpfar).raw() | offset);
    let declared = match vm.stage2.probe(ipa) {
        Probe::Guard => true,
        // Whether it lies in a ROM takes a search.
        Probe::Empty if !vm.memory.is_ram(ipa) && vm.memory.roms().is_empty() => false,
        _ => return FastPath::Fallback,
    };
    if !declared && vm.guard.active() {
        let counters = vm.counters(vcpu);
        counters.mmio();
        counters.refused();
        vcpu.refusal = Refusal {
            pc: vcpu.regs.elr,
            va: Va::new(info.far),
            ipa: Some(ipa),
            reason: Reason::Undeclared,
            kind: AbortKind::Data,
            width: Some(width),
            write: esr & esr::WNR != 0,
        };
        return FastPath::Done(Outcome::Abort(Abort { kind: AbortKind::Data, walk: false }));
    }
    if vm.host().sctlr_el1() & (arch::SCTLR_EE | arch::SCTLR_E0E) != 0 {
        // Perhaps big-endian: the slow path knows.
        return FastPath::Fallback;
    }
    let reg = esr::srt(esr);
    let (device, offset) = match vm.bus.at(ipa) {
        Some((Device::Uart, offset)) => {
            if offset != 0x18 || esr & esr::WNR != 0 || matches!(width, Width::B8) {
                return FastPath::Fallback;
            }
            vm.counters(vcpu).mmio();
            let flags = u64::from(vm.bus.uart.flags(vm.host()));
            vcpu.regs.set(reg, flags & width.mask());
            return FastPath::ADVANCE;
        }
        Some((Device::Distributor, offset)) => {
            if esr & esr::WNR == 0
                && matches!(width, Width::B4)
                && let Some(Some(value)) = vm.gicd_head.get((offset >> 2) as usize)
                && offset & 3 == 0
            {
                vm.counters(vcpu).mmio();
                vcpu.regs.set(reg, u64::from(*value));
                return FastPath::ADVANCE;
            }
            if esr & esr::WNR != 0 && matches!(width, Width::B4) {
                vm.counters(vcpu).mmio();
                return FastPath::Deferred(Deferred::GicdStore(GicdStore {
                    reg: u64::from(reg),
                    offset,
                }));
            }
            (0, offset)
        }
        Some((Device::Redistributor, offset)) => (REDISTRIBUTOR, offset),
        // What the VM's server may answer.
        None if let Some(link) = vm.served => {
            if esr & esr::WNR == 0
                && matches!(width, Width::B4)
                && let Some(value) = link.interrupt_status(ipa)
            {
                vm.counters(vcpu).mmio();
                vcpu.regs.set(reg, value);
                return FastPath::ADVANCE;
            }
            vcpu.refusal.va = Va::new(info.far);
            vcpu.refusal.ipa = Some(ipa);
            return FastPath::Deferred(Deferred::Served(esr as u32));
        }
        _ => return FastPath::Fallback,
    };
    if matches!(width, Width::B8) && esr & esr::SF == 0 {
        return FastPath::Fallback;
    }
    vm.counters(vcpu).mmio();
    FastPath::Deferred(Deferred::Gic(GicAccess(
        esr & 0xffff_ffff | (device | offset) << OFFSET_SHIFT,
    )))
}

/// Does what was deferred. [`Deferred::Sgi`] may become [`Deferred::Sgis`], still to be done; else nothing is deferred
/// again.
#[inline(always)]
pub fn run_deferred<H: Host>(deferred: Deferred, vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    match deferred {
        Deferred::Map => guard_calls::fast_map(vcpu, vm),
        Deferred::Unmap => guard_calls::fast_unmap(vcpu, vm),
        Deferred::Call => vendor_call(vcpu, vm),
        Deferred::Sgi(reg) => send_sgi(reg, vcpu, vm),
        Deferred::Sgis(reg) => send_sgis(reg, vcpu, vm),
        Deferred::GicdStore(store) => gicd_store(store, vcpu, vm),
        Deferred::Gic(access) => gic_access(access, vcpu, vm),
        Deferred::Served(esr) => fast_forward(esr.into(), vcpu, vm),
    }
}

#[inline(always)]
fn vendor_call<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    vm.counters(vcpu).hypercall();
    let id = vcpu.regs.get(0) as u32;
    // No vendor-specific call does anything but answer.
    let _ = guard_calls::guard_call(id, vcpu, vm);
    FastPath::RESUME
}

#[inline(always)]
fn send_sgi<H: Host>(reg: u8, vcpu: &Vcpu, vm: &Vm<H>) -> FastPath {
    if gic_access::try_send_sgi(reg, vcpu, vm) {
        FastPath::ADVANCE
    } else {
        FastPath::Deferred(Deferred::Sgis(reg))
    }
}

#[inline(always)]
fn send_sgis<H: Host>(reg: u8, vcpu: &Vcpu, vm: &Vm<H>) -> FastPath {
    gic_access::send_sgi(reg, vcpu, vm);
    FastPath::ADVANCE
}

#[inline(always)]
fn gicd_store<H: Host>(store: GicdStore, vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    let GicdStore { reg, offset } = store;
    let value = u64::from(vcpu.regs.get(reg as u8) as u32);
    gic_access::gic_write_here(vgic::Frame::Dist, offset, Width::B4, value, vcpu, vm);
    FastPath::ADVANCE
}

#[inline(always)]
fn gic_access<H: Host>(access: GicAccess, vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    let GicAccess(access) = access;
    let esr = access;
    let width = esr::width(esr);
    let reg = esr::srt(esr);
    let at = access >> OFFSET_SHIFT;
    let offset = at & OFFSET;
    let (frame, offset) = if at & REDISTRIBUTOR != 0 {
        gic_access::redistributor(offset)
    } else {
        (vgic::Frame::Dist, offset)
    };
    if esr & esr::WNR != 0 {
        let value = vcpu.regs.get(reg) & width.mask();
        gic_access::gic_write(frame, offset, width, value, vcpu, vm);
    } else {
        let value = gic_access::gic_read(frame, offset, width, vcpu, vm);
        vcpu.regs.set(reg, value & width.mask());
    }
    FastPath::ADVANCE
}
