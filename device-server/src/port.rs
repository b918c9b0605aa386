// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the server needs of the module: a trait, so that tests can put the register model of EL2 in its place.

use std::fs::File;
use std::io;

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::uapi;

/// The window on a peer's memory.
pub type Memory = GuestMemoryMmap<()>;

/// A register of a transport, with its number in docs/virtio-mmio.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// VendorID.
    VendorId,
    /// The offered features.
    DeviceFeatures,
    /// Largest size of a queue; 0 if there is no such queue.
    QueueNumMax(u8),
    /// ConfigGeneration.
    ConfigGeneration,
    /// The offer is complete.
    Ready,
    /// Status.
    Status,
    /// The accepted features; 0 before FEATURES_OK.
    DriverFeatures,
    /// What the driver waits for: bit q, stop of queue q; bit 16, reset; bit 17, store to configuration space.
    Outstanding,
    /// Number of the latest reset.
    ResetSeq,
    /// The store to configuration space: offset in 7:0, bytes in 15:8, number in 63:32.
    ConfigStore,
    /// What it stores.
    ConfigValue,
    /// Size of a ready queue.
    QueueNum(u8),
    /// Number of the event that made a queue ready, 0 while it is not.
    QueueReady(u8),
    /// Address of the descriptors.
    QueueDesc(u8),
    /// Address of the available ring.
    QueueDriver(u8),
    /// Address of the used ring.
    QueueDevice(u8),
    /// Number of the outstanding stop of a queue, else 0.
    QueueStop(u8),
}

impl Register {
    /// Number in bits 7:0, queue in bits 15:8.
    pub fn number(self) -> u32 {
        let (number, queue) = match self {
            Self::VendorId => (0x00, 0),
            Self::DeviceFeatures => (0x01, 0),
            Self::QueueNumMax(queue) => (0x02, queue),
            Self::ConfigGeneration => (0x03, 0),
            Self::Ready => (0x04, 0),
            Self::Status => (0x10, 0),
            Self::DriverFeatures => (0x11, 0),
            Self::Outstanding => (0x14, 0),
            Self::ResetSeq => (0x15, 0),
            Self::ConfigStore => (0x16, 0),
            Self::ConfigValue => (0x17, 0),
            Self::QueueNum(queue) => (0x20, queue),
            Self::QueueReady(queue) => (0x21, queue),
            Self::QueueDesc(queue) => (0x22, queue),
            Self::QueueDriver(queue) => (0x23, queue),
            Self::QueueDevice(queue) => (0x24, queue),
            Self::QueueStop(queue) => (0x25, queue),
        };
        number | u32::from(queue) << 8
    }
}

/// What an eventfd is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A queue of a transport was notified.
    Queue(u32, u8),
    /// The event word of a transport changed.
    Transport(u32),
    /// The peer started or stopped.
    Life,
    /// The reverse: a signal sets these bits of a transport's InterruptStatus.
    Call(u32, u32),
}

/// Bit of InterruptStatus: buffers were used.
pub const USED_BUFFER: u32 = 1 << 0;
/// Bit of InterruptStatus: the configuration has changed.
pub const CONFIG_CHANGE: u32 = 1 << 1;

/// The way to one peer. Errors are those of `linux/device/portcullis.h`: see [`is_lost`].
pub trait Port: Send + Sync {
    /// What is known of the peer. Needs no attachment.
    ///
    /// # Errors
    ///
    /// The module's.
    fn info(&self) -> io::Result<uapi::Info>;

    /// Becomes the server of the peer in this life.
    ///
    /// # Errors
    ///
    /// The module's.
    fn attach(&self, life: u64) -> io::Result<()>;

    /// Is it no longer. Eventfds are removed.
    ///
    /// # Errors
    ///
    /// The module's.
    fn detach(&self) -> io::Result<()>;

    /// Maps the window.
    ///
    /// # Errors
    ///
    /// The module's, and one that says what does not fit.
    fn window(&self, info: &uapi::Info) -> io::Result<Memory>;

    /// The window as a file, for a process that maps it itself.
    fn file(&self) -> &File;

    /// Reads a register.
    ///
    /// # Errors
    ///
    /// The module's.
    fn get(&self, transport: u32, register: Register) -> io::Result<u64>;

    /// Writes a register.
    ///
    /// # Errors
    ///
    /// The module's.
    fn set(&self, transport: u32, register: Register, value: u64) -> io::Result<()>;

    /// Writes a part of configuration space.
    ///
    /// # Errors
    ///
    /// The module's.
    fn set_config(&self, transport: u32, offset: u8, bytes: &[u8]) -> io::Result<()>;

    /// Has `fd` signalled from now on. The caller looks once itself.
    ///
    /// # Errors
    ///
    /// The module's.
    fn signal(&self, event: Event, fd: &EventFd) -> io::Result<()>;

    /// Sets bits of InterruptStatus.
    ///
    /// # Errors
    ///
    /// The module's.
    fn interrupt(&self, transport: u32, bits: u32) -> io::Result<()>;

    /// Ends an event that the driver waits for.
    ///
    /// # Errors
    ///
    /// The module's. EINVAL: it waits no longer.
    fn event_done(&self, transport: u32, seq: u32) -> io::Result<()>;
}

/// Whether an error says that the attachment is over: the peer has begun another life.
pub fn is_lost(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESTALE | libc::ENOTCONN))
}
