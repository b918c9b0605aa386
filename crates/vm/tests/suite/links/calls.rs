// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of a device VM, with every kind of bad argument.

use super::*;
use device::{ATTACH, COMPLETE, DOORBELL, DOORBELL_MATCH, EVENT_DONE, IRQ, PEER_INFO, REG};

const CALLS: [u32; 7] = [PEER_INFO, ATTACH, COMPLETE, DOORBELL, IRQ, REG, EVENT_DONE];

#[test]
fn only_a_device_vm_has_the_calls() {
    let mut pair = attached(&Wish::default());
    for id in CALLS {
        // The client is no device VM.
        pair.client.fails(id, [0, 0, 0], NOT_SUPPORTED);
        // Bits 63:32 of x0 do not count, all others do: SMCCC.
        pair.fails(id & !0x4000_0000, [PEER, 0, 0, 0], NOT_SUPPORTED);
    }
    for id in [PEER_INFO - 1, EVENT_DONE + 1, EVENT_DONE + 0x100] {
        pair.fails(id, [PEER, 0, 0, 0], NOT_SUPPORTED);
    }
    let version = 0xc600_f000;
    assert_eq!(pair.serve(version, [0; 4])[1] & device::FUNCTIONS, device::FUNCTIONS);
    assert_eq!(pair.client.call(version, [0; 3])[1] & device::FUNCTIONS, 0);
}

#[test]
fn a_call_names_a_peer_and_nothing_else() {
    let mut pair = attached(&Wish::default());
    let life = pair.life();
    let number = pair.begin(0, FORWARD, Width::B4);
    pair.done(DOORBELL, [PEER, FORWARD, 4, 0]);
    for id in CALLS {
        let good = match id {
            ATTACH => [1, life, 0],
            COMPLETE => [number, 0, 0],
            _ => [0, 0, 0],
        };
        let mut refuses = |target| pair.refuses(id, [target, good[0], good[1], good[2]]);
        for target in [2, 32, 0xffff, PEER | 1 << 32, PEER | 1 << 63, u64::MAX] {
            refuses(target);
        }
        // These two are about the peer, and no part of it.
        if id == PEER_INFO || id == ATTACH {
            refuses(PEER | 1 << 16);
            refuses(PEER | 1 << 31);
        }
    }
    assert_eq!(pair.complete(0, number, 0, 0), OK);
}

#[test]
fn peer_info_tells_the_life_and_the_state() {
    let mut pair = Wish::default().build();
    let life = pair.life();
    let info = |pair: &mut Pair| pair.serve(PEER_INFO, [PEER, 0, 0, 0]);
    let mut state =
        PeerInfo { vcpus: 2, devices: 2, running: true, attached: false, outstanding: 0 };
    assert_eq!(info(&mut pair), [0, life, state.to_raw(), 5]);
    pair.attach();
    state.attached = true;
    assert_eq!(info(&mut pair), [0, life, state.to_raw(), 5]);
    let number = pair.begin(1, FORWARD, Width::B4);
    state.outstanding = 2;
    assert_eq!(info(&mut pair), [0, life, state.to_raw(), 5]);
    assert_eq!(pair.complete(1, number, 0, 0), OK);
    assert!(pair.end(1, 0).is_some());
    Pair::stop(&mut pair.client);
    let [_, stopped, raw, _] = info(&mut pair);
    (state.running, state.attached, state.outstanding) = (false, false, 0);
    assert_eq!(raw, state.to_raw());
    assert_ne!(stopped, life);
    assert_eq!(pair.page(control::LIFE, 8), stopped);
    // The other peer was not started.
    let [_, _, raw, _] = pair.serve(PEER_INFO, [0, 0, 0, 0]);
    assert_eq!(PeerInfo::from_raw(raw), PeerInfo { vcpus: 2, ..PeerInfo::default() });
}

#[test]
fn the_control_page_describes_the_peer() {
    let pair = Wish::default().build();
    let words = [
        (control::MAGIC, 4, u64::from(control::MAGIC_VALUE)),
        (control::VERSION, 4, 1),
        (control::RAM_SIZE, 8, RAM_SIZE),
        (control::VCPUS, 4, 2),
        (control::DEVICES, 4, 2),
        (control::WINDOW, 8, WINDOW),
        (control::RAM_BASE, 8, RAM),
        (control::NAME, 8, u64::from_le_bytes(*b"front\0\0\0")),
        (control::NAME + 8, 8, 0),
        (control::NAME + 24, 8, 0),
        (control::LIFE, 8, pair.life()),
    ];
    for (offset, bytes, value) in words {
        assert_eq!(pair.page(offset, bytes), value, "{offset:#x}");
    }
    // Nothing else was written, there or elsewhere.
    let log = pair.client.machine.log();
    assert_eq!(log.pages.keys().copied().max(), Some(CONTROL + control::NAME + 31));
    assert_eq!(log.pages.keys().copied().min(), Some(CONTROL));
}

#[test]
fn attach_is_for_one_life() {
    let mut pair = Wish::default().build();
    let life = pair.life();
    for wrong in [life + 1, life - 1, u64::MAX] {
        pair.refuses(ATTACH, [PEER, 1, wrong, 0]);
        pair.refuses(ATTACH, [PEER, 0, wrong, 0]);
    }
    for action in [2, 3, 1 << 32, u64::MAX] {
        pair.refuses(ATTACH, [PEER, action, life, 0]);
    }
    // Nothing to detach.
    pair.refuses(ATTACH, [PEER, 0, life, 0]);
    pair.done(ATTACH, [PEER, 1, life, 0]);
    let scratch = pair.link.setup().window.scratch();
    assert_eq!(pair.client.machine.log().wiped, [(scratch, PAGE_SIZE)]);
    assert!(pair.info().attached);
    // Again: the scratch page is the server's own by now.
    pair.done(ATTACH, [PEER, 1, life, 0]);
    assert_eq!(pair.client.machine.log().wiped, [(scratch, PAGE_SIZE)]);
    pair.refuses(ATTACH, [PEER, 0, life + 1, 0]);
    pair.done(ATTACH, [PEER, 0, life, 0]);
    assert!(!pair.info().attached);
    pair.refuses(ATTACH, [PEER, 0, life, 0]);
    Pair::restart(&mut pair.client);
    pair.refuses(ATTACH, [PEER, 1, life, 0]);
    pair.attach();
    assert_eq!(pair.info().outstanding, 0);
}

#[test]
fn nothing_is_served_without_attach() {
    let mut pair = Wish::default().build();
    let number = pair.begin(0, FORWARD, Width::B4);
    pair.refuses(COMPLETE, [PEER, number, 0, 0]);
    pair.refuses(DOORBELL, [PEER, FORWARD, 4, 0]);
    pair.refuses(DOORBELL, [PEER, 0, 0, 0]);
    pair.refuses(IRQ, [PEER, device::irq::STATUS, 1, 0]);
    pair.refuses(REG, [PEER, 0, 4, 0]);
    pair.refuses(REG, [PEER, 1, 4, 1]);
    pair.refuses(EVENT_DONE, [PEER, 0, 0, 0]);
    pair.attach();
    pair.detach();
    pair.refuses(COMPLETE, [PEER, number, 0, 0]);
    pair.refuses(REG, [PEER, 1, 4, 1]);
}

#[test]
fn complete_is_for_the_access_that_waits() {
    let mut pair = attached(&Wish::default());
    // Nothing waits.
    for number in [0, 1, u64::MAX] {
        pair.refuses(COMPLETE, [PEER, number, 0, 0]);
    }
    let number = pair.begin(0, FORWARD, Width::B4);
    let target = |vcpu: u64| PEER | vcpu << 16;
    for vcpu in [1, 2, 7, 8, 9, 0x100, 0xffff] {
        pair.refuses(COMPLETE, [target(vcpu), number, 0, 0]);
    }
    for wrong in [number - 1, number + 1, number | 1 << 61, number | 1 << 63, number << 3] {
        pair.refuses(COMPLETE, [PEER, wrong, 0, 0]);
    }
    for kind in [2, 3, 1 << 32, u64::MAX] {
        pair.refuses(COMPLETE, [PEER, number, 0, kind]);
    }
    // That of another peer (H3, E7).
    pair.refuses(COMPLETE, [0, number, 0, 0]);
    assert_eq!(pair.end(0, 0), None, "it still waits");
    pair.forget();
    assert_eq!(pair.complete(0, number, 0x11, 0), OK);
    assert_eq!(pair.client.machine.log().woken, [(CLIENT, one(0))]);
    // Twice, also before the vCPU has seen the first.
    pair.refuses(COMPLETE, [PEER, number, 0x22, 0]);
    pair.refuses(COMPLETE, [PEER, number, 0x22, 1]);
    assert_eq!(pair.end(0, 0), Some(Outcome::Advance { il: true }));
    assert_eq!(pair.client.vcpus[0].regs.x[5], 0x11);
    pair.refuses(COMPLETE, [PEER, number, 0x22, 0]);
    // The next access has another number.
    let next = pair.begin(0, FORWARD, Width::B4);
    assert_eq!(next, number + 1);
    pair.refuses(COMPLETE, [PEER, number, 0x22, 0]);
    assert_eq!(pair.complete(0, next, 0, 1), OK);
    pair.aborts(0, 0, Reason::DeviceError);
}

#[test]
fn a_doorbell_is_in_a_forwarded_page() {
    let mut pair = attached(&Wish::default());
    let end = FORWARD + 2 * PAGE_SIZE;
    for (ipa, kind) in [
        (FORWARD - 1, 1),
        (FORWARD - 4, 4),
        (end, 1),
        (end - 1, 2),
        (end - 4, 8),
        (RAM, 4),
        (TRANSPORT + 0x50, 4),
        (u64::MAX, 1),
        (u64::MAX - 3, 8),
        (0, 4),
        (FORWARD, 3),
        (FORWARD, 16),
        (FORWARD, 0xff),
        (FORWARD, 4 | 1 << 9),
        (FORWARD, 4 | 1 << 63),
        (FORWARD, 1 << 9),
    ] {
        pair.refuses(DOORBELL, [PEER, ipa, kind, 0]);
    }
    for n in [32, 33, 0xffff] {
        pair.refuses(DOORBELL, [PEER | n << 16, FORWARD, 4, 0]);
        pair.refuses(DOORBELL, [PEER | n << 16, 0, 0, 0]);
    }
    for (n, ipa, kind) in [(0, FORWARD, 4), (31, end - 8, 8), (5, OTHER + 1, 2)] {
        pair.done(DOORBELL, [PEER | n << 16, ipa, kind | DOORBELL_MATCH, 0]);
        // Neither the address nor the value count where one is removed.
        pair.done(DOORBELL, [PEER | n << 16, u64::MAX, 0, u64::MAX]);
    }
}

#[test]
fn registers_and_interrupts_have_arguments_of_their_own() {
    let mut pair = attached(&Wish::default());
    let transport = |d: u64| PEER | d << 16;
    for d in [2, 16, 0xffff] {
        for id in [IRQ, REG, EVENT_DONE] {
            pair.refuses(id, [transport(d), if id == IRQ { 3 } else { 0 }, 0, 0]);
        }
        pair.refuses(REG, [transport(d), 1, 4, 1]);
    }
    for action in [2, 3, 1 << 32, u64::MAX] {
        pair.refuses(REG, [PEER, action, 0, 0]);
    }
    // No such register; a queue that is none; registers that only the driver changes.
    for register in [0x05, 0x0f, 0x19, 0x26, 0x102 << 8, 0x1002, 0x100, 1 << 32, u64::MAX] {
        pair.refuses(REG, [PEER, 0, register, 0]);
        pair.refuses(REG, [PEER, 1, register, 0]);
    }
    for register in [0x10, 0x11, 0x12, 0x13, 0x20, 0x25] {
        pair.refuses(REG, [PEER, 1, register, 1]);
    }
    for (register, value) in
        [(0, 1 << 32), (1, 1 << 34), (2, 3), (2, 1 << 40), (3, 1 << 32), (4, 0), (4, 2)]
    {
        pair.refuses(REG, [PEER, 1, register, value]);
    }
    // READY without what a driver is asked for.
    pair.refuses(REG, [PEER, 1, 4, 1]);
    pair.refuses(IRQ, [PEER, device::irq::STATUS, 1, 0]);
    pair.done(REG, [PEER, 1, 1, 1 << 32]);
    assert_eq!(pair.serve(REG, [PEER, 0, 1, 0]), [0, 1 << 32, 0, 0]);
    pair.done(REG, [PEER, 1, 4, 1]);
    assert_eq!(pair.serve(REG, [PEER, 0, 4, 0]), [0, 3, 0, 0]);
    for action in [0, 1, 2, 4, 1 << 32 | 3, u64::MAX] {
        pair.refuses(IRQ, [PEER, action, 1, 0]);
    }
    for bits in [4, 1 << 31, 1 << 32, u64::MAX] {
        pair.refuses(IRQ, [PEER, device::irq::STATUS, bits, 0]);
    }
    for seq in [0, 1, 1 << 32, u64::MAX] {
        pair.refuses(EVENT_DONE, [PEER, seq, 0, 0]);
    }
    // Neither register of the other transport has changed.
    assert_eq!(pair.serve(REG, [transport(1), 0, 4, 0]), OK);
}
