// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guard's calls, in both dialects, and Portcullis' own: docs/abi.md.

use crate::device_calls::device_call;
use crate::share_calls::{relinquish, share};
use crate::{FastPath, Host, Outcome, Vcpu, Vm};
use arch::{Ipa, PAGE_SIZE, Range};
use mmio_guard::abi::{
    self, GRANULE, Hint, INVALID_PARAMETER, KVM_UID, NOT_SUPPORTED, PageState, SUCCESS, own, pkvm,
};
use mmio_guard::{Call, Dialect, Policy, feature_map};
use stage2::{BUDGET, DeclareError, Entry, GuardAnnotation};

/// A vendor-specific hypervisor call.
#[inline(always)]
pub(crate) fn guard_call<H: Host>(id: u32, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let dialect = vm.guard.dialect();
    let Some(call) = mmio_guard::call(dialect, id) else { return device_call(id, vcpu, vm) };
    if call.is_guard() && vm.guard.policy() == Policy::Off {
        return vcpu.answer0(NOT_SUPPORTED);
    }
    match call {
        Call::Map => map(dialect, vcpu, vm),
        Call::Unmap => unmap(dialect, vcpu, vm),
        Call::RangeMap => {
            let done = match checked(vcpu, vm) {
                Some(range) => map_range(range, vcpu, vm),
                None => None,
            };
            answer_range(done, vcpu)
        }
        Call::RangeUnmap => {
            let done = match checked(vcpu, vm) {
                Some(range) => unmap_range(range, vcpu, vm),
                None => None,
            };
            answer_range(done, vcpu)
        }
        call => other(call, dialect, vcpu, vm),
    }
}

#[inline(never)]
fn other<H: Host>(call: Call, dialect: Dialect, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    match call {
        Call::Uid => vcpu.answer(KVM_UID.map(u64::from)),
        Call::Features => vcpu.answer0(feature_map(dialect, vm.guard.policy()).into()),
        Call::Meminfo | Call::Info => info(dialect, vcpu),
        Call::Enroll => enroll(vcpu, vm),
        Call::MemShare => share(true, vcpu, vm),
        Call::MemUnshare => share(false, vcpu, vm),
        Call::Relinquish => relinquish(vcpu, vm),
        Call::AbiVersion => {
            let more = if vm.peers.is_some() { abi::device::FUNCTIONS } else { 0 };
            vcpu.answer([own::VERSION_1_0, own::FUNCTIONS | more, 0, 0])
        }
        Call::QueryPage => query(vcpu, vm),
        Call::Counters => {
            let counts = vm.counts();
            vcpu.answer([SUCCESS, counts.refused, vm.declared_pages(), counts.hypercalls])
        }
        Call::Map | Call::Unmap | Call::RangeMap | Call::RangeUnmap => vcpu.answer0(NOT_SUPPORTED),
    }
}

fn info(dialect: Dialect, vcpu: &mut Vcpu) -> Outcome {
    match dialect {
        // Its clients leave rubbish in x1 to x3.
        Dialect::Series => vcpu.answer0(GRANULE),
        Dialect::Pkvm if (1..=3).any(|n| vcpu.argument(n) != 0) => vcpu.answer0(INVALID_PARAMETER),
        Dialect::Pkvm => vcpu.answer([GRANULE, pkvm::HAS_RANGE, 0, 0]),
    }
}

/// What a call that was not granted answers.
#[inline(always)]
const fn failure(dialect: Dialect) -> u64 {
    match dialect {
        Dialect::Pkvm => INVALID_PARAMETER,
        Dialect::Series => NOT_SUPPORTED,
    }
}

/// What MAP and UNMAP answer.
#[inline(always)]
fn answer_page(done: bool, dialect: Dialect, vcpu: &mut Vcpu) -> Outcome {
    match dialect {
        _ if !done => vcpu.answer0(failure(dialect)),
        Dialect::Pkvm => vcpu.answer([SUCCESS, 1, 0, 0]),
        Dialect::Series => vcpu.answer0(SUCCESS),
    }
}

/// MAP: x1 = IPA, x2 = a hint.
#[inline(always)]
fn map<H: Host>(dialect: Dialect, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let ipa = Ipa::new(vcpu.argument(1));
    // The series declares nothing before ENROLL; later guests never enrol.
    let granted = dialect == Dialect::Pkvm || vm.guard.active();
    let done = granted
        && if vm.ram_only {
            !vm.memory.is_ram(ipa) && declare_page(ipa, vcpu, vm)
        } else {
            map_page(ipa, vcpu, vm)
        };
    answer_page(done, dialect, vcpu)
}

#[inline(always)]
fn note<H: Host>(vcpu: &Vcpu, vm: &Vm<H>) -> GuardAnnotation {
    GuardAnnotation::of_call(vcpu.argument(2), vm.host().mair_el1())
}

/// MAP on the fast path: success for a page that needs no table. The slow path serves all else.
#[inline(always)]
pub(crate) fn fast_map<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    let ipa = Ipa::new(vcpu.argument(1));
    if vm.memory.is_ram(ipa)
        || vm.ids.only_active && !vm.guard.active()
        || vm.stage2.declare_page(&vcpu.order, ipa, note(vcpu, vm)).is_err()
    {
        return FastPath::Fallback;
    }
    vm.counters(vcpu).hypercall();
    vcpu.answer([SUCCESS, vm.ids.pages, 0, 0]);
    FastPath::RESUME
}

/// UNMAP on the fast path: success for a page that was declared. The slow path serves all else.
#[inline(always)]
pub(crate) fn fast_unmap<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    let ipa = Ipa::new(vcpu.argument(1));
    if vm.ids.only_active && !vm.guard.active()
        || vm.stage2.undeclare_page(&vcpu.order, ipa) != Ok(true)
    {
        return FastPath::Fallback;
    }
    vm.counters(vcpu).hypercall();
    vcpu.answer([SUCCESS, vm.ids.pages, 0, 0]);
    FastPath::RESUME
}

/// One page, on the slow path.
#[inline(never)]
fn declare_page<H: Host>(ipa: Ipa, vcpu: &Vcpu, vm: &Vm<H>) -> bool {
    vm.stage2.declare_page(&vcpu.order, ipa, note(vcpu, vm)).is_ok()
}

/// The same the other way round.
#[inline(never)]
fn undeclare_page<H: Host>(page: Ipa, vcpu: &Vcpu, vm: &Vm<H>) -> Result<bool, DeclareError> {
    vm.stage2.undeclare_page(&vcpu.order, page)
}

/// MAP where there is more to ask than whether the page is RAM.
#[inline(never)]
fn map_page<H: Host>(ipa: Ipa, vcpu: &Vcpu, vm: &Vm<H>) -> bool {
    if ipa.page_offset() != 0 || vm.memory.is_memory(ipa) || vm.guard.allowed_until(ipa).is_none() {
        return false;
    }
    if vm.untrapped_end(ipa).is_some() {
        return vm.declare_mapped(ipa, note(vcpu, vm), &vcpu.order);
    }
    declare_page(ipa, vcpu, vm)
}

/// UNMAP: x1 = IPA.
#[inline(always)]
fn unmap<H: Host>(dialect: Dialect, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let at = Ipa::new(vcpu.argument(1));
    let page = at.page();
    match dialect {
        Dialect::Series => {
            let done = vm.guard.active()
                && match vm.untrapped_end(page) {
                    Some(_) => vm.undeclare_mapped(page, &vcpu.order) == Some(true),
                    None => undeclare_page(page, vcpu, vm) == Ok(true),
                };
            answer_page(done, dialect, vcpu)
        }
        Dialect::Pkvm => {
            let done = page == at
                && match vm.untrapped_end(page) {
                    Some(_) => vm.undeclare_mapped(page, &vcpu.order).is_some(),
                    None => {
                        // Beyond the IPA size nothing is declared, so there is nothing to do.
                        page.raw() >= vm.stage2.geometry().ipa_limit()
                            || undeclare_page(page, vcpu, vm).is_ok()
                    }
                };
            answer_page(done, dialect, vcpu)
        }
    }
}

/// What RGUARD_MAP and RGUARD_UNMAP answer: the pages of the prefix that was done; none is a failure.
#[inline(always)]
fn answer_range(done: Option<u64>, vcpu: &mut Vcpu) -> Outcome {
    match done {
        Some(pages) if pages != 0 => vcpu.answer([SUCCESS, pages, 0, 0]),
        _ => vcpu.answer0(INVALID_PARAMETER),
    }
}

/// The range that x1 (IPA), x2 (granules) and x3 (0) name, if it is one: its arithmetic is checked whole.
#[inline(always)]
fn checked<H: Host>(vcpu: &Vcpu, vm: &Vm<H>) -> Option<Range<Ipa>> {
    let (start, pages) = (Ipa::new(vcpu.argument(1)), vcpu.argument(2));
    if pages == 0 || vcpu.argument(3) != 0 || start.page_offset() != 0 {
        return None;
    }
    let range = Range::<Ipa>::new(start, pages.checked_mul(PAGE_SIZE)?)?;
    (range.end().raw() <= vm.stage2.geometry().ipa_limit()).then_some(range)
}

/// Declares a prefix of `range`, in one piece: the caller calls again for the rest.
#[inline(always)]
fn map_range<H: Host>(range: Range<Ipa>, vcpu: &Vcpu, vm: &Vm<H>) -> Option<u64> {
    let start = range.start();
    if vm.memory.is_ram(start) {
        return None;
    }
    let mut end = range.end();
    let ram = vm.memory.ram().start();
    if ram > start {
        end = end.min(ram);
    }
    if !vm.ram_only {
        end = end.min(piece_end(start, vm)?);
        if let Some(region_end) = vm.untrapped_end(start) {
            return declare_mapped_range(start, end.min(region_end), vcpu, vm);
        }
    }
    let piece = Range::<Ipa>::new(start, end.raw().wrapping_sub(start.raw()))?;
    // x2 is a number of granules here: ranges carry no hint.
    vm.stage2.declare(&vcpu.order, piece, GuardAnnotation::default(), BUDGET).ok()
}

/// Where the piece that begins at `start` ends at the latest: at the next rom, the end of what is allowed, the
/// next page that is reached without a trap. `None` where it cannot begin.
#[cold]
#[inline(never)]
fn piece_end<H: Host>(start: Ipa, vm: &Vm<H>) -> Option<Ipa> {
    let mut end = vm.guard.allowed_until(start)?;
    for rom in vm.memory.roms() {
        if rom.contains(start) {
            return None;
        }
        if rom.start() > start {
            end = end.min(rom.start());
        }
    }
    // The region that holds `start` ends it by itself.
    Some(if vm.untrapped_end(start).is_none() { end.min(vm.next_mapped_mmio(start)) } else { end })
}

/// Declares pages that are reached without a trap, until `end` or the first that fails.
fn declare_mapped_range<H: Host>(start: Ipa, end: Ipa, vcpu: &Vcpu, vm: &Vm<H>) -> Option<u64> {
    let mut pages = 0_u64;
    while let Some(at) = page_after(start, pages, end) {
        if !vm.declare_mapped(at, GuardAnnotation::default(), &vcpu.order) {
            break;
        }
        pages = pages.wrapping_add(1);
    }
    Some(pages)
}

/// Undeclares a prefix of `range`, in one piece.
#[inline(never)]
fn unmap_range<H: Host>(range: Range<Ipa>, vcpu: &Vcpu, vm: &Vm<H>) -> Option<u64> {
    let start = range.start();
    if let Some(region_end) = vm.untrapped_end(start) {
        let end = range.end().min(region_end);
        let mut pages = 0_u64;
        while let Some(at) = page_after(start, pages, end) {
            if vm.undeclare_mapped(at, &vcpu.order).is_none() {
                break;
            }
            pages = pages.wrapping_add(1);
        }
        return Some(pages);
    }
    let end = range.end().min(vm.next_mapped_mmio(start));
    let piece = Range::<Ipa>::new(start, end.raw().wrapping_sub(start.raw()))?;
    vm.stage2.undeclare(&vcpu.order, piece, BUDGET).ok()
}

/// Page number `pages` from `start`, if it lies before `end` and within what a call may do.
fn page_after(start: Ipa, pages: u64, end: Ipa) -> Option<Ipa> {
    if pages >= BUDGET.into() {
        return None;
    }
    let at = start.checked_add(pages.wrapping_mul(PAGE_SIZE))?;
    (at < end).then_some(at)
}

/// ENROLL: once active, it stays so until the VM is reset.
fn enroll<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    if !vm.guard.active() {
        vm.activate_guard(&vcpu.order);
    }
    vcpu.answer0(SUCCESS)
}

/// QUERY: what is at x1 = IPA.
fn query<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let ipa = Ipa::new(vcpu.argument(1)).page();
    let Some(found) = vm.stage2.lookup(ipa) else { return vcpu.answer0(INVALID_PARAMETER) };
    let (state, hint) = match found.entry {
        _ if vm.memory.is_ram(ipa) => (PageState::Ram, Hint::default()),
        _ if vm.memory.is_rom(ipa) => (PageState::Rom, Hint::default()),
        Entry::Guard(note) => {
            let hint = Hint { index: note.hint, mair: note.mair, preset: note.preset };
            (PageState::Declared, hint)
        }
        // A device's page, or flash.
        Entry::Leaf { .. } => (PageState::Direct, Hint::default()),
        _ => (PageState::Undeclared, Hint::default()),
    };
    vcpu.answer([SUCCESS, state.to_raw(), hint.to_raw(), 0])
}

const _: () = assert!(abi::MAX_DESCRIPTORS_PER_CALL == BUDGET);
