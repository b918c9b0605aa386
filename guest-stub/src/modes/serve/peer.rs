// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer: what is known of it, and attaching to each of its incarnations.

use mmio_guard::abi::device::{PeerInfo, control};

use crate::control_page::{Access, ControlPage, PAGE};
use crate::device_calls::{self, DONE, REFUSED, peer_info};
use crate::served::{self, BELL_KINDS, pattern};
use crate::{gic, probe};

/// vCPUs that a peer can have.
pub const VCPUS: usize = 8;

/// What the client says it shares: up to 64 granules.
#[derive(Clone, Copy, Default)]
pub struct Shared {
    /// The first of them.
    pub start: u64,
    /// Which are shared.
    pub bits: u64,
    /// Number of the pattern in them.
    pub pattern: u64,
}

impl Shared {
    /// What the window must show at `ipa`.
    pub fn expected(&self, ipa: u64) -> u64 {
        let granule = ipa.wrapping_sub(self.start) / PAGE;
        if granule < 64 && self.bits >> granule & 1 != 0 { pattern(self.pattern, ipa) } else { 0 }
    }
}

/// Transports that it serves.
pub const DISKS: usize = 2;

/// What the server remembers of a transport.
#[derive(Clone, Copy, Default)]
pub struct Disk {
    /// The last number of an event.
    pub event: u32,
    /// The last number of a notification.
    pub notified: u32,
    /// QueueReady of the ring that `taken` is about.
    pub ring: u64,
    /// Requests that were taken out of it.
    pub taken: u16,
    /// Requests that were served.
    pub served: u64,
    /// Requests that made no sense.
    pub rubbish: u64,
}

/// A peer, in its present incarnation.
pub struct Peer {
    pub(super) number: u64,
    pub(super) page: ControlPage,
    /// What PEER_INFO and the control page call the incarnation.
    pub(super) life: u64,
    /// Incarnations that were served.
    pub(super) lives: u64,
    pub(super) done: bool,
    /// A reset was announced.
    pub(super) reset_due: bool,
    pub(super) wrong: u64,
    /// Number of the last access that was looked at, of each vCPU.
    pub(super) seen: [u64; VCPUS],
    pub(super) bells: [u32; BELL_KINDS.len()],
    pub(super) rings: [u64; BELL_KINDS.len()],
    /// The last access to any page but the registers, and how many there were.
    pub(super) last: Access,
    pub(super) count: u64,
    /// What to do with the next access to the values.
    pub(super) behave: u64,
    /// What the client said about its shares.
    pub(super) shared: Shared,
    /// Its transports, and what is known of the first ones.
    pub(super) transports: usize,
    /// How often it attached, and at which time the transports were offered.
    pub(super) attachments: u64,
    pub(super) offered: u64,
    pub(super) disks: [Disk; DISKS],
}

impl Peer {
    /// Number `number`, not attached.
    pub fn new(number: u64) -> Self {
        Self {
            number,
            page: ControlPage::of(number),
            life: 0,
            lives: 0,
            done: false,
            reset_due: false,
            wrong: 0,
            seen: [0; VCPUS],
            bells: [0; BELL_KINDS.len()],
            rings: [0; BELL_KINDS.len()],
            last: Access::NONE,
            count: 0,
            behave: 0,
            shared: Shared::default(),
            transports: 0,
            attachments: 0,
            offered: 0,
            disks: [Disk::default(); DISKS],
        }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// It has no more wishes.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// How much was wrong.
    pub fn wrong(&self) -> u64 {
        self.wrong
    }

    /// A line about it.
    pub fn report(&self) {
        say!(
            "serve: peer {}: {} lives, {} accesses, {} rings, {} interrupts in all",
            self.number,
            self.lives,
            self.count,
            self.rings.iter().sum::<u64>(),
            gic::count_shared(0)
        );
    }

    /// Says what is wrong, and counts it.
    pub fn complain(&mut self, what: core::fmt::Arguments<'_>) {
        say!("FAIL serve: peer {}: {what}", self.number);
        self.wrong += 1;
    }

    /// Complains unless the two are equal.
    pub fn expect(&mut self, what: &str, got: [u64; 4], wanted: [u64; 4]) {
        if got != wanted {
            self.complain(format_args!("{what}: {got:x?}, expected {wanted:x?}"));
        }
    }

    /// A new incarnation: what belonged to the old one is refused, and this one is served.
    pub fn begin(&mut self, life: u64, info: PeerInfo) {
        self.reset_due = false;
        if self.lives > 0 {
            self.expect(
                "ATTACH of a former life",
                device_calls::attach(self.number, self.life),
                REFUSED,
            );
            self.expect(
                "DETACH of a former life",
                device_calls::detach(self.number, self.life),
                REFUSED,
            );
            let old = self.last;
            let late = device_calls::complete(self.number, old.vcpu(), old.seq, !0);
            self.expect("COMPLETE of a former life's access", late, REFUSED);
        }
        self.expect(
            "ATTACH of a life to come",
            device_calls::attach(self.number, life.wrapping_add(1)),
            REFUSED,
        );
        if info.attached {
            self.complain(format_args!("attached before ATTACH"));
        }
        self.attach(life);
        self.lives += 1;
        self.behave = 0;
        self.shared = Shared::default();
        say!(
            "serve: peer {}: life {} of it, outstanding {:#x}",
            self.number,
            self.lives,
            info.outstanding
        );
    }

    /// Attaches; accesses of before that are not outstanding have been dealt with.
    pub fn attach(&mut self, life: u64) {
        self.life = life;
        let before: [u64; VCPUS] = core::array::from_fn(|vcpu| self.page.seq(vcpu));
        let outstanding = peer_info(self.number).map_or(0, |(_, info, _)| info.outstanding);
        for (vcpu, (seen, before)) in self.seen.iter_mut().zip(before).enumerate() {
            *seen = if outstanding >> vcpu & 1 == 0 { before } else { 0 };
        }
        for (n, bell) in self.bells.iter_mut().enumerate() {
            *bell = self.page.word(control::doorbell(n));
        }
        self.expect("ATTACH", device_calls::attach(self.number, life), DONE);
        self.attachments += 1;
        let attached = peer_info(self.number).is_some_and(|(_, info, _)| info.attached);
        if !attached {
            self.complain(format_args!("not attached after ATTACH"));
        }
        if self.page.double(control::LIFE) != life {
            self.complain(format_args!("the control page has another life"));
        }
    }

    /// Detaches and attaches again, with an access outstanding that is being dealt with.
    pub fn attach_again(&mut self) {
        let (life, seen) = (self.life, self.seen);
        self.expect("DETACH", device_calls::detach(self.number, life), DONE);
        self.attach(life);
        self.seen = seen;
    }

    /// The doorbells' words say that they rang, and perhaps how often.
    pub fn count_rings(&mut self) -> bool {
        let mut any = false;
        for (n, (bell, rings)) in self.bells.iter_mut().zip(&mut self.rings).enumerate() {
            let now = self.page.word(control::doorbell(n));
            *rings += u64::from(now.wrapping_sub(*bell));
            any |= now != *bell;
            *bell = now;
        }
        any
    }

    /// The slot tells what P3 allows, cut to the size.
    pub fn check(&mut self, access: Access) {
        let size = access.size();
        let in_page = access.ipa & 0xfff;
        let sized = [1, 2, 4, 8].contains(&size) && in_page + size <= 4096;
        let kind = access.kind >> 24 == 0 && access.kind >> 8 & 0xff <= 1;
        let cut = access.value & !probe::mask(size) == 0 && (access.stores() || access.value == 0);
        let page = (served::BASE..served::HIDDEN).contains(&access.ipa);
        if !sized || !kind || !cut || !page {
            self.complain(format_args!("was told of {access:x?}"));
        }
    }

    /// Answers as it should.
    pub fn complete(&mut self, access: Access, value: u64) {
        let answer = device_calls::complete(self.number, access.vcpu(), access.seq, value);
        self.expect("COMPLETE", answer, DONE);
    }
}
