// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs and exits from a seed: boundary-heavy, and guided by what came before.

use crate::compare;
use crate::exits::{Action, Step};
use crate::guest::{FW_CFG, GICD, GICR, GICV, Guest, Make, RAM, TEST, UART};
use crate::random::Random;
use crate::shrink;
use arch::ExitInfo;
use spec::{Config, Device, DeviceKind, Dialect, Flash, MappedMmio, Policy, Region};
use vgic::Version;

/// An address with nothing at it.
const VOID: u64 = 0x0c00_0000;
/// More pages reached without a trap.
const DEVICES: u64 = 0x0b00_0000;
/// Banks of flash: the smallest, and two that a block can map.
const BANKS: [(u64, u64); 3] =
    [(0x0300_0000, 256 << 10), (0x0400_0000, MIB2), (0x0440_0000, MIB2 << 1)];
const MIB2: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
const PAGE: u64 = 4096;
/// Steps of a scenario: many VMs see little, some see much.
const STEPS: [u64; 4] = [60, 250, 1000, 3000];

const HOLDERS: [vm::Holder; 3] = [vm::Holder::User, vm::Holder::Crash, vm::Holder::Save];

/// Some VMs, and what their vCPUs do.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub vms: Vec<Make>,
    pub steps: Vec<Step>,
}

impl Scenario {
    pub fn new(random: &mut Random) -> Self {
        let vms: Vec<Make> = (0..1 + random.below(3)).map(|n| make(random, n)).collect();
        let mut guides: Vec<Guide> = vms.iter().map(Guide::new).collect();
        let steps = (0..random.of(&STEPS))
            .map(|_| {
                let vm = random.below(vms.len() as u64) as usize;
                Step {
                    vm,
                    vcpu: random.below(vms[vm].config.vcpus as u64) as usize,
                    slow: random.one_in(4),
                    starved: random.one_in(8),
                    action: guides[vm].action(random),
                }
            })
            .collect();
        Self { vms, steps }
    }

    /// Makes the VMs; `None` where one of them has too few table pages to begin.
    pub fn build(&self) -> Result<Option<Vec<Guest>>, String> {
        let mut guests = Vec::new();
        for make in &self.vms {
            let Some(mut guest) = make.build()? else { return Ok(None) };
            if !guest.begin()? {
                return Ok(None);
            }
            compare::wholly(&guest)?;
            guests.push(guest);
        }
        Ok(Some(guests))
    }

    /// Runs it; returns how many exits were checked.
    pub fn run(&self) -> Result<u64, String> {
        self.run_with(|_, _| {})
    }

    /// Runs it with the specification's state spoilt in the middle.
    pub fn run_sabotaged(&self, kind: u32) -> Result<u64, String> {
        self.run_with(|number, guest| {
            if number == self.steps.len() / 2 {
                compare::sabotage(kind, &mut guest.spec);
            }
        })
    }

    fn run_with(&self, mut before: impl FnMut(usize, &mut Guest)) -> Result<u64, String> {
        let Some(mut guests) = self.build()? else { return Ok(0) };
        let mut exits = 0;
        for (number, step) in self.steps.iter().enumerate() {
            let at = |why: String| format!("step {number}: {why}");
            let guest = &mut guests[step.vm];
            before(number, guest);
            guest.slow = step.slow;
            guest.machine.vary(step.slow, number);
            exits += u64::from(guest.act(step.vcpu, &step.action, step.starved).map_err(at)?);
            guest.machine.fake.forget_events();
            // The other VMs have not noticed.
            for guest in &guests {
                compare::quickly(guest).map_err(at)?;
            }
            // Ever more rarely: a whole look costs as much as hundreds of exits.
            if number >= 32 && (number + 1).is_power_of_two() {
                for guest in &guests {
                    compare::wholly(guest).map_err(at)?;
                }
            }
        }
        for guest in &guests {
            compare::wholly(guest)?;
        }
        Ok(exits)
    }

    /// Leaves out steps and VMs as long as it fails.
    pub fn shrink(
        &self,
        why: String,
        run: impl Fn(&Self) -> Result<u64, String>,
    ) -> (Self, String) {
        let (mut small, mut why) = shrink::steps(self, why, |scenario| &mut scenario.steps, &run);
        // And the VMs that do nothing any more; numbers are of those before.
        while small.vms.len() > 1 && small.steps.iter().all(|step| step.vm + 1 < small.vms.len()) {
            let mut less = small.clone();
            less.vms.pop();
            let Err(reason) = run(&less) else { break };
            (small, why) = (less, reason);
        }
        (small, why)
    }
}

/// A VM's configuration.
pub fn make(random: &mut Random, number: u64) -> Make {
    let ipa_bits = random.of(&[32, 36, 39, 40, 40, 40, 42, 43, 44, 48]);
    let limit = 1_u64 << ipa_bits;
    let ram = Region::new(RAM, random.of(&[8 << 20, 8 << 20, MIB2, MIB2 + 0x3000, 0x5000]));
    let version = random.of(&[Version::V2, Version::V3]);
    let vcpus = 1 + random.below(4) as usize;
    let test_device = !random.one_in(4);
    let mut roms = Vec::new();
    if random.one_in(2) {
        roms.push(Region::new(0x40_0000, 0x2000));
        if random.one_in(2) {
            roms.push(Region::new(ram.end, 0x3000));
        }
    }
    let mut mapped_mmio = Vec::new();
    if random.one_in(2) {
        mapped_mmio.push(MappedMmio { at: Region::new(GICV, 0x2000), pa: 0x1234_0000 });
        if random.one_in(2) {
            let pages = random.of(&[1, 3, 64]);
            mapped_mmio
                .push(MappedMmio { at: Region::new(DEVICES, pages * PAGE), pa: 0x2_0000_1000 });
        }
    }
    let mut flash = Vec::new();
    for (at, size) in BANKS {
        if random.one_in(3) {
            let pa = 0x20_0000_0000 + number * 0x1000_0000 + at;
            flash.push(Flash { at: Region::new(at, size), pa, protected: random.one_in(6) });
        }
    }
    let mut allow = Vec::new();
    if random.one_in(3) {
        allow.push(Region::new(0, VOID + 0x10_0000));
        allow.push(Region::new(0x1_0000_0000 - 0x2000, 0x2000));
        if limit > 1 << 32 {
            allow.push(Region::new(1 << 32, 5 * GIB));
        }
    }
    let mut preset = Vec::new();
    if random.one_in(2) {
        preset.push(Region::new(VOID + 20 * PAGE, 2 * PAGE));
        if random.one_in(2) {
            preset.push(Region::new(GICV - PAGE, random.of(&[1, 2, 3, 4]) * PAGE));
        }
        if random.one_in(2) {
            preset.push(Region::new(3 * GIB, random.of(&[MIB2, GIB, GIB - PAGE])));
        }
        // A bank, or a part of it.
        for bank in &flash {
            if random.one_in(3) {
                let size = bank.at.end - bank.at.start;
                preset
                    .push(Region::new(bank.at.start, random.of(&[size, size, size - PAGE, PAGE])));
            }
        }
    }
    let mut devices = vec![
        Device { at: Region::new(GICD, 0x1_0000), kind: DeviceKind::Gic },
        Device { at: Region::new(UART, PAGE), kind: DeviceKind::Uart },
    ];
    if version == Version::V3 {
        let at = Region::new(GICR, (vcpus as u64) << 17);
        devices.push(Device { at, kind: DeviceKind::Gic });
    }
    if test_device {
        devices.push(Device { at: Region::new(TEST, PAGE), kind: DeviceKind::Test });
    }
    let policy = random.of(&[
        Policy::Off,
        Policy::Enrol,
        Policy::Enrol,
        Policy::Enrol,
        Policy::Enforce,
        Policy::Enforce,
    ]);
    let fw_cfg = random.one_in(2);
    if fw_cfg {
        devices.push(Device { at: Region::new(FW_CFG, PAGE), kind: DeviceKind::Quiet });
    }
    // QEMU's virtio-mmio transports, behind the test device where both stand.
    if policy == Policy::Off {
        devices.push(Device { at: Region::new(TEST, 4 * PAGE), kind: DeviceKind::Quiet });
    }
    let mut workaround = |answers: &[i64]| random.of(answers);
    let workarounds = [workaround(&[-1, 0, 1]), workaround(&[-2, -1, 1]), workaround(&[-1, 0, 1])];
    Make {
        config: Config {
            ipa_bits,
            policy,
            dialect: random.of(&[Dialect::Pkvm, Dialect::Pkvm, Dialect::Pkvm, Dialect::Series]),
            ram,
            roms,
            allow,
            preset,
            mapped_mmio,
            flash,
            devices,
            served: None,
            peers: None,
            windows: Vec::new(),
            vcpus,
            trng: random.one_in(2),
            workarounds,
        },
        // On a 2 MiB border, or one page off it, where no block fits.
        pa: 0x8_0000_0000 + number * 0x8000_0000 + random.of(&[0, 0, 0, PAGE]),
        pool: random.of(&[6, 9, 12, 16, 24, 40, 60]),
        repeat: random.one_in(2),
        version,
        test_device,
        fw_cfg,
    }
}

/// What a VM's exits are about.
pub struct Guide {
    config: Config,
    /// Addresses where something changes.
    edges: Vec<u64>,
    /// Addresses that came up.
    recent: [u64; 6],
}

impl Guide {
    pub fn new(make: &Make) -> Self {
        let config = make.config.clone();
        let mut edges = vec![
            0,
            VOID,
            VOID,
            VOID + MIB2,
            GIB,
            3 * GIB,
            4 * GIB,
            8 * GIB,
            config.limit(),
            UART,
            FW_CFG,
            FW_CFG + 8,
            TEST + 0x600,
            TEST,
            GICD,
            GICR,
        ];
        let regions = config.roms.iter().chain(&config.allow).chain(&config.preset);
        for region in regions.chain([&config.ram]).chain(config.mapped_mmio.iter().map(|d| &d.at)) {
            edges.extend([region.start, region.end]);
        }
        edges.extend(config.flash.iter().flat_map(|bank| [bank.at.start, bank.at.end]));
        Self { recent: [VOID; 6], edges, config }
    }

    fn address(&mut self, random: &mut Random) -> u64 {
        let near = |random: &mut Random| (random.below(7) as i64 - 3) * PAGE as i64;
        let at = match random.below(20) {
            0 => random.next() >> random.below(40),
            1..=9 => random.of(&self.recent).wrapping_add_signed(near(random)),
            _ => random.of(&self.edges).wrapping_add_signed(near(random)),
        };
        let at = if random.one_in(12) { at } else { at & !(PAGE - 1) };
        self.recent[random.below(6) as usize] = at & !(PAGE - 1);
        at
    }

    fn count(&mut self, random: &mut Random, start: u64) -> u64 {
        match random.below(20) {
            0 => 0,
            1..=13 => 1 + random.below(8),
            14..=15 => random.of(&[511, 512, 513, 1023, 1024, 1025, 1536]),
            16 => random.of(&[
                GIB / PAGE,
                2 * GIB / PAGE,
                GIB / PAGE + 1,
                1 << 28,
                1 << 52,
                (1 << 52) + 1,
            ]),
            17 => random.next() >> random.below(64),
            _ => self.address(random).wrapping_sub(start) / PAGE,
        }
    }

    pub fn action(&mut self, random: &mut Random) -> Action {
        match random.below(100) {
            // Everything is begun anew, which costs as much as a hundred exits.
            0 if random.one_in(4) => Action::Restart,
            0..=2 => Action::Start,
            3 if random.one_in(4) => Action::Refused,
            3 if random.one_in(2) => Action::Pause(random.of(&HOLDERS)),
            3 => {
                let some = random.below(8) as usize;
                Action::Resume((0..3).filter(|n| some >> n & 1 != 0).map(|n| HOLDERS[n]).collect())
            }
            4..=5 => Action::Other(other(random)),
            6..=9 => self.fetch(random),
            10..=19 if !self.config.flash.is_empty() => self.flash(random),
            10..=39 => self.data(random),
            _ => self.call(random),
        }
    }

    fn call(&mut self, random: &mut Random) -> Action {
        let id = match random.below(40) {
            0..=1 => random.of(&[0xc600_f000, 0xc600_f001, 0xc600_f002, 0x8600_0000, 0x8600_ff01]),
            // A restart: rarely, as above.
            2 if random.one_in(8) => {
                random.of(&[0x8400_0008, 0x8400_0009, 0x8400_0012, 0xc400_0012])
            }
            2..=4 => random.of(&[
                0x8000_0000,
                0x8000_0001,
                0x8000_8000,
                0x8000_7fff,
                0x8000_3fff,
                0x8400_0000,
                0x8400_0050,
                0x8400_0051,
                0x8400_0052,
                0x8400_0053,
                0xc400_0053,
                0xc400_0053,
                0x8400_0006,
                0x8400_000a,
                0x8400_0001,
                0xc400_0001,
            ]),
            // The last vCPU that turns itself off stops its VM.
            5 if random.one_in(8) => 0x8400_0002,
            5..=7 => random.of(&[
                0xc400_0003,
                0xc400_0003,
                0x8400_0003,
                0x8400_0004,
                0xc400_0004,
                0xc400_0004,
            ]),
            8 => {
                random.of(&[
                    0x8600_0007,
                    0x4600_0007,
                    0xc601_0007,
                    0xc600_000c,
                    0xc600_f003,
                    0xc200_0000,
                ]) + random.below(4)
            }
            9 => random.next() & 0xffff_ffff,
            _ => {
                let function = match self.config.dialect {
                    Dialect::Pkvm => {
                        random.of(&[2, 3, 3, 4, 4, 5, 6, 7, 7, 7, 8, 8, 9, 10, 10, 10, 11, 11])
                    }
                    Dialect::Series => random.of(&[2, 3, 4, 4, 4, 5, 5, 7]),
                };
                0xc600_0000 + function
            }
        };
        let x = match id {
            0xc400_0003 | 0x8400_0003 | 0xc400_0004 | 0x8400_0004 => {
                let target = random.below(5) | if random.one_in(16) { 1 << 31 } else { 0 };
                let entry = random.of(&[RAM, RAM, RAM + 4, RAM + 2, VOID, 0x40_0000]);
                let level = if random.one_in(8) { 1 } else { 0 };
                [target, if id & 7 == 3 { entry } else { level }, random.next()]
            }
            0x8400_0053 | 0xc400_0053 => [random.below(200), 0, 0],
            0x8000_0001 | 0x8400_000a | 0x8400_0051 => {
                let about = [0x8000_0000, 0x8000_0001, 0x8000_7fff, 0x8000_3fff, 0x8400_0000];
                [random.of(&about) + random.below(0x14), 0, 0]
            }
            0x8400_0012 | 0xc400_0012 => [random.below(2), 0, 0],
            _ => {
                let mut at = self.address(random);
                // What is said about RAM, mostly about RAM.
                let pkvm = self.config.dialect == Dialect::Pkvm;
                if pkvm
                    && matches!(id, 0xc600_0003 | 0xc600_0004 | 0xc600_0009)
                    && !random.one_in(3)
                {
                    let ram = self.config.ram;
                    at = ram.start + random.below((ram.end - ram.start) / PAGE) * PAGE;
                    at = if random.one_in(3) { ram.start } else { at };
                }
                let count = self.count(random, at);
                let last = if random.one_in(12) { random.next() >> random.below(64) } else { 0 };
                let at = if id & 0xf == 2 && random.one_in(2) { 0 } else { at };
                let count = if id & 0xf == 2 && random.one_in(2) { 0 } else { count };
                [at, count, last]
            }
        };
        let high = if random.one_in(4) { random.next() << 32 } else { 0 };
        let [a, b, c] = x;
        Action::Call {
            smc: random.one_in(8),
            imm: if random.one_in(40) { 1 + random.below(9) as u16 } else { 0 },
            x: [id | high, a, b, c, 0],
            mair: random.of(&[0, 0x8877_6655_4433_2211]),
            entropy: if random.one_in(3) { None } else { Some([0; 3].map(|_| random.next())) },
        }
    }

    fn data(&mut self, random: &mut Random) -> Action {
        let at = self.address(random);
        let offset = match random.below(4) {
            0 => 0,
            1 => random.of(&[0x18, 0x4, 0x3f8, 0x400, 0x7ff, 0x800, 0xff8, 0xffc, 0xffd, 0xfff]),
            _ => random.below(PAGE),
        };
        let status = match random.below(20) {
            0..=14 => 4 + random.below(4),
            15..=16 => 12 + random.below(4),
            17 => random.below(4),
            18 => 8 + random.below(4),
            _ => random.below(64),
        };
        let isv = !random.one_in(8);
        let walk = random.one_in(12);
        let maintenance = random.one_in(20);
        let esr = 0x24 << 26
            | 1 << 25
            | if isv {
                1 << 24 | (random.next() & 0xff << 16) | (random.next() & 3 << 14)
            } else {
                0
            }
            | u64::from(maintenance) << 8
            | u64::from(walk) << 7
            | random.below(2) << 6
            | status;
        let aarch32 = random.one_in(8);
        let esr = if aarch32 && random.one_in(2) { esr & !(1 << 25) } else { esr };
        let page = at & !(PAGE - 1);
        let info = ExitInfo {
            esr,
            far: random.next() << 48 | (page & 0xffff_ffff_f000) | offset,
            hpfar: page >> 8,
        };
        let sctlr = if random.one_in(8) { 1 << 25 | 1 << 24 } else { 0 };
        Action::Abort { info, found: page | offset, aarch32, sctlr, value: None }
    }

    /// A command to a bank, a load of it, or a call about all of it.
    fn flash(&mut self, random: &mut Random) -> Action {
        let bank = self.config.flash[random.below(self.config.flash.len() as u64) as usize].at;
        let size = bank.end - bank.start;
        if random.one_in(4) {
            // A small bank is declared by one call, a large one by several.
            let first =
                if random.one_in(2) { 0 } else { random.below(size / PAGE / 512 + 1) * 512 };
            let at = bank.start + first * PAGE;
            let undo = u64::from(random.one_in(6));
            return Action::Call {
                smc: false,
                imm: 0,
                x: [0xc600_000a + undo, at, (bank.end - at) / PAGE, 0, 0],
                mair: 0,
                entropy: None,
            };
        }
        let offset = match random.below(4) {
            0 => random.below(size),
            1 => 0,
            _ => random.below(64) * 4,
        };
        let command =
            random.of(&[0xff, 0xff, 0xff, 0x70, 0x90, 0x98, 0x50, 0x10, 0x40, 0x20, 0xd0]);
        let command =
            if random.one_in(3) { random.of(&[0xe8, 0, 1, 2, 0x1f, 0x60, 0xd0]) } else { command };
        let value = command | if random.one_in(2) { command << 16 } else { random.next() << 8 };
        let big = random.one_in(12);
        let value = if big { u64::from((value as u32).swap_bytes()) } else { value };
        let width = if random.one_in(8) { random.below(4) } else { 2 };
        let write = u64::from(!random.one_in(4));
        let fault = if write == 1 && random.one_in(2) { 12 } else { 4 } + random.below(4);
        let esr = 0x24 << 26 | 1 << 25 | 1 << 24 | width << 22 | 5 << 16 | write << 6 | fault;
        let at = bank.start + offset;
        let (page, offset) = (at & !(PAGE - 1), at & (PAGE - 1));
        let info = ExitInfo { esr, far: page | offset, hpfar: page >> 8 };
        let sctlr = if big { 1 << 25 | 1 << 24 } else { 0 };
        Action::Abort { info, found: at, aarch32: false, sctlr, value: Some(value) }
    }

    fn fetch(&mut self, random: &mut Random) -> Action {
        let page = self.address(random) & !(PAGE - 1);
        let status = if random.one_in(8) { random.below(64) } else { 4 + random.below(12) };
        let esr = 0x20 << 26 | 1 << 25 | random.below(2) << 7 | status;
        let esr = if random.one_in(2) { esr & !(1 << 7) } else { esr };
        let offset = random.below(1024) * 4;
        let info = ExitInfo { esr, far: page | offset, hpfar: page >> 8 };
        Action::Abort { info, found: page | offset, aarch32: false, sctlr: 0, value: None }
    }
}

/// System registers, WFI, WFE, and classes that EL2 does not know.
fn other(random: &mut Random) -> ExitInfo {
    let class = random.of(&[0x18, 0x18, 0x18, 0x01, 0x07, 0x00, 0x32]);
    ExitInfo { esr: class << 26 | 1 << 25 | random.next() & 0x1ff_ffff, far: 0, hpfar: 0 }
}
