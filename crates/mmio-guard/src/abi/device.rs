// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a VM with `vm.role=device` uses to serve other VMs: its calls and the layout of the pages that EL2 gives it.
//!
//! A *peer* is a VM that this VM serves; peers have numbers from 0 in the order of the VMs. A call of any other VM answers
//! [`NOT_SUPPORTED`](super::NOT_SUPPORTED). A call that fails has changed nothing. docs/devices.md tells what each is for.

use super::vendor64;

/// About a peer: x1 = peer. x0 = 0, x1 = life, x2 = [`PeerInfo`], x3 = milliseconds that an access waits (0: for ever); -3: no such peer.
pub const PEER_INFO: u32 = vendor64(0xF010);
/// Begins or ends serving: x1 = peer, x2 = 1 or 0, x3 = life as [`PEER_INFO`] gives it. -3: another life, or not attached.
pub const ATTACH: u32 = vendor64(0xF011);
/// Completes a forwarded access: x1 = peer | vCPU << 16, x2 = the slot's sequence number, x3 = value of a load, x4 = 0, or 1
/// for a device error. -3 unless that very access is outstanding.
pub const COMPLETE: u32 = vendor64(0xF012);
/// Sets a doorbell: x1 = peer | number << 16, x2 = IPA, x3 = size in bytes (0 removes it) | [`DOORBELL_MATCH`], x4 = value. -3
/// outside the peer's forwarded pages, or with a size that is none.
pub const DOORBELL: u32 = vendor64(0xF013);
/// The interrupt of a transport: x1 = peer | transport << 16, x2 = one of [`irq`], x3 = bits of InterruptStatus. -3: no such transport.
pub const IRQ: u32 = vendor64(0xF014);
/// A register of a transport: x1 = peer | transport << 16, x2 = 0 get, 1 set, x3 = register, x4 = value. x1 = value. -3: no such
/// register, or not now.
pub const REG: u32 = vendor64(0xF015);
/// Ends the wait of a driver that reset its device or a queue: x1 = peer | transport << 16, x2 = the event's number. -3: no access
/// waits for that event.
pub const EVENT_DONE: u32 = vendor64(0xF016);

/// x1 of [`own::VERSION`](super::own::VERSION) has these bits as well for a VM with `vm.role=device`.
pub const FUNCTIONS: u64 = 0x7F << 16;

/// x3 of [`DOORBELL`]: only a store of the value in x4 rings.
pub const DOORBELL_MATCH: u64 = 1 << 8;

/// x2 of [`IRQ`].
pub mod irq {
    /// Sets the bits in x3 in InterruptStatus; the line is high until the driver has acknowledged all bits.
    pub const STATUS: u64 = 3;
}

/// x2 of [`PEER_INFO`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerInfo {
    /// Number of vCPUs.
    pub vcpus: u8,
    /// Number of transports.
    pub devices: u8,
    /// The peer has been started and not stopped.
    pub running: bool,
    /// This VM serves it.
    pub attached: bool,
    /// Bit n: an access of vCPU n is outstanding.
    pub outstanding: u8,
}

impl PeerInfo {
    /// As x2: bits 7:0 vCPUs, 15:8 transports, 16 running, 17 attached, 31:24 outstanding.
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        self.vcpus as u64
            | (self.devices as u64) << 8
            | (self.running as u64) << 16
            | (self.attached as u64) << 17
            | (self.outstanding as u64) << 24
    }

    /// Reads x2; other bits are ignored.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        let [vcpus, devices, state, outstanding, ..] = raw.to_le_bytes();
        Self { vcpus, devices, running: state & 1 != 0, attached: state & 2 != 0, outstanding }
    }
}

/// Where EL2 puts what a device VM sees of its peers, in its own address space.
pub mod map {
    /// The control page of peer 0, read-only; that of peer p is p pages further.
    pub const CONTROL: u64 = 0x0B00_0000;
    /// The register image of transport 0 of peer 0; that of transport d of peer p is p * 16 + d pages further.
    pub const IMAGES: u64 = 0x0B10_0000;
    /// Windows are from here on.
    pub const WINDOWS: u64 = 0x10_0000_0000;
    /// They end here.
    pub const WINDOWS_END: u64 = 0x40_0000_0000;
    /// The interrupt of peer 0, on a rising edge; that of peer p is p further.
    pub const INTID: u32 = 96;
    /// Most peers of a device VM.
    pub const PEERS: usize = 32;
    /// Most transports of a peer.
    pub const TRANSPORTS: usize = 16;
    /// Most queues of a transport.
    pub const QUEUES: usize = 16;
    /// Most doorbells of a peer.
    pub const DOORBELLS: usize = 32;
}

/// Offsets in a control page. Little-endian; every word is written by EL2 alone, the last one of an event with release
/// semantics, and EL2 never reads one.
pub mod control {
    /// u32: [`MAGIC_VALUE`].
    pub const MAGIC: u64 = 0x000;
    /// "PVD1".
    pub const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"PVD1");
    /// u32: 1.
    pub const VERSION: u64 = 0x004;
    /// u64: changes whenever the peer is started or stops, written last.
    pub const LIFE: u64 = 0x008;
    /// u64: bytes of the peer's RAM.
    pub const RAM_SIZE: u64 = 0x010;
    /// u32: number of vCPUs of the peer.
    pub const VCPUS: u64 = 0x018;
    /// u32: number of transports of the peer.
    pub const DEVICES: u64 = 0x01C;
    /// u64: where the window of the peer begins in this VM's address space.
    pub const WINDOW: u64 = 0x020;
    /// u64: where the peer's RAM begins in the peer's address space: a peer's address is this much beyond the window's offset.
    pub const RAM_BASE: u64 = 0x028;
    /// The peer's name, 32 bytes, filled with zeros.
    pub const NAME: u64 = 0x030;
    /// u32 per doorbell: changes with each ring.
    pub const DOORBELLS: u64 = 0x080;
    /// u32 per transport: the number of its last event.
    pub const EVENTS: u64 = 0x100;
    /// A slot per vCPU, [`SLOT_SIZE`] bytes each.
    pub const SLOTS: u64 = 0x200;
    /// Bytes of a slot.
    pub const SLOT_SIZE: u64 = 0x40;
    /// In a slot, u64: the number of the access, written last.
    pub const SLOT_SEQ: u64 = 0x00;
    /// In a slot, u64: the address in the peer's address space.
    pub const SLOT_IPA: u64 = 0x08;
    /// In a slot, u64: what a store wrote, cut to its size; 0 for a load.
    pub const SLOT_VALUE: u64 = 0x10;
    /// In a slot, u32: bits 7:0 size in bytes, 15:8 1 for a store, 23:16 vCPU.
    pub const SLOT_KIND: u64 = 0x18;
    /// u32 per queue of each transport, 16 for each: changes with each notification.
    pub const NOTIFY: u64 = 0x400;

    /// Offset of doorbell `n`'s word.
    #[must_use]
    pub const fn doorbell(n: usize) -> u64 {
        DOORBELLS.wrapping_add((n as u64).wrapping_mul(4))
    }

    /// Offset of the event word of transport `d`.
    #[must_use]
    pub const fn event(d: usize) -> u64 {
        EVENTS.wrapping_add((d as u64).wrapping_mul(4))
    }

    /// Offset of the slot of `vcpu`.
    #[must_use]
    pub const fn slot(vcpu: usize) -> u64 {
        SLOTS.wrapping_add((vcpu as u64).wrapping_mul(SLOT_SIZE))
    }

    /// Offset of the notification word of queue `q` of transport `d`.
    #[must_use]
    pub const fn notify(d: usize, q: usize) -> u64 {
        NOTIFY.wrapping_add((d as u64).wrapping_mul(64)).wrapping_add((q as u64).wrapping_mul(4))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;

    #[test]
    fn peer_info_survives_the_register() {
        let info =
            PeerInfo { vcpus: 8, devices: 16, running: true, attached: false, outstanding: 0x81 };
        assert_eq!(info.to_raw(), 0x8101_1008);
        assert_eq!(PeerInfo::from_raw(info.to_raw()), info);
        let other = PeerInfo { attached: true, ..PeerInfo::default() };
        assert_eq!(PeerInfo::from_raw(other.to_raw() | !0xFFFF_FFFF), other);
    }

    /// Every word of the control page has an address of its own, and all are within the page.
    #[test]
    fn words_of_the_control_page_do_not_overlap() {
        let mut used = std::collections::BTreeMap::new();
        let mut take = |at: u64, size: u64, what: &'static str| {
            for byte in at..at + size {
                assert_eq!(used.insert(byte, what), None, "{what} at {at:#x}");
                assert!(byte < super::super::GRANULE);
            }
        };
        take(control::MAGIC, 4, "magic");
        take(control::VERSION, 4, "version");
        take(control::LIFE, 8, "life");
        take(control::RAM_SIZE, 8, "size");
        take(control::VCPUS, 4, "vcpus");
        take(control::DEVICES, 4, "devices");
        take(control::WINDOW, 8, "window");
        take(control::RAM_BASE, 8, "base");
        take(control::NAME, 32, "name");
        for n in 0..map::DOORBELLS {
            take(control::doorbell(n), 4, "doorbell");
        }
        for d in 0..map::TRANSPORTS {
            take(control::event(d), 4, "event");
            for q in 0..map::QUEUES {
                take(control::notify(d, q), 4, "notify");
            }
        }
        for vcpu in 0..8 {
            take(control::slot(vcpu), control::SLOT_SIZE, "slot");
        }
    }

    #[test]
    fn the_bit_map_names_every_call() {
        let calls = [PEER_INFO, ATTACH, COMPLETE, DOORBELL, IRQ, REG, EVENT_DONE];
        let bits =
            calls.iter().fold(0, |bits, id| bits | 1_u64 << (id - super::super::own::VERSION));
        assert_eq!(bits, FUNCTIONS);
    }
}
