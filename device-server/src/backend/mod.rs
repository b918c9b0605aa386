// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kinds of devices.

pub mod block;
pub mod console;
pub mod net;
pub mod rng;
pub mod vhost_user;

use std::fs::File;
use std::io;
use std::os::fd::RawFd;

use virtio_bindings::virtio_config::{VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::eventfd::EventFd;

use crate::chain::Chain;
use crate::counters;
use crate::uapi::Info;

/// Features of every device here. ACCESS_PLATFORM makes a driver use the pool that it shares, where there is one.
pub const COMMON_FEATURES: u64 = bit(VIRTIO_F_VERSION_1)
    | bit(VIRTIO_F_ACCESS_PLATFORM)
    | bit(VIRTIO_RING_F_EVENT_IDX)
    | bit(VIRTIO_RING_F_INDIRECT_DESC);

/// The bit with a number of the specification.
#[must_use]
pub const fn bit(number: u32) -> u64 {
    1_u64.wrapping_shl(number)
}

/// What a handler did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is finished.
    Done,
    /// It stays in the ring until `fd` is ready: to be read, or to be written.
    Wait {
        /// What is waited for.
        fd: RawFd,
        /// To be written, rather than read.
        write: bool,
    },
}

/// Serves one queue, from its own thread.
pub trait Handler: Send {
    /// Serves one request. All requests come in ring order, and each is finished before the next.
    fn handle(&mut self, chain: &mut Chain<'_>, counters: &counters::Queue) -> Outcome;
}

/// A device.
pub trait Device: Send + Sync {
    /// DeviceID (virtio 5).
    fn id(&self) -> u32;

    /// Features beside [`COMMON_FEATURES`].
    fn features(&self) -> u64;

    /// All features.
    fn offer(&self) -> u64 {
        self.features() | COMMON_FEATURES
    }

    /// Largest size of each queue.
    fn queues(&self) -> &[u16];

    /// Configuration space, from its first byte on.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    /// What serves a queue, for a driver that has accepted `features`.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn handler(&self, queue: u8, features: u64) -> io::Result<Box<dyn Handler>>;

    /// The daemon that serves the queues instead, if one does.
    fn remote(&self) -> Option<&dyn Daemon> {
        None
    }
}

/// A ring for a daemon.
#[derive(Clone, Copy, Debug)]
pub struct RemoteRing {
    /// QueueNum.
    pub size: u16,
    /// QueueDesc.
    pub descriptors: u64,
    /// QueueDriver.
    pub available: u64,
    /// QueueDevice.
    pub used: u64,
    /// The next request: what used.idx says.
    pub next: u16,
    /// What the driver has accepted.
    pub features: u64,
}

/// A process that serves the queues of a device itself. Once it has ended, or has not answered, it is told nothing any more,
/// and its device is not served. Other devices are.
pub trait Daemon {
    /// Gives it the window, for an attachment.
    fn window(&self, file: &File, info: &Info);

    /// Has it serve queue `n`: `kick` tells it of requests, and it signals `call`.
    ///
    /// # Errors
    ///
    /// The descriptors'.
    fn start(&self, n: u8, ring: &RemoteRing, kick: &EventFd, call: &EventFd) -> io::Result<()>;

    /// Has it leave queue `n` alone. Returns when it does. One that does not answer may still use the ring.
    fn stop(&self, n: u8);

    /// Whether it can be told something.
    fn serves(&self) -> bool;

    /// The connection, which hangs up when it ends.
    fn link(&self) -> RawFd;

    /// The connection has hung up.
    fn ended(&self);
}

/// Name of a kind of device, as `vm.devices` has it.
#[must_use]
pub fn kind(id: u32) -> &'static str {
    match id {
        1 => "net",
        2 => "blk",
        3 => "console",
        4 => "rng",
        8 => "scsi",
        9 => "9p",
        18 => "input",
        19 => "vsock",
        25 => "sound",
        26 => "fs",
        34 => "i2c",
        41 => "gpio",
        _ => "a device of another kind",
    }
}
