// SPDX-License-Identifier: MIT OR Apache-2.0
//! Power states of vCPUs, and the states of a VM from running to stopped or restarted.
//!
//! ```text
//!            start                stop (first reason wins)       last vCPU parks
//! Parked ------------> Running ---------------------------> Stopping -------------> Parked
//!    ^                                                                               |
//!    |                                                           start = reset <-----+
//!    |                                                    Resting <------ rest ------+
//!    +------ revive ---------- Stopped <----- finish ---- (either) <-----------------+
//! ```
//!
//! A running VM may be paused: see [`Holder`].

use arch::{MAX_VCPUS, VcpuSet};
use core::fmt;
use lock::atomic::{AtomicU8, Ordering};
use lock::{Lock, Order, Rank};

/// Why a VM stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StopReason {
    /// PSCI SYSTEM_OFF.
    PowerOff = 1,
    /// PSCI SYSTEM_RESET or SYSTEM_RESET2: a restart follows.
    Reset = 2,
    /// The last vCPU that was on called CPU_OFF: no vCPU is left that could turn one on.
    AllOff = 3,
    /// A physical SError arrived while one of its vCPUs ran.
    SError = 4,
    /// EL2 cannot continue it: a reset failed.
    Failure = 5,
    /// It aborted again and again at one instruction ([`crate::crash::Watch`]).
    Crash = 6,
    /// The operator of the machine restarts it.
    Restart = 7,
    /// The operator of the machine has stopped it.
    Operator = 8,
}

impl StopReason {
    /// What the stop line says.
    pub const fn text(self) -> &'static str {
        match self {
            Self::PowerOff => "power off",
            Self::Reset => "reset",
            Self::AllOff => "all vCPUs off",
            Self::SError => "SError",
            Self::Failure => "failure",
            Self::Crash => "crash loop",
            Self::Restart => "restart",
            Self::Operator => "by the operator",
        }
    }

    /// Whether its guest has crashed: `vm.oncrash` decides what follows.
    pub const fn is_crash(self) -> bool {
        matches!(self, Self::SError | Self::Crash)
    }

    #[inline(always)]
    const fn from_raw(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => Self::PowerOff,
            2 => Self::Reset,
            3 => Self::AllOff,
            4 => Self::SError,
            5 => Self::Failure,
            6 => Self::Crash,
            7 => Self::Restart,
            8 => Self::Operator,
            _ => return None,
        })
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// Power state of a vCPU, with the numbers of AFFINITY_INFO (DEN0022 section 5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    On = 0,
    Off = 1,
    OnPending = 2,
}

/// What [`Vm::park`](crate::Vm::park) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// Other vCPUs are still on their way out; or the VM is not stopping.
    Others,
    /// This was the last one: the caller alone acts on the reason.
    Last(StopReason),
}

/// The result of [`Vm::stop`](crate::Vm::stop).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The reason that counts: the first one.
    pub reason: StopReason,
    /// vCPUs to kick: those that are on.
    pub kick: VcpuSet,
    /// No vCPU was on: the caller alone acts on the reason.
    pub parked: bool,
}

/// The phase of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No vCPU runs: not yet started, or between two runs.
    Parked,
    /// It runs, or is paused.
    Running,
    /// Its vCPUs are leaving.
    Stopping(StopReason),
    /// It waits for its restart.
    Resting,
    /// It has ended, unless it is started again.
    Stopped,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    pub(crate) power: Power,
    entry: u64,
    context: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) cpus: [Cpu; MAX_VCPUS],
    /// Bits of [`Holder`]: it is paused while there is one.
    pub(crate) holders: u8,
    /// vCPUs that have not left the guest yet since it was paused.
    pub(crate) leaving: VcpuSet,
}

/// [`Lifecycle::asked`]: to leave the guest, and keep their registers.
pub(crate) const PAUSE: u8 = 0x40;
/// [`Lifecycle::asked`]: to prepare a restart.
pub(crate) const START: u8 = 0x80;

/// The state machine; all transitions under one lock of [`Rank::Lifecycle`].
pub struct Lifecycle {
    pub(crate) state: Lock<State>,
    /// What vCPUs are asked to do, for a look without the lock: the reason while stopping, [`PAUSE`], [`START`], else 0.
    pub(crate) asked: AtomicU8,
    vcpus: usize,
}

impl State {
    pub(crate) fn set(&self, power: Power) -> VcpuSet {
        let mut set = VcpuSet::EMPTY;
        for (index, cpu) in self.cpus.iter().enumerate() {
            if cpu.power == power {
                set.insert(index);
            }
        }
        set
    }
}

impl Lifecycle {
    /// A VM of `vcpus` vCPUs, all off, not started.
    pub(crate) fn new(vcpus: usize) -> Self {
        let off = Cpu { power: Power::Off, entry: 0, context: 0 };
        let state = State {
            phase: Phase::Parked,
            cpus: [off; MAX_VCPUS],
            holders: 0,
            leaving: VcpuSet::EMPTY,
        };
        Self {
            state: Lock::new(Rank::Lifecycle, state),
            asked: AtomicU8::new(0),
            vcpus: vcpus.min(MAX_VCPUS),
        }
    }

    /// Starts the VM: vCPU 0 will start at `entry` with `context` in x0. `false` unless the VM is parked.
    pub fn start(&self, order: &Order, entry: u64, context: u64) -> bool {
        let mut state = self.state.lock(order);
        if state.phase != Phase::Parked {
            return false;
        }
        state.phase = Phase::Running;
        if let Some(cpu) = state.cpus.first_mut() {
            *cpu = Cpu { power: Power::OnPending, entry, context };
        }
        true
    }

    /// The end, until [`Lifecycle::revive`]. `false` unless no vCPU runs.
    pub fn finish(&self, order: &Order) -> bool {
        let mut state = self.state.lock(order);
        let parked = matches!(state.phase, Phase::Parked | Phase::Resting);
        if parked {
            state.phase = Phase::Stopped;
            self.asked.store(0, Ordering::Release);
        }
        parked
    }

    /// Its phase.
    pub fn phase(&self, order: &Order) -> Phase {
        self.state.lock(order).phase
    }

    /// Whether the VM has ended.
    pub fn finished(&self, order: &Order) -> bool {
        self.state.lock(order).phase == Phase::Stopped
    }

    /// Where vCPU `index` begins and what it finds in x0, if it was turned on; it is on from here.
    pub(crate) fn take_start(&self, order: &Order, index: usize) -> Option<(u64, u64)> {
        let mut state = self.state.lock(order);
        if state.phase != Phase::Running || state.holders != 0 {
            return None;
        }
        let cpu = state.cpus.get_mut(index)?;
        if cpu.power != Power::OnPending {
            return None;
        }
        cpu.power = Power::On;
        Some((cpu.entry, cpu.context))
    }

    /// CPU_ON. What the target was, if not off; nothing has changed then.
    pub(crate) fn turn_on(
        &self,
        order: &Order,
        target: usize,
        entry: u64,
        context: u64,
    ) -> Result<(), Power> {
        let mut state = self.state.lock(order);
        let running = state.phase == Phase::Running;
        match state.cpus.get_mut(target) {
            Some(cpu) if cpu.power == Power::Off => {
                // While the VM stops, the answer is never seen, but no vCPU may start.
                if running {
                    *cpu = Cpu { power: Power::OnPending, entry, context };
                }
                Ok(())
            }
            Some(cpu) => Err(cpu.power),
            None => Err(Power::On),
        }
    }

    /// CPU_OFF of vCPU `index`: the reason to stop the VM instead, if there is one.
    pub(crate) fn turn_off(&self, order: &Order, index: usize) -> Option<StopReason> {
        let mut state = self.state.lock(order);
        if let Phase::Stopping(reason) = state.phase {
            return Some(reason);
        }
        let mut others = state.set(Power::On).union(state.set(Power::OnPending));
        others.remove(index);
        if others.is_empty() {
            return Some(StopReason::AllOff);
        }
        if let Some(cpu) = state.cpus.get_mut(index) {
            cpu.power = Power::Off;
        }
        None
    }

    /// Power state of vCPU `index`.
    pub(crate) fn power(&self, order: &Order, index: usize) -> Option<Power> {
        if index >= self.vcpus {
            return None;
        }
        self.state.lock(order).cpus.get(index).map(|cpu| cpu.power)
    }

    /// vCPUs that are on.
    pub fn on(&self, order: &Order) -> VcpuSet {
        self.state.lock(order).set(Power::On)
    }

    /// Asks the VM to stop. vCPUs that were to be turned on stay off. `None` if it does not run.
    pub(crate) fn stop(&self, order: &Order, reason: StopReason) -> Option<Stop> {
        let mut state = self.state.lock(order);
        let reason = match state.phase {
            Phase::Running => reason,
            Phase::Stopping(first) => {
                return Some(Stop { reason: first, kick: VcpuSet::EMPTY, parked: false });
            }
            Phase::Parked | Phase::Resting | Phase::Stopped => return None,
        };
        for cpu in &mut state.cpus {
            if cpu.power == Power::OnPending {
                cpu.power = Power::Off;
            }
        }
        // A stop wins over a pause.
        (state.holders, state.leaving) = (0, VcpuSet::EMPTY);
        let kick = state.set(Power::On);
        let parked = kick.is_empty();
        if parked {
            state.phase = Phase::Parked;
            self.asked.store(0, Ordering::Release);
        } else {
            state.phase = Phase::Stopping(reason);
            self.asked.store(reason as u8, Ordering::Release);
        }
        Some(Stop { reason, kick, parked })
    }

    /// Why the VM is stopping, if it is. Takes no lock.
    #[inline(always)]
    pub fn stopping(&self) -> Option<StopReason> {
        StopReason::from_raw(self.asked.load(Ordering::Acquire))
    }

    /// Whether its vCPUs are asked to do anything: to leave because it is stopping or paused, or to prepare a restart.
    #[inline(always)]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire) != 0
    }

    /// vCPU `index` has left the guest of a VM that is stopping, and will not enter it again.
    pub(crate) fn park(&self, order: &Order, index: usize) -> Parked {
        let mut state = self.state.lock(order);
        let Phase::Stopping(reason) = state.phase else { return Parked::Others };
        match state.cpus.get_mut(index) {
            Some(cpu) if cpu.power == Power::On => cpu.power = Power::Off,
            _ => return Parked::Others,
        }
        if !state.set(Power::On).is_empty() {
            return Parked::Others;
        }
        state.phase = Phase::Parked;
        self.asked.store(0, Ordering::Release);
        Parked::Last(reason)
    }
}
