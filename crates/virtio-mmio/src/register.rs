// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers as the server names them. The numbers are ABI: docs/virtio-mmio.md.

use crate::transport::QUEUES;

/// A register of the server's view. Its number has the register in bits 7:0 and the queue, where it has one, in bits 15:8.
/// All other bits are 0. A queue is below [`QUEUES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// VendorID, 32 bits. Get and set.
    VendorId,
    /// DeviceFeatures, all 64 bits. Get and set.
    DeviceFeatures,
    /// QueueNumMax: 0 where there is no such queue, else a power of two up to [`crate::MAX_QUEUE_SIZE`]. Get and set.
    QueueNumMax(u8),
    /// ConfigGeneration, 32 bits. Get and set, at any time.
    ConfigGeneration,
    /// Set to 1: the server is ready. Get: bit 0 says whether it is since it attached, bit 1 whether it was in this life of the
    /// VM, so that what it offers is fixed.
    Ready,
    /// Status, 8 bits. Get.
    Status,
    /// DriverFeatures, all 64 bits; 0 before FEATURES_OK. Get.
    DriverFeatures,
    /// InterruptStatus. Get.
    InterruptStatus,
    /// Sequence number of the latest event; 0 before the first. Get.
    EventSeq,
    /// What is outstanding: bit q, the stop of queue q; bit 16, a reset; bit 17, a store to configuration space. Get.
    Outstanding,
    /// Sequence number of the latest reset, outstanding or not; 0 before the first. Get.
    ResetSeq,
    /// The store to configuration space that is outstanding: offset in bits 7:0, bytes in 15:8, sequence number in 63:32. 0 where
    /// there is none. Get.
    ConfigStore,
    /// The value that it stores. Get.
    ConfigValue,
    /// Stores to configuration space that no server has finished: its deadline passed, or the next came while no server was
    /// there. Stays at 2^32 - 1. Get.
    ConfigLost,
    /// QueueNum of a ready queue, else 0. Get.
    QueueNum(u8),
    /// Sequence number of the event that made the queue ready; 0 while it is not. Another number is another ring. Get.
    QueueReady(u8),
    /// QueueDesc of a ready queue, else 0. Get.
    QueueDesc(u8),
    /// QueueDriver of a ready queue, else 0. Get.
    QueueDriver(u8),
    /// QueueDevice of a ready queue, else 0. Get.
    QueueDevice(u8),
    /// Sequence number of the outstanding stop of the queue, else 0. Get.
    QueueStop(u8),
}

impl Register {
    /// The register of a number, or `None` where there is none.
    pub fn from_raw(raw: u64) -> Option<Self> {
        let [number, queue, rest @ ..] = raw.to_le_bytes();
        if rest != [0; 6] {
            return None;
        }
        let found = match number {
            0x00 => Self::VendorId,
            0x01 => Self::DeviceFeatures,
            0x02 => Self::QueueNumMax(queue),
            0x03 => Self::ConfigGeneration,
            0x04 => Self::Ready,
            0x10 => Self::Status,
            0x11 => Self::DriverFeatures,
            0x12 => Self::InterruptStatus,
            0x13 => Self::EventSeq,
            0x14 => Self::Outstanding,
            0x15 => Self::ResetSeq,
            0x16 => Self::ConfigStore,
            0x17 => Self::ConfigValue,
            0x18 => Self::ConfigLost,
            0x20 => Self::QueueNum(queue),
            0x21 => Self::QueueReady(queue),
            0x22 => Self::QueueDesc(queue),
            0x23 => Self::QueueDriver(queue),
            0x24 => Self::QueueDevice(queue),
            0x25 => Self::QueueStop(queue),
            _ => return None,
        };
        let exists = match found.queue() {
            Some(queue) => usize::from(queue) < QUEUES,
            None => queue == 0,
        };
        exists.then_some(found)
    }

    /// The number of a register.
    pub fn raw(self) -> u64 {
        let number = match self {
            Self::VendorId => 0x00,
            Self::DeviceFeatures => 0x01,
            Self::QueueNumMax(_) => 0x02,
            Self::ConfigGeneration => 0x03,
            Self::Ready => 0x04,
            Self::Status => 0x10,
            Self::DriverFeatures => 0x11,
            Self::InterruptStatus => 0x12,
            Self::EventSeq => 0x13,
            Self::Outstanding => 0x14,
            Self::ResetSeq => 0x15,
            Self::ConfigStore => 0x16,
            Self::ConfigValue => 0x17,
            Self::ConfigLost => 0x18,
            Self::QueueNum(_) => 0x20,
            Self::QueueReady(_) => 0x21,
            Self::QueueDesc(_) => 0x22,
            Self::QueueDriver(_) => 0x23,
            Self::QueueDevice(_) => 0x24,
            Self::QueueStop(_) => 0x25,
        };
        u64::from(u16::from_le_bytes([number, self.queue().unwrap_or(0)]))
    }

    /// The queue that it belongs to, where it belongs to one.
    pub const fn queue(self) -> Option<u8> {
        match self {
            Self::QueueNumMax(queue)
            | Self::QueueNum(queue)
            | Self::QueueReady(queue)
            | Self::QueueDesc(queue)
            | Self::QueueDriver(queue)
            | Self::QueueDevice(queue)
            | Self::QueueStop(queue) => Some(queue),
            _ => None,
        }
    }
}
