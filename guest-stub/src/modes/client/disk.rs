// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver of the disk that the server makes of transport 0: virtio-mmio version 2 and one split ring.

use mmio_guard::abi::pkvm;

use super::wishes::{Step, has_pool, nothing_wrong, order, pool_range, share_granule};
use crate::control_page::PAGE;
use crate::served::{self, command};
use crate::verdict::Verdict;
use crate::{gic, guard, mmio, time, tree};

pub const STEPS: &[Step] = &[
    ("disk", disk),
    ("disk-again", disk),
    ("disk-features", features),
    ("disk-pool", pool),
    ("disk-reset", reset),
    ("disk-unshared", unshared),
    ("disk-taken-back", taken_back),
    ("disk-rubbish", rubbish),
    ("disk-kicks", kicks),
    ("disk-storm", storm),
    ("disk-stopped", stopped),
    ("disk-restart", restart),
];

/// Transport 0 and its interrupt.
const TRANSPORT: u64 = 0x0a00_0000;
const INTID: u32 = 64;

/// Registers (virtio 4.2.2).
mod reg {
    pub const MAGIC: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE_ID: u64 = 0x008;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_NUM_MAX: u64 = 0x034;
    pub const QUEUE_NUM: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = 0x050;
    pub const INTERRUPT_STATUS: u64 = 0x060;
    pub const INTERRUPT_ACK: u64 = 0x064;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESC: u64 = 0x080;
    pub const QUEUE_DRIVER: u64 = 0x090;
    pub const QUEUE_DEVICE: u64 = 0x0a0;
    pub const CONFIG: u64 = 0x100;
}

/// Bits of Status.
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;

/// Entries of the queue.
const QUEUE: u64 = 8;
/// Offsets in the granule that holds all of the ring and its buffers.
const AVAILABLE: u64 = 0x200;
const USED: u64 = 0x400;
const HEADER: u64 = 0x600;
const DATA: u64 = 0x800;
const STATE: u64 = 0xa00;

fn get(register: u64) -> u32 {
    mmio::read32(TRANSPORT + register)
}

fn set(register: u64, value: u32) {
    mmio::write32(TRANSPORT + register, value);
}

fn set_address(register: u64, ipa: u64) {
    set(register, ipa as u32);
    set(register + 4, (ipa >> 32) as u32);
}

fn ram<T: Copy>(ipa: u64) -> T {
    // SAFETY: RAM that nothing of the stub is in; numbers alone are read.
    unsafe { (ipa as *const T).read_volatile() }
}

fn set_ram<T>(ipa: u64, value: T) {
    // SAFETY: as above.
    unsafe { (ipa as *mut T).write_volatile(value) };
}

/// The granule of the ring, which is shared, and one that is never shared.
fn ring() -> u64 {
    let (base, size) = tree::get().ram;
    if has_pool() { pool_range().0 } else { base + size / 2 + 0x10_0000 }
}

/// The features that the driver accepts, as the upper half has them: VIRTIO_F_VERSION_1 and, with a pool,
/// VIRTIO_F_ACCESS_PLATFORM.
fn accepted() -> u32 {
    if has_pool() { 3 } else { 1 }
}

fn private() -> u64 {
    ring() + 16 * PAGE
}

/// What is shared once for all steps.
fn prepare() -> Verdict {
    if guard::query(TRANSPORT) != guard::State::Declared {
        equal!(guard::map(TRANSPORT), guard::done(), "MAP of the transport");
        gic::init();
        gic::init_cpu();
        gic::give_spi(INTID, 0);
    }
    // Shared already by an earlier step, or now.
    share_granule(pkvm::MEM_SHARE, ring());
    Ok(())
}

/// Resets the device and sets it up with its ring at `at`.
fn set_up(at: u64) -> Verdict {
    prepare()?;
    equal!(
        (get(reg::MAGIC), get(reg::VERSION), get(reg::DEVICE_ID)),
        (0x7472_6976, 2, 2),
        "registers"
    );
    set(reg::STATUS, 0);
    equal!(get(reg::STATUS), 0, "Status after a reset");
    set(reg::STATUS, ACKNOWLEDGE);
    set(reg::STATUS, ACKNOWLEDGE | DRIVER);
    set(reg::DEVICE_FEATURES_SEL, 1);
    equal!(get(reg::DEVICE_FEATURES), 3, "VIRTIO_F_VERSION_1 and VIRTIO_F_ACCESS_PLATFORM");
    set(reg::DRIVER_FEATURES_SEL, 0);
    set(reg::DRIVER_FEATURES, 0);
    set(reg::DRIVER_FEATURES_SEL, 1);
    set(reg::DRIVER_FEATURES, accepted());
    set(reg::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    equal!(get(reg::STATUS), ACKNOWLEDGE | DRIVER | FEATURES_OK, "Status with FEATURES_OK");
    set(reg::QUEUE_SEL, 0);
    equal!((get(reg::QUEUE_READY), get(reg::QUEUE_NUM_MAX)), (0, QUEUE as u32), "the queue");
    for ipa in (at..at + PAGE).step_by(8) {
        set_ram(ipa, 0_u64);
    }
    set(reg::QUEUE_NUM, QUEUE as u32);
    set_address(reg::QUEUE_DESC, at);
    set_address(reg::QUEUE_DRIVER, at + AVAILABLE);
    set_address(reg::QUEUE_DEVICE, at + USED);
    set(reg::QUEUE_READY, 1);
    equal!(get(reg::QUEUE_READY), 1, "QueueReady");
    set(reg::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    equal!(mmio::read64(TRANSPORT + reg::CONFIG), served::SECTORS, "the capacity");
    Ok(())
}

/// Makes a read of `sector` available, as request number `n` of the ring at `at`.
fn post(at: u64, n: u16, sector: u64) {
    let descriptor = |index: u64, ipa: u64, length: u64, flags: u64| {
        set_ram(at + index * 16, ipa);
        set_ram(at + index * 16 + 8, length | flags << 32 | (index + 1) << 48);
    };
    descriptor(0, at + HEADER, 16, 1);
    descriptor(1, at + DATA, 512, 3);
    descriptor(2, at + STATE, 1, 2);
    set_ram(at + HEADER, 0_u64);
    set_ram(at + HEADER + 8, sector);
    set_ram(at + STATE, 0xff_u8);
    set_ram(at + AVAILABLE + 4 + u64::from(n) % QUEUE * 2, 0_u16);
    plain!("dmb ish");
    set_ram(at + AVAILABLE + 2, n.wrapping_add(1));
    plain!("dmb ish");
    set(reg::QUEUE_NOTIFY, 0);
}

/// Waits for the interrupt, acknowledges it, and looks whether request number `n` is done.
fn wait(at: u64, n: u16) -> Verdict {
    let done = || ram::<u16>(at + USED + 2) == n.wrapping_add(1);
    check!(take_interrupt(10_000), "no interrupt; used: {}", done());
    check!(done(), "an interrupt, and nothing is used");
    Ok(())
}

/// Takes the transport's interrupt, if it comes in time, and acknowledges all its reasons.
fn take_interrupt(milliseconds: u64) -> bool {
    time::wait_until(milliseconds, || {
        let value = gic::acknowledge();
        let ours = value & 0x3ff == INTID;
        if ours {
            set(reg::INTERRUPT_ACK, get(reg::INTERRUPT_STATUS));
        }
        if value & 0x3ff < 1020 {
            gic::end(value);
        }
        ours
    })
}

/// Reads `sector` as request `n`.
fn read_sector(at: u64, n: u16, sector: u64) -> Verdict {
    post(at, n, sector);
    wait(at, n)?;
    equal!(ram::<u8>(at + STATE), 0, "status of the request");
    for offset in (0..512).step_by(8) {
        equal!(
            ram::<u64>(at + DATA + offset),
            served::sector(sector, offset),
            "sector {sector} +{offset}"
        );
    }
    Ok(())
}

/// Every sector, which goes round the ring, and one beyond the last.
fn disk() -> Verdict {
    set_up(ring())?;
    for sector in 0..served::SECTORS {
        read_sector(ring(), sector as u16, sector)?;
    }
    post(ring(), served::SECTORS as u16, served::SECTORS);
    wait(ring(), served::SECTORS as u16)?;
    equal!(ram::<u8>(ring() + STATE), 1, "status beyond the last sector");
    equal!(get(reg::INTERRUPT_STATUS), 0, "InterruptStatus");
    check!(!take_interrupt(20), "an interrupt without a reason");
    nothing_wrong()
}

/// Features that were not offered are refused, and so is a ring outside the RAM.
fn features() -> Verdict {
    prepare()?;
    set(reg::STATUS, 0);
    set(reg::STATUS, ACKNOWLEDGE | DRIVER);
    set(reg::DRIVER_FEATURES_SEL, 0);
    set(reg::DRIVER_FEATURES, 1 << 5);
    set(reg::DRIVER_FEATURES_SEL, 1);
    set(reg::DRIVER_FEATURES, 1);
    set(reg::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    equal!(get(reg::STATUS) & FEATURES_OK, 0, "FEATURES_OK");
    ring_is_refused(0x1000_0000)?;
    disk()
}

/// A ring at `at` does not become ready.
fn ring_is_refused(at: u64) -> Verdict {
    set(reg::STATUS, 0);
    set(reg::STATUS, ACKNOWLEDGE | DRIVER);
    set(reg::DRIVER_FEATURES_SEL, 1);
    set(reg::DRIVER_FEATURES, accepted());
    set(reg::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    set(reg::QUEUE_NUM, QUEUE as u32);
    set_address(reg::QUEUE_DESC, at);
    set_address(reg::QUEUE_DRIVER, ring() + AVAILABLE);
    set_address(reg::QUEUE_DEVICE, ring() + USED);
    set(reg::QUEUE_READY, 1);
    equal!(get(reg::QUEUE_READY), 0, "QueueReady of a ring at {at:#x}");
    Ok(())
}

/// `vm.share=pool:2M`: a driver that would pass addresses outside the pool is refused, and so are rings outside.
fn pool() -> Verdict {
    prepare()?;
    set(reg::STATUS, 0);
    set(reg::STATUS, ACKNOWLEDGE | DRIVER);
    set(reg::DRIVER_FEATURES_SEL, 1);
    set(reg::DRIVER_FEATURES, 1);
    set(reg::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    equal!(get(reg::STATUS) & FEATURES_OK, 0, "FEATURES_OK without VIRTIO_F_ACCESS_PLATFORM");
    ring_is_refused(ring() - PAGE)?;
    disk()
}

/// A reset is done when its store returns.
fn reset() -> Verdict {
    set_up(ring())?;
    read_sector(ring(), 0, 3)?;
    set(reg::STATUS, 0);
    equal!((get(reg::STATUS), get(reg::QUEUE_READY)), (0, 0), "Status and QueueReady");
    // The server holds the ring no longer: what is made available now is never used.
    let before = ram::<u16>(ring() + USED + 2);
    post(ring(), 1, 1);
    time::sleep(100);
    equal!(ram::<u16>(ring() + USED + 2), before, "used after the reset");
    disk()
}

/// QueueReady = 0 is done when its store returns.
fn stopped() -> Verdict {
    set_up(ring())?;
    read_sector(ring(), 0, 3)?;
    set(reg::QUEUE_READY, 0);
    equal!(get(reg::QUEUE_READY), 0, "QueueReady");
    disk()
}

/// A ring that is not shared: the server sees zeros in its place, and nothing comes of it.
fn unshared() -> Verdict {
    set_up(private())?;
    post(private(), 0, 1);
    check!(!take_interrupt(200), "an interrupt");
    equal!(ram::<u16>(private() + USED + 2), 0, "used");
    equal!(ram::<u8>(private() + STATE), 0xff, "status");
    // Buffers that are not shared, in a ring that is: what the server writes does not come here.
    set_up(ring())?;
    set_ram(private() + DATA, 0x11_u64);
    post(ring(), 0, 1);
    wait(ring(), 0)?;
    set_ram(ring() + 16, private() + DATA);
    set_ram(ring() + AVAILABLE + 2, 2_u16);
    plain!("dmb ish");
    set(reg::QUEUE_NOTIFY, 0);
    wait(ring(), 1)?;
    equal!(ram::<u64>(private() + DATA), 0x11, "a buffer that is not shared");
    disk()
}

/// The ring is taken back with requests under way, again and again.
fn taken_back() -> Verdict {
    set_up(ring())?;
    for n in 0..200 {
        post(ring(), n, u64::from(n) % served::SECTORS);
        share_granule(pkvm::MEM_UNSHARE, ring());
        set_ram(ring() + DATA, served::SECRET);
        let kept = ram::<u64>(ring() + DATA);
        share_granule(pkvm::MEM_SHARE, ring());
        equal!(kept, served::SECRET, "what was written after MEM_UNSHARE");
        set(reg::QUEUE_NOTIFY, 0);
        // Whether it was served depends on when it was seen; the ring goes on either way.
        take_interrupt(5);
    }
    disk()
}

/// Indices, lengths and chains without sense: the server stays within the window.
fn rubbish() -> Verdict {
    let mut rng = crate::rng::Rng::new(7);
    for _ in 0..100 {
        set_up(ring())?;
        post(ring(), 0, 1);
        for _ in 0..8 {
            let at = ring() + rng.below(0x680) as u64 / 8 * 8;
            set_ram(at, rng.next());
            set(reg::QUEUE_NOTIFY, 0);
        }
        take_interrupt(1);
    }
    disk()
}

/// Notifications without end, of queues that there are and are not.
fn kicks() -> Verdict {
    set_up(ring())?;
    for n in 0..20_000 {
        set(reg::QUEUE_NOTIFY, if n % 8 == 7 { n } else { 0 });
    }
    disk()
}

/// A flood of interrupts: at most one is pending when it ends, and it is gone when acknowledged.
fn storm() -> Verdict {
    set_up(ring())?;
    order(command::FLOOD);
    check!(take_interrupt(1_000), "no interrupt");
    check!(!take_interrupt(20), "an interrupt after all were acknowledged");
    equal!(get(reg::INTERRUPT_STATUS), 0, "InterruptStatus");
    disk()
}

/// The server resets itself: the transport keeps its state, and the next server goes on.
fn restart() -> Verdict {
    set_up(ring())?;
    read_sector(ring(), 0, 3)?;
    order(command::RESET);
    let status = get(reg::STATUS);
    equal!(mmio::read64(served::VALUES), served::value(served::VALUES), "an access");
    equal!(get(reg::STATUS), status, "Status");
    equal!(get(reg::QUEUE_READY), 1, "QueueReady");
    // The new server knows nothing of the ring, and begins where used.idx says.
    read_sector(ring(), 1, 4)?;
    disk()
}
