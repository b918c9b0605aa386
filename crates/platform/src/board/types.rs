// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of a [`Board`](crate::Board).

use crate::board::uart_driver::UartDriver;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Mpidr, Pa, Range};

/// Memory that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Path of its node, or `/memreserve/`.
    pub name: String,
    /// Where it is.
    pub range: Range<Pa>,
}

/// A CPU of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its affinity, as PSCI's CPU_ON wants it.
    pub mpidr: Mpidr,
    /// How to start it.
    pub start: StartMethod,
    /// First `compatible` of its node, such as `arm,cortex-a57`; may be empty.
    pub compatible: String,
}

impl Cpu {
    /// Whether Portcullis can start it.
    #[must_use]
    pub const fn is_startable(&self) -> bool {
        !matches!(self.start, StartMethod::Unknown(_))
    }
}

/// How a CPU is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartMethod {
    /// By PSCI's CPU_ON.
    Psci,
    /// By writing an entry address to this address and waking it with SEV.
    SpinTable(Pa),
    /// By no means that we know: the name in the tree, or empty. Such a CPU is used only as the
    /// one that boots.
    Unknown(String),
}

/// The firmware's Power State Coordination Interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Psci {
    /// The instruction that reaches it.
    pub conduit: Conduit,
    /// The function id of CPU_ON: the standard one, except for PSCI 0.1, whose tree names it.
    pub cpu_on: u32,
    /// Whether it is 0.2 or later: SYSTEM_OFF and SYSTEM_RESET exist.
    pub has_system_off: bool,
}

/// The instruction that calls firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// SMC: to EL3.
    Smc,
    /// HVC: to a hypervisor below us, which cannot be where we are EL2; kept for the message.
    Hvc,
}

/// The interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gic {
    /// GICv2 with virtualization extensions.
    V2 {
        /// Distributor.
        gicd: Range<Pa>,
        /// CPU interface of the host.
        gicc: Range<Pa>,
        /// Hypervisor control interface.
        gich: Range<Pa>,
        /// CPU interface for guests; page aligned, so that it can be mapped to them.
        gicv: Range<Pa>,
        /// INTID of the maintenance interrupt.
        maintenance: Option<u32>,
    },
    /// GICv3 or later, used through system registers.
    V3 {
        /// Distributor.
        gicd: Range<Pa>,
        /// Regions that hold redistributors, in the tree's order; at least one.
        redistributors: Vec<Range<Pa>>,
        /// Distance of redistributors within a region, in bytes, where the tree sets it.
        stride: Option<u64>,
        /// INTID of the maintenance interrupt.
        maintenance: Option<u32>,
    },
}

impl Gic {
    /// INTID of the maintenance interrupt.
    #[must_use]
    pub const fn maintenance(&self) -> Option<u32> {
        match self {
            Self::V2 { maintenance, .. } | Self::V3 { maintenance, .. } => *maintenance,
        }
    }
}

/// INTIDs of the generic timer's interrupts, and what its node says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// EL1 physical timer of the secure world; not there on some boards.
    pub secure_physical: Option<u32>,
    /// EL1 physical timer, CNTP.
    pub physical: u32,
    /// EL1 virtual timer, CNTV.
    pub virt: u32,
    /// EL2 physical timer, CNTHP.
    pub hypervisor: u32,
    /// Frequency in Hz for firmware that does not set CNTFRQ_EL0.
    pub frequency: Option<u32>,
}

/// The console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uart {
    /// What it is and how its registers lie.
    pub kind: UartKind,
    /// Its registers.
    pub registers: Range<Pa>,
    /// INTID of its interrupt, where it goes to the GIC.
    pub intid: Option<u32>,
    /// Path of its node.
    pub path: String,
    /// What follows the colon of the name it was found by, such as `115200n8`; may be empty.
    pub options: String,
    /// Frequency of its clock in Hz, where its node has it.
    pub clock: Option<u32>,
}

/// The kind of UART.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UartKind {
    /// One that Portcullis drives.
    Driven {
        /// What it is called.
        name: &'static str,
        /// How.
        driver: UartDriver,
    },
    /// One that it does not drive: the first `compatible` of its node.
    Unknown(String),
}

/// What a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// A kernel: a VM.
    Kernel,
    /// The ramdisk of the kernel below it in memory.
    Ramdisk,
    /// Neither: what `compatible` says beside `multiboot,module`; may be empty.
    Other(String),
}

/// A file that the boot loader put into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Path of its node.
    pub name: String,
    /// What it is.
    pub kind: ModuleKind,
    /// Where it is.
    pub range: Range<Pa>,
    /// Its bootargs, `vm.` options included.
    pub bootargs: String,
}
