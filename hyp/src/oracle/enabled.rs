// SPDX-License-Identifier: MIT OR Apache-2.0
//! The oracle, in images with feature `oracle` only. Every exit is also run on the executable specification; outcome,
//! registers and the VM's live tables are compared before the guest continues. A difference is a panic.
//!
//! The functions have the names and meanings of `vm`'s. One lock is held from the start of an exit to its comparison, and
//! around all other changes that the specification models: vCPUs that start and park, resets. So the exits of all CPUs are
//! compared one after the other.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::cpu::timer;
use crate::memory::frame_owners;
use crate::oracle::specified::specified;
use aarch64_cpu::registers::{MAIR_EL1, Readable, SCTLR_EL1};
use arch::{Errata, Exit, ExitInfo, GuestRegs, Ipa, Pa, Range};
use lock::Order;
use platform::{Board, VmConfig};
use spec::{Leaf, Moment, Tables};
use stage2::Attr;
use vm::{
    Deferred, FastPath, Holder, Holders, Host, NotShared, Outcome, Parked, ResetError, Stop,
    StopReason, Vcpu, Vm,
};

/// Every so many exits all tables are summed, even without a known store: unknown code may have stored.
const AGAIN: u64 = 64;
/// Every so many exits each entry is compared by itself, besides the sum.
const WHOLE: u64 = 4096;

struct Exits {
    /// By the number of the VM.
    vms: Vec<spec::Vm>,
    /// The exit being compared, the registers before it, and CNTPCT_EL0 at its beginning.
    exit: Option<(Exit, GuestRegs, u64)>,
    /// The sum of the marks of each VM's tables, and how many stores there had been in any table.
    marks: Vec<(u64, u64)>,
}

struct Oracle {
    /// Index of the CPU that holds it plus 1; 0 if it is free.
    holder: AtomicUsize,
    exits: UnsafeCell<Exits>,
}

// SAFETY: `exits` is only touched by the CPU that `holder` names.
unsafe impl Sync for Oracle {}

static ORACLE: Oracle = Oracle {
    holder: AtomicUsize::new(0),
    exits: UnsafeCell::new(Exits { vms: Vec::new(), exit: None, marks: Vec::new() }),
};
static CHECKED: AtomicU64 = AtomicU64::new(0);
static STORES: AtomicU64 = AtomicU64::new(0);

/// A descriptor was stored, in any VM's tables.
#[inline(always)]
pub fn stored() {
    STORES.fetch_add(1, Ordering::Relaxed);
}

/// Logs how many exits were checked: the first difference would have been a panic.
pub fn closing_line() {
    log::info!("oracle: {} exits checked, no difference", CHECKED.load(Ordering::Relaxed));
}

fn me() -> usize {
    crate::cpu::current().index.get().wrapping_add(1)
}

fn is_mine() -> bool {
    ORACLE.holder.load(Ordering::Relaxed) == me()
}

/// Waits for the oracle.
fn enter() -> &'static mut Exits {
    let me = me();
    while ORACLE.holder.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed).is_err()
    {
        core::hint::spin_loop();
    }
    mine()
}

/// What this CPU has entered.
fn mine() -> &'static mut Exits {
    assert!(is_mine(), "the oracle belongs to another CPU");
    // SAFETY: this CPU holds the oracle, and no caller keeps a reference when it leaves or enters a guest.
    unsafe { &mut *ORACLE.exits.get() }
}

fn leave() {
    ORACLE.holder.store(0, Ordering::Release);
}

/// How thoroughly to compare.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The tables only if there was a store.
    Changes,
    /// The tables by the sum over all entries.
    Sum,
    /// Every entry by itself as well.
    Entries,
}

impl Exits {
    fn spec<H: Host>(&mut self, vm: &Vm<H>) -> &mut spec::Vm {
        self.vms.get_mut(usize::from(vm.id())).expect("every VM was adopted")
    }

    /// The VM's live tables, and all else, against the specification.
    fn compare<H: Host>(&mut self, vm: &Vm<H>, depth: Depth) -> Result<(), String> {
        let index = usize::from(vm.id());
        let (spec, noted) = (self.vms.get(index), self.marks.get_mut(index));
        let (Some(spec), Some((marks, stores))) = (spec, noted) else {
            panic!("every VM was adopted");
        };
        // No CPU stores meanwhile: it would hold the oracle.
        let now = STORES.load(Ordering::Relaxed);
        if depth != Depth::Changes || *stores != now {
            (*marks, *stores) = (oracle::marks(vm.stage2()), now);
        }
        oracle::state(vm, spec, &crate::cpu::current().order, *marks)?;
        if depth != Depth::Entries {
            return Ok(());
        }
        oracle::entries(vm, spec)?;
        // What the VM shares, by the owners of frames and its own bits, is what its server reaches.
        oracle::window(vm, |pa, ipa| {
            frame_owners::parties(pa, |owner| {
                (owner == vm.id()).then(|| vm.shared_with(ipa)).flatten()
            })
        })
    }
}

/// The exit begins.
fn begin(exit: Exit, vcpu: &Vcpu) {
    enter().exit = Some((exit, vcpu.regs.clone(), timer::now()));
}

/// `vm` has its outcome: so must the specification.
fn end<H: Host>(real: Outcome, vcpu: &Vcpu, vm: &Vm<H>) {
    let exits = mine();
    let Some((exit, before, from)) = exits.exit.take() else {
        panic!("oracle: an outcome without an exit: {real:?}");
    };
    let number = CHECKED.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let machine = oracle::Machine {
        mair_el1: MAIR_EL1.get(),
        entropy: entropy(&before, vcpu),
        sctlr_el1: SCTLR_EL1.get(),
        now: Moment { from, to: timer::now() },
    };
    let depth = match number {
        _ if number.is_multiple_of(WHOLE) => Depth::Entries,
        _ if number.is_multiple_of(AGAIN) => Depth::Sum,
        _ => Depth::Changes,
    };
    let me = usize::from(vm.id());
    let verdict = oracle::judge(&mut exits.vms, me, exit, &before, vcpu, real, &machine)
        .and_then(|should| match should {
            Some(spec::Outcome::Asks) => oracle::told(vm, exits.spec(vm), vcpu.index),
            _ => Ok(()),
        })
        .and_then(|()| exits.compare(vm, depth));
    if let Err(why) = verdict {
        panic!(
            "oracle: {}: exit {number} of vCPU {} at {:#x}, {exit:x?}, x0 to x3 {:x?}: {why}",
            vm.name(),
            vcpu.index,
            before.elr,
            before.x.get(..4),
        );
    }
    leave();
}

/// The machine's entropy, from the answer of TRNG_RND: bits beyond the request must be zero.
fn entropy(before: &GuestRegs, vcpu: &Vcpu) -> Option<[u64; 3]> {
    let [x0, high, middle, low] = [0, 1, 2, 3].map(|n| vcpu.regs.get(n));
    match before.get(0) as u32 {
        _ if x0 != 0 => None,
        0x8400_0053 => Some([low | middle << 32, high, 0]),
        0xc400_0053 => Some([low, middle, high]),
        _ => None,
    }
}

/// [`vm::try_fast_path`].
pub fn try_fast_path<H: Host>(
    info: &ExitInfo,
    errata: &Errata,
    vcpu: &mut Vcpu,
    vm: &Vm<H>,
) -> FastPath {
    begin(arch::decode(*info, errata), vcpu);
    let path = vm::try_fast_path(info, errata, vcpu, vm);
    ended(path, vcpu, vm)
}

/// [`vm::run_deferred`].
pub fn run_deferred<H: Host>(deferred: Deferred, vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    let path = vm::run_deferred(deferred, vcpu, vm);
    ended(path, vcpu, vm)
}

/// Compares an exit that is handled. [`run_deferred`] or [`on_exit`] compares the others.
fn ended<H: Host>(path: FastPath, vcpu: &Vcpu, vm: &Vm<H>) -> FastPath {
    if let FastPath::Done(outcome) = path {
        end(outcome, vcpu, vm);
    }
    path
}

/// [`vm::on_exit`].
pub fn on_exit<H: Host>(exit: Exit, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    // After an address translation the exit begins again. Otherwise it must equal the one that the fast path left.
    if is_mine() {
        let begun = mine().exit.as_ref().map(|(begun, ..)| *begun);
        assert!(begun == Some(exit), "oracle: {begun:x?} has become {exit:x?}");
    } else {
        begin(exit, vcpu);
    }
    let outcome = vm::on_exit(exit, vcpu, vm);
    end(outcome, vcpu, vm);
    outcome
}

/// The exit needs no outcome: the guest tries its instruction again.
pub fn drop_exit() {
    mine().exit = None;
    leave();
}

/// Runs an operation that is no exit on both sides, and compares the results.
fn both<H: Host, T: PartialEq + core::fmt::Debug>(
    what: &str,
    vm: &Vm<H>,
    real: impl FnOnce() -> T,
    spec: impl FnOnce(&mut spec::Vm) -> T,
) -> T {
    let exits = enter();
    let life = exits.spec(vm).life;
    let should = spec(exits.spec(vm));
    if exits.spec(vm).life != life {
        spec::leave_peers(&mut exits.vms, usize::from(vm.id()));
    }
    let is = real();
    assert!(is == should, "oracle: {}: {what}: is {is:?}, should be {should:?}", vm.name());
    if let Err(why) = exits.compare(vm, Depth::Entries) {
        panic!("oracle: {}: {what}: {why}", vm.name());
    }
    leave();
    is
}

/// [`Vm::take_start`].
pub fn take_start<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>) -> bool {
    let exits = enter();
    let should = exits.spec(vm).take_start(vcpu.index);
    let is = vm.take_start(vcpu).then(|| (vcpu.regs.elr, vcpu.regs.get(0)));
    assert!(is == should, "oracle: {}: begins: is {is:x?}, should be {should:x?}", vm.name());
    // A vCPU that is off asks often, without effect.
    if is.is_some()
        && let Err(why) = exits.compare(vm, Depth::Entries)
    {
        panic!("oracle: {}: a vCPU begins: {why}", vm.name());
    }
    leave();
    is.is_some()
}

/// [`Vm::park`].
pub fn park<H: Host>(vcpu: &Vcpu, vm: &Vm<H>) -> Parked {
    let mut real = Parked::Others;
    both(
        "a vCPU parks",
        vm,
        || {
            real = vm.park(vcpu);
            match real {
                Parked::Others => spec::Parked::Others,
                Parked::Last(reason) => spec::Parked::Last(oracle::stop_reason(reason)),
            }
        },
        |spec| spec.park(vcpu.index),
    );
    real
}

/// [`Vm::stop`].
pub fn stop<H: Host>(order: &Order, vm: &Vm<H>, reason: StopReason) -> Option<Stop> {
    let mut real = None;
    both(
        "stop",
        vm,
        || {
            real = vm.stop(order, reason, None);
            real.map(|stop| oracle::stop_reason(stop.reason))
        },
        |spec| spec.stop(oracle::stop_reason(reason)),
    );
    real
}

/// [`Vm::pause`].
pub fn pause<H: Host>(order: &Order, vm: &Vm<H>, holder: Holder) -> bool {
    both("pause", vm, || vm.pause(order, holder, None), |spec| spec.pause(holder as u8))
}

/// [`Vm::resume`].
pub fn resume<H: Host>(order: &Order, vm: &Vm<H>, holders: Holders) -> bool {
    let all = [Holder::User, Holder::Crash, Holder::Save];
    let numbers: Vec<u8> =
        all.into_iter().filter(|it| holders.has(*it)).map(|it| it as u8).collect();
    both("resume", vm, || vm.resume(order, holders), |spec| spec.resume(&numbers))
}

/// [`vm::Lifecycle::rest`].
pub fn rest<H: Host>(order: &Order, vm: &Vm<H>) -> bool {
    both("rest", vm, || vm.lifecycle().rest(order), spec::Vm::rest)
}

/// [`Vm::revive`].
pub fn revive<H: Host>(order: &Order, vm: &Vm<H>) -> bool {
    both("revive", vm, || vm.revive(order), spec::Vm::revive)
}

/// [`Vm::reset_piece`]; here a reset is one piece, as the specification has nothing in between.
pub fn reset_piece<H: Host>(order: &Order, vm: &Vm<H>) -> Result<bool, ResetError> {
    let mut real = Ok(());
    both(
        "reset",
        vm,
        || {
            real = vm.reset(order);
            real.is_ok()
        },
        |spec| spec.reset().is_ok(),
    );
    real.map(|()| true)
}

/// [`Vm::finish_forwarded`].
pub fn finish_forwarded<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>, now: u64) -> Option<Outcome> {
    let exits = enter();
    let before = vcpu.regs.clone();
    let real = vm.finish_forwarded(vcpu, now);
    let verdict = oracle::finish(exits.spec(vm), &before, vcpu, now, real)
        .and_then(|()| exits.compare(vm, Depth::Changes));
    if let Err(why) = verdict {
        panic!("oracle: {}: vCPU {} waited for its server: {why}", vm.name(), vcpu.index);
    }
    leave();
    real
}

/// [`Vm::share_piece`].
pub fn share_piece<H: Host>(
    order: &Order,
    vm: &Vm<H>,
    pieces: &(impl Iterator<Item = (u64, Pa, u64)> + Clone),
    at: u64,
) -> Result<Option<u64>, NotShared> {
    let mut real = Err(NotShared);
    both(
        "shares of its owner",
        vm,
        || {
            real = vm.share_piece(order, pieces, at);
            real.ok()
        },
        |spec| spec.share_for_owner(at).ok(),
    );
    real
}

/// [`Vm::start`].
pub fn start<H: Host>(order: &Order, vm: &Vm<H>, entry: Ipa, context: u64) -> bool {
    both("start", vm, || vm.start(order, entry, context), |spec| spec.start(entry.raw(), context))
}

/// [`vm::Lifecycle::finish`].
pub fn finish_life<H: Host>(order: &Order, vm: &Vm<H>) -> bool {
    both("the end", vm, || vm.lifecycle().finish(order), spec::Vm::finish)
}

/// A VM that was just made, with `memory` mapped in this order, its tables from `pool` pages.
pub fn adopt<H: Host>(
    board: &Board,
    config: &VmConfig,
    vm: &Vm<H>,
    pool: u64,
    memory: impl Iterator<Item = (Range<Ipa>, Pa, Attr)>,
) {
    let bits = u32::from(config.ipa_bits);
    let mut tables = Tables::new(bits, pool);
    for (ipa, pa, attr) in memory {
        let leaf = match attr {
            Attr::Ram => Leaf::Ram,
            Attr::Rom => Leaf::Rom,
            Attr::Device => Leaf::Device,
            Attr::Shared => Leaf::Shared,
            Attr::SharedRead => Leaf::SharedRead,
        };
        if let Err(why) = tables.map(ipa.start().raw(), pa.raw(), ipa.size(), leaf) {
            panic!("oracle: {}: memory at {ipa}: {why:?}", vm.name());
        }
    }
    let exits = enter();
    exits.vms.push(spec::Vm::new(specified(board, config, vm, bits), tables));
    exits.marks.push((0, 0));
    if let Err(why) = exits.compare(vm, Depth::Entries) {
        panic!("oracle: {}: made: {why}", vm.name());
    }
    leave();
}
