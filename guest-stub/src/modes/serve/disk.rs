// SPDX-License-Identifier: MIT OR Apache-2.0
//! The transports of a peer: each is a disk of a few sectors (virtio 1.2, section 5.2), read through the window. What the
//! driver says about its rings is followed only as far as it lies in the window; all else is counted as rubbish.

use mmio_guard::abi::device::{self, control, irq, map};
use virtio_mmio::Register;

use super::peer::{DISKS as MOST, Disk, Peer};
use crate::control_page::{ControlPage, PAGE};
use crate::device_calls::{DONE, call, of};
use crate::mmu::View;
use crate::served;

/// Entries of its queue.
const QUEUE: u16 = 8;
/// VIRTIO_F_VERSION_1 and VIRTIO_F_ACCESS_PLATFORM.
const FEATURES: u64 = 3 << 32;
/// VRING_DESC_F_NEXT and VRING_DESC_F_WRITE (virtio 2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// Bytes of a sector.
const SECTOR: u32 = 512;
/// VIRTIO_BLK_T_IN.
const READ: u32 = 0;

/// A descriptor.
#[derive(Clone, Copy, Default)]
struct Descriptor {
    ipa: u64,
    length: u32,
    flags: u16,
    next: u16,
}

/// Offers the disks, READY last. What an earlier server offered is the same.
pub fn offer(peer: &mut Peer, transports: usize) {
    peer.offered = peer.attachments;
    for d in 0..transports.min(MOST) {
        // Capacity in sectors.
        let image = map::IMAGES + (peer.number() * map::TRANSPORTS as u64 + d as u64) * PAGE;
        // SAFETY: the page that EL2 has put there for this transport's configuration.
        unsafe { (View::Normal.of(image) as *mut u64).write_volatile(served::SECTORS) };
        for (register, value) in [
            (Register::VendorId, 0x5654_5343),
            (Register::DeviceFeatures, FEATURES),
            (Register::QueueNumMax(0), QUEUE.into()),
            (Register::Ready, 1),
        ] {
            let set = call(device::REG, [of(peer.number(), d as u64), 1, register.raw(), value]);
            peer.expect("REG set", set, DONE);
        }
        if let Some(disk) = peer.disks.get_mut(d) {
            *disk = Disk { served: disk.served, rubbish: disk.rubbish, ..Disk::default() };
        }
    }
}

/// The value of a register of transport `d`; 0 where it cannot be had.
fn register(peer: &Peer, d: usize, register: Register) -> u64 {
    let [x0, x1, ..] = call(device::REG, [of(peer.number(), d as u64), 0, register.raw(), 0]);
    if x0 == 0 { x1 } else { 0 }
}

/// Does what is new; whether anything was.
pub fn poll(peer: &mut Peer, transports: usize) -> bool {
    let mut busy = false;
    for d in 0..transports.min(MOST) {
        let event = peer.page.word(control::event(d));
        let notified = peer.page.word(control::notify(d, 0));
        let Some(disk) = peer.disks.get_mut(d) else { continue };
        let (told, rang) = (event != disk.event, notified != disk.notified);
        (disk.event, disk.notified) = (event, notified);
        if told {
            finish_events(peer, d);
        }
        if told || rang {
            serve(peer, d);
            busy = true;
        }
    }
    busy
}

/// Nothing is being read or written: resets and stops are done at once.
fn finish_events(peer: &mut Peer, d: usize) {
    let outstanding = register(peer, d, Register::Outstanding);
    for (bit, seq) in [(1 << 16, Register::ResetSeq), (1, Register::QueueStop(0))] {
        if outstanding & bit != 0 {
            let seq = register(peer, d, seq);
            let target = of(peer.number(), d as u64);
            let stale = call(device::EVENT_DONE, [target, seq + 1, 0, 0]);
            peer.expect("EVENT_DONE of no event", stale, crate::device_calls::REFUSED);
            let done = call(device::EVENT_DONE, [target, seq, 0, 0]);
            peer.expect("EVENT_DONE", done, DONE);
        }
    }
    if outstanding & 1 << 17 != 0 {
        let seq = register(peer, d, Register::ConfigStore) >> 32;
        let done = call(device::EVENT_DONE, [of(peer.number(), d as u64), seq, 0, 0]);
        peer.expect("EVENT_DONE of a store to the configuration", done, DONE);
    }
}

/// Takes what is available in queue 0, at most one ring full.
fn serve(peer: &mut Peer, d: usize) {
    let ready = register(peer, d, Register::QueueReady(0));
    let size = register(peer, d, Register::QueueNum(0)) as u16;
    if ready == 0 || size == 0 || size > QUEUE {
        return;
    }
    let [table, driver, used] =
        [Register::QueueDesc(0), Register::QueueDriver(0), Register::QueueDevice(0)]
            .map(|area| register(peer, d, area));
    let Some(disk) = peer.disks.get_mut(d) else { return };
    if disk.ring != ready {
        // An earlier server may have begun.
        (disk.ring, disk.taken) = (ready, word(peer.page, used + 2));
    }
    let mut taken = disk.taken;
    let page = peer.page;
    let available = word(page, driver + 2);
    if available.wrapping_sub(taken) > size {
        disk.rubbish += 1;
        return;
    }
    let mut raise = false;
    while taken != available {
        let slot = u64::from(taken % size);
        let head = word(page, driver + 4 + slot * 2);
        let length = request(page, table, size, head);
        match length {
            Some(_) => disk.served += 1,
            None => disk.rubbish += 1,
        }
        put(page, used + 4 + slot * 8, &u64::from(head).to_le_bytes()[..4]);
        put(page, used + 8 + slot * 8, &length.unwrap_or(0).to_le_bytes());
        taken = taken.wrapping_add(1);
        put(page, used + 2, &taken.to_le_bytes());
        raise = true;
    }
    disk.taken = taken;
    plain!("dmb ish");
    if raise {
        let raised = call(device::IRQ, [of(peer.number(), d as u64), irq::STATUS, 1, 0]);
        peer.expect("IRQ", raised, DONE);
    }
}

/// Serves the request that begins with descriptor `head`: bytes written to the driver's buffers.
fn request(page: ControlPage, table: u64, size: u16, head: u16) -> Option<u32> {
    let mut chain = [Descriptor::default(); 3];
    let mut index = head;
    for (n, slot) in chain.iter_mut().enumerate() {
        if index >= size {
            return None;
        }
        *slot = descriptor(page, table + u64::from(index) * 16)?;
        let more = slot.flags & NEXT != 0;
        let writes = slot.flags & WRITE != 0;
        if more != (n < 2) || writes != (n > 0) {
            return None;
        }
        index = slot.next;
    }
    let [header, data, status] = chain;
    let mut head = [0; 16];
    if header.length != 16
        || data.length == 0
        || !data.length.is_multiple_of(SECTOR)
        || status.length != 1
        || !within(page, data.ipa, data.length as usize)
        || !get(page, header.ipa, &mut head)
    {
        return None;
    }
    let [kind, _, low, high] = core::array::from_fn(|n| {
        head.as_chunks::<4>().0.get(n).map_or(0, |four| u32::from_le_bytes(*four))
    });
    let sector = u64::from(low) | u64::from(high) << 32;
    let sectors = u64::from(data.length / SECTOR);
    if kind != READ || sector > served::SECTORS || sectors > served::SECTORS - sector {
        put(page, status.ipa, &[1]);
        return Some(1);
    }
    for (number, at) in (sector..sector + sectors).zip((data.ipa..).step_by(SECTOR as usize)) {
        for n in (0..u64::from(SECTOR)).step_by(8) {
            put(page, at + n, &served::sector(number, n).to_le_bytes());
        }
    }
    put(page, status.ipa, &[0]);
    Some(data.length + 1)
}

fn descriptor(page: ControlPage, at: u64) -> Option<Descriptor> {
    let mut bytes = [0; 16];
    get(page, at, &mut bytes).then(|| {
        let [low, high] = core::array::from_fn(|n| {
            bytes.as_chunks::<8>().0.get(n).map_or(0, |eight| u64::from_le_bytes(*eight))
        });
        let [flags, next] = [high >> 32, high >> 48].map(|half| half as u16);
        Descriptor { ipa: low, length: high as u32, flags, next }
    })
}

/// Whether `length` bytes at `ipa` are in the window.
fn within(page: ControlPage, ipa: u64, length: usize) -> bool {
    let (base, size) = page.ram();
    ipa >= base && (length as u64) <= size && ipa - base <= size - length as u64
}

fn get(page: ControlPage, ipa: u64, to: &mut [u8]) -> bool {
    let inside = within(page, ipa, to.len());
    if inside {
        for (byte, at) in to.iter_mut().zip(page.window(ipa)..) {
            // SAFETY: within the window, which is mapped whatever the peer does.
            *byte = unsafe { (at as *const u8).read_volatile() };
        }
    }
    inside
}

fn put(page: ControlPage, ipa: u64, from: &[u8]) {
    if within(page, ipa, from.len()) {
        for (byte, at) in from.iter().zip(page.window(ipa)..) {
            // SAFETY: as above, and nothing of this program is there.
            unsafe { (at as *mut u8).write_volatile(*byte) };
        }
    }
}

/// 16 bits in the window; 0 outside.
fn word(page: ControlPage, ipa: u64) -> u16 {
    let mut bytes = [0; 2];
    if get(page, ipa, &mut bytes) { u16::from_le_bytes(bytes) } else { 0 }
}

/// Raises the interrupts of all transports again and again, and tries to raise others.
pub fn flood(peer: &mut Peer, transports: usize) {
    for n in 0..10_000 {
        for d in 0..transports.min(MOST) as u64 {
            let raised = call(device::IRQ, [of(peer.number(), d), irq::STATUS, 1 + (n & 2), 0]);
            peer.expect("IRQ of a flood", raised, DONE);
        }
    }
    // SGIs, PPIs, other SPIs, bits of InterruptStatus that there are not, actions that there are not.
    for d in (transports as u64..40).chain([64, 96, 0x3ff, 0xffff, 1 << 20]) {
        for action in 0..4 {
            let raised = call(device::IRQ, [of(peer.number(), d), action, 1, 0]);
            peer.expect("IRQ of no transport", raised, crate::device_calls::REFUSED);
        }
    }
    for (action, bits) in
        [(irq::STATUS, 4), (irq::STATUS, 1 << 32), (0, 1), (1, 1), (2, 1), (4, 1), (!0, 1)]
    {
        let raised = call(device::IRQ, [of(peer.number(), 0), action, bits, 0]);
        peer.expect("IRQ of no kind", raised, crate::device_calls::REFUSED);
    }
}
