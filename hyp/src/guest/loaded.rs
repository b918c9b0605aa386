// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which vCPU is loaded, for code that handles interrupts and keys below the vCPU folder.

use crate::guest::instance::VmInstance;

/// The vCPU whose registers are in this CPU.
#[derive(Clone, Copy)]
pub struct Loaded {
    /// Its VM.
    pub guest: &'static VmInstance,
    /// Its index in the VM.
    pub vcpu: usize,
}

impl Loaded {
    /// Index of the loaded vCPU if it is one of `guest`.
    pub fn vcpu_of(loaded: Option<Self>, guest: &VmInstance) -> Option<usize> {
        loaded.filter(|it| core::ptr::eq(it.guest, guest)).map(|it| it.vcpu)
    }
}
