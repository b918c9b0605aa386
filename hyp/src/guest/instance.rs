// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM with its memory: made at boot, loaded before each start.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use arch::counter::CounterOffset;
use arch::{Ipa, MAX_VCPUS, Pa, Range, Stage2Geometry, VcpuSet, VisibleCpu};
use lock::{Lock, Rank};
use platform::{
    Board, GICC_BASE, GICC_SIZE, GuestHardware, SeedPlaces, VmConfig, guest_tree_with_places,
};
use sched::CpuTime;
use spin::Once;
use stage2::{Attr, MapError, Pool, Stage2, tables_for};
use vm::crash::{Backoff, Next, OnCrash};
use vm::{Host, NotShared, Refusal, StopReason};

use crate::cpu::{self, qemu_timer, timer};
use crate::guest::host::GuestHost;
use crate::guest::links::{self, Links};
use crate::guest::memory_image::{self, MemoryImage, gather};
use crate::guest::vm_error::{Cause, VmError};
use crate::guest::vm_setup;
use crate::memory::{self, frame_owners};
use crate::oracle::checked;

const PAGE: u64 = arch::PAGE_SIZE;

/// A VM, its memory and its vCPUs.
pub struct VmInstance {
    /// Index, in the order of the modules.
    pub index: usize,
    /// What it was made from.
    pub config: VmConfig,
    /// The VM itself.
    pub vm: vm::Vm<GuestHost>,
    /// VTCR_EL2.
    pub vtcr: u64,
    /// Pages of its stage 2, root and free ones included.
    tables: u64,
    memory: MemoryImage,
    seeds: platform::Seeds,
    /// Where its tree has its seeds.
    seed_places: Option<SeedPlaces>,
    /// A refusal whose advice has not been logged, and may not be due.
    advice: Lock<Option<Refusal>>,
    /// How far the reset is: a [`Step`].
    step: AtomicU8,
    /// Bytes that the reset has filled so far.
    prepared: AtomicU64,
    /// How often it has been started.
    incarnation: AtomicU64,
    /// Ticks of CNTPCT_EL0 that the last reset took to fill its memory.
    loading: AtomicU64,
    /// CNTVOFF_EL2.
    offset: AtomicU64,
    /// CPU time of each vCPU, over all incarnations. EL2's work for a reset counts as the first vCPU's.
    times: [CpuTime; MAX_VCPUS],
    /// Its counter while it is paused and all its vCPUs have left.
    paused_count: AtomicU64,
    /// CNTPCT_EL0 at the last start.
    began: AtomicU64,
    /// [`Backoff`] of its restarts.
    backoff: AtomicU64,
    /// CNTPCT_EL0 at which it restarts (0: never), and the CPU that restarts it.
    restart: AtomicU64,
    restart_cpu: AtomicUsize,
}

/// What a piece of a reset has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// More is to be done.
    Some,
    /// All but the start.
    Loaded,
    /// vCPU 0 is on.
    Started,
}

/// What the next piece of a reset does.
#[derive(Clone, Copy)]
enum Step {
    Clear,
    Release,
    RngSeed,
    KaslrSeed,
    Fill,
    Share,
    Start,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Clear,
        Self::Release,
        Self::RngSeed,
        Self::KaslrSeed,
        Self::Fill,
        Self::Share,
        Self::Start,
    ];
}

/// VMs with a refusal whose advice may be due, one bit each.
pub static ADVICE: AtomicU32 = AtomicU32::new(0);
static GUESTS: Once<Vec<&'static VmInstance>> = Once::new();

/// All VMs.
pub fn all() -> &'static [&'static VmInstance] {
    GUESTS.get().map_or(&[], Vec::as_slice)
}

/// Makes `all` what [`all`] returns. Boot CPU, once.
pub fn publish(all: Vec<&'static VmInstance>) {
    GUESTS.call_once(|| all);
}

impl VmInstance {
    /// Makes VM `index`.
    ///
    /// # Errors
    /// What it lacks. Nothing runs then.
    #[inline(never)]
    pub fn make(
        board: &Board,
        index: usize,
        config: VmConfig,
        links: &Links,
    ) -> Result<&'static Self, VmError> {
        let error = |cause: Cause| cause.of(&config.name);
        let short = |part| error(Cause::NoMemory(part));
        let order = &cpu::current().order;
        let pa_range = crate::cpu::id_registers::pa_range();
        let geometry = Stage2Geometry::new(config.ipa_bits, pa_range)
            .map_err(|e| error(Cause::Geometry(config.ipa_bits, e)))?;
        let owner = (index as u16).saturating_add(1);
        let vmid = u64::from(owner);

        let root_bytes = u64::from(geometry.root_pages).saturating_mul(PAGE);
        let root = memory::take(root_bytes, root_bytes).ok_or_else(|| short("stage-2 root"))?;
        memory::wipe(root, root_bytes);

        let mut tables = tables_for(&geometry, config.ram, 2);
        for rom in &config.roms {
            tables = tables.saturating_add(tables_for(&geometry, *rom, 3));
        }
        if config.gic == platform::GicVersion::V2 {
            // The pages of GICV are leaves, while they are declared or the guard is not active.
            let gicv = Range::<Ipa>::new(Ipa::new(GICC_BASE), GICC_SIZE);
            let gicv = gicv.map_or(0, |gicv| tables_for(&geometry, gicv, 3));
            tables = tables.saturating_add(gicv);
        }
        let passed = config.devices.iter().flat_map(platform::Passed::ipas);
        for range in config.flash.iter().copied().chain(passed) {
            // Leaves as well; pages of flash may be declared one by one.
            tables = tables.saturating_add(tables_for(&geometry, range, 3));
        }
        let (served, peers) = (links.served(index), links.peers(&config));
        tables = tables.saturating_add(links::tables(&geometry, &config, peers.unwrap_or(&[])));
        // Tables of its window, one for each 2 MiB of its pool.
        let pool = config.served.as_ref().and_then(|served| served.share.pool());
        tables = tables.saturating_add(pool.map_or(0, |pool| pool.size() >> 21));
        let pool_pages = tables.saturating_add(config.pool_pages as u64);
        let pool_bytes = pool_pages.saturating_mul(PAGE);
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
            frame_owners::claim(piece.pa, piece.size, owner).map_err(|e| error(Cause::Claim(e)))?;
            stage2
                .map(order, piece.ipa, piece.pa, piece.size, attr)
                .map_err(|e| error(Cause::Map(piece.ipa, e)))?;
        }
        links::map(order, &config, &stage2, peers.unwrap_or(&[]))
            .map_err(|(ipa, e)| error(Cause::Map(ipa, e)))?;
        // Flash keeps its contents over resets: it is filled here.
        let mut flash: Vec<memory_image::Piece> = Vec::new();
        let mut banks: Vec<vm::Bank> = Vec::new();
        for bank in &config.flash {
            let size = bank.size();
            let pa = memory::take(size, size).ok_or_else(|| short("flash"))?;
            frame_owners::claim(pa, size, owner).map_err(|e| error(Cause::Claim(e)))?;
            memory::fill(pa, size, 0xff);
            flash.push(memory_image::Piece { ipa: bank.start(), pa, size });
            // A part of the image in flash is written before each start, and no guest may write it.
            let protected = config.placement.parts.iter().any(|part| part.to.overlaps(bank));
            banks.push(vm::Bank::new(vm::Flash { ipa: *bank, pa, protected }));
        }
        let visible =
            VisibleCpu { ipa_bits: config.ipa_bits, gicv3: config.gic == platform::GicVersion::V3 };
        let vm =
            vm_setup::vm(board, index, &config, stage2, visible, Vec::leak(banks), (served, peers))
                .map_err(|e| error(Cause::Setup(e)))?;
        let mapped = |pieces: &Vec<memory_image::Piece>, attr| {
            let one =
                |p: &memory_image::Piece| Some((Range::<Ipa>::new(p.ipa, p.size)?, p.pa, attr));
            pieces.iter().filter_map(one).collect::<Vec<_>>()
        };
        let memory = mapped(&ram, Attr::Ram).into_iter().chain(mapped(&roms, Attr::Rom));
        let memory = memory.chain(links::pages(&config, peers.unwrap_or(&[])));
        checked::adopt(board, &config, &vm, pool_pages, memory);
        let (tree, seed_places) = Self::keep_tree(board, index, &config).map_err(error)?;
        Ok(Box::leak(Box::new(Self {
            index,
            tables: pool_pages.saturating_add(u64::from(geometry.root_pages)),
            vtcr: geometry.vtcr(false),
            vm: *vm,
            memory: MemoryImage { ram, roms, flash, tree },
            seeds: board.seeds.clone(),
            seed_places,
            advice: Lock::new(Rank::ConsoleLine, None),
            step: AtomicU8::new(0),
            prepared: AtomicU64::new(0),
            incarnation: AtomicU64::new(0),
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

    /// Makes the guest's tree, with the seeds of its first start, and keeps it in frames of its own: resets copy it.
    #[inline(never)]
    fn keep_tree(
        board: &Board,
        index: usize,
        config: &VmConfig,
    ) -> Result<(Range<Pa>, Option<SeedPlaces>), Cause> {
        let compatible = board.cpus.first().map_or_else(String::new, |cpu| cpu.compatible.clone());
        let hardware = GuestHardware { cpu_compatible: compatible };
        let seeds = board.seeds.for_guest(index, &config.name, 0);
        let (tree, places) =
            guest_tree_with_places(config, &hardware, seeds.as_ref()).map_err(Cause::Tree)?;
        let size = tree.len() as u64;
        let pa = memory::take(size.next_multiple_of(PAGE), PAGE);
        let kept = pa.and_then(|pa| Range::<Pa>::new(pa, size)).ok_or(Cause::NoMemory("tree"))?;
        memory::copy(kept.start(), &tree);
        Ok((kept, places))
    }

    /// Does the next piece of the work before a start: nothing of the former incarnation is left, its memory is filled and
    /// cleaned to the point of coherency, as the guest starts with its caches off. One CPU at a time; interrupts wait for
    /// less than 10 us.
    ///
    /// # Errors
    /// Why the VM cannot run. The next piece is the first one of another reset then.
    #[inline(never)]
    pub fn prepare(&self) -> Result<Piece, VmError> {
        let step = usize::from(self.step.load(Ordering::Relaxed));
        let step = Step::ALL.get(step).copied().unwrap_or(Step::Clear);
        match self.prepare_step(step) {
            Ok(false) => Ok(Piece::Some),
            Ok(true) => {
                let (next, done) = match step {
                    Step::Clear => (Step::Release, Piece::Some),
                    Step::Release => (Step::RngSeed, Piece::Some),
                    Step::RngSeed => (Step::KaslrSeed, Piece::Some),
                    Step::KaslrSeed => (Step::Fill, Piece::Some),
                    Step::Fill => (Step::Share, Piece::Some),
                    Step::Share => (Step::Start, Piece::Loaded),
                    Step::Start => (Step::Clear, Piece::Started),
                };
                self.step.store(next as u8, Ordering::Relaxed);
                Ok(done)
            }
            Err(cause) => {
                self.step.store(0, Ordering::Relaxed);
                Err(self.error(cause))
            }
        }
    }

    /// Does a piece of a step; returns whether the step is done.
    fn prepare_step(&self, step: Step) -> Result<bool, Cause> {
        let order = &cpu::current().order;
        match step {
            Step::Clear => return checked::reset_piece(order, &self.vm).map_err(Cause::Reset),
            Step::Release => {
                // Physical interrupts of the former incarnation: each vCPU's CPU has deactivated them when the vCPU left.
                let mut vgic = self.vm.vgic().lock(order);
                for vcpu in 0..self.config.vcpus() {
                    while vgic.take_released(vcpu).is_some() {}
                }
                self.prepared.store(0, Ordering::Relaxed);
                self.loading.store(0, Ordering::Relaxed);
            }
            Step::RngSeed => self.write_seed(
                |places| places.rng,
                |life| self.seeds.rng_for_guest(self.index, &self.config.name, life),
            )?,
            Step::KaslrSeed => self.write_seed(
                |places| places.kaslr,
                |life| {
                    let seed = self.seeds.kaslr_for_guest(self.index, &self.config.name, life);
                    seed.map(u64::to_be_bytes)
                },
            )?,
            Step::Fill => {
                let start = timer::now();
                let at = self.prepared.load(Ordering::Relaxed);
                let filled = self.memory.fill(&self.config, at)?;
                self.prepared.store(at.saturating_add(filled), Ordering::Relaxed);
                self.loading.fetch_add(timer::now().saturating_sub(start), Ordering::Relaxed);
                if filled == 0 {
                    self.prepared.store(0, Ordering::Relaxed);
                }
                return Ok(filled == 0);
            }
            Step::Share => {
                let at = self.prepared.load(Ordering::Relaxed);
                let next = checked::share_piece(order, &self.vm, &self.pieces(), at);
                let next = next.map_err(|NotShared| {
                    Cause::Map(self.config.ram.start(), MapError::PoolEmpty)
                })?;
                self.prepared.store(next.unwrap_or(0), Ordering::Relaxed);
                return Ok(next.is_none());
            }
            Step::Start => {
                self.incarnation.fetch_add(1, Ordering::Relaxed);
                crate::cpu::cache::invalidate_instructions();
                self.set_count(qemu_timer::first_count(), timer::now());
                self.began.store(timer::now(), Ordering::Relaxed);
                let place = &self.config.placement;
                if !checked::start(order, &self.vm, place.entry, place.tree.start().raw()) {
                    return Err(Cause::Running);
                }
                // vCPU 0 may belong to another CPU, which sleeps.
                self.vm.host().power_changed(VcpuSet::single(0));
            }
        }
        Ok(true)
    }

    /// The parts of its RAM: offset, physical address, size.
    fn pieces(&self) -> impl Iterator<Item = (u64, Pa, u64)> + Clone {
        let start = self.config.ram.start().raw();
        self.memory.ram.iter().map(move |p| (p.ipa.raw().wrapping_sub(start), p.pa, p.size))
    }

    /// Writes a `seed` of the next start into the kept tree, which has those of the first one.
    fn write_seed<const N: usize>(
        &self,
        place: impl Fn(&SeedPlaces) -> usize,
        seed: impl Fn(u64) -> Option<[u8; N]>,
    ) -> Result<(), Cause> {
        let incarnation = self.incarnation();
        let Some(places) = self.seed_places.filter(|_| incarnation != 0) else { return Ok(()) };
        if let Some(seed) = seed(incarnation) {
            let at = self.memory.tree.start().checked_add(place(&places) as u64);
            memory::copy(at.ok_or(Cause::NoMemory("tree"))?, &seed);
        }
        Ok(())
    }

    fn error(&self, cause: Cause) -> VmError {
        cause.of(&self.config.name)
    }

    /// Logs the VM's memory, its vCPUs with their CPUs and when it `wakes` there, its guard, its tables, and its bytes of EL2's
    /// `heap`.
    #[inline(never)]
    pub fn announce(&self, wakes: &dyn core::fmt::Display, heap: usize) {
        let c = &self.config;
        if let Some(warning) = &c.warning {
            log::warn!("VM '{}' ({}): {warning}", c.name, c.node);
        }
        let free = self.vm.stage2().pool_free(&cpu::current().order) as u64;
        log::info!(
            "{}: {} MiB of RAM in {} pieces, {}, {wakes}, IPA {} bits, entry {}; guard {}, dialect {}, features {:#x}; \
             {} table pages, {free} more free, {heap} bytes of heap",
            c.name,
            c.ram.size() >> 20,
            self.memory.ram.len(),
            c.share,
            c.ipa_bits,
            c.placement.entry,
            c.policy,
            c.dialect,
            mmio_guard::feature_map(c.dialect, c.policy),
            self.tables.saturating_sub(free),
        );
    }

    /// Logs the advice for a refusal later ([`VmInstance::take_advice`]): one line takes long enough for one exit. If another
    /// one waits, the next refusal of the same device gives it.
    pub fn advise_later(&self, refusal: Refusal) {
        let mut advice = self.advice.lock(&cpu::current().order);
        if advice.is_none() {
            *advice = Some(refusal);
            ADVICE.fetch_or(1 << (self.index & 31), Ordering::Relaxed);
            timer::wake_soon();
        }
    }

    /// The refusal of [`VmInstance::advise_later`].
    pub fn take_advice(&self) -> Option<Refusal> {
        self.advice.lock(&cpu::current().order).take()
    }

    /// CPU time of vCPU `index`.
    #[inline(always)]
    pub fn cpu_time(&self, index: usize) -> &CpuTime {
        #[expect(clippy::indexing_slicing, reason = "the mask keeps the index below MAX_VCPUS")]
        &self.times[index & (MAX_VCPUS - 1)]
    }

    /// Difference of the machine's counter and the VM's.
    #[inline(always)]
    pub fn counter_offset(&self) -> CounterOffset {
        CounterOffset::new(self.offset.load(Ordering::Relaxed))
    }

    /// The VM's counter reads `count` at CNTPCT_EL0 `now`. None of its vCPUs is loaded.
    pub fn set_count(&self, count: u64, now: u64) {
        self.offset.store(qemu_timer::offset(count, now).raw(), Ordering::Relaxed);
    }

    /// All its vCPUs have left because it is paused: its counter stops.
    pub fn stop_count(&self, now: u64) {
        self.paused_count.store(self.counter_offset().count(now), Ordering::Relaxed);
    }

    /// It resumes: so does its counter, where it stopped.
    pub fn resume_count(&self, now: u64) {
        self.set_count(self.paused_count.load(Ordering::Relaxed), now);
    }

    /// What follows a stop for `reason`: the end, a restart, or a restart after a delay.
    pub fn after_stop(&self, reason: StopReason, now: u64) -> Next {
        let lived = timer::seconds(now.saturating_sub(self.began.load(Ordering::Relaxed)));
        let mut backoff = Backoff::from_raw(self.backoff.load(Ordering::Relaxed));
        let next = vm::crash::next(reason, self.crash_policy(), &mut backoff, lived);
        self.backoff.store(backoff.raw(), Ordering::Relaxed);
        next
    }

    /// What `vm.oncrash` says.
    pub fn crash_policy(&self) -> OnCrash {
        self.config.on_crash
    }

    /// Sets the CPU that restarts it and the CNTPCT_EL0 of that, or neither.
    pub fn set_restart(&self, at: Option<(usize, u64)>) {
        let (cpu, at) = at.map_or((0, 0), |(cpu, at)| (cpu, at.max(1)));
        self.restart_cpu.store(cpu, Ordering::Relaxed);
        self.restart.store(at, Ordering::Release);
    }

    /// CNTPCT_EL0 at which it restarts by itself; 0 if it does not.
    pub fn restart_at(&self) -> u64 {
        self.restart.load(Ordering::Acquire)
    }

    /// CNTPCT_EL0 at which CPU `cpu` restarts it, if it does.
    pub fn restart_on(&self, cpu: usize) -> Option<u64> {
        let at = self.restart.load(Ordering::Acquire);
        (at != 0 && self.restart_cpu.load(Ordering::Relaxed) == cpu).then_some(at)
    }

    /// Microseconds that filling its memory has taken before this start.
    pub fn loading_us(&self) -> u64 {
        timer::seconds(self.loading.load(Ordering::Relaxed).saturating_mul(1_000_000))
    }

    /// How often it has been started.
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Relaxed)
    }
}
