// SPDX-License-Identifier: MIT OR Apache-2.0
//! One request of a ring: the buffers of its descriptor chain, in order.

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory, Permissions, VolatileSlice};

use crate::port::Memory;

/// Most buffers of a chain. A guest that has more is refused, so that one request has a bound.
pub const MOST_BUFFERS: usize = 1024;

/// Why a chain cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It ends where its last descriptor says that it goes on: an index outside the table, a circle, an indirect table in
    /// another one or of a wrong size, or more than 2^32 bytes.
    Cut,
    /// A buffer is not in the peer's RAM.
    Outside,
    /// More than [`MOST_BUFFERS`].
    TooMany,
    /// A buffer for the driver to read comes before one for the device to read (virtio 2.7.4.2).
    Order,
}

/// The buffers of one request. The guest may change what is in them at any time.
#[derive(Debug, Default)]
pub struct Chain<'a> {
    readable: Vec<VolatileSlice<'a>>,
    writable: Vec<VolatileSlice<'a>>,
    read: usize,
    written: usize,
}

impl<'a> Chain<'a> {
    /// Walks the descriptors once.
    ///
    /// # Errors
    ///
    /// As [`Malformed`] says.
    pub fn walk(
        memory: &'a Memory,
        mut descriptors: DescriptorChain<&'a Memory>,
    ) -> Result<Self, Malformed> {
        let mut chain = Self::default();
        let mut more = true;
        let mut count = 0_usize;
        for descriptor in descriptors.by_ref() {
            count = count.saturating_add(1);
            if count > MOST_BUFFERS {
                return Err(Malformed::TooMany);
            }
            more = descriptor.has_next();
            let (list, access) = if descriptor.is_write_only() {
                (&mut chain.writable, Permissions::Write)
            } else if chain.writable.is_empty() {
                (&mut chain.readable, Permissions::Read)
            } else {
                return Err(Malformed::Order);
            };
            let slices = memory.get_slices(descriptor.addr(), descriptor.len() as usize, access);
            for slice in slices.map_err(|_| Malformed::Outside)? {
                list.push(slice.map_err(|_| Malformed::Outside)?);
            }
        }
        // virtio-queue ends a chain silently where it breaks the rules.
        if more { Err(Malformed::Cut) } else { Ok(chain) }
    }

    /// What the device has still to read.
    #[must_use]
    pub fn readable(&self) -> &[VolatileSlice<'a>] {
        &self.readable
    }

    /// What the device has still to write.
    #[must_use]
    pub fn writable(&self) -> &[VolatileSlice<'a>] {
        &self.writable
    }

    /// Bytes that the device has still to read.
    #[must_use]
    pub fn to_read(&self) -> usize {
        bytes(&self.readable)
    }

    /// Bytes that the device has still to write.
    #[must_use]
    pub fn to_write(&self) -> usize {
        bytes(&self.writable)
    }

    /// Bytes that were written: the length in the used ring (virtio 2.7.8).
    #[must_use]
    pub fn written(&self) -> u32 {
        u32::try_from(self.written).unwrap_or(u32::MAX)
    }

    /// `count` bytes behind those of this chain were written as well.
    pub fn add_written(&mut self, count: u32) {
        self.written = self.written.saturating_add(count as usize);
    }

    /// Takes the next `N` bytes that the device reads; `None` if there are fewer.
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut all = [0; N];
        let mut rest = all.as_mut_slice();
        let mut done = 0_usize;
        for slice in &self.readable {
            let copied = slice.copy_to(rest);
            done = done.saturating_add(copied);
            rest = rest.get_mut(copied..).unwrap_or_default();
        }
        if done < N {
            return None;
        }
        self.skip_readable(N);
        Some(all)
    }

    /// The next `count` bytes to read have been read.
    pub fn skip_readable(&mut self, count: usize) {
        self.read = self.read.saturating_add(skip(&mut self.readable, count));
    }

    /// The next `count` bytes to write have been written.
    pub fn skip_writable(&mut self, count: usize) {
        self.written = self.written.saturating_add(skip(&mut self.writable, count));
    }

    /// Writes `bytes`, or as much of them as there is room. Answers how much.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        for slice in &self.writable {
            let count = slice.len().min(rest.len());
            let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            slice.copy_from(now);
            rest = later;
        }
        let done = bytes.len().saturating_sub(rest.len());
        self.skip_writable(done);
        done
    }

    /// Cuts off the last `count` bytes that the device writes, as a chain of their own; `None` if there are fewer.
    pub fn split_writable(&mut self, count: usize) -> Option<Chain<'a>> {
        let before = self.to_write().checked_sub(count)?;
        let mut tail = Chain { writable: self.writable.clone(), ..Chain::default() };
        skip(&mut tail.writable, before);
        limit(&mut self.writable, before);
        Some(tail)
    }

    /// Lets the device write no more than `count` bytes further.
    pub fn limit_writable(&mut self, count: usize) {
        limit(&mut self.writable, count);
    }

    /// Lets the device read no more than `count` bytes further.
    pub fn limit_readable(&mut self, count: usize) {
        limit(&mut self.readable, count);
    }
}

fn bytes(slices: &[VolatileSlice<'_>]) -> usize {
    slices.iter().fold(0, |sum, slice| sum.saturating_add(slice.len()))
}

/// Takes `count` bytes off the front. Answers how many there were.
fn skip(slices: &mut Vec<VolatileSlice<'_>>, count: usize) -> usize {
    let mut rest = count;
    let mut gone = 0_usize;
    for slice in slices.iter_mut() {
        if slice.len() > rest {
            if let Ok(tail) = slice.offset(rest) {
                *slice = tail;
                rest = 0;
            }
            break;
        }
        rest = rest.saturating_sub(slice.len());
        gone = gone.saturating_add(1);
    }
    slices.drain(..gone.min(slices.len()));
    count.saturating_sub(rest)
}

/// Leaves `count` bytes.
fn limit(slices: &mut Vec<VolatileSlice<'_>>, count: usize) {
    let mut rest = count;
    slices.retain_mut(|slice| {
        let keep = slice.len().min(rest);
        rest = rest.saturating_sub(keep);
        if let Ok(head) = slice.subslice(0, keep) {
            *slice = head;
        }
        keep != 0
    });
}
