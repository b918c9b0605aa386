// SPDX-License-Identifier: MIT OR Apache-2.0
//! Aborts: the table of accesses of docs/trap-path.md, in its order.

use crate::bus::Stored;
use crate::device_access::{read_device, write_device};
use crate::forward::forward;
use crate::{Abort, Host, Outcome, Reason, Refusal, Vcpu, Vm};
use arch::{AbortKind, Access, DataAbort, FaultKind, InstructionAbort, Ipa, PAGE_SIZE, Va, Width};
use stage2::{Attr, Entry};

/// What stage 2 says about a data access that is not part of a stage-1 walk.
#[derive(Clone, Copy)]
enum Page {
    /// Memory, or a device's page that is reached without a trap, or soon one of them: try again.
    Retry,
    Declared,
    Undeclared,
    /// Read-only memory, and this is no load.
    ReadOnly,
    /// Memory that the VM no longer has.
    GivenAway,
}

/// A data abort.
#[inline(always)]
pub(crate) fn data<H: Host>(abort: &DataAbort, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    if abort.s1ptw || !is_stage2_fault(abort.fault.kind) {
        return data_abort_cold(abort, vcpu, vm);
    }
    let Some(ipa) = abort.ipa else { return Outcome::ResolveIpa };
    let declared = match page(abort, ipa, vm) {
        Page::Retry => return Outcome::Resume,
        Page::Declared => true,
        Page::Undeclared => false,
        // A store to flash that shows what it holds: its leaf says that it is declared, or the guard not active.
        Page::ReadOnly if vm.flash_at(ipa).is_some() => true,
        Page::ReadOnly => return read_only(abort, vcpu),
        Page::GivenAway => return abort_data(abort, ipa, Reason::GivenAway, vcpu),
    };
    let counters = vm.counters(vcpu);
    counters.mmio();
    let Some(access) = abort.access else { return no_syndrome(abort, ipa, declared, vcpu, vm) };
    if ipa.page_offset().wrapping_add(access.width.bytes()) > PAGE_SIZE {
        return crossing(abort, ipa, declared, &access, vcpu, vm);
    }
    // The guard is asked before any device, those of EL2 included.
    if !declared && vm.guard.active() {
        return refuse(abort, ipa, vcpu, vm);
    }
    let Some((device, offset)) = vm.device_at(ipa) else {
        return forward(abort, ipa, vcpu, vm);
    };
    let turned = arch::is_big_endian(vcpu.regs.spsr, vm.host().sctlr_el1());
    let order = |value| if turned { access.width.reversed(value) } else { value };
    let done = if abort.write {
        let value = order(access.stored(vcpu.regs.get(access.reg)));
        match write_device(device, offset, access.width, value, vcpu, vm) {
            Stored::Retry => return Outcome::Resume,
            stored => stored == Stored::Done,
        }
    } else {
        match read_device(device, offset, access.width, vcpu, vm) {
            Some(value) => {
                vcpu.regs.set(access.reg, access.loaded(order(value)));
                true
            }
            None => false,
        }
    };
    if done {
        Outcome::Advance { il: abort.il }
    } else {
        abort_data(abort, ipa, Reason::DeviceError, vcpu)
    }
}

/// Faults of stage 2 itself. The machine reported all others.
#[inline(always)]
const fn is_stage2_fault(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Translation
            | FaultKind::Permission
            | FaultKind::AccessFlag
            | FaultKind::AddressSize
    )
}

#[inline(always)]
fn page<H: Host>(abort: &DataAbort, ipa: Ipa, vm: &Vm<H>) -> Page {
    match vm.stage2.lookup(ipa).map(|found| found.entry) {
        // Memory is never declared, so the memory map need not be asked.
        Some(Entry::Guard(_)) => Page::Declared,
        Some(Entry::Leaf { attr: Attr::Rom | Attr::SharedRead, .. }) => {
            // An atomic may report a load: what a permission fault hits here is no load.
            if abort.write || matches!(abort.fault.kind, FaultKind::Permission) {
                Page::ReadOnly
            } else {
                Page::Retry
            }
        }
        Some(Entry::Leaf { .. } | Entry::Locked) => Page::Retry,
        Some(Entry::Empty | Entry::Owner(_) | Entry::Unknown(_)) | None => {
            if vm.memory.is_memory(ipa) { Page::GivenAway } else { Page::Undeclared }
        }
    }
}

/// The abort of a walk, or one that the machine itself reported.
#[cold]
#[inline(never)]
fn data_abort_cold<H: Host>(abort: &DataAbort, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    if !is_stage2_fault(abort.fault.kind) {
        return record(
            vcpu,
            AbortKind::Data,
            abort.va,
            abort.ipa,
            Reason::External,
            None,
            abort.write,
        );
    }
    walk(AbortKind::Data, abort.va, abort.ipa, abort.fault.kind, abort.write, vcpu, vm)
}

/// A stage-1 walk that stage 2 stopped.
fn walk<H: Host>(
    kind: AbortKind,
    va: Va,
    ipa: Option<Ipa>,
    fault: FaultKind,
    write: bool,
    vcpu: &mut Vcpu,
    vm: &Vm<H>,
) -> Outcome {
    let Some(at) = ipa else { return Outcome::ResolveIpa };
    let permission = matches!(fault, FaultKind::Permission);
    match vm.stage2.lookup(at).map(|found| found.entry) {
        Some(Entry::Locked | Entry::Leaf { attr: Attr::Ram, .. }) => return Outcome::Resume,
        // A walk that may not read a valid page wanted to write it, or met a device's (HCR_EL2.PTW).
        Some(Entry::Leaf { .. }) if !permission => return Outcome::Resume,
        _ => {}
    }
    record(vcpu, kind, va, ipa, Reason::Walk, None, write);
    Outcome::Abort(Abort { kind, walk: true })
}

/// An instruction abort.
#[inline]
pub(crate) fn fetch<H: Host>(abort: &InstructionAbort, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let kind = AbortKind::Instruction;
    if !is_stage2_fault(abort.fault.kind) {
        return record(vcpu, kind, abort.va, abort.ipa, Reason::External, None, false);
    }
    if abort.s1ptw {
        return walk(kind, abort.va, abort.ipa, abort.fault.kind, false, vcpu, vm);
    }
    let Some(ipa) = abort.ipa else { return Outcome::ResolveIpa };
    match vm.stage2.lookup(ipa).map(|found| found.entry) {
        Some(Entry::Locked | Entry::Leaf { attr: Attr::Ram | Attr::Rom, .. }) => Outcome::Resume,
        _ => {
            let reason = if vm.memory.is_memory(ipa) { Reason::GivenAway } else { Reason::Fetch };
            record(vcpu, kind, abort.va, abort.ipa, reason, None, false)
        }
    }
}

/// Not a load on read-only memory.
#[cold]
#[inline(never)]
fn read_only(abort: &DataAbort, vcpu: &mut Vcpu) -> Outcome {
    if abort.cm {
        // Its caches hold what memory holds: there is nothing to maintain.
        return Outcome::Advance { il: abort.il };
    }
    let width = abort.access.map(|access| access.width);
    // WnR may be clear for an atomic; for the log it is a store.
    record(vcpu, AbortKind::Data, abort.va, abort.ipa, Reason::ReadOnly, width, true)
}

/// ISV = 0: cache maintenance, or an instruction that cannot be emulated.
#[cold]
#[inline(never)]
fn no_syndrome<H: Host>(
    abort: &DataAbort,
    ipa: Ipa,
    declared: bool,
    vcpu: &mut Vcpu,
    vm: &Vm<H>,
) -> Outcome {
    if abort.cm {
        return Outcome::Advance { il: abort.il };
    }
    if !declared && vm.guard.active() {
        return refuse(abort, ipa, vcpu, vm);
    }
    abort_data(abort, ipa, Reason::NoSyndrome, vcpu)
}

/// An access whose last byte is in the next page. Never served. If a page is not declared, it is
/// refused.
#[cold]
#[inline(never)]
fn crossing<H: Host>(
    abort: &DataAbort,
    ipa: Ipa,
    declared: bool,
    access: &Access,
    vcpu: &mut Vcpu,
    vm: &Vm<H>,
) -> Outcome {
    if vm.guard.active() {
        if !declared {
            return refuse(abort, ipa, vcpu, vm);
        }
        let last = access.width.bytes().wrapping_sub(1);
        // At the top of all addresses there is no second page, so it is not declared.
        let second = ipa.checked_add(last).map(Ipa::page);
        if !second.is_some_and(|page| vm.is_declared(page)) {
            return refuse(abort, second.unwrap_or(ipa), vcpu, vm);
        }
    }
    abort_data(abort, ipa, Reason::CrossesPage, vcpu)
}

/// The guard refuses the access.
#[cold]
#[inline(never)]
fn refuse<H: Host>(abort: &DataAbort, ipa: Ipa, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    vm.counters(vcpu).refused();
    abort_data(abort, ipa, Reason::Undeclared, vcpu)
}

#[cold]
#[inline(never)]
fn abort_data(abort: &DataAbort, ipa: Ipa, reason: Reason, vcpu: &mut Vcpu) -> Outcome {
    let width = abort.access.map(|access| access.width);
    record(vcpu, AbortKind::Data, abort.va, Some(ipa), reason, width, abort.write)
}

#[inline]
fn record(
    vcpu: &mut Vcpu,
    kind: AbortKind,
    va: Va,
    ipa: Option<Ipa>,
    reason: Reason,
    width: Option<Width>,
    write: bool,
) -> Outcome {
    vcpu.refusal = Refusal { pc: vcpu.regs.elr, va, ipa, reason, kind, width, write };
    Outcome::Abort(Abort { kind, walk: false })
}
