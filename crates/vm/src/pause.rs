// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM is paused as long as it has a holder. A stopped VM can be started again.

use crate::lifecycle::{PAUSE, Phase, Power, START};
use crate::{Host, Lifecycle, Vcpu, Vm};
use arch::VcpuSet;
use lock::Order;
use lock::atomic::Ordering;

/// Who holds a paused VM. It goes on when the last holder has let go. A stop wins over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Holder {
    /// The operator of the machine.
    User = 1,
    /// `vm.oncrash=pause`.
    Crash = 2,
    /// A save of its state.
    Save = 4,
}

/// A set of holders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holders(u8);

impl Holders {
    /// No holder.
    pub const NONE: Self = Self(0);

    /// The same and `holder`.
    #[must_use]
    pub const fn with(self, holder: Holder) -> Self {
        Self(self.0 | holder as u8)
    }

    /// Whether `holder` is one.
    pub const fn has(self, holder: Holder) -> bool {
        self.0 & holder as u8 != 0
    }

    /// How many there are.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
}

/// What a vCPU finds that looks whether its VM is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is not.
    No,
    /// It is.
    Yes,
    /// It is, and this was the last vCPU to leave the guest: the whole VM is paused from here on.
    Last,
}

impl Lifecycle {
    /// `holder` holds the VM: the vCPUs to kick, those that are on. `None` where it does not run; nothing has changed then.
    pub fn pause(&self, order: &Order, holder: Holder) -> Option<VcpuSet> {
        let mut state = self.state.lock(order);
        if state.phase != Phase::Running {
            return None;
        }
        let before = state.holders;
        state.holders = before | holder as u8;
        if before != 0 {
            return Some(VcpuSet::EMPTY);
        }
        state.leaving = state.set(Power::On);
        self.asked.store(PAUSE, Ordering::Release);
        Some(state.leaving)
    }

    /// `holders` let go. The vCPUs to kick where the VM goes on, `None` where it does not.
    pub fn resume(&self, order: &Order, holders: Holders) -> Option<VcpuSet> {
        let mut state = self.state.lock(order);
        if state.phase != Phase::Running || state.holders == 0 {
            return None;
        }
        state.holders &= !holders.0;
        if state.holders != 0 {
            return None;
        }
        state.leaving = VcpuSet::EMPTY;
        self.asked.store(0, Ordering::Release);
        Some(state.set(Power::On).union(state.set(Power::OnPending)))
    }

    /// vCPU `index` has left the guest if the VM is paused, and does not enter it again before that has ended.
    pub(crate) fn hold(&self, order: &Order, index: usize) -> Held {
        let mut state = self.state.lock(order);
        if state.phase != Phase::Running || state.holders == 0 {
            return Held::No;
        }
        let left = !state.leaving.contains(index);
        state.leaving.remove(index);
        if left || !state.leaving.is_empty() { Held::Yes } else { Held::Last }
    }

    /// Who holds it.
    pub fn holders(&self, order: &Order) -> Holders {
        let state = self.state.lock(order);
        Holders(if state.phase == Phase::Running { state.holders } else { 0 })
    }

    /// Whether it is paused and all its vCPUs have left the guest.
    pub fn stands_still(&self, order: &Order) -> bool {
        let state = self.state.lock(order);
        state.phase == Phase::Running && state.holders != 0 && state.leaving.is_empty()
    }

    /// The VM waits for its restart. `false` unless no vCPU runs.
    pub fn rest(&self, order: &Order) -> bool {
        let mut state = self.state.lock(order);
        let parked = state.phase == Phase::Parked;
        if parked {
            state.phase = Phase::Resting;
        }
        parked
    }

    /// Asks for a restart of a VM that has stopped or waits for one: `true` if that is possible. A vCPU that takes the
    /// request ([`Lifecycle::take_request`]) prepares it.
    pub fn revive(&self, order: &Order) -> bool {
        let mut state = self.state.lock(order);
        if !matches!(state.phase, Phase::Stopped | Phase::Resting) {
            return false;
        }
        state.phase = Phase::Parked;
        self.asked.store(START, Ordering::Release);
        true
    }

    /// Asks for the first start, once every VM is made. A vCPU that takes the request ([`Lifecycle::take_request`])
    /// prepares it.
    pub fn ask_first_start(&self, order: &Order) {
        let state = self.state.lock(order);
        if state.phase == Phase::Parked {
            self.asked.store(START, Ordering::Release);
        }
    }

    /// Whether a start is asked for, once.
    pub fn take_request(&self, order: &Order) -> bool {
        let state = self.state.lock(order);
        let asked = state.phase == Phase::Parked && self.asked.load(Ordering::Acquire) == START;
        if asked {
            self.asked.store(0, Ordering::Release);
        }
        asked
    }
}

impl<H: Host> Vm<H> {
    /// `holder` pauses the VM: its vCPUs leave the guest. `false` if it does not run. A calling vCPU is kicked too unless it
    /// is `except`.
    pub fn pause(&self, order: &Order, holder: Holder, except: Option<&Vcpu>) -> bool {
        let Some(mut kick) = self.lifecycle().pause(order, holder) else { return false };
        if let Some(vcpu) = except {
            kick.remove(vcpu.index);
        }
        if !kick.is_empty() {
            self.host().power_changed(kick);
        }
        true
    }

    /// `holders` let go; whether the VM goes on now.
    pub fn resume(&self, order: &Order, holders: Holders) -> bool {
        let Some(kick) = self.lifecycle().resume(order, holders) else { return false };
        if !kick.is_empty() {
            self.host().power_changed(kick);
        }
        true
    }

    /// `vcpu` has left the guest, if the VM is paused.
    pub fn hold(&self, vcpu: &Vcpu) -> Held {
        self.lifecycle().hold(&vcpu.order, vcpu.index)
    }

    /// Asks for a restart of a VM that has stopped or waits for one. `false` if it runs.
    pub fn revive(&self, order: &Order) -> bool {
        let revived = self.lifecycle().revive(order);
        if revived {
            self.host().power_changed(VcpuSet::single(0));
        }
        revived
    }
}
