// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a VM needs of the machine.

use arch::{Pa, VcpuSet, Width};
use lock::atomic::AtomicBool;
use lock::{Guard, Order};
use stage2::{Stage2, TableMemory, Tlb};
use vgic::Vgic;

/// The machine, as one VM sees it. EL2 has an implementation per VM; tests have a recording one.
///
/// Nothing here may log or wait for another vCPU: some of it is called under a lock.
pub trait Host: TableMemory + Tlb {
    /// Makes these vCPUs of the VM exit soon if they run, and wakes them if they wait: their list
    /// registers are out of date. Never names the calling vCPU.
    fn kick(&self, vcpus: VcpuSet);

    /// These vCPUs of the VM have been turned on, or the VM is stopping: as [`Host::kick`], for those that are off too.
    fn power_changed(&self, vcpus: VcpuSet) {
        self.kick(vcpus);
    }

    /// Reads the list registers of `vcpu`, which runs on this CPU, back into `vgic` ([`Vgic::sync_from_lrs`]), and clears EOIcount,
    /// which would be counted again otherwise. Kicks the others that the call names. [`Host::flush_interrupts`] follows
    /// before the guest is entered.
    fn sync_interrupts(&self, vcpu: usize, vgic: &mut Vgic);

    /// Brings the list registers of `vcpu`, which runs on this CPU, up to date ([`vgic::Event::Marked`]).
    fn flush_interrupts(&self, vcpu: usize, vgic: &mut Vgic);

    /// Samples the lines behind forwarded interrupts that are pending in `vgic` ([`Vgic::awaits_level`]): those of `vcpu`, which
    /// runs on this CPU, and shared ones. Reports each that has fallen ([`Vgic::set_level`]), and returns what that returns.
    /// [`Host::flush_interrupts`] does the same first.
    fn sample_lines(&self, vcpu: usize, vgic: &mut Vgic) -> VcpuSet {
        let _ = (vcpu, vgic);
        VcpuSet::EMPTY
    }

    /// A write of ICC_SGI1R_EL1 by `vcpu`, which runs on this CPU: [`vgic::Event::Sgi1r`], and what its answer asks for. `false`
    /// for [`vgic::Sync::Fallback`]: nothing has changed.
    fn send_sgi(&self, vcpu: usize, value: u64, vgic: Guard<'_, Vgic>) -> bool;

    /// One byte of the VM's console. Never waits; what finds no room is dropped and counted by the console.
    fn console_put(&self, byte: u8);

    /// Whether [`Host::console_put`] would find room.
    fn console_has_room(&self) -> bool;

    /// Whether [`Host::console_take`] would find a byte.
    fn console_ready(&self) -> bool;

    /// The next byte of the VM's console input.
    fn console_take(&self) -> Option<u8>;

    /// `bits` (1..=192) bits of entropy, the least significant word first; bits beyond are ignored.
    /// `None` where there is not enough at this moment.
    fn random(&self, bits: u32) -> Option<[u64; 3]>;

    /// Fills `bytes` bytes of the VM's RAM at `pa` with zeros, and cleans them to the point of coherency.
    fn wipe(&self, pa: Pa, bytes: u64);

    /// CNTPCT_EL0, as the guest reads it.
    fn counter(&self) -> u64;

    /// What a load of `width` finds in a VM's flash at `pa`, aligned or not. This and the next two are only called for
    /// the banks of [`Setup`](crate::Setup).
    fn flash_load(&self, pa: Pa, width: Width) -> u64 {
        let _ = (pa, width);
        0
    }

    /// Clears in the word of flash at `pa` the bits that are clear in `value`, and cleans it to the point of coherency.
    fn flash_program(&self, pa: Pa, value: u32) {
        let _ = (pa, value);
    }

    /// Sets all bits of `bytes` bytes of flash at `pa`, and cleans them to the point of coherency.
    fn flash_erase(&self, pa: Pa, bytes: u64) {
        let _ = (pa, bytes);
    }

    /// Tables of VM `vm`, which serves this one; `None` until all VMs are made.
    fn stage2_of(&self, vm: u16) -> Option<&Stage2<Self>>
    where
        Self: Sized,
    {
        let _ = vm;
        None
    }

    /// SPI `intid` of VM `vm` rises and falls.
    fn pulse_of(&self, order: &Order, vm: u16, intid: u32) {
        let _ = (order, vm, intid);
    }

    /// The line of SPI `intid` of VM `vm` is as `level` says under the lock of its vGIC.
    fn level_of(&self, order: &Order, vm: u16, intid: u32, level: &AtomicBool) {
        let _ = (order, vm, intid, level);
    }

    /// Loads `width` at `offset`, which is aligned, of the page at `page`: one that another VM may change meanwhile.
    fn peek(&self, page: Pa, offset: u64, width: Width) -> u64 {
        let _ = (page, offset, width);
        0
    }

    /// These vCPUs of VM `vm`, which this one serves, may go on: as [`Host::kick`].
    fn wake_of(&self, vm: u16, vcpus: VcpuSet) {
        let _ = (vm, vcpus);
    }

    /// Stores `value` with release semantics at `offset`, which is aligned, of the page at `page`: one of EL2's own that another
    /// VM may read.
    fn publish(&self, page: Pa, offset: u64, width: Width, value: u64) {
        let _ = (page, offset, width, value);
    }

    /// SCTLR_EL1 of the calling vCPU: it decides the byte order of its data.
    fn sctlr_el1(&self) -> u64;

    /// MAIR_EL1 of the calling vCPU.
    fn mair_el1(&self) -> u64;

    /// Does for the calling CPU what SMCCC_ARCH_WORKAROUND_`number` (1 or 3) does. Only called where
    /// [`Workarounds`](crate::Workarounds) says that a guest is to invoke it.
    fn workaround(&self, number: u8) {
        let _ = number;
    }
}
