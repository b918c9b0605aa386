// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface of the kernel module, as `linux/device/portcullis.h` defines it. A test compares both.

use std::marker::PhantomData;
use std::mem::size_of;

/// Most transports of a peer.
pub const TRANSPORTS: usize = 16;
/// Most queues of a transport.
pub const QUEUES: usize = 16;
/// Bytes of a name, with its zero.
pub const NAME: usize = 32;
/// Bytes of configuration space.
pub const CONFIG_SPACE: usize = 256;

/// Bit of [`Info::flags`]: the peer runs.
pub const RUNNING: u32 = 1 << 0;
/// Bit of [`Info::flags`]: this server is attached.
pub const ATTACHED: u32 = 1 << 1;

/// What is known of the peer: `struct portcullis_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Number of the peer's run: it changes with each stop and start.
    pub life: u64,
    /// Guest-physical address of the first byte of the window.
    pub ram_base: u64,
    /// Bytes of the window.
    pub ram_size: u64,
    /// Milliseconds that a forwarded access waits, 0 for ever.
    pub timeout_ms: u32,
    /// How many vCPUs it has.
    pub vcpus: u32,
    /// How many transports it has.
    pub transports: u32,
    /// [`RUNNING`], [`ATTACHED`].
    pub flags: u32,
    /// DeviceID of each transport, 0 beyond the last.
    pub device_id: [u32; TRANSPORTS],
    /// Name of the peer, with zeros behind it.
    pub name: [u8; NAME],
}

/// A register of a transport: `struct portcullis_reg`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reg {
    /// Which transport.
    pub transport: u32,
    /// Number of the register in bits 7:0, queue in bits 15:8.
    pub reg: u32,
    /// Its value.
    pub value: u64,
}

/// A part of configuration space: `struct portcullis_config`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which transport.
    pub transport: u32,
    /// First byte of the part.
    pub offset: u32,
    /// Bytes of the part.
    pub len: u32,
    /// 0.
    pub pad: u32,
    /// The bytes; those from `len` on are ignored.
    pub data: [u8; CONFIG_SPACE],
}

impl Default for Config {
    fn default() -> Self {
        Self { transport: 0, offset: 0, len: 0, pad: 0, data: [0; CONFIG_SPACE] }
    }
}

/// An eventfd for an event: `struct portcullis_fd`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fd {
    /// What it is for: [`FD_QUEUE`] and so on.
    pub kind: u32,
    /// Which transport; 0 for [`FD_LIFE`].
    pub transport: u32,
    /// Which queue, or bits of InterruptStatus for [`FD_CALL`]; else 0.
    pub queue: u32,
    /// The eventfd; -1 removes.
    pub fd: i32,
}

/// Signalled when a queue was notified.
pub const FD_QUEUE: u32 = 0;
/// Signalled when a transport's event word changed.
pub const FD_EVENT: u32 = 1;
/// Signalled when the peer started or stopped.
pub const FD_LIFE: u32 = 2;
/// The reverse: a signal sets bits of InterruptStatus.
pub const FD_CALL: u32 = 3;

/// An interrupt for the peer's driver: `struct portcullis_irq`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Irq {
    /// Which transport.
    pub transport: u32,
    /// Bits of InterruptStatus to set.
    pub bits: u32,
}

/// The end of an event that the peer waits for: `struct portcullis_done`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Which transport.
    pub transport: u32,
    /// Number of the event.
    pub seq: u32,
}

/// A request of the module: its number holds the size of its argument.
#[derive(Clone, Copy, Debug)]
pub struct Request<T> {
    number: u32,
    argument: PhantomData<T>,
}

impl<T> Request<T> {
    /// The number, as `_IOC` of Linux' asm-generic/ioctl.h composes it: direction in 31:30, size in 29:16, magic in 15:8.
    pub const fn number(self) -> u32 {
        self.number
    }

    const fn new(direction: u32, nr: u32) -> Self {
        // Below 2^14: the largest argument is `Config`.
        let size = size_of::<T>() as u32;
        Self { number: direction << 30 | size << 16 | 0xB6 << 8 | nr, argument: PhantomData }
    }
}

const NONE: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// What is known of the peer.
pub const INFO: Request<Info> = Request::new(READ, 0);
/// Become the server of the peer in this life.
pub const ATTACH: Request<u64> = Request::new(WRITE, 1);
/// Ends the attachment.
pub const DETACH: Request<()> = Request::new(NONE, 2);
/// Read a register.
pub const REG_GET: Request<Reg> = Request::new(READ | WRITE, 3);
/// Write a register.
pub const REG_SET: Request<Reg> = Request::new(WRITE, 4);
/// Write a part of configuration space.
pub const CONFIG: Request<Config> = Request::new(WRITE, 5);
/// Set or remove an eventfd.
pub const SET_FD: Request<Fd> = Request::new(WRITE, 6);
/// Set bits of InterruptStatus.
pub const IRQ: Request<Irq> = Request::new(WRITE, 7);
/// An event is done.
pub const EVENT_DONE: Request<Done> = Request::new(WRITE, 8);
