// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of one queue, and what makes it ready.

use arch::Ipa;

/// Largest size of a queue (virtio 2.7).
pub const MAX_QUEUE_SIZE: u16 = 32768;

/// The three areas of a split virtqueue (virtio 2.7): alignment, bytes beside the elements, and bytes of an element. The flags,
/// the index, and the event word, which is there whether or not VIRTIO_F_EVENT_IDX is negotiated, are beside the elements.
const DESCRIPTORS: (u64, u64, u64) = (16, 0, 16);
const DRIVER: (u64, u64, u64) = (2, 6, 2);
const DEVICE: (u64, u64, u64) = (4, 6, 8);

/// Where rings may be: IPAs from the first up to, but without, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first.
    pub start: u64,
    /// Behind the last.
    pub end: u64,
}

impl Bounds {
    const fn hold(self, start: u64, bytes: u64) -> bool {
        match start.checked_add(bytes) {
            Some(end) => start >= self.start && end <= self.end,
            None => false,
        }
    }
}

/// The registers of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// QueueNumMax: 0, or a power of two. The server's.
    pub max: u16,
    /// QueueNum, as written.
    pub size: u32,
    /// Sequence number of the event that made the queue ready; 0 while it is not.
    pub ready: u32,
    /// Sequence number of the latest request to stop it.
    pub stop: u32,
    /// Descriptor area, driver area and device area, as written.
    pub areas: [u64; 3],
}

impl Queue {
    pub const NONE: Self = Self { max: 0, size: 0, ready: 0, stop: 0, areas: [0; 3] };

    /// The queue after a reset of the device.
    pub const fn reset(self) -> Self {
        Self { max: self.max, ..Self::NONE }
    }

    /// Whether the queue can be made ready (virtio 2.7, 4.2.2.2).
    pub fn is_valid(&self, bounds: Bounds) -> bool {
        let sized = self.size.is_power_of_two() && self.size <= u32::from(self.max);
        let areas = self.areas.iter().zip([DESCRIPTORS, DRIVER, DEVICE]);
        sized
            && areas.into_iter().all(|(area, (align, beside, element))| {
                // At most 2^15 elements of 16 bytes.
                let bytes = u64::from(self.size).wrapping_mul(element).wrapping_add(beside);
                Ipa::new(*area).is_aligned(align) && bounds.hold(*area, bytes)
            })
    }
}
