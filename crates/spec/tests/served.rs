// SPDX-License-Identifier: MIT OR Apache-2.0
//! The specification says what docs/devices.md says of a device VM and of the VM that it serves, in its numbers.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use spec::*;

const RAM: u64 = 0x4000_0000;
const FORWARD: u64 = 0x1000_0000;
const SERVER: usize = 0;
const CLIENT: usize = 1;
const OK: Outcome = Outcome::Answer([0; 4]);
const INVALID: Outcome = Outcome::Answer([u64::MAX - 2, 0, 0, 0]);
const NOT_SUPPORTED: Outcome = Outcome::Answer([u64::MAX, 0, 0, 0]);

fn config() -> Config {
    Config {
        ipa_bits: 40,
        policy: Policy::Enrol,
        dialect: Dialect::Pkvm,
        ram: Region::new(RAM, 0x80_0000),
        roms: vec![],
        allow: vec![],
        preset: vec![],
        mapped_mmio: vec![],
        flash: vec![],
        devices: vec![],
        served: None,
        peers: None,
        windows: Vec::new(),
        vcpus: 2,
        trng: false,
        workarounds: [-1, -2, 0],
    }
}

/// A server and its client, which both run; no server has attached.
fn linked(share: Sharing, aborts_on_loss: bool) -> [Vm; 2] {
    let served = Served {
        forwards: vec![Region::new(FORWARD, 0x1000)],
        transports: Region::new(0x0a00_0000, 0x1000),
        share,
        timeout: 100,
        timeout_ms: 5,
        aborts_on_loss,
    };
    let server = Config { peers: Some(vec![CLIENT]), ..config() };
    let client = Config { served: Some(served), ..config() };
    [server, client].map(|config| {
        let mut tables = Tables::new(config.ipa_bits, 8);
        tables.map(RAM, 0x8_0000_0000, 0x80_0000, Leaf::Ram).unwrap();
        let mut vm = Vm::new(config, tables);
        vm.reset().unwrap();
        assert!(vm.start(RAM, 0) && vm.take_start(0).is_some());
        vm
    })
}

fn call_at(vms: &mut [Vm], caller: usize, now: u64, id: u64, [a, b, c, d]: [u64; 4]) -> Outcome {
    let call = Call {
        vcpu: 0,
        conduit: Conduit::Hvc,
        imm: 0,
        x: [0xc600_0000 | id, a, b, c],
        x4: d,
        now: Moment::at(now),
        mair_el1: 0,
        entropy: None,
    };
    spec::call(vms, caller, &call)
}

fn serve(vms: &mut [Vm], id: u64, arguments: [u64; 4]) -> Outcome {
    call_at(vms, SERVER, 0, 0xf010 | id, arguments)
}

fn access(store: Option<u64>, now: u64) -> Data {
    Data {
        vcpu: 0,
        now: Moment::at(now),
        ipa: Some(FORWARD + 8),
        fault: Fault::Stage2,
        walk: false,
        write: store.is_some(),
        maintenance: false,
        access: Some((2, 5)),
        value: store.unwrap_or(0),
        big_endian: false,
        signed: true,
        wide: false,
        long: true,
    }
}

fn reason(outcome: Option<Outcome>) -> Option<Reason> {
    match outcome? {
        Outcome::Abort { reason, .. } => Some(reason),
        _ => None,
    }
}

#[test]
fn an_access_is_answered_once_by_its_number() {
    let mut vms = linked(Sharing::Own, false);
    assert_eq!(serve(&mut vms, 1, [0, 1, 1, 0]), OK);
    assert_eq!(vms[CLIENT].data(&access(None, 0)), Outcome::Asks);
    let told = Told { number: 1, ipa: FORWARD + 8, bytes: 2, store: None };
    assert_eq!(vms[CLIENT].link.told(0), Some(told));
    // vCPUs, transports, runs, attached, who waits.
    let info = 2 | 1 << 8 | 1 << 16 | 1 << 17 | 1 << 24;
    assert_eq!(serve(&mut vms, 0, [0; 4]), Outcome::Answer([0, 1, info, 5]));
    for wrong in [[0, 0, 7, 0], [0, 2, 7, 0], [1 << 16, 1, 7, 0], [0, 1, 7, 2], [1, 1, 7, 0]] {
        assert_eq!(serve(&mut vms, 2, wrong), INVALID, "{wrong:x?}");
        assert_eq!(vms[CLIENT].finish_access(0, 99, false), None);
    }
    assert_eq!(serve(&mut vms, 2, [0, 1, 0xf_8001, 0]), OK);
    assert_eq!(serve(&mut vms, 2, [0, 1, 7, 0]), INVALID, "a second answer");
    let loaded = Outcome::Loaded(Load { register: 5 }, 0xffff_8001);
    assert_eq!(vms[CLIENT].finish_access(0, 0, false), Some(loaded));
    assert_eq!(vms[CLIENT].finish_access(0, u64::MAX, true), None, "it has ended");
}

#[test]
fn without_an_answer_its_server_is_lost_until_one_attaches() {
    let mut vms = linked(Sharing::Own, false);
    assert_eq!(vms[CLIENT].data(&access(None, 0)), Outcome::Asks);
    assert_eq!(vms[CLIENT].finish_access(0, 1 << 40, false), None, "no server, no deadline");
    assert_eq!(call_at(&mut vms, SERVER, 1000, 0xf011, [0, 1, 1, 0]), OK);
    assert_eq!(vms[CLIENT].finish_access(0, 1099, false), None);
    assert_eq!(reason(vms[CLIENT].finish_access(0, 1100, false)), Some(Reason::NoAnswer));
    assert_eq!(reason(Some(vms[CLIENT].data(&access(None, 1100)))), Some(Reason::NoAnswer));
    assert_eq!(serve(&mut vms, 1, [0, 1, 1, 0]), OK);
    assert_eq!(vms[CLIENT].data(&access(None, 1100)), Outcome::Asks);
}

#[test]
fn a_server_that_leaves() {
    for (aborts, ends) in [(false, None), (true, Some(Reason::NoAnswer))] {
        let mut vms = linked(Sharing::Own, aborts);
        assert_eq!(serve(&mut vms, 1, [0, 1, 1, 0]), OK);
        assert_eq!(vms[CLIENT].data(&access(Some(1), 0)), Outcome::Asks);
        assert_eq!(serve(&mut vms, 1, [0, 0, 1, 0]), OK);
        assert_eq!(reason(vms[CLIENT].finish_access(0, 0, false)), ends);
        assert_eq!(serve(&mut vms, 1, [0, 0, 1, 0]), INVALID, "not attached");
        leave_peers(&mut vms, SERVER);
        assert_eq!(vms[CLIENT].life, 1, "its own life goes on");
        vms[CLIENT].stop(StopReason::Other);
        vms[CLIENT].park(0);
        assert_eq!(serve(&mut vms, 1, [0, 1, 1, 0]), INVALID, "another life");
        assert_eq!(serve(&mut vms, 1, [0, 1, 2, 0]), OK);
    }
}

#[test]
fn a_doorbell_rings_for_its_own_store_alone() {
    let mut vms = linked(Sharing::Own, false);
    let bell = [31 << 16, FORWARD + 8, 2 | 0x100, 0x5_0007];
    assert_eq!(serve(&mut vms, 3, bell), INVALID, "not attached");
    assert_eq!(serve(&mut vms, 1, [0, 1, 1, 0]), OK);
    let outside = [0, FORWARD + 0xffe, 4, 0];
    for wrong in [[32 << 16, FORWARD, 2, 0], outside, [0, FORWARD, 3, 0], [0, FORWARD, 0x202, 0]] {
        assert_eq!(serve(&mut vms, 3, wrong), INVALID, "{wrong:x?}");
    }
    assert_eq!(serve(&mut vms, 3, bell), OK);
    assert_eq!(vms[CLIENT].data(&access(Some(0x9_0007), 0)), Outcome::Served(None));
    assert_eq!(vms[CLIENT].data(&access(Some(8), 0)), Outcome::Asks);
}

#[test]
fn calls_that_are_none_of_a_device_vm() {
    let mut vms = linked(Sharing::Own, false);
    assert_eq!(call_at(&mut vms, CLIENT, 0, 0xf010, [0; 4]), NOT_SUPPORTED);
    assert_eq!(serve(&mut vms, 7, [0; 4]), NOT_SUPPORTED);
    assert_eq!(serve(&mut vms, 0, [1 << 32, 0, 0, 0]), INVALID);
    let version = |vms: &mut [Vm], n| call_at(vms, n, 0, 0xf000, [0; 4]);
    assert_eq!(version(&mut vms, SERVER), Outcome::Answer([0x1_0000, 0x7f_0007, 0, 0]));
    assert_eq!(version(&mut vms, CLIENT), Outcome::Answer([0x1_0000, 7, 0, 0]));
}

#[test]
fn shares_with_a_window_behind() {
    let done = |pages| Outcome::Answer([0, pages, 0, 0]);
    let share = |vms: &mut [Vm], id, page: u64, count| {
        call_at(vms, CLIENT, 0, id, [RAM + page * PAGE, count, 0, 0])
    };
    let mut vms = linked(Sharing::Own, false);
    let free = vms[CLIENT].tables.free();
    assert_eq!(share(&mut vms, 3, 504, 40), done(16), "16 at once, of two pieces of 2 MiB");
    assert_eq!(vms[CLIENT].tables.free(), free - 2);
    assert_eq!(share(&mut vms, 4, 504, 40), done(16));
    assert_eq!(vms[CLIENT].tables.free(), free - 2, "until it stops");
    vms[CLIENT].tables.set_free(0);
    assert_eq!(share(&mut vms, 3, 1024, 8), INVALID, "no table");
    assert_eq!(share(&mut vms, 3, 511, 8), done(8));
    vms[CLIENT].reset().unwrap();
    assert_eq!((vms[CLIENT].tables.free(), vms[CLIENT].shared.len()), (2, 0));
    let pool = Region::new(RAM + PAGE, 20 * PAGE);
    let mut vms = linked(Sharing::Pool { at: pool, auto: true }, false);
    assert_eq!(share(&mut vms, 3, 0, 2), INVALID);
    assert_eq!(share(&mut vms, 3, 18, 8), done(3));
    assert_eq!(share(&mut vms, 4, 18, 8), done(3));
    assert_eq!(vms[CLIENT].share_for_owner(0), Ok(Some(16 * PAGE)));
    assert_eq!(vms[CLIENT].share_for_owner(16 * PAGE), Ok(None));
    assert_eq!(vms[CLIENT].shared.len(), 20);
    let mut vms = linked(Sharing::All, false);
    assert_eq!(vms[CLIENT].share_for_owner(0), Ok(Some(2 << 20)));
    assert_eq!(share(&mut vms, 4, 0, 1), INVALID);
}
