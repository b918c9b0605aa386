// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the vCPUs of a VM share.

use crate::advice_given::AdviceGiven;
use crate::bus::Bus;
use crate::counters::Counters;
use crate::crash::Progress;
use crate::flash_bank::Bank;
use crate::guard::Guard;
use crate::link::Link;
use crate::memory::{MappedMmioPages, Shares};
use crate::reset_progress::ResetProgress;
use crate::{
    Counts, Features, Host, ID_REGISTERS, Lifecycle, MemoryMap, RateLimit, Setup, SetupError, Vcpu,
    Workarounds,
};
use arch::{Ipa, MAX_VCPUS, Mpidr, PAGE_SHIFT, Pa, Width};
use arrayvec::{ArrayString, ArrayVec};
use lock::{Lock, Rank};
use mmio_guard::{Dialect, Policy, abi};
use stage2::{Attr, Entry, Stage2};
use vgic::{Frame, Version, Vgic};

/// Most regions of [`MappedMmio`](crate::MappedMmio) pages.
pub(crate) const MAX_MAPPED_MMIO: usize = 8;

/// One VM. What every exit reads comes first: an instruction's offset reaches it there.
#[repr(C)]
pub struct Vm<H: Host> {
    pub(crate) stage2: Stage2<H>,
    /// Call ids that the fast path compares first.
    pub(crate) ids: FastIds,
    pub(crate) gic: vgic::Config,
    /// The first words of the distributor that never change.
    pub(crate) gicd_head: [Option<u32>; 4],
    pub(crate) memory: MemoryMap,
    /// The guard need check nothing but RAM: no allow list, no ROM, no flash, no mapped MMIO.
    pub(crate) ram_only: bool,
    pub(crate) guard: Guard,
    pub(crate) bus: Bus,
    pub(crate) id_registers: [u64; ID_REGISTERS],
    pub(crate) counters: [Counters; MAX_VCPUS],
    log_limit: RateLimit,
    id: u16,
    pub(crate) vgic: Lock<Vgic>,
    pub(crate) mapped_mmio: ArrayVec<MappedMmioPages, MAX_MAPPED_MMIO>,
    pub(crate) flash: &'static [Bank],
    /// Serialises changes of mapped MMIO and flash: a page's bit, its leaf and the guard's state change together.
    pub(crate) mapping_changes: Lock<()>,
    pub(crate) shares: Shares,
    pub(crate) workarounds: Workarounds,
    features: Features,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) resetting: ResetProgress,
    pub(crate) name: ArrayString<32>,
    vcpus: usize,
    /// What its owner got advice for.
    pub(crate) advice_given: AdviceGiven,
    /// Its link to the VM that serves it.
    pub(crate) served: Option<&'static Link>,
    /// Its links to the VMs that it serves, if it is a device VM.
    pub(crate) peers: Option<&'static [&'static Link]>,
}

/// The ids of MAP and UNMAP if the fast path can serve them. Otherwise a number that is no id: a guest's id has 32
/// bits, these have 64.
pub(crate) struct FastIds {
    pub(crate) map: u64,
    pub(crate) unmap: u64,
    /// x1 of their success.
    pub(crate) pages: u64,
    /// They fail while the guard is not active.
    pub(crate) only_active: bool,
}

impl FastIds {
    /// A value that no guest can pass in W0.
    const NONE: u64 = u64::MAX;

    const fn new(policy: Policy, dialect: Dialect, ram_only: bool) -> Self {
        let series = matches!(dialect, Dialect::Series);
        let (map, unmap) = match dialect {
            _ if !ram_only || matches!(policy, Policy::Off) => (Self::NONE, Self::NONE),
            Dialect::Pkvm => (abi::pkvm::MAP as u64, abi::pkvm::UNMAP as u64),
            Dialect::Series => (abi::series::MAP as u64, abi::series::UNMAP as u64),
        };
        Self { map, unmap, pages: if series { 0 } else { 1 }, only_active: series }
    }
}

impl<H: Host> Vm<H> {
    /// Words of [`Setup::shares`] that a VM with `ram_size` bytes of RAM needs.
    pub const fn share_words(ram_size: u64) -> u64 {
        Shares::words(ram_size)
    }

    /// Makes a VM; `stage2` has its RAM and read-only memory mapped before the VM starts.
    ///
    /// # Errors
    /// [`SetupError`] says what does not fit; nothing runs then.
    pub fn new(stage2: Stage2<H>, setup: &Setup<'_>) -> Result<Self, SetupError> {
        crate::setup::check(setup, stage2.geometry().ipa_limit())?;
        let mut mapped_mmio = ArrayVec::new();
        for region in setup.mapped_mmio {
            mapped_mmio
                .try_push(MappedMmioPages::new(region))
                .map_err(|_| SetupError::TooMany("direct"))?;
        }
        let ram_only = setup.allow.is_empty()
            && setup.roms.is_empty()
            && setup.mapped_mmio.is_empty()
            && setup.flash.is_empty();
        let mut name = ArrayString::new();
        for c in setup.name.chars() {
            if name.try_push(c).is_err() {
                break;
            }
        }
        Ok(Self {
            stage2,
            guard: Guard::new(setup.policy, setup.dialect, setup.allow, setup.preset)?,
            memory: MemoryMap::new(setup.ram, setup.roms)?,
            ram_only,
            mapped_mmio,
            flash: setup.flash,
            ids: FastIds::new(setup.policy, setup.dialect, ram_only),
            mapping_changes: Lock::new(Rank::Lifecycle, ()),
            counters: Default::default(),
            bus: Bus::new(setup),
            gic: setup.gic,
            gicd_head: [0, 4, 8, 12].map(|offset| {
                let value = setup.gic.constant(Frame::Dist, offset, Width::B4)?;
                Some(value as u32)
            }),
            vgic: Lock::new(Rank::Vgic, Vgic::new(setup.gic)),
            shares: Shares::new(setup.shares),
            id_registers: *setup.id_registers,
            workarounds: setup.workarounds,
            served: setup.served,
            peers: setup.peers,
            features: features(setup),
            lifecycle: Lifecycle::new(setup.vcpus),
            resetting: ResetProgress::new(),
            log_limit: RateLimit::new(),
            advice_given: AdviceGiven::new(),
            name,
            id: setup.id,
            vcpus: setup.vcpus,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in trace events.
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Number of vCPUs.
    pub const fn vcpus(&self) -> usize {
        self.vcpus
    }

    /// What it has.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Its guard.
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Its memory.
    pub const fn memory(&self) -> &MemoryMap {
        &self.memory
    }

    /// Its tables.
    pub const fn stage2(&self) -> &Stage2<H> {
        &self.stage2
    }

    /// The machine.
    #[inline(always)]
    pub const fn host(&self) -> &H {
        self.stage2.host()
    }

    /// Its interrupt controller. List registers are synchronised on the CPU of their vCPU.
    pub const fn vgic(&self) -> &Lock<Vgic> {
        &self.vgic
    }

    /// Its lifecycle and the power states of its vCPUs.
    pub const fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Which of its refusals are logged.
    pub const fn log_limit(&self) -> &RateLimit {
        &self.log_limit
    }

    /// MPIDR_EL1 of a vCPU (VMPIDR_EL2 also has bit 31 set).
    pub const fn mpidr(index: usize) -> Mpidr {
        Mpidr::new(vgic::Config::affinity(index) as u64)
    }

    #[inline(always)]
    pub(crate) fn counters(&self, vcpu: &Vcpu) -> &Counters {
        let [first, ..] = &self.counters;
        self.counters.get(vcpu.index % MAX_VCPUS).unwrap_or(first)
    }

    /// What `vcpu` has done since the last reset, and whether its last exception came from EL0. `second` is in ticks of the
    /// counter.
    pub fn progress(&self, vcpu: &Vcpu, from_el0: bool, second: u64) -> Progress {
        let (hypercalls, accesses) = self.counters(vcpu).calls_and_accesses();
        Progress { hypercalls, accesses, from_el0, second }
    }

    /// What its vCPUs have done since the last reset.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for counters in &self.counters {
            counters.add_to(&mut sum);
        }
        sum
    }

    /// Pages declared now, those reached without a trap included.
    pub fn declared_pages(&self) -> u64 {
        self.mapped_mmio
            .iter()
            .map(MappedMmioPages::declared_pages)
            .chain(self.flash.iter().map(Bank::declared_pages))
            .fold(self.stage2.declared_pages(), u64::wrapping_add)
    }

    /// The VM with which the page of RAM at `ipa` is shared (promise P2), by its number: the server, or none.
    pub fn shared_with(&self, ipa: Ipa) -> Option<u16> {
        let server = self.served?.setup().server;
        let page = ipa.raw().checked_sub(self.memory.ram().start().raw())? >> PAGE_SHIFT;
        (self.memory.is_ram(ipa) && self.shares.get(page)).then_some(server)
    }

    /// Its link to the VM that serves it.
    pub fn link(&self) -> Option<&'static Link> {
        self.served
    }

    /// Pages shared now.
    pub fn shared_pages(&self) -> u64 {
        self.shares.count()
    }

    /// The physical address behind `ipa`, if that is RAM.
    pub fn ram_pa(&self, ipa: Ipa) -> Option<Pa> {
        if !self.memory.is_ram(ipa) {
            return None;
        }
        let found = self.stage2.lookup(ipa)?;
        match found.entry {
            Entry::Leaf { pa, attr: Attr::Ram } => {
                let offset = ipa.raw() & stage2::codec::level_size(found.level).wrapping_sub(1);
                Some(Pa::new(pa.raw().wrapping_add(offset)))
            }
            _ => None,
        }
    }
}

fn features(setup: &Setup<'_>) -> Features {
    let offered = setup.policy != Policy::Off;
    Features::NONE
        .with(Features::GUARD, offered)
        .with(Features::ENFORCED, setup.policy == Policy::Enforce)
        .with(Features::SERIES, offered && setup.dialect == Dialect::Series)
        .with(Features::ALLOW_LIST, !setup.allow.is_empty())
        .with(Features::PRESET, !setup.preset.is_empty())
        .with(Features::ROM, !setup.roms.is_empty())
        .with(Features::GICV3, setup.gic.version() == Version::V3)
        .with(Features::MAPPED_MMIO, !setup.mapped_mmio.is_empty())
        .with(Features::TRNG, setup.trng)
        .with(Features::TEST_DEVICE, setup.test_device.is_some())
        .with(Features::FLASH, !setup.flash.is_empty())
}
