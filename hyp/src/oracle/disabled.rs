// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entry points into `vm` that change guest-visible state. With feature `oracle`, `enabled.rs` takes the place of this file:
//! there each one is also run on the executable specification.

use arch::{Ipa, Pa, Range};
use lock::Order;
use platform::{Board, VmConfig};
use vm::{
    Holder, Holders, Host, NotShared, Outcome, Parked, ResetError, Stop, StopReason, Vcpu, Vm,
};
pub use vm::{on_exit, run_deferred, try_fast_path};

/// The exit needs no outcome: the guest tries its instruction again.
#[inline(always)]
pub fn drop_exit() {}

/// [`Vm::take_start`].
#[inline(always)]
pub fn take_start<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>) -> bool {
    vm.take_start(vcpu)
}

/// [`Vm::park`].
#[inline(always)]
pub fn park<H: Host>(vcpu: &Vcpu, vm: &Vm<H>) -> Parked {
    vm.park(vcpu)
}

/// [`Vm::stop`].
#[inline(always)]
pub fn stop<H: Host>(order: &Order, vm: &Vm<H>, reason: StopReason) -> Option<Stop> {
    vm.stop(order, reason, None)
}

/// [`Vm::pause`].
pub fn pause<H: Host>(order: &Order, vm: &Vm<H>, holder: Holder) -> bool {
    vm.pause(order, holder, None)
}

/// [`Vm::resume`].
pub fn resume<H: Host>(order: &Order, vm: &Vm<H>, holders: Holders) -> bool {
    vm.resume(order, holders)
}

/// [`vm::Lifecycle::rest`].
pub fn rest<H: Host>(order: &Order, vm: &Vm<H>) -> bool {
    vm.lifecycle().rest(order)
}

/// [`Vm::revive`].
pub fn revive<H: Host>(order: &Order, vm: &Vm<H>) -> bool {
    vm.revive(order)
}

/// [`Vm::reset_piece`].
#[inline(always)]
pub fn reset_piece<H: Host>(order: &Order, vm: &Vm<H>) -> Result<bool, ResetError> {
    vm.reset_piece(order)
}

/// [`Vm::finish_forwarded`].
#[inline(always)]
pub fn finish_forwarded<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>, now: u64) -> Option<Outcome> {
    vm.finish_forwarded(vcpu, now)
}

/// [`Vm::share_piece`].
#[inline(always)]
pub fn share_piece<H: Host>(
    order: &Order,
    vm: &Vm<H>,
    pieces: &(impl Iterator<Item = (u64, Pa, u64)> + Clone),
    at: u64,
) -> Result<Option<u64>, NotShared> {
    vm.share_piece(order, pieces, at)
}

/// [`Vm::start`].
#[inline(always)]
pub fn start<H: Host>(order: &Order, vm: &Vm<H>, entry: Ipa, context: u64) -> bool {
    vm.start(order, entry, context)
}

/// [`vm::Lifecycle::finish`].
#[inline(always)]
pub fn finish_life<H: Host>(order: &Order, vm: &Vm<H>) -> bool {
    vm.lifecycle().finish(order)
}

/// A descriptor was stored.
#[inline(always)]
pub fn stored() {}

/// A VM was made.
#[inline(always)]
pub fn adopt<H: Host>(
    _: &Board,
    _: &VmConfig,
    _: &Vm<H>,
    _: u64,
    _: impl Iterator<Item = (Range<Ipa>, Pa, stage2::Attr)>,
) {
}

/// Logged when all VMs have stopped.
#[inline(always)]
pub fn closing_line() {}
