// SPDX-License-Identifier: MIT OR Apache-2.0
//! What accesses and calls lead to: the words between a transport and its caller.

/// What a store of the driver leads to.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Nothing more.
    Done,
    /// The driver has made buffers available in this queue, below [`crate::QUEUES`]. The server's doorbell rings.
    Notify(u8),
    /// The interrupt's level is low now.
    Lowered,
    /// The server is told of the event, and the vCPU goes on. The interrupt's level follows `line`.
    Posted {
        /// What the server is told.
        event: Event,
        /// What the interrupt's level does. Other than [`Line::Unchanged`] only at a reset.
        line: Line,
    },
    /// The server is told of the event, and the vCPU waits until [`crate::Transport::is_outstanding`] says no. Then the store is
    /// complete. Executing it again instead is right too: it finds nothing left to do.
    Wait(Event),
}

/// Why an access has had no effect yet. The vCPU waits, and then executes the access again.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The server has not said READY yet in this life of the VM. There is no deadline.
    NotReady,
    /// An access to configuration space, and the server has not finished the store there with this sequence number. The wait
    /// ends when [`crate::Transport::is_outstanding`] says no.
    Config(u32),
}

/// What the server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Goes up by one with each event of this transport. It is never 0, and it wraps.
    pub seq: u32,
    /// What has happened.
    pub kind: EventKind,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The driver has set DRIVER_OK.
    DriverOk,
    /// This queue is ready.
    QueueReady(u8),
    /// The driver has stored to configuration space.
    Config,
    /// The driver wants this queue stopped.
    QueueStop(u8),
    /// The driver has reset the device, or wants to.
    Reset,
}

/// What the level of the interrupt does.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It stays as it is.
    Unchanged,
    /// It goes high.
    Raised,
    /// It goes low.
    Lowered,
}

/// Why a call of the server is refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such register, or it cannot be set.
    Register,
    /// The register cannot hold this value.
    Value,
    /// READY was said in this life of the VM, with another value in this register.
    Fixed,
    /// The features that READY needs are not offered: VIRTIO_F_VERSION_1, and VIRTIO_F_ACCESS_PLATFORM where it is demanded.
    Features,
    /// The server has not said READY since it attached.
    NotReady,
    /// No event of this number is outstanding.
    Stale,
}
