// SPDX-License-Identifier: MIT OR Apache-2.0
//! EL2's heap, and the frame allocator of guests' memory.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use arch::{Pa, Range};
use buddy_system_allocator::{FrameAllocator, Heap};
use lock::{Lock, Rank};

/// Size of EL2's heap: VM structures, device trees while they are made, EL2's own translation tables.
const HEAP: usize = if cfg!(feature = "oracle") { 32 << 20 } else { 2 << 20 };
const PAGE: u64 = 4096;
/// 2 MiB: the smallest piece of a guest's RAM.
pub const PIECE: u64 = 2 << 20;
/// 32 MiB: large VMs need fewer of them.
pub const MIDDLE_PIECE: u64 = 32 << 20;
/// 1 GiB: the largest.
pub const LARGE_PIECE: u64 = 1 << 30;

#[repr(C, align(4096))]
struct HeapMemory(UnsafeCell<[u8; HEAP]>);
// SAFETY: only the allocator below touches it, under its lock.
unsafe impl Sync for HeapMemory {}
// The entry code does not zero it: users of the heap write memory before they read it, `alloc_zeroed` too.
#[unsafe(link_section = ".bss.unset.heap")]
static HEAP_MEMORY: HeapMemory = HeapMemory(UnsafeCell::new([0; HEAP]));

struct Allocator(Lock<Option<Heap<20>>>);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(Lock::new(Rank::Heap, None));

// SAFETY: `Heap` hands out disjoint, aligned pieces of HEAP_MEMORY, which nothing else uses. The lock serializes it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.0.lock(&crate::cpu::current().order);
        let heap = heap.get_or_insert_with(|| {
            let mut heap = Heap::new();
            // SAFETY: the static is unused memory of exactly this size; this runs once.
            unsafe { heap.init(HEAP_MEMORY.0.get() as usize, HEAP) };
            heap
        });
        heap.alloc(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let mut heap = self.0.lock(&crate::cpu::current().order);
        if let (Some(heap), Some(pointer)) = (heap.as_mut(), NonNull::new(pointer)) {
            // SAFETY: the caller got it from `alloc` with this layout (GlobalAlloc's contract).
            unsafe { heap.dealloc(pointer, layout) };
        }
    }
}

/// Bytes of the heap that are in use, with the padding of its blocks.
pub fn heap_used() -> usize {
    let heap = ALLOCATOR.0.lock(&crate::cpu::current().order);
    heap.as_ref().map_or(0, Heap::stats_alloc_actual)
}

/// Bytes of free memory, for the boot log.
static FREE: AtomicU64 = AtomicU64::new(0);
/// Free memory of the machine, in pages.
static FRAMES: Lock<FrameAllocator<28>> = Lock::new(Rank::FrameAllocator, FrameAllocator::new());

/// Gives the allocator a range of free RAM.
pub fn add(range: Range<Pa>) {
    let start = range.start().raw().div_ceil(PAGE);
    let end = range.end().raw() / PAGE;
    if start < end {
        with_frames(|frames| frames.add_frame(start as usize, end as usize));
        FREE.fetch_add(end.saturating_sub(start).saturating_mul(PAGE), Ordering::Relaxed);
    }
}

/// Runs `f` on the frame allocator, which takes the heap's lock for its lists.
fn with_frames<R>(f: impl FnOnce(&mut FrameAllocator<28>) -> R) -> R {
    let mut frames = FRAMES.lock(&crate::cpu::current().order);
    f(&mut frames)
}

/// Takes `bytes` (a multiple of the page size) of RAM, aligned to `align`.
pub fn take(bytes: u64, align: u64) -> Option<Pa> {
    let layout =
        Layout::from_size_align((bytes / PAGE) as usize, (align / PAGE).max(1) as usize).ok()?;
    let frame = with_frames(|frames| frames.alloc_aligned(layout))?;
    // The allocator rounds as a buddy system does.
    let taken = layout.size().next_power_of_two().max(layout.align()) as u64;
    FREE.fetch_sub(taken.saturating_mul(PAGE), Ordering::Relaxed);
    Some(Pa::new((frame as u64).saturating_mul(PAGE)))
}

/// Bytes of free memory.
pub fn free() -> u64 {
    FREE.load(Ordering::Relaxed)
}

/// Zeroes memory and writes it back to the point of coherency, for readers with caches off.
pub fn wipe(start: Pa, bytes: u64) {
    let start = start.raw() as usize;
    // SAFETY: callers pass RAM that they own and that EL2's tables map read-write. It holds no Rust object.
    unsafe { crate::cpu::cache::zero(start, bytes as usize) };
    crate::cpu::cache::clean_invalidate_to_poc(start, bytes as usize);
}

/// Fills memory with a byte and writes it back.
pub fn fill(start: Pa, bytes: u64, byte: u8) {
    if byte == 0 {
        return wipe(start, bytes);
    }
    let start = start.raw() as usize;
    // SAFETY: as for `wipe`.
    unsafe { core::ptr::write_bytes(start as *mut u8, byte, bytes as usize) };
    crate::cpu::cache::clean_invalidate_to_poc(start, bytes as usize);
}

/// Copies `from` to RAM and writes it back.
pub fn copy(to: Pa, from: &[u8]) {
    let start = to.raw() as usize;
    // SAFETY: as for `wipe`; the source is a module or a tree of EL2's, which never overlaps a guest's RAM.
    unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), start as *mut u8, from.len()) };
    crate::cpu::cache::clean_invalidate_to_poc(start, from.len());
}

/// Memory as bytes, to read what the boot loader left there.
///
/// # Safety
/// The range is RAM that EL2 maps. Nothing writes it while the slice exists.
pub unsafe fn slice(range: Range<Pa>) -> &'static [u8] {
    // SAFETY: as the caller promises.
    unsafe { core::slice::from_raw_parts(range.start().raw() as *const u8, range.size() as usize) }
}
