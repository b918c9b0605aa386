// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an access ends without an answer: deadlines, servers that leave, VMs that stop.

use super::*;
use device::{ATTACH, COMPLETE, DOORBELL};

/// The deadline counts from the access or from ATTACH, whichever is later.
#[test]
fn a_deadline_counts_from_attach() {
    let mut pair = Wish::default().build();
    pair.now(100);
    let number = pair.begin(0, FORWARD, Width::B4);
    assert_eq!(pair.until(0, u64::MAX), Some(u64::MAX), "no server: no deadline");
    assert_eq!(pair.end(0, u64::MAX), None);
    pair.now(5000);
    pair.forget();
    pair.attach();
    assert_eq!(pair.client.machine.log().woken, [(CLIENT, one(0))], "it waits until then now");
    assert_eq!(pair.until(0, 5000), Some(5000 + TIMEOUT));
    // ATTACH again puts nothing off.
    pair.now(5500);
    pair.attach();
    assert_eq!(pair.until(0, 5999), Some(5000 + TIMEOUT));
    assert_eq!(pair.end(0, 5999), None);
    assert_eq!(pair.until(0, 6000), None);
    pair.aborts(0, 6000, Reason::NoAnswer);
    pair.refuses(COMPLETE, [PEER, number, 1, 0]);
    // The next one counts from itself.
    pair.attach();
    pair.now(7000);
    pair.begin(0, FORWARD, Width::B4);
    assert_eq!(pair.until(0, 7000), Some(7000 + TIMEOUT));
    // The other vCPU has nothing to wait for.
    assert_eq!((pair.until(1, 0), pair.end(1, u64::MAX)), (None, None));
}

#[test]
fn no_timeout_is_no_deadline() {
    let mut pair = attached(&Wish { timeout: 0, ..Wish::default() });
    let number = pair.begin(0, FORWARD, Width::B4);
    assert_eq!(pair.until(0, u64::MAX), Some(u64::MAX));
    assert_eq!(pair.end(0, u64::MAX), None);
    assert_eq!(pair.complete(0, number, 9, 0), OK);
    assert_eq!(pair.until(0, 0), None);
    assert_eq!(pair.end(0, u64::MAX), Some(Outcome::Advance { il: true }));
}

/// An answer that came in time counts, however late the vCPU looks.
#[test]
fn an_answer_before_the_deadline_is_taken_after_it() {
    let mut pair = attached(&Wish::default());
    let number = pair.begin(0, FORWARD, Width::B4);
    assert_eq!(pair.complete(0, number, 9, 0), OK);
    assert_eq!(pair.end(0, u64::MAX), Some(Outcome::Advance { il: true }));
    assert_eq!(pair.client.vcpus[0].regs.x[5], 9);
    // And the server is not lost.
    pair.begin(0, FORWARD, Width::B4);
}

#[test]
fn a_lost_server_is_asked_nothing_until_it_attaches() {
    let mut pair = attached(&Wish::default());
    pair.done(DOORBELL, [PEER, FORWARD + 8, 4, 0]);
    pair.begin(0, FORWARD, Width::B4);
    let other = pair.begin(1, FORWARD, Width::B4);
    pair.aborts(0, TIMEOUT, Reason::NoAnswer);
    let page = pair.client.machine.log().pages.clone();
    assert_eq!(pair.client.read(FORWARD, Width::B4), Err(Reason::NoAnswer));
    assert_eq!(pair.client.write(OTHER, Width::B8, 1), Err(Reason::NoAnswer));
    assert_eq!(pair.client.machine.log().pages, page, "it is told nothing");
    // What was under way goes on, and doorbells ring.
    assert_eq!(pair.client.write(FORWARD + 8, Width::B4, 1), Ok(()));
    assert_eq!(pair.complete(1, other, 3, 0), OK);
    assert!(pair.end(1, u64::MAX).is_some());
    assert_eq!(pair.client.read(FORWARD, Width::B4), Err(Reason::NoAnswer));
    let life = pair.life();
    pair.refuses(ATTACH, [PEER, 1, life + 1, 0]);
    assert_eq!(pair.client.read(FORWARD, Width::B4), Err(Reason::NoAnswer));
    pair.attach();
    let number = pair.begin(0, FORWARD, Width::B4);
    assert_eq!(pair.complete(0, number, 3, 0), OK);
    // Lost again, in the era of the second ATTACH.
    assert!(pair.end(0, 0).is_some());
    pair.begin(0, FORWARD, Width::B4);
    pair.aborts(0, TIMEOUT, Reason::NoAnswer);
    assert_eq!(pair.client.read(FORWARD, Width::B4), Err(Reason::NoAnswer));
    // A new life of the client knows nothing of it.
    Pair::restart(&mut pair.client);
    pair.begin(0, FORWARD, Width::B4);
}

/// The ways in which a server leaves.
fn leave(pair: &mut Pair, how: usize) {
    match how {
        0 => pair.detach(),
        1 => Pair::stop(&mut pair.server),
        _ => Pair::restart(&mut pair.server),
    }
}

#[test]
fn under_wait_an_access_waits_for_the_next_server() {
    for how in [0, 2] {
        let mut pair = attached(&Wish::default());
        let number = pair.begin(0, FORWARD, Width::B4);
        pair.now(500);
        pair.forget();
        leave(&mut pair, how);
        let log = pair.client.machine.log();
        assert!(log.woken.contains(&(CLIENT, one(0))), "its deadline is off");
        drop(log);
        assert_eq!(pair.end(0, u64::MAX), None);
        assert_eq!(pair.until(0, u64::MAX), Some(u64::MAX));
        // Accesses that begin now wait as well.
        let second = pair.begin(1, FORWARD, Width::B8);
        assert_eq!(
            pair.info(),
            PeerInfo { vcpus: 2, devices: 2, running: true, attached: false, outstanding: 3 }
        );
        pair.now(9000);
        pair.attach();
        assert_eq!(pair.until(0, 9000), Some(9000 + TIMEOUT));
        assert_eq!(pair.slot(0)[0], number, "the page still says it");
        assert_eq!(pair.complete(0, number, 6, 0), OK);
        assert_eq!(pair.complete(1, second, 7, 0), OK);
        assert!(pair.end(0, 9000).is_some() && pair.end(1, 9000).is_some());
        assert_eq!([0, 1].map(|n| pair.client.vcpus[n].regs.x[5]), [6, 7]);
    }
}

#[test]
fn under_abort_an_access_ends_with_its_server() {
    for how in 0..3 {
        let mut pair = Wish { on_loss: OnLoss::Abort, ..Wish::default() }.build();
        // Before the first server, it waits.
        let number = pair.begin(0, FORWARD, Width::B4);
        assert_eq!(pair.end(0, u64::MAX), None);
        pair.attach();
        pair.forget();
        leave(&mut pair, how);
        assert!(pair.client.machine.log().woken.contains(&(CLIENT, one(0))));
        pair.aborts(0, 0, Reason::NoAnswer);
        assert_eq!(pair.client.read(FORWARD, Width::B4), Err(Reason::NoAnswer));
        assert_eq!(pair.info().outstanding, 0);
        if how == 1 {
            continue;
        }
        pair.refuses(COMPLETE, [PEER, number, 0, 0]);
        pair.attach();
        // READY again: accesses pass.
        let next = pair.begin(0, FORWARD, Width::B4);
        assert_eq!(pair.complete(0, next, 0, 0), OK);
    }
}

/// An answer that was given before the server left is one.
#[test]
fn an_answer_outlives_its_server() {
    for on_loss in [OnLoss::Wait, OnLoss::Abort] {
        for how in 0..3 {
            let mut pair = attached(&Wish { on_loss, ..Wish::default() });
            let number = pair.begin(0, FORWARD, Width::B4);
            assert_eq!(pair.complete(0, number, 9, 0), OK);
            leave(&mut pair, how);
            assert_eq!(pair.end(0, u64::MAX), Some(Outcome::Advance { il: true }));
            assert_eq!(pair.client.vcpus[0].regs.x[5], 9);
        }
    }
}

/// E6: what the server says of a former life of its client is dropped.
#[test]
fn a_client_that_stops_leaves_nothing() {
    for answered in [false, true] {
        for reset in [false, true] {
            let mut pair = attached(&Wish::default());
            pair.done(DOORBELL, [PEER, FORWARD + 8, 4, 0]);
            let life = pair.life();
            let number = pair.begin(0, FORWARD, Width::B4);
            if answered {
                assert_eq!(pair.complete(0, number, 1, 0), OK);
            }
            pair.forget();
            Pair::stop(&mut pair.client);
            assert!(pair.client.machine.log().pulses.contains(&(SERVER, INTID)));
            assert_eq!(pair.info(), PeerInfo { vcpus: 2, devices: 2, ..PeerInfo::default() });
            assert_ne!(pair.life(), life);
            pair.refuses(COMPLETE, [PEER, number, 1, 0]);
            pair.refuses(ATTACH, [PEER, 1, life, 0]);
            pair.refuses(ATTACH, [PEER, 0, life, 0]);
            if !reset {
                continue;
            }
            pair.client.vm.reset(&pair.client.order).unwrap();
            let reset_life = pair.life();
            pair.client.begin();
            assert_eq!(pair.life(), reset_life, "a start is no new life");
            assert_eq!(pair.client.vcpus[0].forwarded, None);
            pair.attach();
            pair.refuses(COMPLETE, [PEER, number, 1, 0]);
            // Doorbells are gone, numbers go on.
            assert_eq!(pair.client.store(FORWARD + 8, Width::B4, 0), Outcome::WaitForServer);
            assert_eq!(pair.slot(0)[0], number + 1);
        }
    }
}

/// A server that stops does no harm to a client that has none of it, nor to another.
#[test]
fn a_server_that_stops_ends_all_its_attachments() {
    let mut pair = attached(&Wish::default());
    let life = pair.other.info(&pair.server.order).0;
    pair.done(ATTACH, [0, 1, life, 0]);
    Pair::restart(&mut pair.server);
    assert!(!pair.info().attached && !pair.other.info(&pair.server.order).1.attached);
    assert!(pair.info().running);
    assert_eq!(pair.other.info(&pair.server.order).0, life, "the same life");
}

/// The log says once in a life that a VM waits for its server.
#[test]
fn a_wait_is_reported_once() {
    let mut pair = Wish::default().build();
    pair.now(50);
    let report = |pair: &Pair, now| pair.client.vm.report_wait(&pair.client.vcpus[0], now, 10);
    assert_eq!(report(&pair, u64::MAX), Err(u64::MAX), "nothing waits");
    pair.begin(0, FORWARD, Width::B4);
    assert_eq!(report(&pair, 59), Err(60));
    assert_eq!(report(&pair, 60), Ok(()));
    assert_eq!(report(&pair, 60), Err(u64::MAX));
    Pair::restart(&mut pair.client);
    pair.begin(0, FORWARD, Width::B4);
    assert_eq!(report(&pair, 60), Ok(()));
}
