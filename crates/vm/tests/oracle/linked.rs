// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two VMs of which one serves the other: accesses, calls of the server, shares and lives by chance.

use crate::compare;
use crate::exits::{Action, NOW, Step, WAITS};
use crate::guest::{Guest, Make, Place, RAM, range};
use crate::inject;
use crate::machine::Machine;
use crate::random::Random;
use crate::scenario::{Guide, make};
use crate::shrink;
use arch::{ExitInfo, Ipa, OnLoss, Pa, Range};
use spec::{Device, DeviceKind, Dialect, Policy, Region, Served, Sharing};
use stage2::fake::{Fake, geometry};
use stage2::{Pool, Window};
use std::sync::Arc;
use vm::link::{Link, LinkSetup, ShareLimit, TransportState, ring_limits};

/// Numbers of the VMs among those of the specification, and of the machine.
pub const SERVER: usize = 0;
pub const CLIENT: usize = 1;
const SERVER_ID: u16 = 3;
const CLIENT_ID: u16 = 7;
const CONTROL: u64 = 0xb_0000_0000;
const IMAGE: u64 = 0xb_0001_0000;
const WINDOW: u64 = 0x10_0000_0000;
/// Three forwarded pages.
const FORWARD: u64 = 0x1000_0000;
const OTHER: u64 = 0x1010_0000;
const TRANSPORT: u64 = 0x0a00_0000;
const VOID: u64 = 0x1000_2000;
const TIMEOUT: u64 = 1000;
const PAGE: u64 = 4096;

/// Both VMs, and what their vCPUs do.
#[derive(Clone, Debug)]
pub struct Linked {
    /// The server and the client.
    pub vms: [Make; 2],
    pub steps: Vec<Step>,
}

impl Linked {
    pub fn new(random: &mut Random) -> Self {
        let vms = makes(random);
        let mut guides = [Guide::new(&vms[SERVER]), Guide::new(&vms[CLIENT])];
        let steps = (0..random.of(&[60, 250, 1000]))
            .map(|_| {
                let vm = random.of(&[SERVER, SERVER, CLIENT, CLIENT, CLIENT]);
                let action = match (random.below(16), vm) {
                    (0, _) => guides[vm].action(random),
                    (_, SERVER) => serve(random),
                    _ => use_it(random, &vms[CLIENT]),
                };
                Step {
                    vm,
                    vcpu: random.below(vms[vm].config.vcpus as u64) as usize,
                    slow: random.one_in(3),
                    starved: random.one_in(8),
                    action,
                }
            })
            .collect();
        Self { vms, steps }
    }

    /// Makes them; `None` where one of them has too few table pages to begin.
    fn build(&self) -> Result<Option<[Guest; 2]>, String> {
        let [server, client] = &self.vms;
        let served = client.config.served.as_ref().ok_or("the client is served")?;
        let ram = range(&client.config.ram);
        let pages = Window::pages(ram.size());
        let shapes = [
            (geometry(server.config.ipa_bits as u8), server.pool as usize),
            (geometry(client.config.ipa_bits as u8), (pages + client.pool) as usize),
        ];
        let fakes = Fake::several(shapes, server.repeat);
        let roots = u64::from(geometry(client.config.ipa_bits as u8).root_pages);
        let first = Pa::new(fakes[1].root().raw() + roots * PAGE);
        let window = Window::new(Ipa::new(WINDOW), ram.size(), first).ok_or("no window")?;
        let share = match served.share {
            Sharing::Own => ShareLimit::Guest,
            Sharing::Pool { at, auto } => ShareLimit::Pool { range: range(&at), auto },
            Sharing::All => ShareLimit::All,
        };
        let limits = ring_limits(share, ram);
        let transports: Vec<TransportState> = served
            .transports
            .pages()
            .map(|page| TransportState::new(2, limits, Pa::new(IMAGE + page - TRANSPORT)))
            .collect();
        let setup = LinkSetup {
            name: arrayvec::ArrayString::from("front").unwrap(),
            client: CLIENT_ID,
            server: SERVER_ID,
            peer: 0,
            vcpus: client.config.vcpus,
            ram,
            window,
            control: Pa::new(CONTROL),
            transports: transports.leak(),
            forwards: served.forwards.iter().map(range).collect(),
            share,
            timeout: served.timeout,
            timeout_ms: served.timeout_ms,
            on_loss: if served.aborts_on_loss { OnLoss::Abort } else { OnLoss::Wait },
        };
        // Never freed, as those of a VM.
        let link: &'static Link = Box::leak(Box::new(Link::new(setup)));
        let peers: &'static [&'static Link] = Box::leak(Box::new([link]));
        let machine = Machine::new(fakes[0].clone());
        // Only the client reaches the other: two that hold each other would never be freed.
        let beside = Machine { fake: fakes[1].clone(), others: Arc::default(), ..machine.clone() };
        let rest = Pa::new(first.raw() + pages * PAGE);
        let rest = Range::<Pa>::new(rest, client.pool * PAGE).ok_or("no pool")?;
        let client_pool = Pool::of(&fakes[1], rest);
        let place = Place {
            machine,
            pool: fakes[0].pool(),
            id: SERVER_ID,
            served: None,
            peers: Some(peers),
            number: SERVER,
            link: Some(link),
        };
        let Some(mut server) = server.build_at(place)? else { return Ok(None) };
        server.vm.stage2().add_window(&server.order, &window).map_err(|e| format!("{e:?}"))?;
        let place = Place {
            machine: beside,
            pool: client_pool,
            id: CLIENT_ID,
            served: Some(link),
            peers: None,
            number: CLIENT,
            link: Some(link),
        };
        let Some(mut client) = client.build_at(place)? else { return Ok(None) };
        if client.machine.others.set(vec![(SERVER_ID, Arc::clone(&server.vm))]).is_err() {
            return Err("the machine has its VMs already".into());
        }
        if !server.begin()? || !client.begin()? {
            return Ok(None);
        }
        Ok(Some([server, client]))
    }

    /// Runs it; returns how many exits were checked.
    pub fn run(&self) -> Result<u64, String> {
        let Some(mut guests) = self.build()? else { return Ok(0) };
        let mut exits = 0;
        for (number, step) in self.steps.iter().enumerate() {
            let at = |why: String| format!("step {number}: {why}");
            exits += u64::from(one(&mut guests, number, step).map_err(at)?);
            for guest in &guests {
                guest.machine.fake.forget_events();
                compare::quickly(guest).map_err(at)?;
            }
            shown(&guests).map_err(at)?;
        }
        for guest in &guests {
            compare::wholly(guest)?;
        }
        Ok(exits)
    }

    /// Runs its first steps once for each table page that any of them takes: at that point there is none left, and the scenario
    /// goes on from there.
    pub fn each_lack_of_a_table(&self) -> Result<u64, String> {
        let mut some = self.clone();
        some.steps.truncate(60);
        for step in &mut some.steps {
            step.starved = false;
        }
        let (mut exits, mut failing) = (0, 0);
        loop {
            let (checked, reached) = some.with_lack(failing)?;
            exits += checked;
            if !reached {
                return Ok(exits);
            }
            failing += 1;
        }
    }

    /// One run, in which table page number `failing` cannot be had by the step that would take it. Whether there was such a step.
    fn with_lack(&self, failing: u64) -> Result<(u64, bool), String> {
        let Some(mut guests) = self.build()? else { return Ok((0, false)) };
        let (mut exits, mut taken_before, mut reached) = (0, 0, false);
        for (number, step) in self.steps.iter().enumerate() {
            let at = |why: String| format!("table page {failing} fails, step {number}: {why}");
            let mut withheld = Vec::new();
            let guest = &mut guests[step.vm];
            if !reached && let Some(takes) = inject::takes(guest, step) {
                if failing < taken_before + takes {
                    withheld = guest.starve(failing - taken_before);
                    reached = true;
                }
                taken_before += takes;
            }
            exits += u64::from(one(&mut guests, number, step).map_err(at)?);
            for guest in &guests {
                compare::quickly(guest).map_err(at)?;
                guest.machine.fake.forget_events();
            }
            shown(&guests).map_err(at)?;
            guests[step.vm].feed(withheld);
        }
        for guest in &guests {
            compare::wholly(guest)?;
        }
        Ok((exits, reached))
    }

    /// Leaves out steps as long as it fails.
    pub fn shrink(
        &self,
        why: String,
        run: impl Fn(&Self) -> Result<u64, String>,
    ) -> (Self, String) {
        shrink::steps(self, why, |linked| &mut linked.steps, run)
    }
}

/// One step: an exit sees the specification of both.
fn one(guests: &mut [Guest; 2], number: usize, step: &Step) -> Result<bool, String> {
    let [server, client] = guests;
    let (me, other) = if step.vm == SERVER { (server, client) } else { (client, server) };
    let nothing = spec::Vm::new(other.spec.config.clone(), spec::Tables::new(32, 0));
    me.peer = Some(std::mem::replace(&mut other.spec, nothing));
    me.slow = step.slow;
    me.machine.vary(step.slow, number);
    let done = me.act(step.vcpu, &step.action, step.starved);
    if let Some(peer) = me.peer.take() {
        other.spec = peer;
    }
    done
}

/// The server reaches what the client shares, and nothing else (promise P2).
fn shown(guests: &[Guest; 2]) -> Result<(), String> {
    let client = &guests[CLIENT];
    oracle::window(&client.vm, |pa, ipa| {
        let (ram, start) = (client.spec.config.ram, client.vm.ram_pa(Ipa::new(RAM))?);
        let inside = ram.contains(ipa.raw()) && pa.raw() == start.raw() + (ipa.raw() - RAM);
        inside
            .then(|| stage2::Parties { owner: CLIENT_ID, shared_with: client.vm.shared_with(ipa) })
    })
}

/// How both are made.
fn makes(random: &mut Random) -> [Make; 2] {
    let mut server = make(random, 0);
    server.config.ipa_bits = random.of(&[39, 40, 42, 43]);
    server.config.peers = Some(vec![CLIENT]);
    // What is beyond the client's RAM in its last GiB is scratch.
    server.config.windows = vec![Region::new(WINDOW, 1 << 30)];
    server.pool = server.pool.max(24);
    let mut client = make(random, 1);
    let config = &mut client.config;
    // Its transports are where those without a device are for others.
    client.test_device = false;
    config.devices.retain(|device: &Device| device.kind != DeviceKind::Test);
    config.devices.retain(|device: &Device| device.at.start != TRANSPORT);
    config.dialect = random.of(&[Dialect::Pkvm, Dialect::Pkvm, Dialect::Pkvm, Dialect::Series]);
    config.policy = random.of(&[Policy::Off, Policy::Enrol, Policy::Enrol, Policy::Enforce]);
    config.allow.clear();
    if random.one_in(2) {
        config.preset.push(Region::new(FORWARD, 2 * PAGE));
    }
    let pool = Region::new(RAM + PAGE, PAGE * random.of(&[1, 3, 20]));
    let pool = Region { end: pool.end.min(config.ram.end), ..pool };
    // Blocks show all RAM only where it consists of such.
    let blocks = (config.ram.end | client.pa).is_multiple_of(2 << 20);
    let share = match random.below(if blocks { 6 } else { 5 }) {
        0..=2 => Sharing::Own,
        some @ 3..=4 => Sharing::Pool { at: pool, auto: some == 4 },
        _ => Sharing::All,
    };
    config.served = Some(Served {
        forwards: vec![Region::new(FORWARD, 2 * PAGE), Region::new(OTHER, PAGE)],
        transports: Region::new(TRANSPORT, random.below(3) * PAGE),
        share,
        timeout: random.of(&[0, TIMEOUT, TIMEOUT]),
        timeout_ms: random.below(100_000),
        aborts_on_loss: random.one_in(3),
    });
    [server, client]
}

/// A call of the server.
fn serve(random: &mut Random) -> Action {
    let near = |random: &mut Random, about: u64| match random.below(12) {
        0 => random.next(),
        1 => random.below(20),
        2 => about - 1,
        _ => about,
    };
    let part = random.below(5);
    let (id, part, x) = match random.below(16) {
        0 => (0xf010, 0, [random.next(), 0, 0]),
        1..=3 => (0xf011, 0, [u64::from(!random.one_in(4)), near(random, NOW), 0]),
        4..=8 => {
            let part = if random.one_in(4) { random.below(4) } else { WAITS };
            let number = near(random, NOW);
            (0xf012, part, [number, random.next(), random.of(&[0, 0, 0, 0, 1, 2])])
        }
        9..=11 => {
            let at = random.of(&[FORWARD, FORWARD + 8, FORWARD + 8, FORWARD + 0x1ffc, OTHER, VOID]);
            let kind = random.of(&[0, 1, 2, 4, 4, 4, 4, 8, 3, 16]) | random.of(&[0, 0x100]);
            let kind = if random.one_in(16) { kind | 0x200 } else { kind };
            (0xf013, random.of(&[0, 1, 2, 31, 32]), [at, kind, random.below(3)])
        }
        12 => (0xf014, part, [random.of(&[3, 3, 3, 0]), random.below(8), 0]),
        // VERSION_1 and ACCESS_PLATFORM, then READY.
        13 => {
            let [register, value] = random.of(&[[1, 3 << 32], [4, 1], [4, 1]]);
            (0xf015, random.below(2), [1, register, value])
        }
        14 => {
            let register = random.below(0x30) | random.of(&[0, 0, 0x100]);
            (0xf015, part, [random.below(3), register, random.of(&[0, 1, 2, 3, 64, 1 << 32])])
        }
        _ => (0xf016, part, [random.below(20), 0, 0]),
    };
    let part = if random.one_in(24) { random.next() >> 32 } else { part };
    let peer = if random.one_in(16) { random.below(3) } else { 0 };
    let above = if random.one_in(24) { 1 << 40 } else { 0 };
    let [x2, x3, x4] = x;
    Action::Call {
        smc: random.one_in(8),
        imm: u16::from(random.one_in(64)),
        x: [0xc600_0000 | id, peer | part << 16 | above, x2, x3, x4],
        mair: 0,
        entropy: None,
    }
}

/// What the client does.
fn use_it(random: &mut Random, make: &Make) -> Action {
    match random.below(20) {
        0..=4 => Action::Finish(random.of(&[0, 0, 1, 10, TIMEOUT / 2, TIMEOUT, 2 * TIMEOUT])),
        5..=8 => {
            let ram = make.config.ram;
            let pages = (ram.end - ram.start) / PAGE;
            let any = random.below(pages);
            let at = ram.start + random.of(&[0, 1, 2, 511, 512, any]) * PAGE;
            let count = random.of(&[0, 1, 2, 15, 16, 17, 40, 512]);
            let id = random.of(&[3, 3, 3, 4, 4, 9]);
            let x = [0xc600_0000 | id, at, count, u64::from(random.one_in(20)), 0];
            Action::Call { smc: false, imm: 0, x, mair: 0, entropy: None }
        }
        9 => {
            let at = random.of(&[FORWARD, FORWARD + PAGE, OTHER, TRANSPORT, TRANSPORT + PAGE]);
            let pkvm = make.config.dialect == Dialect::Pkvm;
            let id = match (pkvm, random.below(6)) {
                (true, 0) => 8,
                (true, 1) => 6,
                (true, _) => 7,
                (false, 0) => 5,
                (false, 1) => 3,
                (false, _) => 4,
            };
            let x = [0xc600_0000 | id, at, 0, 0, 0];
            Action::Call { smc: false, imm: 0, x, mair: 0, entropy: None }
        }
        10 => Action::Start,
        11 if random.one_in(6) => Action::Restart,
        _ => access(random),
    }
}

/// A load or store to what the server serves, or nearly.
fn access(random: &mut Random) -> Action {
    let page = random.of(&[FORWARD, FORWARD, FORWARD, FORWARD + PAGE, OTHER, OTHER + PAGE]);
    let page = if random.one_in(12) { TRANSPORT + random.below(3) * PAGE } else { page };
    let offset = random.of(&[0, 8, 8, 8, 0x50, 0x60, 0x64, 0x70, 0xff8, 0xffc, 0xffe, 0xfff]);
    let width = random.of(&[0, 1, 2, 2, 2, 2, 3]);
    let write = random.below(2);
    let isv = u64::from(!random.one_in(16));
    let fields = if isv == 1 { random.next() & (1 << 21 | 0x1f << 16 | 1 << 15) } else { 0 };
    let esr = 0x24 << 26
        | u64::from(!random.one_in(8)) << 25
        | isv << 24
        | if isv == 1 { width << 22 } else { 0 }
        | fields
        | write << 6
        | 4
        | random.below(4);
    let info = ExitInfo { esr, far: page | offset, hpfar: page >> 8 };
    let sctlr = if random.one_in(6) { 1 << 25 | 1 << 24 } else { 0 };
    let value = if random.one_in(2) { random.below(3) } else { random.next() };
    Action::Abort {
        info,
        found: page | offset,
        aarch32: random.one_in(16),
        sctlr,
        value: Some(value),
    }
}
