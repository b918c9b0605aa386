// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transports of a served VM: waits, deadlines, the interrupt and notifications.

use super::*;
use device::{EVENT_DONE, IRQ, REG, irq};

const STATUS: u64 = TRANSPORT + 0x70;
const NOTIFY: u64 = TRANSPORT + 0x50;
const QUEUE_READY: u64 = TRANSPORT + 0x44;
const INTERRUPT: u64 = TRANSPORT + 0x60;
const ACK: u64 = TRANSPORT + 0x64;
const CONFIG: u64 = TRANSPORT + 0x100;
const LINE: u32 = 64;

fn ready(pair: &mut Pair, d: u64) {
    let at = PEER | d << 16;
    pair.done(REG, [at, 1, 1, 1 << 32]);
    pair.done(REG, [at, 1, 2, 8]);
    pair.done(REG, [at, 1, 4, 1]);
}

fn put(pair: &mut Pair, ipa: u64, value: u64) {
    assert_eq!(pair.client.write(ipa, Width::B4, value), Ok(()), "{ipa:#x}");
}

/// A driver that has set up queue 0 of transport 0.
fn driven(wish: &Wish) -> Pair {
    let mut pair = attached(wish);
    ready(&mut pair, 0);
    put(&mut pair, STATUS, 3);
    put(&mut pair, TRANSPORT + 0x24, 1);
    put(&mut pair, TRANSPORT + 0x20, 1);
    put(&mut pair, STATUS, 11);
    for (offset, value) in
        [(0x30, 0), (0x38, 8), (0x80, RAM), (0x90, RAM + 0x1000), (0xa0, RAM + 0x2000), (0x44, 1)]
    {
        put(&mut pair, TRANSPORT + offset, value);
    }
    assert_eq!(pair.client.read(QUEUE_READY, Width::B4), Ok(1));
    put(&mut pair, STATUS, 15);
    pair.forget();
    pair
}

fn event(pair: &Pair, d: usize) -> u64 {
    pair.page(control::event(d), 4)
}

#[test]
fn accesses_wait_for_ready_without_a_deadline() {
    for slow in [false, true] {
        let mut pair = Wish::default().build();
        pair.client.slow = slow;
        assert_eq!(pair.client.load(TRANSPORT, Width::B4), Outcome::WaitForServer);
        let wait = pair.client.exit(1, store(STATUS, Width::B4));
        assert_eq!(wait, Outcome::WaitForServer);
        pair.attach();
        for vcpu in 0..2 {
            assert_eq!(pair.until(vcpu, u64::MAX), Some(u64::MAX));
            assert_eq!(pair.end(vcpu, u64::MAX), None);
        }
        assert!(pair.client.vm.report_wait(&pair.client.vcpus[0], 10, 10).is_ok());
        // Another transport's READY is not theirs.
        ready(&mut pair, 1);
        assert_eq!(pair.end(0, u64::MAX), None);
        pair.forget();
        ready(&mut pair, 0);
        let both = one(0).union(one(1));
        assert_eq!(pair.client.machine.log().woken.last(), Some(&(CLIENT, both)));
        for vcpu in 0..2 {
            assert_eq!(pair.until(vcpu, 0), None);
            // The access is executed again.
            assert_eq!(pair.end(vcpu, 0), Some(Outcome::Resume));
            assert_eq!(pair.end(vcpu, 0), None);
        }
        assert_eq!(pair.client.read(TRANSPORT, Width::B4), Ok(0x7472_6976));
        // A vCPU that waits no longer is not woken any more.
        pair.forget();
        pair.done(REG, [PEER, 1, 3, 1]);
        assert!(pair.client.machine.log().woken.is_empty());
    }
}

/// The end of one wait is not the end of another vCPU's.
#[test]
fn waits_for_two_transports_end_by_themselves() {
    for first in [0, 1_usize] {
        let mut pair = attached(&Wish::default());
        for (vcpu, ipa) in [(0, TRANSPORT), (1, TRANSPORT + PAGE_SIZE)] {
            assert_eq!(pair.client.exit(vcpu, load(ipa, Width::B4)), Outcome::WaitForServer);
        }
        ready(&mut pair, first as u64);
        assert_eq!(pair.end(first, 0), Some(Outcome::Resume));
        pair.forget();
        ready(&mut pair, 1 - first as u64);
        assert_eq!(pair.client.machine.log().woken.last(), Some(&(CLIENT, one(1 - first))));
        assert_eq!(pair.end(1 - first, 0), Some(Outcome::Resume));
    }
}

#[test]
fn a_reset_waits_for_the_server() {
    for slow in [false, true] {
        let mut pair = driven(&Wish::default());
        pair.client.slow = slow;
        pair.now(100);
        let before = event(&pair, 0);
        assert_eq!(pair.client.store(STATUS, Width::B4, 0), Outcome::WaitForServer);
        let seq = event(&pair, 0);
        assert_eq!(seq, before + 1);
        assert_eq!(pair.client.machine.log().pulses, [(SERVER, INTID)]);
        assert_eq!(pair.until(0, 100), Some(100 + TIMEOUT));
        assert_eq!(pair.end(0, 100), None);
        for wrong in [seq - 1, seq + 1, seq | 1 << 32] {
            pair.refuses(EVENT_DONE, [PEER, wrong, 0, 0]);
        }
        pair.refuses(EVENT_DONE, [PEER | 1 << 16, seq, 0, 0]);
        pair.forget();
        pair.done(EVENT_DONE, [PEER, seq, 0, 0]);
        assert_eq!(pair.client.machine.log().woken, [(CLIENT, one(0))]);
        pair.refuses(EVENT_DONE, [PEER, seq, 0, 0]);
        assert_eq!(pair.end(0, 100), Some(Outcome::Resume));
        // Executed again, it is done at once, as there is nothing to reset.
        put(&mut pair, STATUS, 0);
        assert_eq!(pair.client.read(STATUS, Width::B4), Ok(0));
        assert_eq!(pair.client.read(QUEUE_READY, Width::B4), Ok(0));
    }
}

#[test]
fn a_reset_is_done_at_its_deadline_or_without_server() {
    for how in 0..4 {
        let timeout = if how == 3 { 0 } else { TIMEOUT };
        let mut pair = driven(&Wish { timeout, ..Wish::default() });
        pair.now(100);
        assert_eq!(pair.client.store(STATUS, Width::B4, 0), Outcome::WaitForServer);
        let seq = event(&pair, 0);
        pair.forget();
        let now = match how {
            0 => {
                assert_eq!(pair.end(0, 100 + TIMEOUT - 1), None);
                100 + TIMEOUT
            }
            1 => {
                pair.detach();
                100
            }
            2 => {
                Pair::restart(&mut pair.server);
                100
            }
            _ => {
                assert_eq!(pair.until(0, u64::MAX), Some(u64::MAX));
                assert_eq!(pair.end(0, u64::MAX), None);
                pair.done(EVENT_DONE, [PEER, seq, 0, 0]);
                100
            }
        };
        if how != 0 {
            assert!(pair.client.machine.log().woken.contains(&(CLIENT, one(0))), "{how}");
        }
        assert_eq!(pair.until(0, now), None);
        assert_eq!(pair.end(0, now), Some(Outcome::Resume));
        put(&mut pair, STATUS, 0);
        assert_eq!(pair.client.read(STATUS, Width::B4), Ok(0));
        if how == 0 {
            pair.refuses(EVENT_DONE, [PEER, seq, 0, 0]);
            // It is no lost server: that concerns forwarded accesses.
            pair.begin(0, FORWARD, Width::B4);
        }
    }
}

#[test]
fn a_queue_that_stops_waits_for_the_server() {
    let mut pair = driven(&Wish::default());
    assert_eq!(pair.client.store(QUEUE_READY, Width::B4, 0), Outcome::WaitForServer);
    let seq = event(&pair, 0);
    assert_eq!(pair.serve(REG, [PEER, 0, 0x25, 0]), [0, seq, 0, 0]);
    pair.done(EVENT_DONE, [PEER, seq, 0, 0]);
    assert_eq!(pair.end(0, 0), Some(Outcome::Resume));
    assert_eq!(pair.client.read(QUEUE_READY, Width::B4), Ok(0));
}

#[test]
fn the_interrupt_follows_its_status() {
    for slow in [false, true] {
        let mut pair = driven(&Wish::default());
        pair.client.slow = slow;
        let raise = |pair: &mut Pair, bits| pair.done(IRQ, [PEER, irq::STATUS, bits, 0]);
        raise(&mut pair, 0);
        assert!(pair.client.machine.log().levels.is_empty(), "nothing is raised");
        raise(&mut pair, 1);
        assert_eq!(pair.client.machine.log().levels, [(CLIENT, LINE, true)]);
        assert_eq!(pair.client.read(INTERRUPT, Width::B4), Ok(1));
        // It is high: nothing to do.
        raise(&mut pair, 3);
        assert_eq!(pair.client.machine.log().levels.len(), 1);
        assert_eq!(pair.client.read(INTERRUPT, Width::B4), Ok(3));
        // Its line in the client's own vGIC.
        put(&mut pair, ACK, 1);
        assert_eq!(pair.client.read(INTERRUPT, Width::B4), Ok(2));
        put(&mut pair, ACK, 2);
        assert_eq!(pair.client.read(INTERRUPT, Width::B4), Ok(0));
        raise(&mut pair, 2);
        let log = pair.client.machine.log();
        assert_eq!(log.levels, [(CLIENT, LINE, true); 2]);
        assert!(log.pulses.is_empty(), "the server is not told of an acknowledgement");
    }
}

/// The client lowers its own line, and the server's end lowers it from afar.
#[test]
fn a_reset_lowers_the_interrupt() {
    let mut pair = driven(&Wish::default());
    pair.done(IRQ, [PEER, irq::STATUS, 1, 0]);
    assert_eq!(pair.client.store(STATUS, Width::B4, 0), Outcome::WaitForServer);
    pair.forget();
    pair.detach();
    assert_eq!(pair.client.machine.log().levels, [(CLIENT, LINE, false)]);
    let mut pair = driven(&Wish::default());
    pair.done(IRQ, [PEER, irq::STATUS, 1, 0]);
    assert_eq!(pair.client.store(STATUS, Width::B4, 0), Outcome::WaitForServer);
    let seq = event(&pair, 0);
    pair.forget();
    pair.done(EVENT_DONE, [PEER, seq, 0, 0]);
    assert_eq!(pair.client.machine.log().levels, [(CLIENT, LINE, false)]);
    let mut pair = driven(&Wish::default());
    pair.done(IRQ, [PEER, irq::STATUS, 1, 0]);
    assert_eq!(pair.client.store(STATUS, Width::B4, 0), Outcome::WaitForServer);
    pair.forget();
    assert_eq!(pair.end(0, TIMEOUT), Some(Outcome::Resume));
    assert_eq!(pair.client.machine.log().levels, [(CLIENT, LINE, false)]);
}

#[test]
fn a_notification_is_a_count_and_an_interrupt() {
    for slow in [false, true] {
        let mut pair = driven(&Wish::default());
        pair.client.slow = slow;
        let before = pair.client.machine.log().pages.clone();
        for count in 1..=3 {
            put(&mut pair, NOTIFY, 0);
            assert_eq!(pair.page(control::notify(0, 0), 4), count);
        }
        // A queue that is not ready, and none at all.
        put(&mut pair, NOTIFY, 1);
        put(&mut pair, NOTIFY, 0xffff_ffff);
        let log = pair.client.machine.log();
        assert_eq!(log.pulses, [(SERVER, INTID); 3]);
        let changed = log.pages.iter().filter(|(at, byte)| before.get(at) != Some(byte));
        let at: Vec<u64> = changed.map(|(at, _)| at - CONTROL).collect();
        let first = control::notify(0, 0);
        assert_eq!(at, (first..first + 4).collect::<Vec<_>>());
    }
}

#[test]
fn configuration_space_is_the_servers_page() {
    let mut pair = driven(&Wish::default());
    let bytes = [1, 2, 3, 4, 5, 6, 7, 0xf8];
    for (n, byte) in (0..).zip(bytes) {
        pair.client.machine.log().pages.insert(IMAGE + 8 + n, byte);
    }
    assert_eq!(pair.client.read(CONFIG + 8, Width::B8), Ok(0xf807_0605_0403_0201));
    assert_eq!(pair.client.read(CONFIG + 14, Width::B2), Ok(0xf807));
    // A store is posted, and the next load waits for it.
    put(&mut pair, CONFIG + 8, 0x99);
    let seq = event(&pair, 0);
    assert_eq!(pair.client.load(CONFIG + 8, Width::B4), Outcome::WaitForServer);
    assert_eq!(pair.serve(REG, [PEER, 0, 0x16, 0]), [0, seq << 32 | 4 << 8 | 8, 0, 0]);
    assert_eq!(pair.serve(REG, [PEER, 0, 0x17, 0]), [0, 0x99, 0, 0]);
    assert_eq!(pair.end(0, TIMEOUT), Some(Outcome::Resume), "its deadline");
    assert_eq!(pair.serve(REG, [PEER, 0, 0x18, 0]), [0, 1, 0, 0], "lost");
}

/// Nothing of a former life is in a transport, and its accesses wait again.
#[test]
fn a_client_that_is_reset_finds_new_transports() {
    let mut pair = driven(&Wish::default());
    pair.done(IRQ, [PEER, irq::STATUS, 1, 0]);
    let last = pair.serve(REG, [PEER, 0, 0x13, 0])[1];
    assert_eq!(pair.client.store(STATUS, Width::B4, 0), Outcome::WaitForServer);
    Pair::restart(&mut pair.client);
    pair.attach();
    let get = |pair: &mut Pair, n| pair.serve(REG, [PEER, 0, n, 0])[1];
    for register in [1, 2, 4, 0x10, 0x12, 0x14, 0x21] {
        assert_eq!(get(&mut pair, register), 0, "{register:#x}");
    }
    assert_eq!(get(&mut pair, 0x13), last + 1, "numbers go on");
    pair.forget();
    assert_eq!(pair.client.load(INTERRUPT, Width::B4), Outcome::WaitForServer);
    ready(&mut pair, 0);
    assert_eq!(pair.client.machine.log().woken, [(CLIENT, one(0)); 3]);
    assert_eq!(pair.end(0, 0), Some(Outcome::Resume));
    pair.done(IRQ, [PEER, irq::STATUS, 2, 0]);
    assert_eq!(pair.client.machine.log().levels, [(CLIENT, LINE, true)]);
}

/// A server that comes back finds the transport as it was; the driver goes on.
#[test]
fn a_transport_outlives_its_server() {
    let mut pair = driven(&Wish::default());
    pair.done(IRQ, [PEER, irq::STATUS, 1, 0]);
    pair.forget();
    Pair::restart(&mut pair.server);
    assert!(pair.client.machine.log().levels.is_empty(), "the driver still has to look");
    assert_eq!(pair.client.read(INTERRUPT, Width::B4), Ok(1));
    put(&mut pair, NOTIFY, 0);
    pair.attach();
    // Not READY to it: an interrupt has no meaning yet.
    pair.refuses(IRQ, [PEER, irq::STATUS, 1, 0]);
    assert_eq!(pair.serve(REG, [PEER, 0, 4, 0]), [0, 2, 0, 0]);
    assert_eq!(pair.serve(REG, [PEER, 0, 0x22, 0]), [0, RAM, 0, 0]);
    // What was offered stays.
    pair.refuses(REG, [PEER, 1, 1, 1 << 32 | 1]);
    pair.done(REG, [PEER, 1, 4, 1]);
    pair.done(IRQ, [PEER, irq::STATUS, 1, 0]);
}
