// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM with its memory: made at boot, loaded before each of its lives.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arch::counter::CounterOffset;
use arch::{Ipa, MAX_VCPUS, Pa, Range, Stage2Geometry, VcpuSet, VisibleCpu};
use platform::{Board, GICC_BASE, GICC_SIZE, GuestHardware, VmConfig, guest_tree};
use sched::CpuTime;
use spin::Once;
use stage2::{Attr, Pool, Stage2, tables_for};
use vm::crash::{Backoff, Next, OnCrash};
use vm::{Host, StopReason};

use crate::cpu::{self, qemu_timer};
use crate::guest::host::GuestHost;
use crate::memory::{self, frame_owners};
use crate::oracle::checked;

const PAGE: u64 = arch::PAGE_SIZE;

/// A piece of a guest's memory.
struct Piece {
    ipa: Ipa,
    pa: Pa,
    size: u64,
}

/// A VM, its memory and its vCPUs.
pub struct Guest {
    /// Number, in the order of the modules.
    pub index: usize,
    /// What it was made from.
    pub config: VmConfig,
    /// The VM itself.
    pub vm: vm::Vm<GuestHost>,
    /// VTCR_EL2.
    pub vtcr: u64,
    /// Pages of its stage 2, root and free ones included.
    tables: u64,
    ram: Vec<Piece>,
    roms: Vec<Piece>,
    flash: Vec<Piece>,
    seeds: platform::Seeds,
    hardware: GuestHardware,
    /// Bytes of the work before the next life that are done.
    prepared: AtomicU64,
    /// Lives so far; the first is 0.
    life: AtomicU64,
    /// Ticks of CNTPCT_EL0 that zeroing its memory and copying its images took this time.
    loading: AtomicU64,
    /// CNTVOFF_EL2.
    offset: AtomicU64,
    /// CPU time of each vCPU, over all lives. EL2's work for the VM's next life is its first vCPU's.
    times: [CpuTime; MAX_VCPUS],
    /// Its counter while it is paused and all its vCPUs have left.
    paused_count: AtomicU64,
    /// CNTPCT_EL0 at the start of this life.
    began: AtomicU64,
    /// [`Backoff`] of its restarts.
    backoff: AtomicU64,
    /// CNTPCT_EL0 at which its next life begins (0: never), and the CPU that sees to it.
    restart: AtomicU64,
    restart_cpu: AtomicUsize,
}

static GUESTS: Once<Vec<&'static Guest>> = Once::new();

/// All VMs.
pub fn all() -> &'static [&'static Guest] {
    GUESTS.get().map_or(&[], Vec::as_slice)
}

/// Makes `all` what [`all`] returns. Boot CPU, once.
pub fn publish(all: Vec<&'static Guest>) {
    GUESTS.call_once(|| all);
}

impl Guest {
    #[inline(never)]
    pub fn make(board: &Board, index: usize, config: VmConfig) -> Result<&'static Self, String> {
        let short = |what: &str| {
            format!("VM '{}': not enough memory for its {what}: give it less vm.mem=", config.name)
        };
        let order = &cpu::current().order;
        let pa_range = crate::cpu::id_registers::pa_range();
        let geometry = Stage2Geometry::new(config.ipa_bits, pa_range)
            .map_err(|e| format!("VM '{}': vm.ipa={}: {e}", config.name, config.ipa_bits))?;
        let owner = index as u16 + 1;
        let vmid = index as u64 + 1;

        let root_bytes = u64::from(geometry.root_pages) * PAGE;
        let root = memory::take(root_bytes, root_bytes).ok_or_else(|| short("stage-2 root"))?;
        memory::wipe(root, root_bytes);

        let mut tables = tables_for(&geometry, config.ram, 2);
        for rom in &config.roms {
            tables += tables_for(&geometry, *rom, 3);
        }
        if config.gic == platform::GicVersion::V2 {
            // The pages of GICV are leaves, while they are declared or the guard is not active.
            let gicv = Range::<Ipa>::new(Ipa::new(GICC_BASE), GICC_SIZE);
            tables += gicv.map_or(0, |gicv| tables_for(&geometry, gicv, 3));
        }
        let passed = config.devices.iter().flat_map(platform::Passed::ipas);
        for range in config.flash.iter().copied().chain(passed) {
            // The same, or a flash's pages that may be declared one by one.
            tables += tables_for(&geometry, range, 3);
        }
        let pool_bytes = (tables + config.pool_pages as u64) * PAGE;
        let pool_start = memory::take(pool_bytes, PAGE).ok_or_else(|| short("stage-2 tables"))?;
        let host =
            GuestHost::new(index, root.raw() | vmid << 48, crate::cpu::id_registers::errata());
        let pool_range = Range::<Pa>::new(pool_start, pool_bytes).ok_or_else(|| short("tables"))?;
        let pool = Pool::of(&host, pool_range);
        let stage2 = Stage2::new(host, geometry, root, pool);

        let ram = gather(config.ram, memory::PIECE).ok_or_else(|| short("RAM"))?;
        let mut roms = Vec::new();
        for rom in &config.roms {
            roms.extend(gather(*rom, PAGE).ok_or_else(|| short("ROM"))?);
        }
        for (piece, attr) in
            ram.iter().map(|p| (p, Attr::Ram)).chain(roms.iter().map(|p| (p, Attr::Rom)))
        {
            frame_owners::claim(piece.pa, piece.size, owner)?;
            stage2
                .map(order, piece.ipa, piece.pa, piece.size, attr)
                .map_err(|e| format!("VM '{}': memory at {}: {e}", config.name, piece.ipa))?;
        }
        // What flash holds outlives resets: it is filled here and not for each life.
        let mut flash: Vec<Piece> = Vec::new();
        let mut banks: Vec<vm::Bank> = Vec::new();
        for bank in &config.flash {
            let size = bank.size();
            let pa = memory::take(size, size).ok_or_else(|| short("flash"))?;
            frame_owners::claim(pa, size, owner)?;
            memory::fill(pa, size, 0xff);
            flash.push(Piece { ipa: bank.start(), pa, size });
            // What of the image is there is written for each life, and by no guest.
            let protected = config.placement.parts.iter().any(|part| part.to.overlaps(bank));
            banks.push(vm::Bank::new(vm::Flash { ipa: *bank, pa, protected }));
        }
        let visible =
            VisibleCpu { ipa_bits: config.ipa_bits, gicv3: config.gic == platform::GicVersion::V3 };
        let vm =
            crate::guest::vm_setup::vm(board, index, &config, stage2, visible, Vec::leak(banks))?;
        let mapped = |pieces: &Vec<Piece>, attr| {
            let one = |p: &Piece| Some((Range::<Ipa>::new(p.ipa, p.size)?, p.pa, attr));
            pieces.iter().filter_map(one).collect::<Vec<_>>()
        };
        let memory = mapped(&ram, Attr::Ram).into_iter().chain(mapped(&roms, Attr::Rom));
        checked::adopt(board, &config, &vm, pool_bytes / PAGE, memory);
        let compatible = board.cpus.first().map_or_else(String::new, |cpu| cpu.compatible.clone());
        Ok(Box::leak(Box::new(Self {
            index,
            tables: (root_bytes + pool_bytes) / PAGE,
            vtcr: geometry.vtcr(false),
            vm,
            ram,
            roms,
            flash,
            seeds: board.seeds.clone(),
            hardware: GuestHardware { cpu_compatible: compatible },
            prepared: AtomicU64::new(0),
            life: AtomicU64::new(0),
            loading: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            times: [const { CpuTime::new() }; MAX_VCPUS],
            paused_count: AtomicU64::new(0),
            began: AtomicU64::new(0),
            backoff: AtomicU64::new(0),
            restart: AtomicU64::new(0),
            restart_cpu: AtomicUsize::new(0),
            config,
        })))
    }

    /// Begins to prepare a life: nothing of a former one is left but its memory. [`Guest::prepare`] does the rest.
    ///
    /// # Errors
    /// What went wrong, for one line. The VM does not run then.
    #[inline(never)]
    pub fn clear(&self) -> Result<(), String> {
        let order = &cpu::current().order;
        checked::reset(order, &self.vm).map_err(|e| format!("VM '{}': {e}", self.config.name))?;
        // Physical interrupts that the former life held: each vCPU's CPU has let go of them when it left.
        let mut vgic = self.vm.vgic().lock(order);
        for vcpu in 0..self.config.vcpus {
            while vgic.take_released(vcpu).is_some() {}
        }
        self.prepared.store(0, Ordering::Relaxed);
        self.loading.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Does a piece, of `step` bytes at most, of the work that a life begins with: memory as the boot loader's images say, all else zero, cleaned to
    /// the point of coherency, as the guest starts with its caches off. `true` once all is done and vCPU 0 is to start.
    /// One CPU at a time.
    ///
    /// # Errors
    /// What went wrong, for one line. The VM does not run then.
    #[inline(never)]
    pub fn prepare(&self, step: u64) -> Result<bool, String> {
        let start = crate::cpu::timer::now();
        let at = self.prepared.load(Ordering::Relaxed);
        let bytes = self.step(at, step)?;
        self.prepared.store(at + bytes, Ordering::Relaxed);
        if bytes != 0 {
            let took = crate::cpu::timer::now() - start;
            self.loading.store(self.loading.load(Ordering::Relaxed) + took, Ordering::Relaxed);
            return Ok(false);
        }
        let life = self.life.fetch_add(1, Ordering::Relaxed);
        let seeds = self.seeds.for_guest(self.index, &self.config.name, life);
        let tree =
            guest_tree(&self.config, &self.hardware, seeds.as_ref()).map_err(|e| format!("{e}"))?;
        let place = &self.config.placement;
        self.write(place.tree.start(), &tree)?;
        crate::cpu::cache::invalidate_instructions();
        self.set_count(qemu_timer::first_count(), crate::cpu::timer::now());
        self.began.store(crate::cpu::timer::now(), Ordering::Relaxed);
        if !checked::start(&cpu::current().order, &self.vm, place.entry, place.tree.start().raw()) {
            return Err(format!("VM '{}' is running already", self.config.name));
        }
        // Whoever parked last is here; vCPU 0 may belong to another CPU, which sleeps.
        self.vm.host().power_changed(VcpuSet::single(0));
        Ok(true)
    }

    /// The piece of work at `at`, of `step` bytes at most: all memory in order, then the images. Returns its bytes; 0 is the end.
    fn step(&self, mut at: u64, step: u64) -> Result<u64, String> {
        let ram = self.ram.iter().map(|piece| (piece, 0));
        let roms = self.roms.iter().map(|piece| (piece, 0xff));
        for (piece, byte) in ram.chain(roms) {
            if at < piece.size {
                let bytes = step.min(piece.size - at);
                memory::fill(Pa::new(piece.pa.raw() + at), bytes, byte);
                return Ok(bytes);
            }
            at -= piece.size;
        }
        let place = &self.config.placement;
        let kernel = self.config.kernel.start().raw();
        let image = place.parts.iter().map(|part| (kernel + part.offset, part.to));
        let ramdisk = self.config.ramdisk.zip(place.ramdisk);
        let ramdisk = ramdisk.map(|(module, to)| (module.start().raw(), to));
        for (from, to) in image.chain(ramdisk) {
            if at < to.size() {
                let bytes = step.min(to.size() - at);
                let Some(part) = Range::<Pa>::new(Pa::new(from + at), bytes) else { break };
                // SAFETY: modules were checked against everything else in memory, are never given to anybody and never
                // written: pristine for each life. Parts of an image lie inside its module.
                self.write(Ipa::new(to.start().raw() + at), unsafe { memory::slice(part) })?;
                return Ok(bytes);
            }
            at -= to.size();
        }
        Ok(0)
    }

    /// Copies `bytes` to the guest's memory at `ipa`.
    fn write(&self, ipa: Ipa, mut bytes: &[u8]) -> Result<(), String> {
        let mut at = ipa.raw();
        while !bytes.is_empty() {
            let piece = self
                .ram
                .iter()
                .chain(&self.roms)
                .chain(&self.flash)
                .find(|p| at.wrapping_sub(p.ipa.raw()) < p.size)
                .ok_or_else(|| format!("VM '{}' has no memory at {at:#x}", self.config.name))?;
            let offset = at - piece.ipa.raw();
            let room = (piece.size - offset).min(bytes.len() as u64) as usize;
            let (now, rest) = bytes.split_at(room);
            memory::copy(Pa::new(piece.pa.raw() + offset), now);
            bytes = rest;
            at += room as u64;
        }
        Ok(())
    }

    /// What the boot log says of the VM, in the words of its options: its memory, its vCPUs and their `cpus`, its guard,
    /// its tables, and how many bytes of EL2's `heap` it takes.
    #[inline(never)]
    pub fn announce(&self, heap: usize, cpus: &impl core::fmt::Display) {
        let c = &self.config;
        if let Some(warning) = &c.warning {
            log::warn!("VM '{}' ({}): {warning}", c.name, c.node);
        }
        let free = self.vm.stage2().pool_free(&cpu::current().order) as u64;
        log::info!(
            "{}: {} MiB of RAM in {} pieces, {cpus}, IPA {} bits, entry {}; guard {}, dialect {}, features {:#x}; \
             {} table pages, {free} more free, {heap} bytes of heap; loaded in {} us",
            c.name,
            c.ram.size() >> 20,
            self.ram.len(),
            c.ipa_bits,
            c.placement.entry,
            c.policy,
            c.dialect,
            mmio_guard::feature_map(c.dialect, c.policy),
            self.tables.saturating_sub(free),
            self.loading.load(Ordering::Relaxed).saturating_mul(1_000_000)
                / crate::cpu::timer::frequency(),
        );
    }

    /// CPU time of vCPU `index`.
    #[inline(always)]
    pub fn cpu_time(&self, index: usize) -> &CpuTime {
        // Indices are below MAX_VCPUS (`VmConfig`).
        &self.times[index & (MAX_VCPUS - 1)]
    }

    /// What the VM's counter is behind the machine's.
    #[inline(always)]
    pub fn counter_offset(&self) -> CounterOffset {
        CounterOffset::new(self.offset.load(Ordering::Relaxed))
    }

    /// The VM's counter reads `count` at CNTPCT_EL0 `now`. None of its vCPUs is loaded.
    pub fn set_count(&self, count: u64, now: u64) {
        self.offset.store(qemu_timer::offset(count, now).raw(), Ordering::Relaxed);
    }

    /// All its vCPUs have left because it is paused: its counter stands still.
    pub fn stop_count(&self, now: u64) {
        self.paused_count.store(self.counter_offset().count(now), Ordering::Relaxed);
    }

    /// It goes on: its counter does so where it stood.
    pub fn resume_count(&self, now: u64) {
        self.set_count(self.paused_count.load(Ordering::Relaxed), now);
    }

    /// What follows a stop for `reason`: the end, a restart, or a restart after a delay.
    pub fn after_stop(&self, reason: StopReason, now: u64) -> Next {
        let lived =
            now.saturating_sub(self.began.load(Ordering::Relaxed)) / crate::cpu::timer::frequency();
        let mut backoff = Backoff::from_raw(self.backoff.load(Ordering::Relaxed));
        let next = vm::crash::next(reason, self.crash_policy(), &mut backoff, lived);
        self.backoff.store(backoff.raw(), Ordering::Relaxed);
        next
    }

    /// What `vm.oncrash` says.
    pub fn crash_policy(&self) -> OnCrash {
        self.config.on_crash
    }

    /// A CPU begins its next life at this CNTPCT_EL0, or none does.
    pub fn set_restart(&self, at: Option<(usize, u64)>) {
        let (cpu, at) = at.map_or((0, 0), |(cpu, at)| (cpu, at.max(1)));
        self.restart_cpu.store(cpu, Ordering::Relaxed);
        self.restart.store(at, Ordering::Release);
    }

    /// CNTPCT_EL0 at which its next life begins; 0 where none does by itself.
    pub fn restart_at(&self) -> u64 {
        self.restart.load(Ordering::Acquire)
    }

    /// CNTPCT_EL0 at which CPU `cpu` begins its next life, if it does.
    pub fn restart_on(&self, cpu: usize) -> Option<u64> {
        let at = self.restart.load(Ordering::Acquire);
        (at != 0 && self.restart_cpu.load(Ordering::Relaxed) == cpu).then_some(at)
    }

    /// Lives so far.
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::Relaxed)
    }
}

/// Gathers memory for `range` from free pieces: 1 GiB where range and machine allow, then 32 MiB, 2 MiB, single pages.
fn gather(range: Range<Ipa>, smallest: u64) -> Option<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut ipa = range.start();
    while ipa < range.end() {
        let left = range.end().raw() - ipa.raw();
        let fits = |size: u64| ipa.is_aligned(size) && left >= size && size >= smallest;
        let sizes = [memory::LARGE_PIECE, memory::MIDDLE_PIECE, memory::PIECE, PAGE];
        let (pa, size) = sizes
            .into_iter()
            .filter(|size| fits(*size))
            .find_map(|size| Some((memory::take(size, size)?, size)))?;
        match pieces.last_mut() {
            Some(last) if last.pa.raw() + last.size == pa.raw() => last.size += size,
            _ => pieces.push(Piece { ipa, pa, size }),
        }
        ipa = Ipa::new(ipa.raw() + size);
    }
    Some(pieces)
}
