// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM, twice.

use crate::compare;
use crate::machine::Machine;
use arch::{Ipa, Pa, Range};
use lock::Order;
use mmio_guard::{Dialect, Policy};
use spec::Region;
use stage2::fake::{Fake, geometry};
use stage2::{Attr, Stage2};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use vgic::Version;
use vm::{Bank, Flash, ID_REGISTERS, MappedMmio, Setup, Vcpu, Vm, Workarounds};

pub const RAM: u64 = 0x4000_0000;
pub const UART: u64 = 0x0900_0000;
pub const GICD: u64 = 0x0800_0000;
pub const GICR: u64 = 0x080a_0000;
pub const TEST: u64 = 0x0a00_0000;
pub const FW_CFG: u64 = 0x0902_0000;
pub const GICV: u64 = 0x0801_0000;

/// How a VM is made, beyond what the specification wants to know.
#[derive(Clone, Debug)]
pub struct Make {
    pub config: spec::Config,
    /// Physical address of its memory.
    pub pa: u64,
    /// Table pages.
    pub pool: u64,
    /// Every TLBI twice.
    pub repeat: bool,
    pub version: Version,
    pub test_device: bool,
    pub fw_cfg: bool,
}

/// Where a VM is made.
pub struct Place {
    pub machine: Machine,
    pub pool: stage2::Pool,
    pub id: u16,
    pub served: Option<&'static vm::link::Link>,
    pub peers: Option<&'static [&'static vm::link::Link]>,
    pub number: usize,
    pub link: Option<&'static vm::link::Link>,
}

/// Both sides of one VM.
pub struct Guest {
    pub machine: Machine,
    pub vm: Arc<Vm<Machine>>,
    pub vcpus: Vec<Vcpu>,
    pub order: Order,
    pub spec: spec::Vm,
    /// Its number among those that are linked, which the specification has.
    pub number: usize,
    /// The specification of the other one while this one has an exit.
    pub peer: Option<spec::Vm>,
    /// What they have in common.
    pub link: Option<&'static vm::link::Link>,
    /// The number of the access that each vCPU waits for.
    pub asked: Vec<Option<u64>>,
    pub shares: &'static [AtomicU64],
    /// Leave the fast path out.
    pub slow: bool,
}

pub fn range(region: &Region) -> Range<Ipa> {
    Range::<Ipa>::new(Ipa::new(region.start), region.end - region.start).unwrap()
}

impl Make {
    /// Where memory is: IPA, physical address, size, what.
    fn memory(&self) -> Vec<(u64, u64, u64, bool)> {
        let ram = self.config.ram;
        let mut all = vec![(ram.start, self.pa, ram.end - ram.start, true)];
        let mut pa = self.pa + 0x4000_0000;
        for rom in &self.config.roms {
            all.push((rom.start, pa, rom.end - rom.start, false));
            pa += 0x40_0000;
        }
        all
    }

    /// The VM before its first start; `None` where its table pages do not even suffice for its memory, on both
    /// sides.
    pub fn build(&self) -> Result<Option<Guest>, String> {
        let geometry = geometry(self.config.ipa_bits as u8);
        let fake = Fake::with_errata(geometry, self.pool as usize, self.repeat);
        self.build_at(Place {
            machine: Machine::new(fake.clone()),
            pool: fake.pool(),
            id: 7,
            served: None,
            peers: None,
            number: 0,
            link: None,
        })
    }

    /// The same, among other VMs.
    pub fn build_at(&self, place: Place) -> Result<Option<Guest>, String> {
        let Place { machine, pool, id, served, peers, number, link } = place;
        let order = Order::new();
        let config = &self.config;
        let geometry = geometry(config.ipa_bits as u8);
        let fake = &machine.fake;
        fake.set_mark(oracle::mark);
        let stage2 = Stage2::new(machine.clone(), geometry, fake.root(), pool);
        let words = Vm::<Machine>::share_words(config.ram.end - config.ram.start) as usize;
        let shares: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let shares: &'static [AtomicU64] = Box::leak(shares.into_boxed_slice());
        let ranges = |regions: &[Region]| regions.iter().map(range).collect::<Vec<_>>();
        let mapped_mmio: Vec<MappedMmio> = config
            .mapped_mmio
            .iter()
            .map(|mapped_mmio| MappedMmio {
                ipa: range(&mapped_mmio.at),
                pa: Pa::new(mapped_mmio.pa),
            })
            .collect();
        // A VM's banks are never freed, and neither are a test's.
        let banks: Vec<Bank> = config
            .flash
            .iter()
            .map(|flash| {
                let (ipa, pa, protected) = (range(&flash.at), Pa::new(flash.pa), flash.protected);
                Bank::new(Flash { ipa, pa, protected })
            })
            .collect();
        let banks: &'static [Bank] = Box::leak(banks.into_boxed_slice());
        let setup = Setup {
            name: "guest",
            id,
            vcpus: config.vcpus,
            policy: match config.policy {
                spec::Policy::Off => Policy::Off,
                spec::Policy::Enrol => Policy::Enrol,
                spec::Policy::Enforce => Policy::Enforce,
            },
            dialect: match config.dialect {
                spec::Dialect::Pkvm => Dialect::Pkvm,
                spec::Dialect::Series => Dialect::Series,
            },
            ram: range(&config.ram),
            roms: &ranges(&config.roms),
            allow: &ranges(&config.allow),
            preset: &ranges(&config.preset),
            mapped_mmio: &mapped_mmio,
            flash: banks,
            fw_cfg: self.fw_cfg,
            test_device: self.test_device.then_some(Ipa::new(TEST)),
            gic: vgic::Config::new(self.version, config.vcpus, 4, 32),
            id_registers: &[0x5a; ID_REGISTERS],
            trng: config.trng,
            workarounds: Workarounds::new(config.workarounds.map(|answer| answer as i8)),
            shares,
            served,
            peers,
        };
        let vm = Vm::new(stage2, &setup).map_err(|error| error.to_string())?;
        let mut tables = spec::Tables::new(config.ipa_bits, self.pool);
        for (ipa, pa, size, ram) in self.memory() {
            let attr = if ram { Attr::Ram } else { Attr::Rom };
            let leaf = if ram { spec::Leaf::Ram } else { spec::Leaf::Rom };
            let real = vm.stage2().map(&order, Ipa::new(ipa), Pa::new(pa), size, attr);
            match (real, tables.map(ipa, pa, size, leaf)) {
                (Ok(()), Ok(())) => {}
                (Err(_), Err(_)) => return Ok(None),
                (real, spec) => return Err(format!("memory at {ipa:#x}: {real:?}, {spec:?}")),
            }
        }
        let vcpus = (0..config.vcpus).map(Vcpu::new).collect();
        let spec = spec::Vm::new(config.clone(), tables);
        Ok(Some(Guest {
            machine,
            vm: Arc::new(vm),
            vcpus,
            order,
            spec,
            number,
            peer: None,
            link,
            asked: vec![None; config.vcpus],
            shares,
            slow: false,
        }))
    }
}

impl Guest {
    /// Both VMs as the specification has them, where there is another one, and the number of this one.
    pub fn together<R>(&mut self, with: impl FnOnce(&mut [spec::Vm], usize) -> R) -> R {
        let Some(peer) = self.peer.take() else {
            return with(std::slice::from_mut(&mut self.spec), 0);
        };
        let nothing = spec::Tables::new(self.spec.config.ipa_bits, 0);
        let nothing = spec::Vm::new(self.spec.config.clone(), nothing);
        let mut vms = [std::mem::replace(&mut self.spec, nothing), peer];
        if self.number == 1 {
            vms.reverse();
        }
        let result = with(&mut vms, self.number);
        if self.number == 1 {
            vms.reverse();
        }
        let [mine, peer] = vms;
        (self.spec, self.peer) = (mine, Some(peer));
        result
    }

    /// The VM has stopped: whom it served has no server. Before all VMs are made there are none.
    pub fn leave_peers(&mut self) {
        if self.peer.is_some() {
            self.together(spec::leave_peers);
        }
    }

    /// Leaves `pages` in the pool; returns those that were taken.
    pub fn starve(&mut self, pages: u64) -> Vec<Pa> {
        let mut taken = Vec::new();
        while self.vm.stage2().pool_free(&self.order) as u64 > pages {
            taken.extend(self.vm.stage2().take_spare(&self.order));
        }
        self.spec.tables.set_free(self.spec.tables.free() - taken.len() as u64);
        taken
    }

    /// Gives them back.
    pub fn feed(&mut self, pages: Vec<Pa>) {
        self.spec.tables.set_free(self.spec.tables.free() + pages.len() as u64);
        for page in pages {
            self.vm.stage2().refill(&self.order, page);
        }
    }

    /// Resets both sides.
    fn reset(&mut self) -> (Result<(), vm::ResetError>, Result<(), spec::Full>) {
        let results = (self.vm.reset(&self.order), self.spec.reset());
        self.leave_peers();
        results
    }

    /// The VM starts. `false` where the table pages do not suffice, on both sides.
    pub fn begin(&mut self) -> Result<bool, String> {
        match self.reset() {
            (Ok(()), Ok(())) => {}
            (Err(_), Err(_)) => return Ok(false),
            (real, spec) => return Err(format!("reset: {real:?}, {spec:?}")),
        }
        if !self.share_for_owner()? {
            return Ok(false);
        }
        let context = 0xd7b;
        let (real, spec) =
            (self.vm.start(&self.order, Ipa::new(RAM), context), self.spec.start(RAM, context));
        if (real, spec) != (true, true) {
            return Err(format!("start: {real}, {spec}"));
        }
        self.take_start(0)?;
        Ok(true)
    }

    /// Shares what the VM's owner wants shared. `false` where the table pages do not suffice, on both sides.
    fn share_for_owner(&mut self) -> Result<bool, String> {
        let ram = self.spec.config.ram;
        let pa = self.vm.ram_pa(Ipa::new(ram.start)).ok_or("no RAM")?;
        let pieces = std::iter::once((0, pa, ram.end - ram.start));
        let mut at = 0;
        loop {
            let real = self.vm.share_piece(&self.order, &pieces, at);
            match (real, self.spec.share_for_owner(at)) {
                (Ok(None), Ok(None)) => return Ok(true),
                (Err(_), Err(_)) => return Ok(false),
                (Ok(Some(next)), Ok(Some(same))) if next == same => at = next,
                (real, spec) => return Err(format!("shared at {at:#x}: {real:?}, {spec:?}")),
            }
        }
    }

    /// vCPU `vcpu` looks whether it was turned on.
    pub fn take_start(&mut self, vcpu: usize) -> Result<(), String> {
        let me = &mut self.vcpus[vcpu];
        let (real, spec) = (self.vm.take_start(me), self.spec.take_start(vcpu));
        let real = real.then_some((me.regs.elr, me.regs.x[0]));
        if real == spec { Ok(()) } else { Err(format!("vCPU {vcpu} begins: {real:x?}, {spec:x?}")) }
    }

    /// Between two runs: the VM waits for its restart, ends, and is started again.
    fn rest_and_revive(&mut self) -> Result<(), String> {
        let (lifecycle, order) = (self.vm.lifecycle(), &self.order);
        let real = [
            lifecycle.rest(order),
            lifecycle.rest(order),
            self.vm.revive(order),
            lifecycle.finish(order),
            lifecycle.finish(order),
            lifecycle.take_request(order),
            self.vm.revive(order),
            self.vm.revive(order),
            lifecycle.take_request(order),
            lifecycle.take_request(order),
        ];
        let spec = &mut self.spec;
        let spec = [
            spec.rest(),
            spec.rest(),
            spec.revive(),
            spec.finish(),
            spec.finish(),
            // The end has taken the request away.
            false,
            spec.revive(),
            spec.revive(),
            true,
            false,
        ];
        if real == spec { Ok(()) } else { Err(format!("rest and revive: {real:?}, {spec:?}")) }
    }

    /// The VM is stopping: all vCPUs leave, and the VM restarts. `starved`: only after tries with too few
    /// table pages, where presets need some.
    pub fn next_life(&mut self, starved: bool) -> Result<(), String> {
        // If no vCPU was on, none has to park.
        let mut last = (self.spec.phase == spec::Phase::Parked).then_some(0);
        for vcpu in 0..self.spec.config.vcpus {
            let (real, spec) = (self.vm.park(&self.vcpus[vcpu]), self.spec.park(vcpu));
            let same = match (real, spec) {
                (vm::Parked::Others, spec::Parked::Others) => true,
                (vm::Parked::Last(a), spec::Parked::Last(b)) => {
                    self.leave_peers();
                    last = Some(vcpu);
                    oracle::stop_reason(a) == b
                }
                _ => false,
            };
            if !same {
                return Err(format!("vCPU {vcpu} parks: {real:?}, {spec:?}"));
            }
        }
        if last.is_none() {
            return Err("no vCPU was the last to park".into());
        }
        if starved {
            self.rest_and_revive()?;
        }
        for pages in 0..if starved { 4 } else { 0 } {
            let taken = self.starve(pages);
            let (real, spec) = self.reset();
            if real.is_err() != spec.is_err() {
                return Err(format!("reset with {pages} table pages: {real:?}, {spec:?}"));
            }
            compare::quickly(self)?;
            self.feed(taken);
        }
        match self.begin()? {
            true => Ok(()),
            false => Err("the same VM had table pages enough for its first start".into()),
        }
    }
}
