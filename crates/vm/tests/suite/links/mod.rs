// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM and the device VM that serves it, on one machine.

mod accesses;
mod calls;
mod ends;
mod shares;
mod transports;
mod visible;

use crate::common::*;
use arch::{Ipa, OnLoss, PAGE_SIZE, Pa, Range, VcpuSet, Width};
use mmio_guard::abi::device::{self, PeerInfo, control};
use stage2::fake::{self, Fake};
use stage2::{Pool, Window};
use vm::link::{Link, LinkSetup, ShareLimit, TransportState};
use vm::{Outcome, Parked, Reason, StopReason};

pub const CLIENT: u16 = 7;
pub const SERVER: u16 = 3;
/// The client is this peer of the server.
pub const PEER: u64 = 1;
pub const INTID: u32 = device::map::INTID + 1;
pub const SERVER_PA: u64 = 0xa_0000_0000;
pub const CONTROL: u64 = 0xb_0000_0000;
pub const IMAGE: u64 = 0xb_0001_0000;
pub const WINDOW: u64 = device::map::WINDOWS;
/// Two forwarded ranges: two pages, and one.
pub const FORWARD: u64 = 0x1000_0000;
pub const OTHER: u64 = 0x1010_0000;
pub const TRANSPORT: u64 = 0x0a00_0000;
/// Pages of the client's pool.
pub const POOL: usize = 40;
/// Where a forwarded access waits at most, in ticks.
pub const TIMEOUT: u64 = 1000;

/// What a test wants to be other than usual.
#[derive(Clone)]
pub struct Wish {
    pub timeout: u64,
    pub on_loss: OnLoss,
    pub share: ShareLimit,
    pub policy: mmio_guard::Policy,
}

impl Default for Wish {
    fn default() -> Self {
        Self { timeout: TIMEOUT, on_loss: OnLoss::Wait, share: ShareLimit::Guest, policy: ENROL }
    }
}

pub struct Pair {
    pub client: Rig,
    pub server: Rig,
    pub link: &'static Link,
    /// Another peer of the server.
    pub other: &'static Link,
}

fn link(setup: LinkSetup) -> &'static Link {
    Box::leak(Box::new(Link::new(setup)))
}

impl Wish {
    pub fn build(&self) -> Pair {
        let pages = Window::pages(RAM_SIZE);
        let shape = |pool| (fake::geometry(40), pool);
        let shapes = [shape(40), shape(2 * pages as usize + POOL)];
        let fakes = Fake::several(shapes, false);
        let first = fakes[1].root().raw() + 2 * PAGE_SIZE;
        let window = Window::new(Ipa::new(WINDOW), RAM_SIZE, Pa::new(first)).unwrap();
        let beside = Pa::new(first + pages * PAGE_SIZE);
        let beside = Window::new(Ipa::new(WINDOW + (1 << 30)), RAM_SIZE, beside).unwrap();
        let rest = Pa::new(first + 2 * pages * PAGE_SIZE);
        let limits = vm::link::ring_limits(self.share, range(RAM, RAM_SIZE));
        let state = |d: u64| TransportState::new(2, limits, Pa::new(IMAGE + d * PAGE_SIZE));
        let setup = LinkSetup {
            name: arrayvec::ArrayString::from("front").unwrap(),
            client: CLIENT,
            server: SERVER,
            peer: PEER as u8,
            vcpus: 2,
            ram: range(RAM, RAM_SIZE),
            window,
            control: Pa::new(CONTROL),
            transports: Box::leak(Box::new([state(0), state(1)])),
            forwards: [range(FORWARD, 2 * PAGE_SIZE), range(OTHER, PAGE_SIZE)]
                .into_iter()
                .collect(),
            share: self.share,
            timeout: self.timeout,
            timeout_ms: 5,
            on_loss: self.on_loss,
        };
        let other = link(LinkSetup {
            client: 9,
            peer: 0,
            window: beside,
            control: Pa::new(CONTROL - PAGE_SIZE),
            transports: &[],
            ..setup.clone()
        });
        let link = link(setup);
        let server = Machine::new(fakes[0].clone());
        let client = Machine { fake: fakes[1].clone(), ..server.clone() };
        let peers = Box::leak(Box::new([other, link]));
        let place = Place { id: SERVER, ram_pa: SERVER_PA, served: None, peers: Some(peers) };
        let config = Config { test_device: false, vcpus: 1, policy: OFF, ..Config::default() };
        let server = config.try_build_at(server, fakes[0].pool(), &place).unwrap();
        server.vm.stage2().add_window(&server.order, &window).unwrap();
        server.vm.stage2().add_window(&server.order, &beside).unwrap();
        let place = Place { id: CLIENT, ram_pa: RAM_PA, served: Some(link), peers: None };
        let config = Config { vcpus: 2, policy: self.policy, ..config };
        let rest = Range::<Pa>::new(rest, POOL as u64 * PAGE_SIZE).unwrap();
        let pool = Pool::of(&fakes[1], rest);
        let client = config.try_build_at(client, pool, &place).unwrap();
        let others = vec![(SERVER, server.vm.clone()), (CLIENT, client.vm.clone())];
        assert!(client.machine.others.set(others).is_ok());
        let mut pair = Pair { client, server, link, other };
        for rig in [&mut pair.server, &mut pair.client] {
            rig.vm.reset(&rig.order).unwrap();
            rig.begin();
        }
        pair.forget();
        pair
    }
}

/// A client of this kind, and its server, attached.
pub fn attached(wish: &Wish) -> Pair {
    let mut pair = wish.build();
    pair.attach();
    pair.forget();
    pair
}

/// Everything that a call which fails must leave.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    client: Snapshot,
    server: Snapshot,
    info: (u64, PeerInfo),
    pages: Vec<(u64, u8)>,
    window: Vec<(u64, Pa)>,
    registers: Vec<u64>,
    happened: String,
}

impl Pair {
    pub fn forget(&self) {
        let mut log = self.client.machine.log();
        (log.pulses, log.levels, log.woken, log.wiped) = Default::default();
    }

    pub fn now(&self, counter: u64) {
        self.client.machine.log().counter = counter;
    }

    pub fn life(&self) -> u64 {
        self.link.info(&self.server.order).0
    }

    pub fn info(&self) -> PeerInfo {
        self.link.info(&self.server.order).1
    }

    /// A call of the server with four arguments: x0, x1.
    pub fn serve(&mut self, id: u32, [x1, x2, x3, x4]: [u64; 4]) -> [u64; 4] {
        let regs = &mut self.server.vcpus[0].regs;
        regs.x[..5].copy_from_slice(&[u64::from(id) | 0xabcd << 32, x1, x2, x3, x4]);
        assert_eq!(self.server.exit(0, arch::Exit::Hvc { imm: 0 }), Outcome::Resume);
        let regs = &self.server.vcpus[0].regs;
        assert_eq!(regs.x[4], x4);
        [regs.x[0], regs.x[1], regs.x[2], regs.x[3]]
    }

    pub fn done(&mut self, id: u32, arguments: [u64; 4]) {
        assert_eq!(self.serve(id, arguments), OK, "{id:#x} {arguments:x?}");
    }

    pub fn whole(&self) -> Whole {
        let log = self.client.machine.log();
        let pages = log.pages.iter().map(|(at, byte)| (*at, *byte)).collect();
        let happened = format!("{:?} {:?} {:?} {:?}", log.pulses, log.levels, log.woken, log.wiped);
        drop(log);
        let registers = (0..2_u64).flat_map(|d| (0..0x26).map(move |n| (d, n)));
        let register = |(d, n): (u64, u64)| {
            let get =
                self.link.register(&self.client.machine, &self.server.order, d as usize, [0, n, 0]);
            get.unwrap_or(u64::MAX)
        };
        Whole {
            client: self.client.snapshot(),
            server: self.server.snapshot(),
            info: self.link.info(&self.server.order),
            pages,
            window: self.window(),
            registers: registers.map(register).collect(),
            happened,
        }
    }

    /// A call of the server that fails, and changes nothing.
    pub fn fails(&mut self, id: u32, arguments: [u64; 4], answer: [u64; 4]) {
        let before = self.whole();
        assert_eq!(self.serve(id, arguments), answer, "{id:#x} {arguments:x?}");
        assert_eq!(self.whole(), before, "{id:#x} {arguments:x?}");
    }

    pub fn refuses(&mut self, id: u32, arguments: [u64; 4]) {
        self.fails(id, arguments, INVALID);
    }

    pub fn attach(&mut self) {
        let life = self.life();
        self.done(device::ATTACH, [PEER, 1, life, 0]);
    }

    pub fn detach(&mut self) {
        let life = self.life();
        self.done(device::ATTACH, [PEER, 0, life, 0]);
    }

    pub fn complete(&mut self, vcpu: u64, number: u64, value: u64, error: u64) -> [u64; 4] {
        self.serve(device::COMPLETE, [PEER | vcpu << 16, number, value, error])
    }

    /// What the control page has at `offset`.
    pub fn page(&self, offset: u64, bytes: u64) -> u64 {
        self.client.machine.log().word(CONTROL + offset, bytes)
    }

    /// Number, address, value and kind in the slot of `vcpu`.
    pub fn slot(&self, vcpu: usize) -> [u64; 4] {
        let at = control::slot(vcpu);
        let double = |offset| self.page(at + offset, 8);
        let kind = self.page(at + control::SLOT_KIND, 4);
        [double(control::SLOT_SEQ), double(control::SLOT_IPA), double(control::SLOT_VALUE), kind]
    }

    /// What is shown of the client: offset and physical address.
    pub fn window(&self) -> Vec<(u64, Pa)> {
        let mut shown = Vec::new();
        let window = &self.link.setup().window;
        self.server.vm.stage2().visit_window(window, |offset, pa| shown.push((offset, pa)));
        shown
    }

    /// A load of the client's `vcpu` that waits; the number of the access.
    pub fn begin(&mut self, vcpu: usize, ipa: u64, width: Width) -> u64 {
        assert_eq!(self.client.exit(vcpu, load(ipa, width)), Outcome::WaitForServer);
        self.slot(vcpu)[0]
    }

    /// How the access of `vcpu` ends at `now`.
    pub fn end(&mut self, vcpu: usize, now: u64) -> Option<Outcome> {
        self.client.vm.finish_forwarded(&mut self.client.vcpus[vcpu], now)
    }

    pub fn until(&self, vcpu: usize, now: u64) -> Option<u64> {
        self.client.vm.waits_for_server(&self.client.vcpus[vcpu], now)
    }

    /// The access of `vcpu` ends in an abort of this kind.
    pub fn aborts(&mut self, vcpu: usize, now: u64, reason: Reason) {
        let before = self.client.vcpus[vcpu].regs.x;
        let end = self.end(vcpu, now);
        assert!(matches!(end, Some(Outcome::Abort(_))), "{end:?}");
        assert_eq!(self.client.vcpus[vcpu].refusal.reason, reason);
        assert_eq!(self.client.vcpus[vcpu].regs.x, before, "an abort changes no register");
        assert_eq!(self.end(vcpu, u64::MAX), None, "one end");
    }

    pub fn stop(rig: &mut Rig) {
        rig.vm.stop(&rig.order, StopReason::PowerOff, None).unwrap();
        for vcpu in &rig.vcpus {
            if let Parked::Last(_) = rig.vm.park(vcpu) {
                return;
            }
        }
    }

    /// The client or the server stops, is reset and starts again.
    pub fn restart(rig: &mut Rig) {
        Self::stop(rig);
        rig.vm.reset(&rig.order).unwrap();
        rig.begin();
    }
}

pub fn one(vcpu: usize) -> VcpuSet {
    VcpuSet::single(vcpu)
}
