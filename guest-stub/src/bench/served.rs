// SPDX-License-Identifier: MIT OR Apache-2.0
//! What it costs to be served: a bare-metal server in another VM, which has the CPU for itself or shares it.

use mmio_guard::abi::{device, pkvm};
use virtio_mmio::Register;

use super::clock::{BATCHES, LENGTH, LOOP, batches};
use super::operations::load;
use super::results::note;
use super::vectors;
use crate::control_page::{ControlPage, PAGE};
use crate::device_calls::{DONE, attach, call, doorbell, peer_info};
use crate::{gic, guard, mmio, served, time, tree};

/// Loads that the server answers: one to find it, one batch to warm up, and those that are measured.
const LOADS: u64 = 1 + (BATCHES as u64 + 1) * LENGTH;
/// What is loaded, and the doorbell, of 4 bytes. A page's first byte costs more on some CPUs (erratum 834220).
const PLACE: u64 = served::REGISTERS + 0x10;
const BELL: u64 = served::BELLS + 0x10;
/// Registers of the first transport (virtio 4.2.2).
const INTERRUPT_STATUS: u64 = 0x0a00_0060;
const INTERRUPT_ACK: u64 = 0x0a00_0064;

timed!(
    /// Sleeps until the slot at x9 has another number than x10, and completes that access; x11 is x1 of COMPLETE.
    answer,
    "3:",
    "ldar x2, [x9]",
    "cmp x2, x10",
    "b.ne 4f",
    "wfi",
    "msr daifclr, #2",
    "isb",
    "msr daifset, #2",
    "b 3b",
    "4:",
    "mov x10, x2",
    "movz w0, #0xf012",
    "movk w0, #0xc600, lsl #16",
    "mov x1, x11",
    "mov x3, #7",
    "mov x4, xzr",
    "hvc #0",
);

timed!(ring, "str w10, [x9]");
timed!(
    /// A call for one granule after the other; MOVs and ADD are not counted.
    call_granules,
    "mov x0, x9",
    "mov x1, x10",
    "mov x2, xzr",
    "mov x3, xzr",
    "hvc #0",
    "add x10, x10, #1, lsl #12"
);

/// The server: answers so many loads of peer 0, and is never heard of again.
pub fn server() {
    if let Err(what) = prepare() {
        say!("FAIL bench: {what}");
        return;
    }
    let slot = ControlPage::of(0).address(device::control::slot(0));
    vectors::with(|| answer(LOADS, [slot, 0, 0]));
    gic::enable_spi(device::map::INTID, false);
    loop {
        plain!("wfi");
    }
}

/// Attaches, once the client is there.
fn prepare() -> Result<(), &'static str> {
    gic::init();
    gic::init_cpu();
    gic::give_edge_spi(device::map::INTID, 0);
    let running = || peer_info(0).filter(|(_, info, _)| info.running);
    time::wait_until(1_000, || running().is_some());
    let (life, ..) = running().ok_or("the client does not start")?;
    if attach(0, life) != DONE {
        return Err("ATTACH");
    }
    if doorbell(0, 0, BELL, 4, 0) != DONE {
        return Err("DOORBELL");
    }
    // VIRTIO_F_VERSION_1; then its registers answer.
    for (register, value) in [(Register::DeviceFeatures, 1 << 32), (Register::Ready, 1)] {
        if call(device::REG, [0, 1, register.raw(), value]) != DONE {
            return Err("REG");
        }
    }
    Ok(())
}

/// The client, served by a VM on another CPU or on the same one.
pub fn client() {
    for page in [PLACE, BELL, INTERRUPT_STATUS] {
        guard::map(page & !0xfff);
    }
    if mmio::read32(PLACE) != 7 {
        say!("FAIL bench: the server does not answer");
        return;
    }
    let place = [PLACE, 0, 0];
    note(format_args!("forwarded load"), batches(LENGTH, LOOP, |_| load(LENGTH, place).0));
    // The server comes to rest.
    time::sleep(5);
    shares();
    note(format_args!("doorbell"), batches(LENGTH, LOOP, |_| ring(LENGTH, [BELL, 1, 0]).0));
    note(
        format_args!("virtio InterruptStatus read"),
        batches(LENGTH, LOOP, |_| load(LENGTH, [INTERRUPT_STATUS, 0, 0]).0),
    );
    note(
        format_args!("virtio InterruptACK write"),
        batches(LENGTH, LOOP, |_| ring(LENGTH, [INTERRUPT_ACK, 1, 0]).0),
    );
}

/// MEM_SHARE and MEM_UNSHARE of single granules, with a window behind.
fn shares() {
    let (base, size) = tree::get().ram;
    let at = base + size / 2;
    let (share, unshare) = (u64::from(pkvm::MEM_SHARE), u64::from(pkvm::MEM_UNSHARE));
    let own = LOOP + 4;
    // The table is there.
    call_granules(1, [share, at + 511 * PAGE, 0]);
    note(
        format_args!("MEM_SHARE with a window"),
        batches(LENGTH, own, |_| {
            let took = call_granules(LENGTH, [share, at, 0]).0;
            call_granules(LENGTH, [unshare, at, 0]);
            took
        }),
    );
    note(
        format_args!("MEM_UNSHARE with a window"),
        batches(LENGTH, own, |_| {
            call_granules(LENGTH, [share, at, 0]);
            call_granules(LENGTH, [unshare, at, 0]).0
        }),
    );
}
