// SPDX-License-Identifier: MIT OR Apache-2.0
//! Power and entropy: docs/vm.md, "Firmware calls" and "Lifecycle".

use crate::calls::{INVALID_PARAMETER, NOT_SUPPORTED, SUCCESS, answer};
use crate::power_state::{Parked, Phase, Power, StopReason};
use crate::{Call, Outcome, Vm};

const INVALID_PARAMETERS: u64 = -2_i64 as u64;
const NO_ENTROPY: u64 = -3_i64 as u64;
const ALREADY_ON: u64 = -4_i64 as u64;
const ON_PENDING: u64 = -5_i64 as u64;
const INVALID_ADDRESS: u64 = -9_i64 as u64;
const _: () = assert!(NO_ENTROPY == INVALID_PARAMETER, "both are -3");

impl Vm {
    /// PSCI and TRNG.
    pub(crate) fn power_call(&mut self, call: &Call) -> Outcome {
        match call.id() {
            0x8400_0000 => answer(0x1_0001),
            0x8400_0001 | 0xc400_0001 => Outcome::AnswerAfterWaiting([SUCCESS, 0, 0, 0]),
            0x8400_0002 => self.turn_off(call.vcpu),
            0x8400_0003 => answer(self.turn_on(call.low())),
            0xc400_0003 => answer(self.turn_on(call.arguments())),
            0x8400_0004 => answer(self.affinity_info(call.low())),
            0xc400_0004 => answer(self.affinity_info(call.arguments())),
            0x8400_0006 => answer(2),
            0x8400_0008 => self.stop_by_call(StopReason::PowerOff),
            0x8400_0009 => self.stop_by_call(StopReason::Reset),
            0x8400_0012 | 0xc400_0012 => {
                if call.low()[0] == 0 {
                    self.stop_by_call(StopReason::Reset)
                } else {
                    answer(INVALID_PARAMETERS)
                }
            }
            0x8400_000a => answer(features(call.low())),
            0x8400_0050..=0x8400_0053 | 0xc400_0053 if self.config.trng => trng(call),
            _ => answer(NOT_SUPPORTED),
        }
    }

    /// The vCPU with this affinity: its number, compared whole.
    fn target(&self, affinity: u64) -> Option<usize> {
        (0..self.config.vcpus).find(|index| *index as u64 == affinity)
    }

    /// CPU_ON.
    fn turn_on(&mut self, [affinity, entry, context]: [u64; 3]) -> u64 {
        let Some(target) = self.target(affinity) else { return INVALID_PARAMETERS };
        if !entry.is_multiple_of(4) || !self.config.is_memory(entry) {
            return INVALID_ADDRESS;
        }
        match self.vcpus[target] {
            Power::On => ALREADY_ON,
            Power::Pending { .. } => ON_PENDING,
            Power::Off => {
                // No vCPU starts in a VM that stops.
                if self.phase == Phase::Running {
                    self.vcpus[target] = Power::Pending { entry, context };
                }
                SUCCESS
            }
        }
    }

    /// CPU_OFF.
    fn turn_off(&mut self, vcpu: usize) -> Outcome {
        if let Phase::Stopping(first) = self.phase {
            return Outcome::Stop(first);
        }
        let others = (0..self.config.vcpus).filter(|n| *n != vcpu);
        if others.map(|n| self.vcpus[n]).all(|power| power == Power::Off) {
            return self.stop_by_call(StopReason::AllOff);
        }
        self.vcpus[vcpu] = Power::Off;
        Outcome::Off
    }

    fn affinity_info(&self, [affinity, level, _]: [u64; 3]) -> u64 {
        match self.target(affinity) {
            Some(target) if level == 0 => match self.vcpus[target] {
                Power::On => 0,
                Power::Off => 1,
                Power::Pending { .. } => 2,
            },
            _ => INVALID_PARAMETERS,
        }
    }

    fn stop_by_call(&mut self, reason: StopReason) -> Outcome {
        Outcome::Stop(self.stop(reason).unwrap_or(reason))
    }

    /// The VM is to stop, by a call or from outside: the reason that counts. `None` where it does not run.
    pub fn stop(&mut self, reason: StopReason) -> Option<StopReason> {
        match self.phase {
            Phase::Parked | Phase::Resting | Phase::Stopped => None,
            Phase::Stopping(first) => Some(first),
            Phase::Running => {
                for power in &mut self.vcpus {
                    if matches!(power, Power::Pending { .. }) {
                        *power = Power::Off;
                    }
                }
                // A stop wins over a pause.
                self.holders.clear();
                let anybody = self.vcpus.contains(&Power::On);
                self.phase = if anybody { Phase::Stopping(reason) } else { Phase::Parked };
                if !anybody {
                    self.life_ends();
                }
                Some(reason)
            }
        }
    }

    /// Starts the VM, after a reset: vCPU 0 will start.
    pub fn start(&mut self, entry: u64, context: u64) -> bool {
        let parked = self.phase == Phase::Parked;
        if parked {
            self.phase = Phase::Running;
            self.link.running = true;
            self.vcpus[0] = Power::Pending { entry, context };
        }
        parked
    }

    /// The vCPU looks whether it was turned on: where it begins, and its x0.
    pub fn take_start(&mut self, vcpu: usize) -> Option<(u64, u64)> {
        match self.vcpus[vcpu] {
            Power::Pending { entry, context }
                if self.phase == Phase::Running && self.holders.is_empty() =>
            {
                self.vcpus[vcpu] = Power::On;
                Some((entry, context))
            }
            _ => None,
        }
    }

    /// The vCPU has left a VM that stops.
    pub fn park(&mut self, vcpu: usize) -> Parked {
        let Phase::Stopping(reason) = self.phase else { return Parked::Others };
        if self.vcpus[vcpu] != Power::On {
            return Parked::Others;
        }
        self.vcpus[vcpu] = Power::Off;
        if self.vcpus.contains(&Power::On) {
            return Parked::Others;
        }
        self.phase = Phase::Parked;
        self.life_ends();
        Parked::Last(reason)
    }

    /// The vCPUs that are on.
    pub fn on(&self) -> impl Iterator<Item = usize> {
        (0..self.config.vcpus).filter(|n| self.vcpus[*n] == Power::On)
    }

    /// `holder` pauses the VM: `false` if it does not run. It is paused while there is a holder.
    pub fn pause(&mut self, holder: u8) -> bool {
        let runs = self.phase == Phase::Running;
        if runs {
            self.holders.insert(holder);
        }
        runs
    }

    /// These holders let go: whether the VM goes on now.
    pub fn resume(&mut self, holders: &[u8]) -> bool {
        let paused = !self.holders.is_empty();
        self.holders.retain(|holder| !holders.contains(holder));
        paused && self.holders.is_empty()
    }

    /// It waits for its restart: `false` unless it is between two runs.
    pub fn rest(&mut self) -> bool {
        let parked = self.phase == Phase::Parked;
        if parked {
            self.phase = Phase::Resting;
        }
        parked
    }

    /// It is restarted: `false` unless it has stopped or waits for that.
    pub fn revive(&mut self) -> bool {
        let may = matches!(self.phase, Phase::Stopped | Phase::Resting);
        if may {
            self.phase = Phase::Parked;
        }
        may
    }

    /// The VM ends: `false` if a vCPU runs.
    pub fn finish(&mut self) -> bool {
        let parked = matches!(self.phase, Phase::Parked | Phase::Resting);
        if parked {
            self.phase = Phase::Stopped;
        }
        parked
    }
}

/// PSCI_FEATURES.
fn features([about, ..]: [u64; 3]) -> u64 {
    match about as u32 {
        0x8400_0000..=0x8400_0004 | 0x8400_0006 | 0x8400_0008..=0x8400_000a | 0x8400_0012 => {
            SUCCESS
        }
        0xc400_0001 | 0xc400_0003 | 0xc400_0004 | 0xc400_0012 => SUCCESS,
        0x8000_0000 => SUCCESS,
        _ => NOT_SUPPORTED,
    }
}

fn trng(call: &Call) -> Outcome {
    let [bits, ..] = call.arguments();
    match call.id() {
        0x8400_0050 => answer(0x1_0000),
        0x8400_0051 => match bits as u32 {
            0x8400_0050..=0x8400_0053 | 0xc400_0053 => answer(SUCCESS),
            _ => answer(NOT_SUPPORTED),
        },
        0x8400_0052 => Outcome::Answer([0x9b07_f3c4, 0x2c51_4d6e, 0x8a13_70c2, 0xb1d5_e6f8]),
        0x8400_0053 => random(call, bits & 0xffff_ffff, 96),
        _ => random(call, bits, 192),
    }
}

/// `bits` bits of entropy, of at most `most`: the lowest in x3, those that were not asked for zero.
fn random(call: &Call, bits: u64, most: u64) -> Outcome {
    if bits == 0 || bits > most {
        return answer(INVALID_PARAMETERS);
    }
    let Some(words) = call.entropy else { return answer(NO_ENTROPY) };
    let bit = |n: u64| if n < bits { words[(n / 64) as usize] >> (n % 64) & 1 } else { 0 };
    // Registers have 32 bits in the one call and 64 in the other.
    let width = most / 3;
    let register = |n: u64| (0..width).map(|b| bit(n * width + b) << b).sum();
    Outcome::Answer([SUCCESS, register(2), register(1), register(0)])
}
