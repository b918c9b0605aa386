// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine as `vm` sees it, for one VM: table memory, TLB, other CPUs, list registers, console, firmware.

use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use aarch64_cpu::registers::{MAIR_EL1, Readable, SCTLR_EL1, TCR_EL1, VTTBR_EL2, Writeable};
use arch::vmid_scope::{self, TranslationRegime};
use arch::{Errata, Ipa, MAX_VCPUS, Pa, VcpuSet, Width};
use lock::{Guard, Order};
use platform::{MAX_VMS, Passed};
use sched::{Reason, Wake};
use stage2::{Stage2, TableMemory, Tlb};
use vgic::{Event, Sync, Vgic};
use vm::{Host, Vm};

use crate::cpu::CPUS;
use crate::cpu::barrier;
use crate::gic::{self, SGI_KICK};

/// Where a vCPU runs, and how other CPUs wake it.
struct Target {
    /// The wake word of its CPU; null if it has none.
    wake: AtomicPtr<Wake>,
    /// Its bit in the wake word.
    bit: AtomicU32,
    /// Its CPU.
    cpu: AtomicU32,
    /// ICC_SGI1R_EL1 that kicks the CPU, under GICv3.
    kick: AtomicU64,
}

impl Target {
    const fn nowhere() -> Self {
        Self {
            wake: AtomicPtr::new(core::ptr::null_mut()),
            bit: AtomicU32::new(0),
            cpu: AtomicU32::new(0),
            kick: AtomicU64::new(0),
        }
    }

    /// Sets its wake bit; `true` if its CPU must be kicked.
    #[inline(always)]
    fn signal(&self, reason: Reason) -> bool {
        // SAFETY: null, or the wake word of a CPU, which is static.
        match unsafe { self.wake.load(Ordering::Relaxed).as_ref() } {
            Some(wake) => wake.signal(self.bit.load(Ordering::Relaxed), reason),
            None => false,
        }
    }
}

/// All VMs, by number; null before they are made.
static VMS: [AtomicPtr<Vm<GuestHost>>; MAX_VMS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_VMS];

/// Lets VMs that serve or are served by VM number `vm` reach it. Boot CPU, before any CPU schedules.
pub fn publish(vm: &'static Vm<GuestHost>) {
    if let Some(place) = VMS.get(usize::from(vm.id())) {
        place.store(core::ptr::from_ref(vm).cast_mut(), Ordering::Release);
    }
}

/// VM number `vm`, once it is published.
fn vm_of(vm: u16) -> Option<&'static Vm<GuestHost>> {
    // SAFETY: null, or what `publish` was given, which is static and never changes.
    unsafe { VMS.get(usize::from(vm))?.load(Ordering::Acquire).as_ref() }
}

/// The machine, as one VM sees it.
pub struct GuestHost {
    /// VTTBR_EL2 of the VM: its VMID, and later its root.
    vttbr: u64,
    /// Errata of all CPUs.
    errata: Errata,
    /// Where each vCPU runs.
    targets: [Target; MAX_VCPUS],
    /// Index of the VM.
    index: usize,
    /// Its passthrough devices, once they are routed; null if there are none.
    pub devices: AtomicPtr<Vec<Passed>>,
    /// Bytes of console input that it has not read.
    input: &'static AtomicUsize,
}

impl GuestHost {
    /// For VM `index` with this VTTBR_EL2.
    pub fn new(index: usize, vttbr: u64, errata: Errata) -> Self {
        Self {
            vttbr,
            errata,
            targets: [const { Target::nowhere() }; MAX_VCPUS],
            index,
            devices: AtomicPtr::new(core::ptr::null_mut()),
            input: crate::console::guest_input::count(index),
        }
    }

    /// Sets where a vCPU runs, and its number there. Boot CPU, before that CPU schedules.
    pub fn place(&self, vcpu: usize, cpu: usize, number: usize) {
        if let (Some(target), Some(area)) = (self.targets.get(vcpu), CPUS.get(cpu)) {
            target.bit.store(1 << number, Ordering::Relaxed);
            target.cpu.store(cpu as u32, Ordering::Relaxed);
            target.kick.store(gic::sgi1r(cpu, SGI_KICK), Ordering::Relaxed);
            let wake = core::ptr::from_ref(&area.cpu.queue.wake).cast_mut();
            target.wake.store(wake, Ordering::Release);
        }
    }

    /// Stores the VM's passthrough devices. Boot CPU, before any CPU runs a vCPU.
    pub fn set_devices(&self, devices: &'static Vec<Passed>) {
        self.devices.store(core::ptr::from_ref(devices).cast_mut(), Ordering::Relaxed);
    }

    /// CPU of the first vCPU, and its number there.
    pub fn first_place(&self) -> (usize, usize) {
        let [first, ..] = &self.targets;
        let number = first.bit.load(Ordering::Relaxed).trailing_zeros();
        (first.cpu.load(Ordering::Relaxed) as usize, number as usize)
    }

    /// Sets the wake bits of these vCPUs, and kicks the CPUs that listen.
    fn tell(&self, vcpus: VcpuSet, reason: Reason) {
        let Some(gic) = gic::get() else { return };
        for vcpu in vcpus.iter() {
            if let Some(target) = self.targets.get(vcpu)
                && target.signal(reason)
            {
                gic.send_sgi(target.cpu.load(Ordering::Relaxed) as usize, SGI_KICK);
            }
        }
    }

    /// The CPU of a vCPU.
    pub fn cpu_of(&self, vcpu: usize) -> Option<usize> {
        Some(self.targets.get(vcpu)?.cpu.load(Ordering::Relaxed) as usize)
    }

    /// VTTBR_EL2 of the VM.
    pub fn vttbr(&self) -> u64 {
        self.vttbr
    }

    /// Runs a TLB instruction with this VM's VMID loaded.
    #[inline(always)]
    fn with_vmid(&self, tlbi: impl FnOnce()) {
        vmid_scope::in_vmid(&Regime(&self.errata), self.vttbr, tlbi);
    }
}

/// The loaded guest's translation.
struct Regime<'a>(&'a Errata);

impl TranslationRegime for Regime<'_> {
    #[inline(always)]
    fn speculative_at(&self) -> bool {
        self.0.speculative_at
    }
    #[inline(always)]
    fn vttbr(&self) -> u64 {
        VTTBR_EL2.get()
    }
    #[inline(always)]
    fn set_vttbr(&self, value: u64) {
        VTTBR_EL2.set(value);
    }
    #[inline(always)]
    fn tcr(&self) -> u64 {
        TCR_EL1.get()
    }
    #[inline(always)]
    fn set_tcr(&self, value: u64) {
        TCR_EL1.set(value);
    }
    #[inline(always)]
    fn isb(&self) {
        barrier::isb();
    }
    #[inline(always)]
    fn dsb_ish(&self) {
        barrier::dsb_ish();
    }
}

impl TableMemory for GuestHost {
    #[inline(always)]
    fn load(&self, table: Pa, index: usize) -> u64 {
        // SAFETY: `Stage2` only passes table pages of its root and pool and indices within them; EL2 maps all RAM one to
        // one; the descriptor is 8-byte aligned and only accessed atomically while others can see it.
        unsafe { (*(table.raw() as *const AtomicU64).add(index)).load(Ordering::Acquire) }
    }

    #[inline(always)]
    fn store(&self, table: Pa, index: usize, raw: u64) {
        // SAFETY: as for `load`; the pages belong to this VM's tables alone.
        unsafe { (*(table.raw() as *const AtomicU64).add(index)).store(raw, Ordering::Release) }
        crate::oracle::checked::stored();
    }

    fn fill(&self, table: Pa, raw: u64) {
        // SAFETY: as for `store`, for all 4096 bytes of the page; no other CPU sees it yet, so that the order does not matter.
        // A loop in Rust takes ten times as many instructions, and each MAP may fill six tables.
        unsafe {
            asm!(
                "2:",
                "stp {raw}, {raw}, [{at}], #16",
                "stp {raw}, {raw}, [{at}], #16",
                "stp {raw}, {raw}, [{at}], #16",
                "stp {raw}, {raw}, [{at}], #16",
                "subs {left}, {left}, #64",
                "b.ne 2b",
                raw = in(reg) raw,
                at = inout(reg) table.raw() => _,
                left = inout(reg) arch::PAGE_SIZE => _,
                options(nostack),
            );
        }
    }
}

impl Tlb for GuestHost {
    #[inline(always)]
    fn dsb_ishst(&self) {
        barrier::dsb_ishst();
    }
    #[inline(always)]
    fn dsb_ish(&self) {
        barrier::dsb_ish();
    }
    #[inline(always)]
    fn isb(&self) {
        barrier::isb();
    }
    fn tlbi_ipas2e1is(&self, ipa: Ipa, _level: Option<u8>) {
        // No TTL hint: the instruction is right without one, on CPUs without FEAT_TTL too.
        let argument = ipa.raw() >> 12 & 0xf_ffff_ffff;
        // SAFETY: TLB maintenance of a guest's translation; EL2's own is another regime.
        self.with_vmid(|| unsafe {
            asm!("tlbi ipas2e1is, {}", in(reg) argument, options(nostack, preserves_flags));
        });
    }
    fn tlbi_vmalle1is(&self) {
        // SAFETY: as above.
        self.with_vmid(|| unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) });
    }
    fn tlbi_vmalls12e1is(&self) {
        // SAFETY: as above.
        self.with_vmid(|| unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) });
    }
    fn repeat(&self) -> bool {
        self.errata.repeat_tlbi
    }
    fn clean_invalidate_to_poc(&self, pa: Pa, bytes: u64) {
        crate::cpu::cache::clean_invalidate_to_poc(pa.raw() as usize, bytes as usize);
    }
}

impl Host for GuestHost {
    fn kick(&self, vcpus: VcpuSet) {
        self.tell(vcpus, Reason::Interrupt);
    }

    fn power_changed(&self, vcpus: VcpuSet) {
        self.tell(vcpus, Reason::Power);
    }

    #[unsafe(link_section = ".text.hot")]
    fn sync_interrupts(&self, vcpu: usize, vgic: &mut Vgic) {
        let Some(gic) = gic::get() else { return };
        let interface = gic.interface();
        let others = vgic.sync_from_lrs_with(vcpu, interface, |n| gic.list_register_state(n));
        if interface.eoi_count != 0 {
            // Read once: it must not be counted again.
            gic.clear_eoi_count();
        }
        if !others.is_empty() {
            self.kick(others);
        }
    }

    #[unsafe(link_section = ".text.hot")]
    #[inline]
    fn flush_interrupts(&self, vcpu: usize, vgic: &mut Vgic) {
        let Some(gic) = gic::get() else { return };
        let empty = gic.empty_list_registers();
        let fallen = self.sample(gic, vcpu, empty, vgic).without(VcpuSet::single(vcpu));
        if !fallen.is_empty() {
            self.kick(fallen);
        }
        match vgic.sync(vcpu, Event::Marked, empty) {
            Sync::Write(n, lr) => {
                gic.write_list_register(n, lr);
                // Before ELRSR is read again.
                barrier::isb();
            }
            Sync::Full => self.sync_and_flush(gic, vcpu, vgic),
            _ => {}
        }
    }

    fn sample_lines(&self, vcpu: usize, vgic: &mut Vgic) -> VcpuSet {
        match gic::get() {
            Some(gic) => self.sample(gic, vcpu, gic.empty_list_registers(), vgic),
            None => VcpuSet::EMPTY,
        }
    }

    #[inline(always)]
    fn send_sgi(&self, vcpu: usize, value: u64, mut vgic: Guard<'_, Vgic>) -> bool {
        let Some(gic) = gic::system_registers() else { return false };
        match vgic.sync(vcpu, Event::Sgi1r(value), gic.empty_list_registers()) {
            Sync::Write(n, lr) => {
                gic.write_list_register_here(n, lr);
                barrier::isb();
            }
            Sync::Kick(other) => {
                drop(vgic);
                if let Some(target) = self.targets.get(other)
                    && target.signal(Reason::Interrupt)
                {
                    gic.send_sgi(target.kick.load(Ordering::Relaxed));
                }
            }
            Sync::Unchanged => {}
            _ => return false,
        }
        true
    }

    #[inline(always)]
    fn console_put(&self, byte: u8) {
        crate::console::guest_output::put(self.index, byte);
    }

    #[inline(always)]
    fn console_has_room(&self) -> bool {
        crate::console::ring::guest_room(self.index)
    }

    #[inline(always)]
    fn console_ready(&self) -> bool {
        self.input.load(Ordering::Relaxed) != 0
    }

    fn console_take(&self) -> Option<u8> {
        crate::console::guest_input::take(self.index)
    }

    fn random(&self, bits: u32) -> Option<[u64; 3]> {
        crate::firmware::random(bits)
    }

    fn wipe(&self, pa: Pa, bytes: u64) {
        crate::memory::wipe(pa, bytes);
    }

    fn flash_load(&self, pa: Pa, width: Width) -> u64 {
        (0..width.bytes()).rev().fold(0, |all, n| {
            // SAFETY: `vm` stays within the VM's own flash, RAM that EL2 maps; a byte is always aligned.
            all << 8 | u64::from(unsafe { (pa.raw().wrapping_add(n) as *const u8).read_volatile() })
        })
    }

    fn flash_program(&self, pa: Pa, value: u32) {
        let word = pa.raw() as *mut u32;
        // SAFETY: as above; `vm` passes aligned words, one vCPU at a time.
        unsafe { word.write_volatile(word.read_volatile() & value) };
        crate::cpu::cache::clean_invalidate_to_poc(pa.raw() as usize, 4);
    }

    fn flash_erase(&self, pa: Pa, bytes: u64) {
        crate::memory::fill(pa, bytes, 0xff);
    }

    #[inline(always)]
    fn counter(&self) -> u64 {
        crate::cpu::timer::now()
    }

    fn stage2_of(&self, vm: u16) -> Option<&Stage2<Self>> {
        Some(vm_of(vm)?.stage2())
    }

    fn pulse_of(&self, order: &Order, vm: u16, intid: u32) {
        if let Some(vm) = vm_of(vm) {
            vm.interrupts(order, None, |vgic| {
                vgic.set_level(0, intid, true).union(vgic.set_level(0, intid, false))
            });
        }
    }

    fn level_of(&self, order: &Order, vm: u16, intid: u32, level: &AtomicBool) {
        if let Some(vm) = vm_of(vm) {
            vm.interrupts(order, None, |vgic| {
                vgic.set_level(0, intid, level.load(Ordering::Acquire))
            });
        }
    }

    fn peek(&self, page: Pa, offset: u64, width: Width) -> u64 {
        let at = page.raw().wrapping_add(offset & (arch::PAGE_SIZE - 1));
        // SAFETY: a page that EL2 took for a link and maps one to one, which another VM writes meanwhile; `vm` passes aligned
        // offsets in it, and each load is atomic.
        unsafe {
            match width {
                Width::B1 => (*(at as *const AtomicU8)).load(Ordering::Relaxed).into(),
                Width::B2 => (*(at as *const AtomicU16)).load(Ordering::Relaxed).into(),
                Width::B4 => (*(at as *const AtomicU32)).load(Ordering::Relaxed).into(),
                Width::B8 => (*(at as *const AtomicU64)).load(Ordering::Relaxed),
            }
        }
    }

    fn wake_of(&self, vm: u16, vcpus: VcpuSet) {
        if let Some(vm) = vm_of(vm) {
            vm.host().kick(vcpus);
        }
    }

    fn publish(&self, page: Pa, offset: u64, width: Width, value: u64) {
        let at = page.raw().wrapping_add(offset & (arch::PAGE_SIZE - 1));
        // SAFETY: a page that EL2 took for a link and maps one to one, which the VM behind it can only read; `vm` passes offsets
        // of aligned words in it, which are only accessed atomically.
        unsafe {
            match width {
                Width::B8 => (*(at as *const AtomicU64)).store(value, Ordering::Release),
                _ => (*(at as *const AtomicU32)).store(value as u32, Ordering::Release),
            }
        }
    }

    #[inline(always)]
    fn sctlr_el1(&self) -> u64 {
        SCTLR_EL1.get()
    }

    fn mair_el1(&self) -> u64 {
        MAIR_EL1.get()
    }

    fn workaround(&self, number: u8) {
        crate::firmware::workaround(number);
    }
}
