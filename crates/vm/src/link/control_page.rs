// SPDX-License-Identifier: MIT OR Apache-2.0
//! What EL2 writes on the page that a device VM has for each of its peers. EL2 never reads it back.

use crate::Host;
use arch::{Ipa, Pa, Range, Width};
use mmio_guard::abi::device::control;

/// A request as the device model sees it (P3): nothing else of the access is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub ipa: Ipa,
    /// Size.
    pub width: Width,
    /// What a store writes, cut to its size; `None` for a load.
    pub store: Option<u64>,
}

/// What the page says of the peer for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) name: &'a str,
    pub(crate) ram: Range<Ipa>,
    pub(crate) vcpus: usize,
    pub(crate) transports: usize,
    pub(crate) window: Ipa,
}

/// The page of one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ControlPage(pub(crate) Pa);

impl ControlPage {
    fn word<H: Host>(self, host: &H, offset: u64, value: u64) {
        host.publish(self.0, offset, Width::B4, value);
    }

    fn double<H: Host>(self, host: &H, offset: u64, value: u64) {
        host.publish(self.0, offset, Width::B8, value);
    }

    /// The part that does not change, then the peer's `life`.
    pub(crate) fn describe<H: Host>(self, host: &H, peer: &Peer<'_>, life: u64) {
        self.word(host, control::MAGIC, control::MAGIC_VALUE.into());
        self.word(host, control::VERSION, 1);
        self.double(host, control::RAM_SIZE, peer.ram.size());
        self.word(host, control::VCPUS, peer.vcpus as u64);
        self.word(host, control::DEVICES, peer.transports as u64);
        self.double(host, control::WINDOW, peer.window.raw());
        self.double(host, control::RAM_BASE, peer.ram.start().raw());
        let mut name = [0_u8; 32];
        for (to, from) in name.iter_mut().zip(peer.name.bytes()) {
            *to = from;
        }
        for (n, eight) in (0..4_u64).zip(name.as_chunks::<8>().0) {
            let at = control::NAME.wrapping_add(n.wrapping_mul(8));
            self.double(host, at, u64::from_le_bytes(*eight));
        }
        self.double(host, control::LIFE, life);
    }

    /// Access `number` of `vcpu`.
    pub(crate) fn request<H: Host>(self, host: &H, vcpu: usize, number: u64, request: &Request) {
        let slot = control::slot(vcpu);
        let at = |offset: u64| slot.wrapping_add(offset);
        let store = u64::from(request.store.is_some()) << 8;
        self.double(host, at(control::SLOT_IPA), request.ipa.raw());
        self.double(host, at(control::SLOT_VALUE), request.store.unwrap_or(0));
        let kind = request.width.bytes() | store | (vcpu as u64) << 16;
        self.word(host, at(control::SLOT_KIND), kind);
        self.double(host, at(control::SLOT_SEQ), number);
    }

    /// Transport `d` has had event `seq`.
    pub(crate) fn event<H: Host>(self, host: &H, d: usize, seq: u32) {
        self.word(host, control::event(d), seq.into());
    }

    /// Queue `q` of transport `d` was notified for the `count`th time.
    pub(crate) fn notify<H: Host>(self, host: &H, d: usize, q: usize, count: u32) {
        self.word(host, control::notify(d, q), count.into());
    }

    /// Doorbell `n` has rung for the `count`th time.
    pub(crate) fn doorbell<H: Host>(self, host: &H, n: usize, count: u32) {
        self.word(host, control::doorbell(n), count.into());
    }
}
