// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which vCPUs' translations and instructions a CPU may still hold.

use core::cell::Cell;

/// For each of `VMS` VMs, the vCPU that ran on this CPU last.
///
/// All vCPUs of a VM have one VMID, and each may use the same ASIDs for other tables: if two of them share a CPU,
/// one must not use what the other has left in its TLBs and instruction cache. VMIDs tell vCPUs of different VMs apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlbResidency<const VMS: usize>([Cell<u8>; VMS]);

impl<const VMS: usize> TlbResidency<VMS> {
    /// No vCPU has run here.
    pub const fn new() -> Self {
        Self([const { Cell::new(0) }; VMS])
    }

    /// vCPU `vcpu` of VM `vm` is about to run here, for the first time since it was turned on if `fresh`. Calls `invalidate` if
    /// what the CPU holds for its VMID must be dropped first (TLBI VMALLE1, IC IALLU).
    #[inline(always)]
    pub fn switch_to(&self, vm: usize, vcpu: usize, fresh: bool, invalidate: impl FnOnce()) {
        let now = (vcpu as u8).wrapping_add(1);
        let before = self.0.get(vm).map(|resident| resident.replace(now));
        if fresh || before.is_none_or(|before| before != now && before != 0) {
            invalidate();
        }
    }
}

impl<const VMS: usize> Default for TlbResidency<VMS> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::TlbResidency;

    /// Whether an entry invalidates what is held.
    fn entered<const VMS: usize>(
        cpu: &TlbResidency<VMS>,
        vm: usize,
        vcpu: usize,
        fresh: bool,
    ) -> bool {
        let mut invalidated = false;
        cpu.switch_to(vm, vcpu, fresh, || invalidated = true);
        invalidated
    }

    // scenario: I8 G4
    #[test]
    fn another_vcpu_of_the_same_vm_finds_nothing_of_the_one_before() {
        let cpu = TlbResidency::<4>::new();
        assert!(entered(&cpu, 1, 0, true), "its first entry");
        assert!(!entered(&cpu, 1, 0, false), "it goes on");
        assert!(entered(&cpu, 1, 2, false), "another one");
        assert!(!entered(&cpu, 1, 2, false));
        assert!(entered(&cpu, 1, 0, false), "and back");
    }

    #[test]
    fn vcpus_of_other_vms_do_not_matter() {
        let cpu = TlbResidency::<4>::new();
        entered(&cpu, 1, 0, true);
        assert!(entered(&cpu, 2, 1, true));
        assert!(!entered(&cpu, 1, 0, false), "its own are still its own");
        assert!(!entered(&cpu, 2, 1, false));
    }

    // scenario: G4
    #[test]
    fn a_new_life_finds_nothing_of_the_former_one() {
        let cpu = TlbResidency::<4>::new();
        entered(&cpu, 3, 1, true);
        assert!(!entered(&cpu, 3, 1, false));
        assert!(entered(&cpu, 3, 1, true));
    }

    #[test]
    fn what_it_does_not_know_it_drops() {
        assert!(entered(&TlbResidency::<2>::new(), 2, 0, false));
    }
}
