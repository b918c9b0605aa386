// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a peer's accesses are answered with.

use mmio_guard::abi::device::DOORBELL_MATCH;

use super::peer::{Peer, VCPUS};
use super::{disk, hostile, spy};
use crate::control_page::Access;
use crate::device_calls::{self, DONE, REFUSED, peer_info};
use crate::served::{self, BELL_KINDS, command};
use crate::{gic, smp, time};

impl Peer {
    /// Does all that is new; whether anything was.
    pub fn poll(&mut self) -> bool {
        if self.done {
            return false;
        }
        let Some((life, info, _)) = peer_info(self.number) else {
            self.complain(format_args!("PEER_INFO does not know it any more"));
            self.done = true;
            return false;
        };
        if !info.running {
            self.done = self.lives > 0 && !self.reset_due;
            return false;
        }
        if self.lives == 0 || life != self.life {
            self.begin(life, info);
            self.transports = info.devices.into();
        }
        if self.offered != self.attachments {
            disk::offer(self, self.transports);
        }
        let mut busy = false;
        for vcpu in 0..usize::from(info.vcpus).min(VCPUS) {
            busy |= self.poll_slot(vcpu);
        }
        busy |= disk::poll(self, self.transports);
        self.count_rings() || busy
    }

    fn poll_slot(&mut self, vcpu: usize) -> bool {
        let seq = self.page.seq(vcpu);
        let Some(seen) = self.seen.get_mut(vcpu).filter(|seen| **seen != seq) else { return false };
        let older = *seen >= seq;
        *seen = seq;
        let access = self.page.access(vcpu);
        if older || access.vcpu() != vcpu as u64 {
            self.complain(format_args!("slot {vcpu} holds {access:x?}"));
        }
        self.check(access);
        self.answer(access);
        true
    }

    fn answer(&mut self, access: Access) {
        let offset = access.ipa & !7;
        if access.ipa < served::VALUES {
            let value = if access.stores() {
                self.register_store(access, offset);
                !0
            } else {
                self.register(access.ipa)
            };
            self.complete(access, value);
            return;
        }
        self.last = access;
        self.count += 1;
        let behave = core::mem::take(&mut self.behave);
        hostile::answer(self, access, behave);
    }

    fn register(&mut self, ipa: u64) -> u64 {
        match ipa {
            served::ID => served::ID_VALUE,
            served::WRONG => self.wrong,
            served::LIVES => self.lives,
            served::LAST_IPA => self.last.ipa,
            served::LAST_VALUE => self.last.value,
            served::LAST_KIND => u64::from(self.last.kind),
            served::COUNT => self.count,
            served::SEEN => spy::seen(),
            _ => {
                self.count_rings();
                let n = ipa.wrapping_sub(served::RINGS) / 8;
                self.rings.get(n as usize).copied().unwrap_or(0)
            }
        }
    }

    fn register_store(&mut self, access: Access, offset: u64) {
        match offset {
            served::SHARED_START => self.shared.start = access.value,
            served::SHARED_BITS => self.shared.bits = access.value,
            served::PATTERN => self.shared.pattern = access.value,
            served::COMMAND => self.command(access),
            _ => self.complain(format_args!("{access:x?} is no register")),
        }
    }

    fn command(&mut self, access: Access) {
        match access.value {
            command::SET_BELLS => self.set_bells(),
            command::REMOVE_BELLS => {
                for n in 0..BELL_KINDS.len() as u64 {
                    let removed = device_calls::doorbell(self.number, n, served::BELLS, 0, 0);
                    self.expect("DOORBELL of size 0", removed, DONE);
                }
            }
            command::RANDOM => hostile::random_calls(self, access),
            command::SPY => spy::look(self),
            command::SPY_SHARED => spy::look_at_shared(self),
            command::POKE => spy::poke(self),
            command::WATCH => {
                if spy::watch(self).is_err() {
                    self.complain(format_args!("vCPU 1 does not watch"));
                }
            }
            command::END_WATCH => {
                let secrets = spy::end_watch();
                if smp::finish(1, 10_000).is_err() || secrets != 0 {
                    self.complain(format_args!("{secrets} secrets were seen"));
                }
            }
            command::TRESPASS => hostile::trespass(self),
            command::FLOOD => disk::flood(self, self.transports),
            command::CYCLES => (0..1000).for_each(|_| self.attach_again()),
            command::EXPECT_RESET => self.reset_due = true,
            command::BYE => {
                self.done = true;
                // The interrupt may be the other half of what was polled just now.
                time::wait_until(1_000, || {
                    gic::let_in();
                    gic::count_shared(0) != 0
                });
                if gic::count_shared(0) == 0 {
                    self.complain(format_args!("no interrupt has come"));
                }
            }
            behave => self.behave = behave,
        }
    }

    fn set_bells(&mut self) {
        let peer = self.number;
        let ring = |n, ipa, kind, value| device_calls::doorbell(peer, n, ipa, kind, value);
        for (ipa, size) in [
            (served::BELLS, 3),
            (served::BELLS, 16),
            (served::END - 1, 2),
            (served::BASE - 2, 4),
            (served::END, 4),
            (served::BASE - 4, 4),
            (served::END - 4, 8),
            (self.page.ram().0, 4),
            (u64::MAX - 3, 4),
            (1 << 48, 4),
        ] {
            self.expect("DOORBELL out of place", ring(0, ipa, size, 0), REFUSED);
        }
        for n in [32, 33, 0xffff] {
            self.expect("DOORBELL of no number", ring(n, served::BELLS, 4, 0), REFUSED);
        }
        for (n, (offset, size, value)) in (0..).zip(BELL_KINDS) {
            let kind = size | if value.is_some() { DOORBELL_MATCH } else { 0 };
            let set = ring(n, served::BELLS + offset, kind, value.unwrap_or(!0));
            self.expect("DOORBELL", set, DONE);
        }
    }
}
