// SPDX-License-Identifier: MIT OR Apache-2.0
//! What GICv2 and GICv3 have in common: numbers, errors, and what a vCPU keeps of its interface.

use vgic::Interface;

/// Asks a CPU to leave its guest and to look for work.
pub const SGI_KICK: u32 = 0;
/// Tells a CPU that EL2 has panicked.
pub const SGI_PANIC: u32 = 1;
/// The first of the special INTIDs, which name no interrupt (1020 to 1023).
pub const SPECIAL: u32 = 1020;
/// The largest number of list registers that the architecture allows.
pub const MAX_LIST_REGISTERS: usize = 16;

/// The state of a vCPU's virtual CPU interface except for the list registers. The default is that of a reset CPU.
#[derive(Clone, Copy, Default)]
pub struct VirtualInterface {
    pub(super) vmcr: u64,
    /// The first list register, where it stays as it was ([`vgic::Event::Put`]); else 0.
    pub first: u64,
    /// Active priorities of group 0 (or, GICv2, of both).
    pub(super) ap0: [u64; 4],
    /// Active priorities of group 1.
    pub(super) ap1: [u64; 4],
}

impl VirtualInterface {
    /// What a fold needs of it, where nothing was left out of the list registers.
    pub fn interface(&self) -> Interface {
        Interface::new(0, self.vmcr as u32)
    }
}

/// Priority of every physical interrupt: all are equal to EL2.
pub const PRIORITY: u8 = 0x80;

/// The bit of an interrupt in its word of 32.
pub const fn bit(intid: u32) -> u32 {
    1_u32.wrapping_shl(intid & 31)
}

/// Why the controller cannot be used.
#[derive(Clone, Copy, Debug)]
pub enum GicError {
    /// A GICv2 without one of its frames.
    NoHypervisorInterface,
    /// ICC_SRE_EL2.SRE stays 0.
    NoSystemRegisters,
    /// The tree puts the distributor at 0.
    NoDistributor,
    /// No redistributor has this CPU's affinity.
    NoRedistributor,
    /// The CPU's number is beyond [`crate::cpu::MAX_CPUS`].
    TooManyCpus,
}

impl core::fmt::Display for GicError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoHypervisorInterface => "the GICv2 has no hypervisor interface",
            Self::NoSystemRegisters => "the GIC's system registers cannot be enabled at EL2",
            Self::NoDistributor => "the distributor is at address 0",
            Self::NoRedistributor => "no redistributor for this CPU",
            Self::TooManyCpus => "too many CPUs",
        })
    }
}
