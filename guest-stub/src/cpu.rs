// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each virtual CPU keeps for itself, found through TPIDR_EL1.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

use crate::frame::CHUNK;
use crate::registers::Run;
use crate::scratch::Shared;

/// The most vCPUs that a VM can have.
pub const MAX_VCPUS: usize = 8;

/// Bytes of stack of one vCPU.
pub const STACK_SIZE: usize = 32 << 10;

/// Stacks, below which the next vCPU's lies.
#[repr(C, align(4096))]
pub struct Stacks {
    _bytes: [[u8; STACK_SIZE]; MAX_VCPUS],
}
/// All stacks.
pub static STACKS: Shared<Stacks> = Shared::new(Stacks { _bytes: [[0; STACK_SIZE]; MAX_VCPUS] });

/// One virtual CPU. Only its own vCPU writes the plain fields; the atomic ones are for all.
#[repr(C)]
pub struct Cpu {
    /// Its number: 0 is the one that booted.
    pub index: usize,
    /// Top of its stack.
    pub stack: u64,
    /// Two words for the exception entry to save registers in.
    pub scratch: [u64; 2],
    /// Where the next exception puts its frame, the top of a [`CHUNK`].
    pub frame_top: u64,
    /// The innermost [`machine::run`](crate::machine::run) in progress, or null.
    pub run: *mut Run,
    /// MPIDR affinity, for SGIs and PSCI.
    pub mpidr: u64,
    /// Interrupts taken, by INTID below 32.
    pub interrupts: [AtomicU32; 32],
    /// INTIDs of 32 and up, and spurious ones.
    pub other_interrupts: AtomicU32,
    /// Work for a vCPU that waits for some; see `smp`.
    pub job: AtomicPtr<()>,
    /// The argument of the job.
    pub argument: AtomicU64,
    /// How far it is; see `smp`.
    pub state: AtomicU32,
    /// What the job returned, or the syndrome of the exception that ended it.
    pub result: AtomicU64,
}

impl Cpu {
    const fn new() -> Self {
        Self {
            index: 0,
            stack: 0,
            scratch: [0; 2],
            frame_top: 0,
            run: core::ptr::null_mut(),
            mpidr: 0,
            interrupts: [const { AtomicU32::new(0) }; 32],
            other_interrupts: AtomicU32::new(0),
            job: AtomicPtr::new(core::ptr::null_mut()),
            argument: AtomicU64::new(0),
            state: AtomicU32::new(0),
            result: AtomicU64::new(0),
        }
    }
}

/// All of them. TPIDR_EL1 of a running vCPU points to its own.
pub static CPUS: Shared<[Cpu; MAX_VCPUS]> = Shared::new([const { Cpu::new() }; MAX_VCPUS]);

/// How many exceptions may be nested in each other.
const NESTING: usize = 4;

#[repr(C, align(4096))]
struct Chunks {
    _bytes: [[u8; CHUNK * NESTING]; MAX_VCPUS],
}
static CHUNKS: Shared<Chunks> = Shared::new(Chunks { _bytes: [[0; CHUNK * NESTING]; MAX_VCPUS] });

/// The record of vCPU `index`, for its atomic fields and for reading what does not change.
pub fn of(index: usize) -> &'static Cpu {
    // SAFETY: in bounds by the remainder, and shared access only.
    unsafe { &*CPUS.get().cast::<Cpu>().add(index % MAX_VCPUS) }
}

/// The record of the calling vCPU.
///
/// Its plain fields may be written through this pointer: no other vCPU reads them.
pub fn own() -> *mut Cpu {
    mrs!("tpidr_el1") as *mut Cpu
}

/// The number of the calling vCPU.
pub fn index() -> usize {
    // SAFETY: TPIDR_EL1 is set by the entry code, before Rust code runs.
    unsafe { (*own()).index }
}

/// The top of the lowest frame of vCPU `index`.
pub fn frame_base(index: usize) -> u64 {
    CHUNKS.address() + (CHUNK * NESTING * (index + 1)) as u64
}

/// The top of the deepest frame that still has room.
pub fn frame_limit(index: usize) -> u64 {
    frame_base(index) - (CHUNK * (NESTING - 1)) as u64
}

/// Fills all records. Called once, by the first vCPU.
pub fn init() {
    for index in 0..MAX_VCPUS {
        // SAFETY: the first vCPU is alone, and the index is in bounds.
        let cpu = unsafe { &mut *CPUS.get().cast::<Cpu>().add(index) };
        cpu.index = index;
        cpu.stack = stack_top(index);
        cpu.frame_top = frame_base(index);
    }
}

/// Sets the MPIDR affinity of vCPU `index`, as the device tree tells it.
pub fn set_mpidr(index: usize, mpidr: u64) {
    // SAFETY: called by the first vCPU while it is alone.
    unsafe { (*CPUS.get().cast::<Cpu>().add(index % MAX_VCPUS)).mpidr = mpidr }
}

/// The top of a vCPU's stack.
fn stack_top(index: usize) -> u64 {
    STACKS.address() + (STACK_SIZE * (index + 1)) as u64
}
