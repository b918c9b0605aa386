// SPDX-License-Identifier: MIT OR Apache-2.0
//! Forwarded loads and stores, doorbells, and what the server sees of them.

use super::*;
use arch::Exit;
use device::{DOORBELL, DOORBELL_MATCH};
use std::collections::BTreeSet;

const WIDTHS: [Width; 4] = [Width::B1, Width::B2, Width::B4, Width::B8];
const VALUE: u64 = 0xf1e2_d3c4_b5a6_9788;

/// A load of every size, and what becomes of an answer with too many bits (H2).
#[test]
fn a_load_gets_what_is_answered() {
    for width in WIDTHS {
        for (sign_extend, sixty_four) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            // LDRSW is the widest that extends, and a register of 64 bits is needed for 8 bytes.
            if sign_extend && (width == Width::B8 || width == Width::B4 && !sixty_four)
                || width == Width::B8 && !sixty_four
            {
                continue;
            }
            for big in [false, true] {
                let mut pair = attached(&Wish::default());
                pair.client.machine.log().sctlr = u64::from(big) << 25;
                let mut abort = data(FORWARD + 0x48, width, false);
                let access = abort.access.as_mut().unwrap();
                (access.sign_extend, access.sixty_four) = (sign_extend, sixty_four);
                let exit = pair.client.exit(0, Exit::DataAbort(abort));
                assert_eq!(exit, Outcome::WaitForServer);
                let number = pair.slot(0)[0];
                assert_eq!(pair.slot(0), [number, FORWARD + 0x48, 0, width.bytes()]);
                assert_eq!(pair.complete(0, number, VALUE, 0), OK);
                assert_eq!(pair.end(0, 0), Some(Outcome::Advance { il: true }));
                let bits = 8 * width.bytes() as u32;
                let mut expected = VALUE & (u64::MAX >> (64 - bits));
                if big {
                    expected = expected.swap_bytes() >> (64 - bits);
                }
                if sign_extend {
                    expected = ((expected << (64 - bits)) as i64 >> (64 - bits)) as u64;
                }
                if !sixty_four {
                    expected &= 0xffff_ffff;
                }
                let what = format!("{width:?} {sign_extend} {sixty_four} {big}");
                assert_eq!(pair.client.vcpus[0].regs.x[5], expected, "{what}");
            }
        }
    }
}

#[test]
fn a_store_shows_its_own_bytes() {
    for width in WIDTHS {
        for big in [false, true] {
            let mut pair = attached(&Wish::default());
            pair.client.machine.log().sctlr = u64::from(big) << 25;
            let exit = pair.client.store(FORWARD + 0x1ff8, width, VALUE);
            assert_eq!(exit, Outcome::WaitForServer);
            let bits = 8 * width.bytes() as u32;
            let mut value = VALUE & (u64::MAX >> (64 - bits));
            if big {
                value = value.swap_bytes() >> (64 - bits);
            }
            assert_eq!(pair.slot(0), [1, FORWARD + 0x1ff8, value, width.bytes() | 1 << 8]);
            assert_eq!(pair.complete(0, 1, 0x55, 0), OK);
            let before = pair.client.vcpus[0].regs.x;
            assert_eq!(pair.end(0, 0), Some(Outcome::Advance { il: true }));
            assert_eq!(pair.client.vcpus[0].regs.x, before, "a store has no result");
        }
    }
}

/// P3: the slot says what it may, and nothing else on the page changes.
#[test]
fn an_access_changes_its_slot_and_nothing_else() {
    for vcpu in 0..2 {
        let mut pair = attached(&Wish::default());
        for n in 0..31 {
            pair.client.vcpus[vcpu].regs.x[n] = 0x5ec_2e70 + n as u64;
        }
        let before = pair.client.machine.log().pages.clone();
        pair.forget();
        assert_eq!(pair.client.exit(vcpu, store(OTHER + 3, Width::B1)), Outcome::WaitForServer);
        let log = pair.client.machine.log();
        let changed: BTreeSet<u64> = log
            .pages
            .iter()
            .filter(|(at, byte)| before.get(at) != Some(byte))
            .map(|(at, _)| at - CONTROL - control::slot(vcpu))
            .collect();
        assert_eq!(changed, (0..control::SLOT_KIND + 4).collect());
        let bytes: Vec<u8> =
            (0..0x1c).map(|n| log.pages[&(CONTROL + control::slot(vcpu) + n)]).collect();
        let value = (0x5ec_2e70_u64 + 5) as u8;
        let ipa = (OTHER + 3).to_le_bytes();
        let mut expected = vec![1, 0, 0, 0, 0, 0, 0, 0];
        expected.extend(ipa);
        expected.extend([value, 0, 0, 0, 0, 0, 0, 0, 1, 1, vcpu as u8, 0]);
        assert_eq!(bytes, expected);
        assert_eq!(log.pulses, [(SERVER, INTID)]);
        assert!(log.woken.is_empty() && log.levels.is_empty());
    }
}

/// The guard comes first: what is not declared never reaches the link.
#[test]
fn an_undeclared_page_is_not_forwarded() {
    for slow in [false, true] {
        let mut pair = attached(&Wish { policy: ENFORCE, ..Wish::default() });
        pair.client.slow = slow;
        pair.done(DOORBELL, [PEER, FORWARD + 8, 4, 0]);
        let before = pair.whole();
        for ipa in [FORWARD, FORWARD + 8, TRANSPORT, TRANSPORT + 0x50] {
            assert_eq!(pair.client.read(ipa, Width::B4), Err(Reason::Undeclared));
            assert_eq!(pair.client.write(ipa, Width::B4, 0), Err(Reason::Undeclared));
        }
        assert_eq!(pair.whole(), before);
        let map = ids(mmio_guard::Dialect::Pkvm).map;
        assert_eq!(pair.client.call(map, [FORWARD, 0, 0]), OK_1);
        assert_eq!(pair.client.write(FORWARD + 8, Width::B4, 0), Ok(()));
        assert_eq!(pair.client.load(FORWARD, Width::B4), Outcome::WaitForServer);
        assert_eq!(pair.client.exit(1, load(FORWARD + 4096, Width::B4)), abort());
    }
}

fn abort() -> Outcome {
    Outcome::Abort(vm::Abort { kind: arch::AbortKind::Data, walk: false })
}

#[test]
fn only_forwarded_pages_are_forwarded() {
    let mut pair = attached(&Wish::default());
    for ipa in [FORWARD - 4, FORWARD + 0x2000, OTHER - 4, OTHER + 0x1000, TRANSPORT + 0x2000] {
        assert_eq!(pair.client.read(ipa, Width::B4), Err(Reason::NoDevice), "{ipa:#x}");
    }
    for ipa in [FORWARD, FORWARD + 0x1ffc, OTHER, OTHER + 0xffc] {
        let number = pair.begin(0, ipa, Width::B4);
        assert_eq!(pair.complete(0, number, 1, 0), OK);
        assert!(pair.end(0, 0).is_some());
    }
    // A syndrome that does not describe the access cannot be forwarded.
    let mut pairless = data(FORWARD, Width::B4, false);
    pairless.access = None;
    assert_eq!(pair.client.exit(0, Exit::DataAbort(pairless)), abort());
    assert_eq!(pair.slot(0)[0], 4, "no other request");
}

#[test]
fn a_doorbell_rings_and_nobody_waits() {
    let mut pair = attached(&Wish::default());
    pair.done(DOORBELL, [PEER | 3 << 16, FORWARD + 0x50, 2, 0]);
    pair.done(
        DOORBELL,
        [PEER | 31 << 16, FORWARD + 0x60, 4 | DOORBELL_MATCH, 0xffff_ffff_0000_0007],
    );
    pair.forget();
    let before = pair.client.machine.log().pages.clone();
    for count in 1..=3 {
        assert_eq!(pair.client.write(FORWARD + 0x50, Width::B2, 0xabcd), Ok(()));
        assert_eq!(pair.page(control::doorbell(3), 4), count);
    }
    // Bits of the register beyond the store do not count, neither do those of the value to match.
    assert_eq!(pair.client.write(FORWARD + 0x60, Width::B4, 0x1_0000_0007), Ok(()));
    assert_eq!(pair.page(control::doorbell(31), 4), 1);
    {
        let log = pair.client.machine.log();
        assert_eq!(log.pulses, [(SERVER, INTID); 4]);
        let changed = log.pages.iter().filter(|(at, byte)| before.get(at) != Some(byte));
        let at: Vec<u64> = changed.map(|(at, _)| at - CONTROL).collect();
        let word = |n| control::doorbell(n)..control::doorbell(n) + 4;
        assert_eq!(at, word(3).chain(word(31)).collect::<Vec<_>>());
    }
    // Another size, value, address, or a load: an access.
    let mut waits = |exit| {
        assert_eq!(pair.client.exit(0, exit), Outcome::WaitForServer);
        let number = pair.slot(0)[0];
        assert_eq!(pair.complete(0, number, 0, 0), OK);
        assert!(pair.end(0, 0).is_some());
    };
    waits(store(FORWARD + 0x50, Width::B4));
    waits(store(FORWARD + 0x51, Width::B2));
    waits(load(FORWARD + 0x50, Width::B2));
    waits(store(FORWARD + 0x60, Width::B4));
    // Removed; then gone with the attachment.
    pair.done(DOORBELL, [PEER | 3 << 16, 0, 0, 0]);
    assert_eq!(pair.client.store(FORWARD + 0x50, Width::B2, 0), Outcome::WaitForServer);
    assert_eq!(pair.complete(0, 5, 0, 0), OK);
    assert!(pair.end(0, 0).is_some());
    pair.detach();
    pair.attach();
    assert_eq!(pair.client.store(FORWARD + 0x60, Width::B4, 7), Outcome::WaitForServer);
}

/// The value that a doorbell matches is the one that the server would have seen.
#[test]
fn a_doorbell_matches_in_the_byte_order_of_the_guest() {
    let mut pair = attached(&Wish::default());
    pair.client.machine.log().sctlr = 1 << 25;
    pair.done(DOORBELL, [PEER, FORWARD, 4 | DOORBELL_MATCH, 0x0102_0304]);
    assert_eq!(pair.client.write(FORWARD, Width::B4, 0x0403_0201), Ok(()));
    assert_eq!(pair.client.store(FORWARD, Width::B4, 0x0102_0304), Outcome::WaitForServer);
    assert_eq!(pair.slot(0)[2], 0x0403_0201);
}

#[test]
fn accesses_of_two_vcpus_are_two() {
    let mut pair = attached(&Wish::default());
    let first = pair.begin(0, FORWARD, Width::B4);
    let second = pair.begin(1, OTHER, Width::B8);
    assert_eq!(pair.info().outstanding, 3);
    assert_eq!(pair.complete(1, second, 2, 0), OK);
    assert_eq!(pair.end(0, 0), None);
    assert_eq!(pair.end(1, 0), Some(Outcome::Advance { il: true }));
    assert_eq!(pair.info().outstanding, 1);
    assert_eq!(pair.complete(0, first, 1, 0), OK);
    assert!(pair.end(0, 0).is_some());
    assert_eq!([0, 1].map(|n| pair.client.vcpus[n].regs.x[5]), [1, 2]);
}
