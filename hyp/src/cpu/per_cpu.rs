// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stack of each physical CPU, and its structure right above, to which TPIDR_EL2 points.

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::mem::size_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lock::Order;
use vm::trace::EventRing;

use crate::cpu::run_queue::RunQueue;

/// Physical CPUs that the image can use.
pub const MAX_CPUS: usize = 8;
/// Events that a CPU's trace ring keeps.
pub const TRACE_EVENTS: usize = 32;
const GUARD: usize = 4096;
const STACK: usize = 60 * 1024;
const EMERGENCY: usize = 4096;

/// One CPU. Only its own CPU touches the non-atomic fields.
#[repr(C, align(64))]
pub struct Cpu {
    /// Number of this CPU, in the order in which CPUs were started.
    pub index: Cell<usize>,
    /// Lock ranks held.
    pub order: Order,
    /// The vCPUs of this CPU.
    pub queue: RunQueue,
    /// CNTPCT_EL0 at which a VM restarts whose last vCPU parked here; 0 if none does.
    pub restart: Cell<u64>,
    /// Set by the CPU itself once it is up.
    pub online: AtomicBool,
    /// MPIDR_EL1 affinity.
    pub mpidr: AtomicU64,
    /// EL2 has survived a fault that it expected (`crate::cpu::address_translation`).
    pub fault_seen: Cell<bool>,
    /// The last refusals on this CPU.
    pub trace: EventRing<TRACE_EVENTS>,
    /// Stack for the report of a fault of EL2: the ordinary stack may be its cause.
    emergency: Emergency,
}

#[repr(C, align(16))]
struct Emergency(UnsafeCell<[u8; EMERGENCY]>);

/// Size of [`Cpu`].
pub const CPU_SIZE: usize = size_of::<Cpu>();
/// Distance between the areas of two CPUs.
pub const CPU_STRIDE: usize = size_of::<CpuArea>();
/// Offset of [`Cpu`] in its area.
pub const CPU_OFFSET: usize = CPU_STRIDE - CPU_SIZE;
/// Bytes of [`Cpu`] below its emergency stack. The entry code zeroes them, rounded up to 64.
pub const CPU_ZEROED: usize = core::mem::offset_of!(Cpu, emergency);
/// Offset from [`Cpu`] to the top of its emergency stack.
pub const EMERGENCY_TOP: usize = core::mem::offset_of!(Cpu, emergency) + EMERGENCY;

/// Guard page, stack and structure of a CPU. EL2's own tables do not map the guard page.
#[repr(C, align(4096))]
pub struct CpuArea {
    guard: UnsafeCell<[u8; GUARD]>,
    stack: UnsafeCell<[u8; STACK - CPU_SIZE]>,
    /// The CPU's own structure; the stack grows down from it.
    pub cpu: Cpu,
}

// SAFETY: the Cells of a Cpu are only touched by the CPU that it belongs to (`current`), and by the boot CPU before
// that CPU has been started; everything else in it is atomic. The stacks are memory, not values.
unsafe impl Sync for CpuArea {}

impl CpuArea {
    const fn new() -> Self {
        Self {
            guard: UnsafeCell::new([0; GUARD]),
            stack: UnsafeCell::new([0; STACK - CPU_SIZE]),
            cpu: Cpu {
                index: Cell::new(0),
                order: Order::new(),
                queue: RunQueue::new(),
                restart: Cell::new(0),
                online: AtomicBool::new(false),
                mpidr: AtomicU64::new(0),
                fault_seen: Cell::new(false),
                trace: EventRing::new(),
                emergency: Emergency(UnsafeCell::new([0; EMERGENCY])),
            },
        }
    }

    /// All of it.
    pub fn span(&self) -> crate::layout::Span {
        let start = self.guard.get() as usize;
        start..start.saturating_add(CPU_STRIDE)
    }

    /// The guard page below the stack.
    pub fn guard_page(&self) -> crate::layout::Span {
        let start = self.guard.get() as usize;
        start..start.saturating_add(GUARD)
    }
}

impl Cpu {
    /// Asks for a restart at CNTPCT_EL0 `at`, unless an earlier one is asked for.
    pub fn set_restart(&self, at: u64) {
        let first = self.restart.get();
        self.restart.set(if first == 0 { at.max(1) } else { first.min(at.max(1)) });
    }
}

/// All CPUs, boot CPU first. The entry code zeroes only the structures. Stacks need no zeroing: every slot is written
/// before it is read.
#[unsafe(link_section = ".bss.unset.cpus")]
pub static CPUS: [CpuArea; MAX_CPUS] = [const { CpuArea::new() }; MAX_CPUS];

/// The structure of the CPU that runs this.
#[inline(always)]
pub fn current() -> &'static Cpu {
    let cpu: *const Cpu;
    // SAFETY: the entry code sets TPIDR_EL2 to this CPU's element of CPUS, a static, before any Rust runs. Nothing
    // changes it. (`pure`, which aarch64-cpu has not, lets the compiler read it once.)
    unsafe {
        asm!("mrs {}, tpidr_el2", out(reg) cpu, options(nomem, nostack, preserves_flags, pure));
        &*cpu
    }
}

/// CPUs that are up.
pub fn online() -> impl Iterator<Item = (usize, &'static Cpu)> {
    CPUS.iter()
        .enumerate()
        .map(|(i, a)| (i, &a.cpu))
        .filter(|(_, c)| c.online.load(Ordering::Acquire))
}
