// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one lock of Portcullis: a fair spin lock with a rank.
//!
//! # Key types
//! - [`Order`]: which ranks a CPU holds. Each CPU has one, and hands it to whatever may take a lock.
//! - [`Lock`]: can only be taken with an [`Order`], in rising rank.
//! - [`atomic`]: the atomics of crates whose state several CPUs share.
//!
//! # Invariants
//! - A CPU takes locks in strictly rising rank; checked in debug builds ([`Lock::lock`] panics there).
//! - CPUs that wait for a lock get it in the order in which they came.
//! - Guards release in any order; nothing is logged and no guest runs while one lives.
//! - EL2 runs with exceptions masked, so a lock is never taken by an interrupt handler over its holder.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod atomic;

use core::cell::Cell;
use core::ops::{Deref, DerefMut};

use atomic::{AtomicU32, Ordering};
#[cfg(shuttle)]
use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(shuttle))]
use spin::mutex::{SpinMutex as Mutex, SpinMutexGuard as MutexGuard};

/// Ranks, lowest first: a lock may be taken while locks of lower ranks are held. docs/locking.md says what each protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// Start, stop and reset of a VM and its vCPUs.
    Lifecycle = 0,
    /// Writers of a VM's stage-2 tables, and its table pool.
    Stage2 = 1,
    /// Owners of physical frames.
    Frames = 2,
    /// A VM's interrupt controller.
    Vgic = 3,
    /// One emulated device.
    Device = 4,
    /// The machine's frame allocator, which keeps its lists on the heap.
    FrameAllocator = 5,
    /// EL2's heap.
    Heap = 6,
    /// The line that one VM writes: completed, it goes to the console.
    ConsoleLine = 7,
    /// The console's ring, and console input.
    Console = 8,
}

/// What one CPU holds, and how many locks it has taken.
#[derive(Debug, Default)]
pub struct Order {
    held: Cell<u16>,
    taken: Cell<u64>,
}

impl Order {
    /// A CPU that holds nothing.
    pub const fn new() -> Self {
        Self { held: Cell::new(0), taken: Cell::new(0) }
    }

    /// How many locks this CPU has taken so far (counted in debug builds; 0 otherwise).
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// For a panic: what this CPU holds stays locked, and takes part in no check any more.
    pub fn abandon(&self) {
        self.held.set(0);
    }

    #[inline(always)]
    fn enter(&self, rank: Rank) {
        if cfg!(debug_assertions) {
            let held = self.held.get();
            assert!(
                held >> (rank as u8) == 0,
                "lock of rank {rank:?} taken while ranks {held:#b} are held"
            );
            self.held.set(held | 1 << (rank as u8));
            self.taken.set(self.taken.get().wrapping_add(1));
        }
    }

    #[inline(always)]
    fn leave(&self, rank: Rank) {
        if cfg!(debug_assertions) {
            self.held.set(self.held.get() & !(1 << (rank as u8)));
        }
    }
}

/// A value that one CPU at a time may touch.
///
/// Fair: while a CPU waits, others queue behind it, so that a VM that takes its locks again and again cannot keep them from
/// a CPU that runs another VM. `spin` has a ticket lock too; its guard costs 20 instructions more on each exit that takes a
/// lock, and this queue three while no CPU waits.
pub struct Lock<T> {
    rank: Rank,
    /// CPUs that wait.
    waiting: AtomicU32,
    /// The ticket that the next CPU to wait draws.
    next: AtomicU32,
    /// The ticket whose CPU is to have the lock next.
    serving: AtomicU32,
    inner: Mutex<T>,
}

impl<T> Lock<T> {
    /// Wraps `value` in a lock of `rank`.
    #[inline(always)]
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            waiting: AtomicU32::new(0),
            next: AtomicU32::new(0),
            serving: AtomicU32::new(0),
            inner: Mutex::new(value),
        }
    }

    /// Waits until the value is free, and takes it.
    ///
    /// # Panics
    /// In debug builds, where the CPU already holds a lock of this or a higher rank: a deadlock in the making.
    #[inline(always)]
    pub fn lock<'a>(&'a self, order: &'a Order) -> Guard<'a, T> {
        order.enter(self.rank);
        let inner = match self.take() {
            Some(inner) => inner,
            None => self.wait(),
        };
        Guard { inner, order, rank: self.rank }
    }

    /// Takes the value where it is free and no one waits for it, else `None`: for code that then goes another way, and so
    /// needs no frame for a wait. May fail without a reason.
    #[inline(always)]
    pub fn lock_now<'a>(&'a self, order: &'a Order) -> Option<Guard<'a, T>> {
        let inner = self.take()?;
        order.enter(self.rank);
        Some(Guard { inner, order, rank: self.rank })
    }

    /// Takes the lock where it is free and no one waits for it.
    #[inline(always)]
    fn take(&self) -> Option<MutexGuard<'_, T>> {
        if self.waiting.load(Ordering::Relaxed) != 0 {
            return None;
        }
        self.take_now()
    }

    /// Takes the lock where it is free. May fail without a reason: the queue is never wrong.
    #[inline(always)]
    fn take_now(&self) -> Option<MutexGuard<'_, T>> {
        #[cfg(not(shuttle))]
        return self.inner.try_lock_weak();
        #[cfg(shuttle)]
        return match self.inner.try_lock() {
            Ok(inner) => Some(inner),
            // A model has failed already.
            Err(shuttle::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(shuttle::sync::TryLockError::WouldBlock) => None,
        };
    }

    /// Waits in the queue.
    #[cold]
    #[inline(never)]
    fn wait(&self) -> MutexGuard<'_, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let inner = loop {
            // Then only the holder is before us, and CPUs that looked before we came.
            if self.serving.load(Ordering::Acquire) == ticket
                && let Some(inner) = self.take_now()
            {
                break inner;
            }
            relax();
        };
        self.serving.store(ticket.wrapping_add(1), Ordering::Release);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        inner
    }

    /// Takes the value without waiting; `None` if another CPU holds it.
    pub fn try_lock<'a>(&'a self, order: &'a Order) -> Option<Guard<'a, T>> {
        let inner = self.inner.try_lock();
        #[cfg(shuttle)]
        let inner = inner.ok();
        let inner = inner?;
        order.enter(self.rank);
        Some(Guard { inner, order, rank: self.rank })
    }

    /// The value of a lock that no other CPU can see.
    pub fn get_mut(&mut self) -> &mut T {
        let value = self.inner.get_mut();
        #[cfg(shuttle)]
        let value = value.unwrap_or_else(|poisoned| poisoned.into_inner());
        value
    }
}

/// Passes the time while another CPU has the lock.
///
/// The WFE does not wait, as SEVL has set the event register (Arm ARM, D1.7.1). A QEMU that runs all CPUs in one thread
/// (`-icount`) goes on with another one there. At an ISB it would spin for the rest of the time slice, up to 100 ms.
#[inline(always)]
fn relax() {
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
    #[cfg(all(not(shuttle), target_os = "none"))]
    {
        aarch64_cpu::asm::sevl();
        aarch64_cpu::asm::wfe();
    }
    #[cfg(not(any(shuttle, target_os = "none")))]
    core::hint::spin_loop();
}

/// The right to touch a [`Lock`]'s value; released on drop.
pub struct Guard<'a, T> {
    inner: MutexGuard<'a, T>,
    order: &'a Order,
    rank: Rank,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.order.leave(self.rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // bug: 63
    #[test]
    fn rising_ranks_are_accepted_and_released() {
        let (low, high) = (Lock::new(Rank::Stage2, 1), Lock::new(Rank::Console, 2));
        let order = Order::new();
        for _ in 0..2 {
            let a = low.lock(&order);
            let b = high.lock(&order);
            assert_eq!((*a, *b), (1, 2));
        }
        assert_eq!(order.taken(), 4);
    }

    // scenario: E9
    // bug: 64
    #[test]
    #[should_panic(expected = "lock of rank Stage2 taken while")]
    fn falling_rank_is_caught() {
        let (low, high) = (Lock::new(Rank::Stage2, ()), Lock::new(Rank::Console, ()));
        let order = Order::new();
        let _b = high.lock(&order);
        let _a = low.lock(&order);
    }

    // scenario: E9
    // bug: 64
    #[test]
    #[should_panic(expected = "lock of rank Vgic taken while")]
    fn same_rank_twice_is_caught() {
        let (one, two) = (Lock::new(Rank::Vgic, ()), Lock::new(Rank::Vgic, ()));
        let order = Order::new();
        let _a = one.lock(&order);
        let _b = two.lock(&order);
    }

    // bug: 63
    #[test]
    fn try_lock_refuses_a_held_lock_and_leaves_no_rank_behind() {
        let lock = Lock::new(Rank::Device, 7);
        let (mine, other) = (Order::new(), Order::new());
        let held = lock.lock(&mine);
        assert!(lock.try_lock(&other).is_none());
        drop(held);
        assert_eq!(lock.try_lock(&other).map(|g| *g), Some(7));
    }

    #[test]
    fn a_free_lock_that_others_wait_for_is_not_taken_before_them() {
        let lock = Lock::new(Rank::Vgic, ());
        let order = Order::new();
        lock.waiting.store(1, Ordering::Relaxed);
        assert!(lock.lock_now(&order).is_none());
        lock.waiting.store(0, Ordering::Relaxed);
        // A weak exchange may fail without a reason, but not every time.
        assert!((0..1000).any(|_| lock.lock_now(&order).is_some()));
    }

    #[test]
    fn those_who_wait_get_the_lock_in_the_order_in_which_they_came() {
        const WAITERS: usize = 4;
        for _ in 0..50 {
            let lock = Lock::new(Rank::Vgic, std::vec::Vec::new());
            std::thread::scope(|scope| {
                let mine = Order::new();
                let held = lock.lock(&mine);
                // 1 where a weak exchange failed without a reason, and the holder had to queue.
                let first = lock.next.load(Ordering::Relaxed) as usize;
                for number in 0..WAITERS {
                    let lock = &lock;
                    scope.spawn(move || lock.lock(&Order::new()).push(number));
                    // Both counters: only what this thread has read of `waiting` binds what it reads of it later.
                    while lock.next.load(Ordering::Relaxed) as usize <= first + number
                        || lock.waiting.load(Ordering::Relaxed) as usize <= number
                    {
                        std::thread::yield_now();
                    }
                }
                drop(held);
                // The holder itself comes last when it comes again.
                lock.lock(&mine).push(WAITERS);
            });
            let order = Order::new();
            let came: std::vec::Vec<usize> = lock.lock(&order).clone();
            assert_eq!(came, [0, 1, 2, 3, WAITERS]);
            assert_eq!(lock.waiting.load(Ordering::Relaxed), 0);
        }
    }
}
