// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine as `vm` sees it, for one VM: table memory, TLB, other CPUs, list registers, console, firmware.

use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use aarch64_cpu::registers::{MAIR_EL1, Readable, SCTLR_EL1, TCR_EL1, VTTBR_EL2, Writeable};
use arch::vmid_scope::{self, TranslationRegime};
use arch::{Errata, Ipa, MAX_VCPUS, Pa, VcpuSet, Width};
use lock::Guard;
use platform::Passed;
use sched::{Reason, Wake};
use stage2::{TableMemory, Tlb};
use vgic::{Event, ListRegister, State, Sync, Vgic};
use vm::Host;

use crate::cpu::CPUS;
use crate::cpu::{barrier, timer};
use crate::gic::{self, Gic, MAX_LIST_REGISTERS, SGI_KICK, VirtualInterface};

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
    devices: AtomicPtr<Vec<Passed>>,
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
        for index in 0..512 {
            // SAFETY: as for `store`; no other CPU sees the page yet, so the order does not matter.
            unsafe {
                (*(table.raw() as *const AtomicU64).add(index)).store(raw, Ordering::Relaxed)
            };
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

impl GuestHost {
    /// [`Host::sample_lines`]. `empty` is ICH_ELRSR_EL2.
    #[inline(always)]
    fn sample(&self, gic: &Gic, vcpu: usize, empty: u16, vgic: &mut Vgic) -> VcpuSet {
        if !self.devices.load(Ordering::Relaxed).is_null()
            || vgic.is_forwarded(vcpu, timer::GUEST_VIRTUAL)
        {
            self.sample_forwarded(gic, vcpu, empty, vgic)
        } else {
            VcpuSet::EMPTY
        }
    }

    #[cold]
    #[inline(never)]
    fn sample_forwarded(&self, gic: &Gic, vcpu: usize, empty: u16, vgic: &mut Vgic) -> VcpuSet {
        let mut fallen = VcpuSet::EMPTY;
        if vgic.awaits_level(vcpu, timer::GUEST_VIRTUAL, empty) && !timer::virtual_line() {
            fallen = vgic.set_level(vcpu, timer::GUEST_VIRTUAL, false);
        }
        // SAFETY: null, or what `set_devices` was given, which is static and never changes.
        let devices = unsafe { self.devices.load(Ordering::Relaxed).as_ref() };
        for interrupt in devices.into_iter().flatten().flat_map(|device| &device.interrupts) {
            // An edge has no level.
            if interrupt.flags & 1 == 0
                && vgic.awaits_level(vcpu, interrupt.intid, empty)
                && !gic.spi_line(interrupt.physical)
            {
                fallen = fallen.union(vgic.set_level(vcpu, interrupt.intid, false));
            }
        }
        fallen
    }

    /// Forwards a physical interrupt, acknowledged and left active, to `vcpu`, which is loaded here.
    #[inline]
    pub fn forward(&self, vcpu: usize, intid: u32, pintid: u32, vgic: &mut Vgic) {
        let Some(gic) = gic::get() else { return };
        let event = Event::Forward { intid, pintid };
        if let Sync::Write(n, lr) = vgic.sync(vcpu, event, gic.empty_list_registers()) {
            gic.write_list_register(n, lr);
            barrier::isb();
            return;
        }
        // A private interrupt concerns no other vCPU.
        let _ = vgic.forward(vcpu, intid, pintid);
        self.flush_interrupts(vcpu, vgic);
    }

    /// [`Host::sync_interrupts`] of a vCPU that is put: it frees all list registers, and clearing HCR clears EOIcount.
    #[inline(always)]
    pub fn save_list_registers(&self, gic: &Gic, vcpu: usize, vgic: &mut Vgic) {
        let others = match gic {
            Gic::V2(_) => {
                self.sync_interrupts(vcpu, vgic);
                return gic.free_list_registers();
            }
            Gic::V3(gic) => {
                let registers = gic.interrupts();
                vgic.sync_from_lrs_with(vcpu, gic.interface(), |n| registers.take_list_register(n))
            }
        };
        if !others.is_empty() {
            self.kick(others);
        }
    }

    /// Fills the list registers of a vCPU whose first one was kept but must change.
    #[unsafe(link_section = ".text.hot")]
    #[inline(never)]
    pub fn restore_list_registers_anew(
        &self,
        gic: &Gic,
        vcpu: usize,
        kept: &VirtualInterface,
        vgic: &mut Vgic,
    ) {
        let first = ListRegister { state: State::Pending, ..ListRegister::FREE };
        let others = vgic.sync_from_lrs(vcpu, kept.interface(), &[first]);
        if !others.is_empty() {
            self.kick(others);
        }
        self.restore_list_registers(gic, vcpu, vgic);
    }

    /// Fills the list registers, all free, of a vCPU that is loaded.
    #[inline(always)]
    pub fn restore_list_registers(&self, gic: &Gic, vcpu: usize, vgic: &mut Vgic) {
        match vgic.sync(vcpu, Event::Load { kept: false }, 0) {
            Sync::Write(_, lr) => {
                gic.write_first(lr);
                barrier::isb();
            }
            _ => self.flush(gic, vcpu, vgic),
        }
    }

    #[unsafe(link_section = ".text.hot")]
    #[inline(never)]
    fn sync_and_flush(&self, gic: &Gic, vcpu: usize, vgic: &mut Vgic) {
        self.sync_interrupts(vcpu, vgic);
        self.flush(gic, vcpu, vgic);
    }

    #[unsafe(link_section = ".text.hot")]
    #[inline(never)]
    fn flush(&self, gic: &Gic, vcpu: usize, vgic: &mut Vgic) {
        let mut lrs = [ListRegister::FREE; MAX_LIST_REGISTERS];
        let plan = vgic.flush_to_lrs(vcpu, &mut lrs);
        for (n, lr) in lrs.iter().enumerate().take(gic.list_registers()) {
            gic.write_list_register(n, *lr);
        }
        gic.write_hcr(plan.hcr);
        if plan.release {
            while let Some(intid) = vgic.take_released(vcpu) {
                gic.deactivate(intid);
            }
        }
        barrier::isb();
    }
}
