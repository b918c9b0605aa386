// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs on a machine for tests.
#![allow(dead_code)]

#[path = "../support/machine.rs"]
mod machine;

use arch::{
    Access, DataAbort, Errata, Exit, ExitInfo, Fault, FaultKind, InstructionAbort, Ipa, PAGE_SIZE,
    Pa, Range, Va, VcpuSet, Width,
};
use lock::Order;
use lock::atomic::AtomicU64;
use mmio_guard::{Dialect, Policy};
use stage2::fake::Fake;
use stage2::{Attr, Entry, Stage2};
use std::sync::Arc;
use vm::{
    Abort, Bank, FastPath, Flash, ID_REGISTERS, MappedMmio, Outcome, Setup, Vcpu, Vm, Workarounds,
    on_exit, run_deferred, try_fast_path,
};

pub use machine::Machine;

/// Where a VM's RAM begins, and how much of it there is.
pub const RAM: u64 = 0x4000_0000;
pub const RAM_SIZE: u64 = 0x80_0000;
/// Where the machine has it.
pub const RAM_PA: u64 = 0x8_0000_0000;
/// An address with nothing at it.
pub const VOID: u64 = 0x0c00_0000;
pub const UART: u64 = 0x0900_0000;
pub const GICD: u64 = 0x0800_0000;
pub const GICR: u64 = 0x080a_0000;
pub const TEST: u64 = 0x0a00_0000;

/// How a test's VM is made.
#[derive(Clone)]
pub struct Config {
    pub vcpus: usize,
    pub policy: Policy,
    pub dialect: Dialect,
    pub roms: Vec<Range<Ipa>>,
    pub allow: Vec<Range<Ipa>>,
    pub preset: Vec<Range<Ipa>>,
    pub mapped_mmio: Vec<MappedMmio>,
    pub flash: Vec<Flash>,
    pub fw_cfg: bool,
    pub test_device: bool,
    pub version: vgic::Version,
    pub trng: bool,
    pub workarounds: Workarounds,
    pub ipa_bits: u8,
    pub pool: usize,
    pub ids: [u64; ID_REGISTERS],
}

/// Where a VM is among others.
pub struct Place {
    pub id: u16,
    pub ram_pa: u64,
    pub served: Option<&'static vm::link::Link>,
    pub peers: Option<&'static [&'static vm::link::Link]>,
}

impl Default for Place {
    fn default() -> Self {
        Self { id: 7, ram_pa: RAM_PA, served: None, peers: None }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vcpus: 2,
            policy: Policy::Enforce,
            dialect: Dialect::Pkvm,
            roms: vec![],
            allow: vec![],
            preset: vec![],
            mapped_mmio: vec![],
            flash: vec![],
            fw_cfg: false,
            test_device: true,
            version: vgic::Version::V3,
            trng: true,
            workarounds: Workarounds::default(),
            ipa_bits: 40,
            pool: 40,
            ids: [0; ID_REGISTERS],
        }
    }
}

pub fn range(start: u64, size: u64) -> Range<Ipa> {
    Range::<Ipa>::new(Ipa::new(start), size).unwrap()
}

/// A VM, its vCPUs, and the machine it runs on.
pub struct Rig {
    pub machine: Machine,
    pub vm: Arc<Vm<Machine>>,
    pub vcpus: Vec<Vcpu>,
    pub order: Order,
    /// Leave the fast path out.
    pub slow: bool,
    /// Exits that the fast path does not handle.
    pub went_slow: u64,
}

impl Config {
    pub fn of(policy: Policy, dialect: Dialect) -> Self {
        Self { policy, dialect, ..Self::default() }
    }

    pub fn try_build(&self) -> Result<Rig, vm::SetupError> {
        let fake = Fake::new(stage2::fake::geometry(self.ipa_bits), self.pool);
        let pool = fake.pool();
        self.try_build_at(Machine::new(fake), pool, &Place::default())
    }

    /// A VM among others: `pool` are pages of its machine's tables.
    pub fn try_build_at(
        &self,
        machine: Machine,
        pool: stage2::Pool,
        place: &Place,
    ) -> Result<Rig, vm::SetupError> {
        let order = Order::new();
        let fake = &machine.fake;
        let geometry = stage2::fake::geometry(self.ipa_bits);
        let stage2 = Stage2::new(machine.clone(), geometry, fake.root(), pool);
        // More than needed: the memory map decides what can be shared, not the room for bits.
        let words = Vm::<Machine>::share_words(RAM_SIZE) as usize + 4;
        let shares: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let setup = Setup {
            name: "guest",
            id: place.id,
            vcpus: self.vcpus,
            policy: self.policy,
            dialect: self.dialect,
            ram: range(RAM, RAM_SIZE),
            roms: &self.roms,
            allow: &self.allow,
            preset: &self.preset,
            mapped_mmio: &self.mapped_mmio,
            flash: self.flash.iter().map(|flash| Bank::new(*flash)).collect::<Vec<_>>().leak(),
            fw_cfg: self.fw_cfg,
            test_device: self.test_device.then_some(Ipa::new(TEST)),
            gic: vgic::Config::new(self.version, self.vcpus, 4, 32),
            id_registers: &self.ids,
            trng: self.trng,
            workarounds: self.workarounds,
            shares: Box::leak(shares.into_boxed_slice()),
            served: place.served,
            peers: place.peers,
        };
        let vm = Vm::new(stage2, &setup)?;
        vm.stage2().map(&order, Ipa::new(RAM), Pa::new(place.ram_pa), RAM_SIZE, Attr::Ram).unwrap();
        let mut pa = RAM_PA + 0x4000_0000;
        for rom in &self.roms {
            vm.stage2().map(&order, rom.start(), Pa::new(pa), rom.size(), Attr::Rom).unwrap();
            pa += 0x4000_0000;
        }
        let vcpus = (0..self.vcpus).map(Vcpu::new).collect();
        Ok(Rig { machine, vm: Arc::new(vm), vcpus, order, slow: false, went_slow: 0 })
    }

    /// A VM after its first start, vCPU 0 on.
    pub fn build(&self) -> Rig {
        let mut rig = self.try_build().unwrap();
        rig.vm.reset(&rig.order).unwrap();
        rig.begin();
        rig
    }
}

/// A VM with this policy and dialect.
pub fn rig(policy: Policy, dialect: Dialect) -> Rig {
    Config::of(policy, dialect).build()
}

pub const ZEROS: u64 = 0;
pub const NOT_SUPPORTED: [u64; 4] = [u64::MAX, 0, 0, 0];
pub const INVALID: [u64; 4] = [u64::MAX - 2, 0, 0, 0];
pub const OK: [u64; 4] = [0, 0, 0, 0];
pub const OK_1: [u64; 4] = [0, 1, 0, 0];

/// The whole abstraction of a VM: what a failing call must leave as it was.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Snapshot {
    pub entries: Vec<(Ipa, u8, Entry)>,
    pub active: bool,
    pub declared: u64,
    pub shared: u64,
    pub pool: usize,
    pub on: VcpuSet,
    pub stopping: Option<vm::StopReason>,
}

impl Rig {
    /// Starts vCPU 0 as EL2 would.
    pub fn begin(&mut self) {
        assert!(self.vm.start(&self.order, Ipa::new(RAM), 0xd7b));
        assert!(self.vm.take_start(&mut self.vcpus[0]));
    }

    /// An exit as EL2 handles it: the fast path first, then the slow path.
    pub fn exit(&mut self, vcpu: usize, exit: Exit) -> Outcome {
        let info = encode(exit);
        assert_eq!(arch::decode(info, &Errata::NONE), exit, "{info:x?}");
        if self.slow { self.exit_slow(vcpu, exit) } else { self.exit_raw(vcpu, info) }
    }

    pub fn exit_slow(&mut self, vcpu: usize, exit: Exit) -> Outcome {
        on_exit(exit, &mut self.vcpus[vcpu], &self.vm)
    }

    pub fn exit_raw(&mut self, vcpu: usize, info: ExitInfo) -> Outcome {
        let me = &mut self.vcpus[vcpu];
        let mut path = try_fast_path(&info, &Errata::NONE, me, &self.vm);
        while let FastPath::Deferred(deferred) = path {
            path = run_deferred(deferred, me, &self.vm);
        }
        if let FastPath::Done(outcome) = path {
            return outcome;
        }
        self.went_slow += 1;
        on_exit(arch::decode(info, &Errata::NONE), me, &self.vm)
    }

    /// A call by HVC #0 of vCPU 0: its results. x4 and up must survive.
    pub fn call(&mut self, id: u32, arguments: [u64; 3]) -> [u64; 4] {
        self.call_on(0, id, arguments)
    }

    pub fn call_on(&mut self, vcpu: usize, id: u32, arguments: [u64; 3]) -> [u64; 4] {
        let regs = &mut self.vcpus[vcpu].regs;
        // Upper half dirty: only W0 counts.
        regs.x[0] = u64::from(id) | 0xabcd_ef01 << 32;
        regs.x[1..4].copy_from_slice(&arguments);
        for n in 4..31 {
            regs.x[n] = 0xca_0000 + n as u64;
        }
        let (elr, spsr) = (regs.elr, regs.spsr);
        assert_eq!(self.exit(vcpu, Exit::Hvc { imm: 0 }), Outcome::Resume, "{id:#x}");
        let regs = &self.vcpus[vcpu].regs;
        for n in 4..31 {
            assert_eq!(regs.x[n], 0xca_0000 + n as u64, "x{n} after {id:#x}");
        }
        assert_eq!((regs.elr, regs.spsr), (elr, spsr), "{id:#x}");
        [regs.x[0], regs.x[1], regs.x[2], regs.x[3]]
    }

    /// A call that must fail with `answer` and leave everything as it was.
    pub fn fails(&mut self, id: u32, arguments: [u64; 3], answer: [u64; 4]) {
        let before = self.snapshot();
        assert_eq!(self.call(id, arguments), answer, "{id:#x} {arguments:x?}");
        assert_eq!(self.snapshot(), before, "{id:#x} {arguments:x?}");
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut entries = Vec::new();
        self.vm.stage2().visit(|ipa, level, entry| {
            if entry != Entry::Empty {
                entries.push((ipa, level, entry));
            }
        });
        let lifecycle = self.vm.lifecycle();
        assert_eq!(lifecycle.is_asked(), lifecycle.stopping().is_some());
        Snapshot {
            entries,
            active: self.vm.guard().active(),
            declared: self.vm.declared_pages(),
            shared: self.vm.shared_pages(),
            pool: self.vm.stage2().pool_free(&self.order),
            on: lifecycle.on(&self.order),
            stopping: lifecycle.stopping(),
        }
    }

    pub fn load(&mut self, ipa: u64, width: Width) -> Outcome {
        self.exit(0, load(ipa, width))
    }

    pub fn store(&mut self, ipa: u64, width: Width, value: u64) -> Outcome {
        self.vcpus[0].regs.x[5] = value;
        self.exit(0, store(ipa, width))
    }

    /// What a load gives: its value, or why it was aborted.
    pub fn read(&mut self, ipa: u64, width: Width) -> Result<u64, vm::Reason> {
        self.vcpus[0].regs.x[5] = 0xdead_dead_dead_dead;
        match self.load(ipa, width) {
            Outcome::Advance { il: true } => Ok(self.vcpus[0].regs.x[5]),
            Outcome::Abort(Abort { walk: false, .. }) => {
                assert_eq!(self.vcpus[0].regs.x[5], 0xdead_dead_dead_dead, "target changed");
                Err(self.vcpus[0].refusal.reason)
            }
            other => panic!("{other:?}"),
        }
    }

    /// What a store gives.
    pub fn write(&mut self, ipa: u64, width: Width, value: u64) -> Result<(), vm::Reason> {
        match self.store(ipa, width, value) {
            Outcome::Advance { il: true } => Ok(()),
            Outcome::Abort(Abort { walk: false, .. }) => Err(self.vcpus[0].refusal.reason),
            other => panic!("{other:?}"),
        }
    }

    pub fn refused(&self) -> u64 {
        self.vm.counts().refused
    }
}

pub fn translation() -> Fault {
    Fault { kind: FaultKind::Translation, level: 3 }
}

/// A data abort with a valid syndrome, register x5.
pub fn data(ipa: u64, width: Width, write: bool) -> DataAbort {
    DataAbort {
        va: Va::new(0xffff_0000_0000_0000 | ipa),
        ipa: Some(Ipa::new(ipa)),
        fault: translation(),
        access: Some(Access {
            width,
            sign_extend: false,
            reg: 5,
            sixty_four: width == Width::B8,
            acquire_release: false,
        }),
        write,
        s1ptw: false,
        cm: false,
        il: true,
    }
}

pub fn load(ipa: u64, width: Width) -> Exit {
    Exit::DataAbort(data(ipa, width, false))
}

pub fn store(ipa: u64, width: Width) -> Exit {
    Exit::DataAbort(data(ipa, width, true))
}

pub fn fetch(ipa: u64) -> InstructionAbort {
    InstructionAbort {
        va: Va::new(ipa),
        ipa: Some(Ipa::new(ipa)),
        fault: translation(),
        s1ptw: false,
    }
}

/// Page number `n` from `base`.
pub fn page(base: u64, n: u64) -> u64 {
    base + n * PAGE_SIZE
}

const POISON: u64 = 0x0000_0bad_0bad_0ba0;

/// The syndrome registers of an exit; HPFAR_EL2 is poisoned where the architecture leaves it UNKNOWN.
pub fn encode(exit: Exit) -> ExitInfo {
    let ec = |ec: u64| ec << 26;
    let il = |il: bool| u64::from(il) << 25;
    match exit {
        Exit::Hvc { imm } => info(ec(0x16) | il(true) | u64::from(imm)),
        Exit::Smc { imm } => info(ec(0x17) | il(true) | u64::from(imm)),
        Exit::Wfx { wfe, il: long } => info(ec(1) | il(long) | u64::from(wfe)),
        Exit::Undefined { ec: class } => info(ec(class.into()) | il(true)),
        Exit::SysReg(access) => {
            let (op0, op1, crn, crm, op2) = arch::sysreg::fields(access.reg);
            info(
                ec(0x18)
                    | il(true)
                    | u64::from(op0) << 20
                    | u64::from(op2) << 17
                    | u64::from(op1) << 14
                    | u64::from(crn) << 10
                    | u64::from(access.rt) << 5
                    | u64::from(crm) << 1
                    | u64::from(!access.write),
            )
        }
        Exit::DataAbort(abort) => {
            let syndrome = abort.access.map_or(0, |access| {
                1 << 24
                    | (access.width as u64) << 22
                    | u64::from(access.sign_extend) << 21
                    | u64::from(access.reg) << 16
                    | u64::from(access.sixty_four) << 15
                    | u64::from(access.acquire_release) << 14
            });
            ExitInfo {
                esr: ec(0x24)
                    | il(abort.il)
                    | syndrome
                    | u64::from(abort.cm) << 8
                    | u64::from(abort.s1ptw) << 7
                    | u64::from(abort.write) << 6
                    | status(abort.fault),
                far: abort.va.raw(),
                hpfar: hpfar(abort.ipa),
            }
        }
        Exit::InstructionAbort(abort) => ExitInfo {
            esr: ec(0x20) | il(true) | u64::from(abort.s1ptw) << 7 | status(abort.fault),
            far: abort.va.raw(),
            hpfar: hpfar(abort.ipa),
        },
    }
}

fn info(esr: u64) -> ExitInfo {
    ExitInfo { esr, far: POISON, hpfar: POISON }
}

fn hpfar(ipa: Option<Ipa>) -> u64 {
    ipa.map_or(POISON, |ipa| ipa.raw() >> 12 << 4)
}

fn status(fault: Fault) -> u64 {
    let level = fault.level as u64 & 3;
    match fault.kind {
        FaultKind::AddressSize => level,
        FaultKind::Translation => 0x04 | level,
        FaultKind::AccessFlag => 0x08 | level,
        FaultKind::Permission => 0x0c | level,
        FaultKind::External => 0x10,
        FaultKind::ExternalOnWalk => 0x14 | level,
        FaultKind::Other => 0x21,
    }
}

/// Runs `test` under both dialects and, of each, the policies.
pub fn everywhere(policies: &[Policy], mut test: impl FnMut(&mut Rig, Policy, Dialect)) {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        for policy in policies {
            for slow in [false, true] {
                let mut rig = rig(*policy, dialect);
                rig.slow = slow;
                test(&mut rig, *policy, dialect);
                rig.machine.fake.assert_quiet();
            }
        }
    }
}

/// ids of the guard's calls in a dialect.
pub struct Ids {
    pub info: u32,
    pub enroll: u32,
    pub map: u32,
    pub unmap: u32,
}

pub fn ids(dialect: Dialect) -> Ids {
    match dialect {
        Dialect::Pkvm => {
            Ids { info: 0xc600_0005, enroll: 0xc600_0006, map: 0xc600_0007, unmap: 0xc600_0008 }
        }
        Dialect::Series => {
            Ids { info: 0xc600_0002, enroll: 0xc600_0003, map: 0xc600_0004, unmap: 0xc600_0005 }
        }
    }
}

/// What a MAP or UNMAP that was granted answers.
pub fn done(dialect: Dialect) -> [u64; 4] {
    if dialect == Dialect::Pkvm { OK_1 } else { OK }
}

/// What one that was not answers.
pub fn failed(dialect: Dialect) -> [u64; 4] {
    if dialect == Dialect::Pkvm { INVALID } else { NOT_SUPPORTED }
}

pub const ENROL: Policy = Policy::Enrol;
pub const ENFORCE: Policy = Policy::Enforce;
pub const OFF: Policy = Policy::Off;
pub const MEMINFO: u32 = 0xc600_0002;
pub const MEM_SHARE: u32 = 0xc600_0003;
pub const MEM_UNSHARE: u32 = 0xc600_0004;
pub const RELINQUISH: u32 = 0xc600_0009;
pub const RANGE_MAP: u32 = 0xc600_000a;
pub const RANGE_UNMAP: u32 = 0xc600_000b;
pub const QUERY: u32 = 0xc600_f001;
pub const COUNTERS: u32 = 0xc600_f002;
