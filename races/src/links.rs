// SPDX-License-Identifier: MIT OR Apache-2.0
//! A served VM and its server: who ends an access, what a doorbell is while it changes, and who is woken.

use crate::common::{self, Config, Machine, Place};
use crate::{at_once, explore};
use arch::{Ipa, OnLoss, PAGE_SIZE, Pa, Width};
use lock::Order;
use stage2::Window;
use stage2::fake::Fake;
use std::sync::Arc;
use vm::Outcome;
use vm::link::{Answer, Bell, Doorbells, Link, LinkSetup, ShareLimit, Slot, TransportState};

type Thread<T> = Box<dyn FnOnce() -> T + Send>;

/// COMPLETE, a server that leaves, and the deadline or the stop: one of them ends the access, and an answer to an earlier access
/// never does.
#[test]
fn an_access_ends_once() {
    explore(|| {
        let slot = Arc::new(Slot::default());
        let earlier = slot.send(0);
        assert!(slot.give_up());
        let number = slot.send(1);
        let [one, two, three, four] = [(); 4].map(|()| slot.clone());
        let ended = at_once::<(u32, Option<Answer>)>(vec![
            Box::new(move || {
                let stale = one.complete(earlier, Answer::Value(5));
                assert!(!stale);
                (u32::from(one.complete(number, Answer::Value(7))), None)
            }),
            Box::new(move || (u32::from(two.lose()), None)),
            // The CPU of the vCPU: an answer, or else the deadline; then the next access.
            Box::new(move || {
                let answer = three.take();
                let gave_up = answer.is_none() && three.give_up();
                let answer = if gave_up { None } else { answer.or_else(|| three.take()) };
                assert!(gave_up || answer.is_some());
                assert_eq!(three.take(), None, "a second end");
                assert!(!three.is_outstanding());
                (u32::from(gave_up), answer)
            }),
            Box::new(move || (u32::from(four.complete(earlier, Answer::Error)), None)),
        ]);
        assert_eq!(ended.iter().map(|(ends, _)| ends).sum::<u32>(), 1, "{ended:?}");
        let answer = match ended.iter().position(|(ends, _)| *ends == 1) {
            Some(0) => Some(Answer::Value(7)),
            Some(1) => Some(Answer::Lost),
            _ => None,
        };
        assert_eq!(ended[2].1, answer);
    });
}

/// A store never rings a doorbell that was not set: one with the address of the old and the value of the new.
#[test]
fn a_doorbell_that_changes_is_the_old_or_the_new() {
    explore(|| {
        let bells = Arc::new(Doorbells::default());
        let bell = |at, value| Bell { ipa: Ipa::new(at), width: Width::B4, value: Some(value) };
        bells.set(4, Some(bell(0x1000, 1)));
        let [writer, reader] = [(); 2].map(|()| bells.clone());
        let threads: Vec<Thread<()>> = vec![
            Box::new(move || {
                writer.set(4, Some(bell(0x2000, 2)));
                writer.set(4, Some(bell(0x1000, 1)));
                writer.set(4, None);
                writer.set(4, Some(bell(0x2000, 2)));
            }),
            Box::new(move || {
                for _ in 0..3 {
                    assert_eq!(reader.ring(Ipa::new(0x2000), Width::B4, 1), None);
                    assert_eq!(reader.ring(Ipa::new(0x1000), Width::B4, 2), None);
                    assert_eq!(reader.ring(Ipa::new(0x1000), Width::B4, 0), None);
                }
            }),
        ];
        at_once(threads);
        assert_eq!(bells.ring(Ipa::new(0x1000), Width::B4, 1), None);
        assert!(bells.ring(Ipa::new(0x2000), Width::B4, 2).is_some());
    });
}

const CLIENT: u16 = 7;
const TRANSPORT: u64 = 0x0a00_0000;
const STATUS: u64 = TRANSPORT + 0x70;

/// A served VM with a transport, and what its server calls.
struct Served {
    rig: common::Rig,
    link: &'static Link,
}

impl Served {
    fn new() -> Self {
        let share = ShareLimit::Guest;
        let ram = common::range(common::RAM, common::RAM_SIZE);
        let limits = vm::link::ring_limits(share, ram);
        let transport = TransportState::new(2, limits, Pa::new(0xb_0001_0000));
        let pages = Pa::new(0xb_0002_0000);
        let link: &'static Link = Box::leak(Box::new(Link::new(LinkSetup {
            name: arrayvec::ArrayString::from("front").unwrap(),
            client: CLIENT,
            server: 3,
            peer: 0,
            vcpus: 1,
            ram,
            window: Window::new(Ipa::new(1 << 36), common::RAM_SIZE, pages).unwrap(),
            control: Pa::new(0xb_0000_0000),
            transports: Box::leak(Box::new([transport])),
            forwards: [common::range(0x1000_0000, PAGE_SIZE)].into_iter().collect(),
            share,
            timeout: 0,
            timeout_ms: 0,
            on_loss: OnLoss::Abort,
        })));
        let config =
            Config { vcpus: 1, test_device: false, policy: common::ENROL, ..Config::default() };
        let fake = Fake::new(stage2::fake::geometry(40), 40);
        let pool = fake.pool();
        let place = Place { served: Some(link), ..Place::default() };
        let mut rig = config.try_build_at(Machine::new(fake), pool, &place).unwrap();
        rig.vm.reset(&rig.order).unwrap();
        rig.begin();
        Self { rig, link }
    }

    /// A new life of the client. `ready`: its driver uses the device.
    fn live(&mut self, ready: bool) {
        let (link, order) = (self.link, Order::new());
        link.client_stops(&self.rig.machine, &order);
        let (life, _) = link.info(&order);
        link.attach(&self.rig.machine, &order, life).unwrap();
        self.set(1, 1 << 32);
        self.set(2, 8);
        if ready {
            self.set(4, 1);
            for (offset, value) in [(0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11), (0x70, 15)] {
                let store = self.rig.write(TRANSPORT + offset, Width::B4, value);
                assert_eq!(store, Ok(()));
            }
        }
        self.rig.machine.log().woken.clear();
    }

    /// Attaches in the client's life of now; what QueueNumMax of the first queue is then.
    fn next_life(&mut self) -> u64 {
        let (link, order) = (self.link, Order::new());
        let (life, _) = link.info(&order);
        link.attach(&self.rig.machine, &order, life).unwrap();
        link.register(&self.rig.machine, &order, 0, [0, 2, 0]).unwrap()
    }

    fn set(&mut self, register: u64, value: u64) {
        let order = &self.rig.order;
        self.link.register(&self.rig.machine, order, 0, [1, register, value]).unwrap();
    }
}

/// So many races a schedule, so that what they do is most of its steps.
const ROUNDS: u64 = 20;

/// What the server does, in this round.
type Serve = fn(&'static Link, &Machine, u64);

/// The vCPU makes an access while the server does `serve`. If it sleeps after that and does not have to, someone has woken it.
fn sleeps_and_is_woken(ready: bool, ipa: u64, write: bool, serve: Serve) {
    let mut served = Served::new();
    for round in 1..=ROUNDS {
        served.live(ready);
        let (machine, link) = (served.rig.machine.clone(), served.link);
        let threads: Vec<Thread<Option<(Served, bool)>>> = vec![
            Box::new(move || {
                let rig = &mut served.rig;
                let outcome =
                    if write { rig.store(ipa, Width::B4, 0) } else { rig.load(ipa, Width::B4) };
                let waits = outcome == Outcome::WaitForServer;
                let sleeps = waits && rig.vm.finish_forwarded(&mut rig.vcpus[0], 0).is_none();
                Some((served, sleeps))
            }),
            Box::new(move || {
                serve(link, &machine, round);
                None
            }),
        ];
        let sleeps;
        (served, sleeps) = at_once(threads).into_iter().flatten().next().unwrap();
        let rig = &mut served.rig;
        if sleeps && rig.vm.waits_for_server(&rig.vcpus[0], 0).is_none() {
            let woken = rig.machine.log().woken.clone();
            assert!(woken.iter().any(|(_, vcpus)| vcpus.contains(0)), "a lost wake-up");
            assert!(rig.vm.finish_forwarded(&mut rig.vcpus[0], 0).is_some());
        }
    }
}

fn detach(link: &'static Link, machine: &Machine, _: u64) {
    let order = Order::new();
    let (life, _) = link.info(&order);
    link.detach(machine, &order, life).unwrap();
}

/// A driver resets its device while the server leaves.
#[test]
fn a_server_that_leaves_wakes_who_waits_for_a_transport() {
    explore(|| sleeps_and_is_woken(true, STATUS, true, detach));
    explore(|| {
        sleeps_and_is_woken(true, STATUS, true, |link, machine, _| {
            link.server_stops(machine, &Order::new());
        });
    });
}

/// A driver resets its device, and the server finishes that at once.
#[test]
fn an_event_that_is_done_wakes_who_waits_for_it() {
    explore(|| {
        sleeps_and_is_woken(true, STATUS, true, |link, machine, _| {
            let order = Order::new();
            for _ in 0..3 {
                let seq = link.register(machine, &order, 0, [0, 0x13, 0]).unwrap();
                let _ = link.event_done(machine, &order, 0, seq);
            }
        });
    });
}

/// The first access to a transport, and READY.
#[test]
fn ready_wakes_who_waits_for_it() {
    explore(|| {
        sleeps_and_is_woken(false, TRANSPORT, false, |link, machine, _| {
            link.register(machine, &Order::new(), 0, [1, 4, 1]).unwrap();
        });
    });
}

/// A forwarded access, and its server answers or leaves.
#[test]
fn the_end_of_an_access_wakes_its_vcpu() {
    explore(|| sleeps_and_is_woken(true, 0x1000_0000, false, detach));
    explore(|| {
        sleeps_and_is_woken(true, 0x1000_0000, false, |link, machine, round| {
            let order = Order::new();
            for _ in 0..3 {
                let _ = link.complete(machine, &order, 0, round, Answer::Value(1));
            }
        });
    });
}

/// A register that the server sets while its client stops is not there in the client's next life: the transport is as it is out
/// of reset.
#[test]
fn a_register_set_late_is_not_in_the_next_life() {
    explore(|| {
        let mut served = Served::new();
        for _ in 0..ROUNDS {
            served.live(false);
            let (machine, link) = (served.rig.machine.clone(), served.link);
            let beside = machine.clone();
            let threads: Vec<Thread<()>> = vec![
                Box::new(move || {
                    let _ = link.register(&machine, &Order::new(), 0, [1, 2, 64]);
                }),
                Box::new(move || link.client_stops(&beside, &Order::new())),
            ];
            at_once(threads);
            assert_eq!(served.next_life(), 0, "set in the life before");
        }
    });
}

/// A server that attaches while the client stops serves the old life, which ends with it, or the new one, of which nothing is lost.
#[test]
fn what_is_set_in_a_new_life_stays() {
    explore(|| {
        let mut served = Served::new();
        for _ in 0..ROUNDS {
            served.live(false);
            let (machine, link) = (served.rig.machine.clone(), served.link);
            let (old, _) = link.info(&Order::new());
            let beside = machine.clone();
            let threads: Vec<Thread<Option<u64>>> = vec![
                Box::new(move || {
                    let order = Order::new();
                    let mut in_life = None;
                    for life in [old, old + 1, old + 1, old + 1, old + 1, old + 1] {
                        if in_life != Some(old + 1)
                            && link.attach(&machine, &order, life).is_ok()
                            && link.register(&machine, &order, 0, [1, 2, 64]).is_ok()
                        {
                            in_life = Some(life);
                        }
                    }
                    in_life
                }),
                Box::new(move || {
                    link.client_stops(&beside, &Order::new());
                    None
                }),
            ];
            let in_life = at_once(threads).into_iter().flatten().next();
            let (life, info) = link.info(&Order::new());
            assert_eq!(life, old + 1);
            assert_eq!(info.attached, in_life == Some(life), "attached to a life that has ended");
            if info.attached {
                let order = Order::new();
                let register = link.register(&served.rig.machine, &order, 0, [0, 2, 0]).unwrap();
                assert_eq!(register, 64, "set in this life, and lost");
            }
        }
    });
}
