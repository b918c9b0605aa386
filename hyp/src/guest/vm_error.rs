// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a VM cannot be made or started.

use alloc::string::String;
use core::fmt;

use arch::{GeometryError, Ipa};
use stage2::MapError;
use vm::{ResetError, SetupError};

use crate::memory::frame_owners::ClaimError;

/// What went wrong, and with which VM. Its text is one log line.
pub struct VmError {
    vm: String,
    cause: Cause,
}

/// What went wrong.
pub enum Cause {
    /// `vm.ipa` does not fit the machine.
    Geometry(u8, GeometryError),
    /// Too little memory is free for this part.
    NoMemory(&'static str),
    /// A frame has an owner already.
    Claim(ClaimError),
    /// Memory at this IPA cannot be mapped.
    Map(Ipa, MapError),
    /// `vm` refuses the configuration.
    Setup(SetupError),
    /// The VM cannot be reset.
    Reset(ResetError),
    /// Its device tree cannot be written.
    Tree(platform::Error),
    /// An image lies outside its memory.
    NoMemoryAt(Ipa),
    /// It runs already.
    Running,
    /// This CPU has no room for a vCPU.
    CpuFull(usize),
}

impl Cause {
    /// The error, of the VM with this name.
    #[cold]
    #[inline(never)]
    pub fn of(self, vm: &str) -> VmError {
        VmError { vm: String::from(vm), cause: self }
    }
}

impl fmt::Display for VmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VM '{}': ", self.vm)?;
        match &self.cause {
            Cause::Geometry(bits, error) => write!(f, "vm.ipa={bits}: {error}"),
            Cause::NoMemory(part) => {
                write!(f, "not enough memory for its {part}: give it less vm.mem=")
            }
            Cause::Claim(error) => write!(f, "{error}"),
            Cause::Map(ipa, error) => write!(f, "memory at {ipa}: {error}"),
            Cause::Setup(error) => write!(f, "{error}"),
            Cause::Reset(error) => write!(f, "{error}"),
            Cause::Tree(error) => write!(f, "{error}"),
            Cause::NoMemoryAt(ipa) => write!(f, "it has no memory at {ipa}"),
            Cause::Running => f.write_str("it runs already"),
            Cause::CpuFull(cpu) => write!(f, "CPU {cpu} has no room for it"),
        }
    }
}
