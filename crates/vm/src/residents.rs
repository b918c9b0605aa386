// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which vCPUs a CPU may still hold translations and instructions of.

use core::cell::Cell;

/// For each of `VMS` VMs, which of its vCPUs was in this CPU last.
///
/// All vCPUs of a VM have one VMID, and each may use the same ASIDs for other tables: where two of them take turns on
/// a CPU, what one has left in its TLBs and instruction cache is not for the other. vCPUs of different VMs are told
/// apart by their VMIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residents<const VMS: usize>([Cell<u8>; VMS]);

impl<const VMS: usize> Residents<VMS> {
    /// Nobody has been here.
    pub const fn new() -> Self {
        Self([const { Cell::new(0) }; VMS])
    }

    /// vCPU `vcpu` of VM `vm` is about to run here, for the first time in its life if `fresh`. `true` where what is
    /// held for its VMID is to be dropped first (TLBI VMALLE1, IC IALLU).
    #[inline(always)]
    pub fn enter(&self, vm: usize, vcpu: usize, fresh: bool) -> bool {
        let Some(resident) = self.0.get(vm) else { return true };
        let now = (vcpu as u8).wrapping_add(1);
        let before = resident.replace(now);
        fresh || (before != now && before != 0)
    }
}

impl<const VMS: usize> Default for Residents<VMS> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Residents;

    // scenario: I8 G4
    #[test]
    fn another_vcpu_of_the_same_vm_finds_nothing_of_the_one_before() {
        let cpu = Residents::<4>::new();
        assert!(cpu.enter(1, 0, true), "its first entry");
        assert!(!cpu.enter(1, 0, false), "it goes on");
        assert!(cpu.enter(1, 2, false), "another one");
        assert!(!cpu.enter(1, 2, false));
        assert!(cpu.enter(1, 0, false), "and back");
    }

    #[test]
    fn vcpus_of_other_vms_do_not_matter() {
        let cpu = Residents::<4>::new();
        cpu.enter(1, 0, true);
        assert!(cpu.enter(2, 1, true));
        assert!(!cpu.enter(1, 0, false), "its own are still its own");
        assert!(!cpu.enter(2, 1, false));
    }

    // scenario: G4
    #[test]
    fn a_new_life_finds_nothing_of_the_former_one() {
        let cpu = Residents::<4>::new();
        cpu.enter(3, 1, true);
        assert!(!cpu.enter(3, 1, false));
        assert!(cpu.enter(3, 1, true));
    }

    #[test]
    fn what_it_does_not_know_it_drops() {
        assert!(Residents::<2>::new().enter(2, 0, false));
    }
}
