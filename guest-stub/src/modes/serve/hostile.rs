// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers that are wrong, late, double, foreign or missing, and calls that make no sense.

use mmio_guard::abi::device::{self, PeerInfo};

use super::peer::Peer;
use super::spy;
use crate::control_page::Access;
use crate::device_calls::{self, ALL, DONE, REFUSED, call, of, peer_info};
use crate::mmu::View;
use crate::rng::Rng;
use crate::served::{self, command};
use crate::{guard, probe, psci, time, tree};

/// Milliseconds for which it stays away after it has been silent.
const AWAY: u64 = 1_500;
/// Milliseconds after which an access that should have ended has not.
const LONG: u64 = 20_000;

/// Answers an access to the values as `behave` says.
pub fn answer(peer: &mut Peer, access: Access, behave: u64) {
    let value = served::value(access.ipa);
    match behave {
        command::ERROR => {
            let done = device_calls::complete_with_error(peer.number(), access.vcpu(), access.seq);
            peer.expect("COMPLETE with an error", done, DONE);
        }
        command::FOREIGN => {
            foreign(peer, access);
            peer.complete(access, value);
        }
        command::TWICE => {
            peer.complete(access, value);
            for _ in 0..2 {
                late(peer, access, "COMPLETE once more");
            }
        }
        command::SILENT => silent(peer, access),
        command::DETACH => {
            let life = leave(peer);
            expect_outstanding(peer, access, true);
            late(peer, access, "COMPLETE of one who is not attached");
            if peer.page.access(access.vcpu() as usize) != access {
                peer.complain(format_args!("the slot does not hold the access any more"));
            }
            // Found again, and answered.
            peer.attach(life);
        }
        command::DETACH_ABORT => {
            let life = leave(peer);
            expect_outstanding(peer, access, false);
            late(peer, access, "COMPLETE of one who is not attached");
            time::sleep(AWAY);
            peer.attach(life);
            late(peer, access, "COMPLETE of what was lost");
        }
        command::RESET => {
            say!("serve: resets itself");
            psci::system_reset();
        }
        command::OFF => {
            say!("serve: goes off");
            psci::system_off();
        }
        command::SPY_MEANWHILE => {
            spy::look(peer);
            peer.complete(access, value);
        }
        _ => peer.complete(access, value),
    }
}

/// What is not outstanding cannot be completed.
fn late(peer: &mut Peer, access: Access, what: &str) {
    let answer = device_calls::complete(peer.number(), access.vcpu(), access.seq, !0);
    peer.expect(what, answer, REFUSED);
    let answer = device_calls::complete_with_error(peer.number(), access.vcpu(), access.seq);
    peer.expect(what, answer, REFUSED);
}

/// COMPLETE of everything but the access.
fn foreign(peer: &mut Peer, access: Access) {
    let (number, vcpu, seq) = (peer.number(), access.vcpu(), access.seq);
    for other in [seq + 1, seq - 1, 0, 1 << 32, seq | 1 << 63, !seq, u64::MAX] {
        if other != seq {
            let answer = device_calls::complete(number, vcpu, other, !0);
            peer.expect("COMPLETE with another number", answer, REFUSED);
        }
    }
    for other in [vcpu ^ 1, vcpu + 2, 7, 8, 31, 0xff, 0x100 | vcpu, 0xffff, 0x1_0000 | vcpu] {
        let answer = device_calls::complete(number, other, seq, !0);
        peer.expect("COMPLETE for another vCPU", answer, REFUSED);
    }
    for other in (0..40).chain([0x8000, 0xffff]).filter(|other| *other != number) {
        let answer = device_calls::complete(other, vcpu, seq, !0);
        peer.expect("COMPLETE for another peer", answer, REFUSED);
    }
    for x1 in [1 << 32, 1 << 48, 1 << 63] {
        let answer = call(device::COMPLETE, [of(number, vcpu) | x1, seq, !0, 0]);
        peer.expect("COMPLETE with more in x1", answer, REFUSED);
    }
    for x4 in [2, 1 << 32, !0] {
        let answer = call(device::COMPLETE, [of(number, vcpu), seq, !0, x4]);
        peer.expect("COMPLETE with x4 neither 0 nor 1", answer, REFUSED);
    }
    expect_outstanding(peer, access, true);
}

/// Whether the access is outstanding.
fn outstanding(peer: &Peer, access: Access) -> bool {
    let info = peer_info(peer.number()).map_or(PeerInfo::default(), |(_, info, _)| info);
    info.outstanding >> access.vcpu() & 1 != 0
}

fn expect_outstanding(peer: &mut Peer, access: Access, wanted: bool) {
    if outstanding(peer, access) != wanted {
        peer.complain(format_args!("outstanding is {}, not {wanted}", !wanted));
    }
}

/// Detaches; the life.
fn leave(peer: &mut Peer) -> u64 {
    let (number, life) = (peer.number(), peer.life);
    peer.expect("DETACH", device_calls::detach(number, life), DONE);
    if peer_info(number).is_some_and(|(_, info, _)| info.attached) {
        peer.complain(format_args!("attached after DETACH"));
    }
    peer.expect("DETACH once more", device_calls::detach(number, life), REFUSED);
    life
}

/// Waits for the access to end without an answer, by its deadline or by a reset of the peer.
fn silent(peer: &mut Peer, access: Access) {
    let start = time::now();
    if !time::wait_until(LONG, || !outstanding(peer, access)) {
        peer.complain(format_args!("{access:x?} is outstanding for ever"));
    }
    let took = time::microseconds(time::now() - start) / 1000;
    late(peer, access, "COMPLETE too late");
    let Some((life, info, _)) = peer_info(peer.number()) else { return };
    if life != peer.life || !info.running {
        say!("serve: peer {}: reset with an access outstanding", peer.number());
        return;
    }
    say!("serve: peer {}: the access ended after {took} ms", peer.number());
    time::sleep(AWAY);
    let life = peer.life;
    // It may or may not count as attached: it is, after this.
    device_calls::detach(peer.number(), life);
    peer.attach(life);
}

/// Calls by chance. Only those that would end what the peer relies on are left out.
pub fn random_calls(peer: &mut Peer, access: Access) {
    let mut rng = Rng::new(access.seq);
    let number = peer.number();
    let (base, size) = peer.page.ram();
    let edges =
        [0, 1, 2, 3, 4, 8, 31, 32, 0xffff, served::BELLS, served::HIDDEN, base, base + size];
    for _ in 0..4_000 {
        let id = rng.choose(&ALL, device::REG);
        let mut args = [0; 4];
        for arg in &mut args {
            *arg = match rng.below(4) {
                0 => rng.next(),
                1 => rng.next() & 0x1f_001f,
                _ => rng.choose(&edges, 0),
            };
        }
        let [x1, x2, x3, _] = args;
        let attaches = id == device::ATTACH && x3 == peer.life;
        let completes = id == device::COMPLETE && x1 & 0xffff == number && x2 == access.seq;
        if attaches || completes {
            continue;
        }
        let answer = call(id, args);
        let [x0, ..] = answer;
        if x0 != 0 && answer != REFUSED {
            peer.complain(format_args!("{id:#x} with {args:x?}: {answer:x?}"));
        }
    }
    for n in 0..device::map::DOORBELLS as u64 {
        peer.expect(
            "DOORBELL of size 0",
            device_calls::doorbell(number, n, served::BELLS, 0, 0),
            DONE,
        );
    }
    expect_outstanding(peer, access, true);
}

/// Nothing that it declares is declared for the peer, and nothing but its own is within its reach.
pub fn trespass(peer: &mut Peer) {
    if guard::activate().is_err() {
        peer.complain(format_args!("no guard of its own"));
        return;
    }
    guard::map(served::HIDDEN);
    // Whole GiB by one word each, and each 2 MiB of the first four. What is its own answers; windows are `spy`'s.
    let low = (0..2048_u64).map(|n| n << 21);
    let high = (4..512_u64).map(|n| n << 30);
    let (base, size) = tree::get().ram;
    let mut reached = 0;
    for ipa in low.chain(high) {
        let own = (base..base + size).contains(&ipa) || is_own_page(ipa);
        if own || (device::map::WINDOWS..device::map::WINDOWS_END).contains(&ipa) {
            continue;
        }
        if reads(ipa) {
            reached += 1;
            peer.complain(format_args!("{ipa:#x} answers"));
            if reached > 8 {
                return;
            }
        }
    }
    // Behind the last window, and in front of the first: the window is where the control page says.
    let window = peer.page.double(device::control::WINDOW);
    let (_, size) = peer.page.ram();
    let end = (window + size).next_multiple_of(1 << 30);
    if end < device::map::WINDOWS_END && reads(device::map::WINDOWS_END - 4096) {
        peer.complain(format_args!("something answers behind all windows"));
    }
    // The page that EL2 alone writes.
    let control = device::map::CONTROL + peer.number() * 4096;
    for code in [probe::str_x, probe::strb] {
        if probe::access(code, control).exit.done() {
            peer.complain(format_args!("the control page can be written"));
        }
    }
    let beyond = device::map::CONTROL + 8 * 4096;
    if reads(beyond) {
        peer.complain(format_args!("there is a control page too many"));
    }
}

/// Whether a load at `ipa` is answered.
fn reads(ipa: u64) -> bool {
    probe::load(View::Normal.of(ipa)).exit.done()
}

/// What of its own begins at a multiple of 2 MiB.
fn is_own_page(ipa: u64) -> bool {
    let own_gic = match tree::get().gic {
        tree::Gic::V2(distributor, _) | tree::Gic::V3(distributor, ..) => distributor,
        tree::Gic::None => 0,
    };
    ipa == own_gic || ipa == tree::get().uart || ipa == device::map::CONTROL
}
