// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of a transport, and the steps that the driver's and the server's half share.

use crate::event::{Event, EventKind, Line};
use crate::features::{ACCESS_PLATFORM, VERSION_1};
use crate::offsets::status;
use crate::queue::{Bounds, Queue};
use arch::{Ipa, Width};

/// Number of queues of a transport.
pub const QUEUES: usize = 16;

/// What kind of device a transport is (virtio 5). It comes from the owner's word, so that a driver finds the device before
/// its server is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId(pub u32);

/// What the machine's owner allows a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Start of the memory that rings may be in: the VM's RAM, or its pool.
    pub start: Ipa,
    /// Its size in bytes.
    pub bytes: u64,
    /// The driver must accept VIRTIO_F_ACCESS_PLATFORM: without it, it would pass addresses outside its pool.
    pub access_platform: bool,
}

/// A store to configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigStore {
    pub seq: u32,
    pub offset: u8,
    pub width: Width,
    pub value: u64,
}

/// The registers of one transport. The caller holds a lock around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// READY was said in this life of the VM: accesses are answered, and the offer is fixed.
    pub(crate) offered: bool,
    /// READY was said since the server attached: it may hold rings, and it answers events.
    pub(crate) served: bool,
    /// Status.
    pub(crate) status: u8,
    /// A reset is outstanding. Until it is complete, all registers keep their values.
    pub(crate) resetting: bool,
    /// A bit for each ready queue.
    pub(crate) ready: u16,
    /// A bit for each queue with an outstanding stop; it is still ready.
    pub(crate) stopping: u16,
    /// InterruptStatus.
    pub(crate) interrupt: u32,
    /// Sequence number of the latest event.
    pub(crate) seq: u32,
    /// Sequence number of the latest reset.
    pub(crate) reset_seq: u32,
    pub(crate) device_features_sel: u32,
    pub(crate) driver_features_sel: u32,
    pub(crate) queue_sel: u32,
    pub(crate) vendor_id: u32,
    pub(crate) config_generation: u32,
    pub(crate) config_lost: u32,
    pub(crate) config_store: Option<ConfigStore>,
    pub(crate) device_features: u64,
    pub(crate) driver_features: u64,
    pub(crate) device: DeviceId,
    pub(crate) limits: Limits,
    pub(crate) queues: [Queue; QUEUES],
}

impl Transport {
    /// A transport that waits for its server.
    pub const fn new(device: DeviceId, limits: Limits) -> Self {
        Self {
            offered: false,
            served: false,
            status: 0,
            resetting: false,
            ready: 0,
            stopping: 0,
            interrupt: 0,
            seq: 0,
            reset_seq: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            queue_sel: 0,
            vendor_id: 0,
            config_generation: 0,
            config_lost: 0,
            config_store: None,
            device_features: 0,
            driver_features: 0,
            device,
            limits,
            queues: [Queue::NONE; QUEUES],
        }
    }

    /// Starts a new life: the VM is reset. The transport is as [`Self::new`] made it, so that accesses wait until the server
    /// attaches to the new life. Only sequence numbers go on. All waits have ended.
    pub fn reset(&mut self) -> Line {
        let (line, seq) = (self.lower(), self.seq);
        *self = Self::new(self.device, self.limits);
        self.seq = seq;
        line
    }

    /// Whether the level of the interrupt is high.
    #[inline(always)]
    pub const fn is_raised(&self) -> bool {
        self.interrupt != 0
    }

    /// InterruptStatus as a load reads it; `None` while loads wait for READY.
    #[inline(always)]
    pub const fn interrupt_status(&self) -> Option<u32> {
        if self.offered { Some(self.interrupt) } else { None }
    }

    /// Whether the event with this number is not finished, so that a vCPU that waits for it goes on waiting.
    pub fn is_outstanding(&self, seq: u32) -> bool {
        self.outstanding(seq).is_some()
    }

    /// What the outstanding event with this number is.
    pub(crate) fn outstanding(&self, seq: u32) -> Option<EventKind> {
        if self.resetting && self.reset_seq == seq {
            return Some(EventKind::Reset);
        }
        if self.awaited_config().is_some_and(|store| store.seq == seq) {
            return Some(EventKind::Config);
        }
        let mut stops = (0_u8..).zip(&self.queues);
        let stop = stops.find(|(n, queue)| self.stopping & bit(*n) != 0 && queue.stop == seq);
        stop.map(|(n, _)| EventKind::QueueStop(n))
    }

    /// The store to configuration space that the server has not finished. Where there is no server, nothing waits for it.
    pub(crate) fn awaited_config(&self) -> Option<&ConfigStore> {
        self.config_store.as_ref().filter(|_| self.served)
    }

    /// Features without which there is no FEATURES_OK.
    pub(crate) const fn demanded(&self) -> u64 {
        if self.limits.access_platform { VERSION_1 | ACCESS_PLATFORM } else { VERSION_1 }
    }

    /// Where rings may be.
    pub(crate) const fn bounds(&self) -> Bounds {
        let start = self.limits.start.raw();
        Bounds { start, end: start.saturating_add(self.limits.bytes) }
    }

    /// Whether the server may be using a ring.
    pub(crate) const fn is_in_use(&self) -> bool {
        self.ready != 0 || self.status & status::DRIVER_OK != 0
    }

    /// A new event.
    pub(crate) fn event(&mut self, kind: EventKind) -> Event {
        // 0 means none.
        self.seq = self.seq.checked_add(1).unwrap_or(1);
        Event { seq: self.seq, kind }
    }

    /// Stops queue `n`.
    pub(crate) fn stop_queue(&mut self, n: u8) {
        self.ready &= !bit(n);
        self.stopping &= !bit(n);
        if let Some(queue) = self.queues.get_mut(usize::from(n)) {
            queue.ready = 0;
        }
    }

    /// Resets all that is the driver's (virtio 2.1, 2.4, 4.2.2.1). Waits end.
    pub(crate) fn reset_driver(&mut self) -> Line {
        self.status = 0;
        self.resetting = false;
        self.ready = 0;
        self.stopping = 0;
        self.device_features_sel = 0;
        self.driver_features_sel = 0;
        self.queue_sel = 0;
        self.driver_features = 0;
        self.config_store = None;
        for queue in &mut self.queues {
            *queue = queue.reset();
        }
        self.lower()
    }

    fn lower(&mut self) -> Line {
        let line = if self.is_raised() { Line::Lowered } else { Line::Unchanged };
        self.interrupt = 0;
        line
    }
}

/// The bit of a queue.
#[inline(always)]
pub(crate) const fn bit(queue: u8) -> u16 {
    1_u16.wrapping_shl(queue as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_events_wrap_past_zero() {
        let limits = Limits { start: Ipa::new(0), bytes: 0, access_platform: false };
        let mut transport = Transport::new(DeviceId(1), limits);
        for (before, after) in [(0, 1), (1, 2), (u32::MAX - 1, u32::MAX), (u32::MAX, 1)] {
            transport.seq = before;
            assert_eq!(transport.event(EventKind::Config).seq, after);
            assert!(!transport.is_outstanding(0));
        }
    }
}
