// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accesses that the VM's server answers: docs/devices.md, "Forwarded accesses" and "Stops and resets".

use crate::link::{Access, Answer, Bell, Link};
use crate::{Data, Load, Outcome, Reason, Told, Vm};

impl Vm {
    /// An access that the guard let pass and no device of EL2 answers.
    pub(crate) fn forward(&mut self, data: &Data, ipa: u64, bytes: u64, register: u8) -> Outcome {
        let abort = |reason| Outcome::Abort { reason, ipa: Some(ipa), walk: false, fetch: false };
        let Some(served) = &self.config.served else { return abort(Reason::NoDevice) };
        if served.transports.contains(ipa) {
            let load = if data.write { None } else { Some(Load { register }) };
            return Outcome::ServedOrWaits(load);
        }
        if !served.forwards(ipa, bytes) {
            return abort(Reason::NoDevice);
        }
        let store = data.write.then(|| data.stored(bytes));
        let rings = |bell: &Bell| {
            bell.ipa == ipa
                && bell.bytes == bytes
                && bell.value.is_none_or(|value| Some(value) == store)
        };
        if store.is_some() && self.link.bells.iter().flatten().any(rings) {
            return Outcome::Served(None);
        }
        if self.link.lost {
            return abort(Reason::NoAnswer);
        }
        self.link.numbers[data.vcpu] += 1;
        if served.aborts_on_loss && self.link.known && !self.link.attached {
            return abort(Reason::NoAnswer);
        }
        let told = Told { number: self.link.numbers[data.vcpu], ipa, bytes, store };
        self.link.accesses[data.vcpu] = Some(Access::Forwarded { told, data: *data, answer: None });
        Outcome::Asks
    }

    /// An access of `vcpu` to a transport waits.
    pub fn waits_for_transport(&mut self, vcpu: usize) {
        self.link.accesses[vcpu] = Some(Access::Transport);
    }

    /// Whether the access of `vcpu` has ended at `now`, and how. `ends` is what the machine says where the specification leaves it
    /// open: of transports, and between the earliest and the latest moment of a deadline.
    pub fn finish_access(&mut self, vcpu: usize, now: u64, ends: bool) -> Option<Outcome> {
        let timeout = self.config.served.as_ref()?.timeout;
        let link = &mut self.link;
        let access = link.accesses[vcpu]?;
        let Access::Forwarded { data, answer, .. } = access else {
            if ends {
                link.accesses[vcpu] = None;
            }
            return ends.then_some(Outcome::Retry);
        };
        let answer = match answer {
            Some(answer) => answer,
            None if timeout == 0 || !link.attached => return None,
            None => {
                let deadline = data.now.latest(link.attached_at).after(timeout);
                if now < deadline.from || now < deadline.to && !ends {
                    return None;
                }
                // Nothing is forwarded to a server that has not answered in time.
                link.lost = true;
                Answer::Lost
            }
        };
        link.accesses[vcpu] = None;
        let abort = |reason| Outcome::Abort { reason, ipa: data.ipa, walk: false, fetch: false };
        Some(match (answer, data.access) {
            (Answer::Lost, _) => abort(Reason::NoAnswer),
            (Answer::Error, _) => abort(Reason::DeviceError),
            (Answer::Value(value), Some((bytes, register))) if !data.write => {
                Outcome::Loaded(Load { register }, data.loaded(bytes, value))
            }
            (Answer::Value(_), _) => Outcome::Served(None),
        })
    }

    /// The VM has stopped, or is reset: its server sees nothing of it any more, and its accesses are gone.
    pub(crate) fn life_ends(&mut self) {
        self.life += 1;
        if self.config.served.is_none() {
            return;
        }
        self.shared.clear();
        self.tables.set_free(self.tables.free() + self.link.tables.len() as u64);
        let numbers = core::mem::take(&mut self.link.numbers);
        self.link = Link { numbers, ..Link::new(self.config.vcpus) };
    }

    /// The VM that serves this one has stopped, or is reset.
    pub(crate) fn server_leaves(&mut self) {
        let aborts = self.config.served.as_ref().is_some_and(|served| served.aborts_on_loss);
        self.link.leave(aborts);
    }
}
