// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device VMs and the VMs that they serve: what is taken, and what is refused with which message.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use arch::{Ipa, OnLoss};
use platform::{DeviceId, ErrorKind, PeerConfig, RegionKind, Role, Served, ShareLevel, VmConfig};
use proptest::prelude::*;
use support::drive::{assert_no_conflict, try_words};
use support::*;

const MIB: u64 = 1 << 20;

/// A module for each line, in the order of their addresses.
fn bench(lines: &[&str]) -> Bench {
    let at = (0_u64..).map(|n| 0x5000_0000 + (n << 20));
    let all = lines.iter().zip(at);
    all.fold(Bench::new(), |bench, (line, at)| {
        bench.kernel(at, 4096, &format!("vm.mem=32M {line}"))
    })
}

/// A VM `a` of these words, served by a device VM `store`.
fn served(words: &str) -> Bench {
    bench(&["vm.name=store vm.role=device", &format!("vm.name=a {words}")])
}

fn accepted(words: &str) -> VmConfig {
    served(words).vms().unwrap().remove(1)
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{message}' does not say '{part}'");
    }
}

#[track_caller]
fn assert_refused(lines: &[&str], parts: &[&str]) {
    let error = bench(lines).vms().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Vm, "{error}");
    assert_says(error.message(), parts);
}

fn ids(ids: &[u32]) -> Vec<DeviceId> {
    ids.iter().map(|id| DeviceId::new(*id).unwrap()).collect()
}

#[test]
fn every_word_arrives_in_both_vms() {
    let words = "vm.devices=store:blk:net:0x2a vm.forward=store:0xc000000+8K:0xd000000+4K \
                 vm.share=pool:8M:auto vm.iotimeout=0 vm.onloss=abort";
    let vms = served(words).vms().unwrap();
    let (store, a) = (&vms[0], &vms[1]);
    let served = Served {
        server: 0,
        transports: ids(&[2, 1, 42]),
        forward: vec![ipa(0xc00_0000, 0x2000), ipa(0xd00_0000, 0x1000)],
        share: ShareLevel::Pool { range: ipa(0x4180_0000, 8 * MIB), auto: true },
        io_timeout_s: 0,
        on_loss: OnLoss::Abort,
    };
    assert_eq!(a.served.as_ref(), Some(&served));
    assert_eq!((a.role, a.peers.len(), a.spis()), (Role::Guest, 0, 64));
    let peer = PeerConfig {
        vm: 1,
        number: 0,
        name: "a".into(),
        transports: ids(&[2, 1, 42]),
        window: ipa(0x10_0000_0000, 32 * MIB),
    };
    assert_eq!(store.peers, [peer]);
    assert_eq!((store.role, store.served.as_ref(), store.spis()), (Role::Device, None, 96));
    for vm in &vms {
        assert_no_conflict(vm);
    }
}

#[test]
fn without_other_words_the_defaults_hold() {
    for words in ["vm.devices=store:rng", "vm.forward=store:0xc000000+4K"] {
        let served = accepted(words).served.unwrap();
        assert_eq!((served.share, served.io_timeout_s), (ShareLevel::Guest, 30));
        assert_eq!(served.on_loss, OnLoss::Wait);
    }
    let all = accepted("vm.devices=store:rng vm.share=all").served.unwrap();
    assert_eq!(all.share, ShareLevel::All);
    let pool = accepted("vm.devices=store:rng vm.share=pool:2M").served.unwrap();
    assert_eq!(pool.share, ShareLevel::Pool { range: ipa(0x41e0_0000, 2 * MIB), auto: false });
    // A device VM may have nothing to do yet.
    assert_eq!(one("vm.role=device").vm().peers, []);
}

#[test]
fn every_kind_has_its_device_id() {
    let kinds = "net:blk:console:rng:scsi:9p:input:vsock:sound:fs:i2c:gpio";
    let expected = [1, 2, 3, 4, 8, 9, 18, 19, 25, 26, 34, 41];
    let served = accepted(&format!("vm.devices=store:{kinds}")).served.unwrap();
    assert_eq!(served.transports, ids(&expected));
    let names: Vec<String> = served.transports.iter().map(ToString::to_string).collect();
    assert_eq!(names.join(":"), kinds);
    assert_eq!(ids(&[0xffff_ffff])[0].to_string(), "device 4294967295");
    assert_eq!(DeviceId::new(0), None);
}

#[test]
fn the_boot_log_says_what_a_server_can_see() {
    let says = |words: &str| accepted(words).served.unwrap().described("store").to_string();
    assert_eq!(
        says("vm.devices=store:blk:7"),
        "served by store: blk device 7; store sees its accesses there, and of its RAM what the guest \
         shares; an access waits 30 s"
    );
    assert_eq!(
        says("vm.devices=store:rng vm.forward=store:0xc000000+4K vm.share=pool:8M vm.iotimeout=0"),
        "served by store: rng 0xc000000+0x1000; store sees its accesses there, and of its RAM what the \
         guest shares, with its pool at 0x41800000+0x800000; an access waits for ever"
    );
    let auto = says("vm.devices=store:rng vm.share=pool:8M:auto");
    assert_says(&auto, &["of its RAM the pool at 0x41800000+0x800000 and what the guest shares;"]);
    let all = says("vm.devices=store:rng vm.share=all");
    assert_says(&all, &["store sees its accesses there, and all its RAM (vm.share=all);"]);
}

#[test]
fn peers_have_numbers_and_windows_in_the_order_of_the_vms() {
    let mut bench = bench(&[
        "vm.name=a vm.devices=store:blk",
        "vm.name=other vm.role=device",
        "vm.name=store vm.role=device",
        "vm.name=c vm.devices=other:blk",
        "vm.name=d vm.forward=store:0xc000000+4K",
    ]);
    bench.board.modules[0].bootargs = "vm.mem=1026M vm.name=a vm.devices=store:blk:rng".into();
    bench.board.ram = vec![pa(0x4000_0000, 4 << 30)];
    let vms = bench.vms().unwrap();
    let servers: Vec<_> = vms.iter().map(|vm| vm.served.as_ref().map(|it| it.server)).collect();
    assert_eq!(servers, [Some(2), None, None, Some(1), Some(2)]);
    let peers = |vm: &VmConfig| -> Vec<_> {
        let all = vm.peers.iter();
        all.map(|peer| (peer.vm, peer.number, peer.window, peer.intid())).collect()
    };
    assert_eq!(
        peers(&vms[2]),
        [
            (0, 0, ipa(0x10_0000_0000, 1026 * MIB), 96),
            // Behind 2 GiB: it begins at a whole GiB.
            (4, 1, ipa(0x10_8000_0000, 32 * MIB), 97),
        ]
    );
    assert_eq!(peers(&vms[1]), [(3, 0, ipa(0x10_0000_0000, 32 * MIB), 96)]);
    let (first, second) = (&vms[2].peers[0], &vms[2].peers[1]);
    assert_eq!((first.control_page().raw(), second.control_page().raw()), (0xb00_0000, 0xb00_1000));
    assert_eq!(first.register_images(), Some(ipa(0xb10_0000, 0x2000)));
    assert_eq!(second.register_image(0), Ipa::new(0xb11_0000));
    assert_eq!(second.register_images(), None, "no transport");
    let kinds: Vec<_> = vms[2].memory_map().regions().iter().map(|region| region.kind).collect();
    let expected = [
        RegionKind::ControlPage,
        RegionKind::ControlPage,
        RegionKind::RegisterImages,
        RegionKind::Ram,
        RegionKind::Window,
        RegionKind::Window,
    ];
    assert!(kinds.ends_with(&expected), "{kinds:?}");
    let map = vms[0].memory_map();
    assert_eq!(map.describe(Ipa::new(0xa00_1fff)), Some("virtio"));
    assert_eq!(map.describe(Ipa::new(0xa00_2000)), None);
    assert_eq!(vms[4].memory_map().describe(Ipa::new(0xc00_0000)), Some("forwarded"));
}

#[test]
fn a_server_that_cannot_be_is_refused_by_name() {
    let who = "VM 'a' (/chosen/module@0x50100000): ";
    for word in ["vm.devices=x:blk", "vm.forward=x:0xc000000+4K"] {
        let says = [who, word.split(':').next().unwrap(), "there is no VM 'x'; there are store a"];
        assert_refused(&["vm.name=store vm.role=device", &format!("vm.name=a {word}")], &says);
    }
    assert_refused(
        &["vm.name=store", "vm.name=a vm.devices=store:blk"],
        &[
            who,
            "vm.devices=store: VM 'store' (/chosen/module@0x50000000) serves none",
            "vm.role=device",
        ],
    );
    assert_refused(
        &["vm.name=store", "vm.name=a vm.devices=a:blk"],
        &[who, "vm.devices=a: a VM cannot serve itself"],
    );
    assert_refused(
        &["vm.name=store", "vm.name=a vm.role=device vm.forward=a:0xc000000+4K"],
        &[who, "vm.forward=a: a VM cannot serve itself"],
    );
    // A circle, and a chain.
    assert_refused(
        &["vm.name=b vm.role=device vm.devices=a:rng", "vm.name=a vm.role=device vm.devices=b:blk"],
        &["VM 'b'", "vm.devices=a: it has vm.role=device", "others (and is served by it) cannot"],
    );
    assert_refused(
        &["vm.name=store vm.role=device", "vm.name=a vm.role=device vm.devices=store:blk"],
        &[who, "it has vm.role=device, and a VM that serves others cannot be served; leave one"],
    );
    assert_refused(
        &[
            "vm.name=store vm.role=device",
            "vm.name=a vm.devices=store:blk vm.forward=b:0xc000000+4K",
        ],
        &[who, "vm.devices names 'store' and vm.forward 'b'", "name the same in both"],
    );
}

#[test]
fn words_of_a_served_vm_need_a_server() {
    for word in ["vm.share=all", "vm.iotimeout=5", "vm.onloss=abort"] {
        let (name, _) = word.split_once('=').unwrap();
        let says = [name, "says how a VM is served, and no VM serves it", "vm.devices"];
        assert_says(&one(word).refusal(), &says);
        // Not those of a device VM either.
        assert_says(&one(&format!("vm.role=device {word}")).refusal(), &says);
    }
}

#[test]
fn the_control_role_does_not_exist_yet() {
    for role in ["control", "device:control"] {
        let error = one(&format!("vm.role={role}")).vms().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option);
        assert_says(error.message(), &["the control role does not exist yet"]);
    }
}

#[test]
fn transports_and_forwarded_pages_overlap_nothing() {
    let transports = "the transports of vm.devices at 0xa000000+0x2000; move it";
    for word in [
        "vm.testdev=0xa001000",
        "vm.rom=0x9fff000+8K",
        "vm.flash=0xa000000+256K",
        "vm.forward=store:0xa001000+4K",
    ] {
        let message = served(&format!("vm.devices=store:blk:net {word}")).refusal();
        assert_says(&message, &["VM 'a'", word.split('=').next().unwrap(), transports]);
    }
    // Behind the last of them.
    accepted("vm.devices=store:blk:net vm.testdev=0xa002000");
    for (range, says) in [
        ("0x40000000+4K", "overlaps its RAM"),
        ("0x8010000+4K", "overlaps the GIC"),
        ("0x9000000+4K", "overlaps the PL011"),
        ("0xc000000+4K:0xc000000+4K", "overlaps vm.forward"),
        ("0xfffffff000+8K", "ends beyond its 40 bits of IPA"),
    ] {
        let message = served(&format!("vm.forward=store:{range}")).refusal();
        assert_says(&message, &["VM 'a'", "vm.forward", says]);
    }
    for word in ["vm.rom=0xc000000+4K", "vm.testdev=0xc000000", "vm.flash=0xc000000+256K"] {
        let message = served(&format!("vm.forward=store:0xc000000+4K {word}")).refusal();
        assert_says(&message, &["overlaps vm.forward 0xc000000+0x1000", "move one of them"]);
    }
    let message = served("vm.dev=/pl031@9010000 vm.forward=store:0x9010000+4K").refusal();
    assert_says(&message, &["vm.dev at 0x9010000+0x1000 overlaps vm.forward"]);
    // Declaring them is what they are for.
    accepted("vm.devices=store:blk vm.preset=0xa000000+4K vm.allow=0xa000000+64K");
}

#[test]
fn firmware_has_no_configuration_device_where_a_page_is_forwarded() {
    let words = "vm.rom=0+64K vm.load=0 vm.devices=store:blk";
    assert!(accepted(words).fw_cfg());
    assert!(!accepted(&format!("{words} vm.forward=store:0x9020000+4K")).fw_cfg());
}

#[test]
fn passed_interrupts_end_before_those_of_transports() {
    let spis: Vec<u32> = (0..16).flat_map(|n| [0, n + 100, 4]).collect();
    let more: Vec<u32> = (0..15).flat_map(|n| [0, n + 200, 4]).collect();
    let mut bench = served("vm.devices=store:blk vm.dev=/pl031@9010000:/pl061@9030000");
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "interrupts", &spis);
    bench.tree = with_cells(&tree, "/pl061@9030000", "interrupts", &more[3..]);
    let vms = bench.vms().unwrap();
    assert_eq!(vms[1].devices[1].interrupts.last().unwrap().intid, 63);
    assert_no_conflict(&vms[1]);
    bench.tree = with_cells(&tree, "/pl061@9030000", "interrupts", &more);
    assert_says(&bench.refusal(), &["VM 'a'", "its vm.dev have more than 30 interrupts"]);
}

#[test]
fn a_device_vm_keeps_its_pages_and_windows_clear() {
    for (word, says) in [
        ("vm.testdev=0xb01f000", "the control pages of vm.role=device at 0xb000000+0x20000"),
        ("vm.rom=0xaff0000+68K", "the control pages of vm.role=device"),
        ("vm.testdev=0xb2ff000", "the register images of vm.role=device at 0xb100000+0x200000"),
        ("vm.rom=0x1000000000+4K", "the windows of vm.role=device at 0x1000000000+0x3000000000"),
        ("vm.allow=0x3ffffff000+4K", "the windows of vm.role=device"),
        ("vm.preset=0xffffff000+8K", "the windows of vm.role=device"),
    ] {
        let message = one(&format!("vm.role=device {word}")).refusal();
        assert_says(&message, &[word.split('=').next().unwrap(), "overlaps", says]);
        // Any other VM may have something there.
        one(word).vm();
    }
    one("vm.role=device vm.testdev=0xb020000 vm.rom=0xffffff000+4K:0x4000000000+4K").vm();
    // What EL2 answers there may be declared.
    one("vm.role=device vm.preset=0xb000000+4K vm.allow=0xb000000+4M").vm();
}

#[test]
fn a_device_vm_needs_room_for_its_windows() {
    let message = one("vm.role=device vm.ipa=37").refusal();
    assert_says(&message, &["vm.role=device needs 38 bits of IPA, it has 37", "raise vm.ipa"]);
    one("vm.role=device vm.ipa=38").vm();
    // The default is what the CPU has.
    let mut small = one("vm.role=device");
    small.pa_bits = 36;
    assert_says(&small.refusal(), &["needs 38 bits of IPA, it has 36"]);
    let large = |mem: &str| {
        let mut bench = one(&format!("vm.role=device vm.mem={mem}"));
        bench.board.ram = vec![pa(0x4000_0000, 80 << 30)];
        bench
    };
    // RAM begins at 1 GiB.
    assert_eq!(large("63G").vm().ram.end(), Ipa::new(0x10_0000_0000));
    assert_says(
        &large("64514M").refusal(),
        &["ends beyond 0x1000000000, where the windows of vm.role=device begin", "lower vm.mem"],
    );
}

#[test]
fn windows_that_do_not_fit_are_refused_with_their_sizes() {
    let with = |first: &str, second: &str| {
        let mut bench = bench(&["vm.name=store vm.role=device", "", ""]);
        bench.board.ram = vec![pa(0x4000_0000, 400 << 30)];
        for (module, mem) in bench.board.modules.iter_mut().skip(1).zip([first, second]) {
            module.bootargs = format!("vm.devices=store:blk vm.mem={mem}");
        }
        bench
    };
    assert_eq!(with("96G", "96G").vms().unwrap()[0].peers[1].window.end().raw(), 0x40_0000_0000);
    assert_says(
        &with("98306M", "96G").refusal(),
        &[
            "VM 'store' (/chosen/module@0x50000000): it is to serve 2 VMs",
            "for 192 GiB of their RAM, each in whole GiB (vm1 98306 MiB, vm2 98304 MiB)",
        ],
    );
}

#[test]
fn nothing_is_placed_in_the_pool() {
    // 4 MiB of RAM before the pool: 2 MiB for the image.
    let with = |kernel: u64, words: &str| {
        Bench::new().kernel(0x5000_0000, 4096, "vm.name=store vm.role=device vm.mem=4M").kernel(
            0x5100_0000,
            kernel,
            &format!("vm.mem=8M vm.devices=store:blk vm.share=pool:4M {words}"),
        )
    };
    let vms = with(2 * MIB, "").vms().unwrap();
    assert_no_conflict(&vms[1]);
    assert_eq!(vms[1].ram, ipa(0x4000_0000, 8 * MIB));
    let pool = "(that RAM ends before the pool of vm.share at 0x40400000+0x400000)";
    assert_says(
        &with(2 * MIB + 1, "").refusal(),
        &["its RAM 0x40000000+0x400000 ends before", pool],
    );
    assert_says(&with(4096, "vm.dtb=0x40400000").refusal(), &["vm.dtb=0x40400000", pool]);
    assert_says(&with(4096, "vm.load=0x40400000").refusal(), &["vm.load=0x40400000", pool]);
    assert_says(&with(4096, "").ramdisk(0x5200_0000, 3 * MIB).refusal(), &["its ramdisk", pool]);
    assert!(with(4096, "").ramdisk(0x5200_0000, MIB).vms().is_ok());
    let message = served("vm.devices=store:blk vm.share=pool:32M").refusal();
    assert_says(&message, &["a pool of 0x2000000 bytes leaves nothing of its RAM", "vm.mem"]);
}

/// Fuzzing begins at VMs that serve and are served, not at refusals.
#[test]
fn the_seeds_of_the_fuzz_target_are_accepted() {
    for seed in [
        include_str!("../../../fuzz/seeds/guest_tree/words16"),
        include_str!("../../../fuzz/seeds/guest_tree/words17"),
    ] {
        let at = (0_u64..).map(|n| 0x5000_0000 + (n << 24));
        let lines = seed.lines().zip(at);
        let bench = lines.fold(Bench::new(), |bench, (line, at)| bench.kernel(at, 4096, line));
        let vms = bench.vms().unwrap();
        assert_eq!(vms[0].peers.len(), vms.len() - 1);
        assert_eq!(try_words(&bench).len(), vms.len());
    }
}

/// A page at which something of a VM is, or next to it.
fn page() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0_u64..24).prop_map(|n| 0x9ff_c000 + n * 0x1000),
        1 => (0_u64..40).prop_map(|n| 0xaff_c000 + n * 0x1000),
        1 => (0_u64..8).prop_map(|n| 0xb0f_c000 + n * 0x1000),
        1 => (0_u64..8).prop_map(|n| 0xb2f_c000 + n * 0x1000),
        1 => (0_u64..36).prop_map(|n| 0x900_0000 + n * 0x1000),
        1 => (0_u64..8).prop_map(|n| 0xf_ffff_c000 + n * 0x1000),
        1 => (0_u64..8).prop_map(|n| 0x3f_ffff_c000 + n * 0x1000),
    ]
}

/// The word, half of the time.
fn maybe<T: std::fmt::Debug>(
    values: impl Strategy<Value = T>,
    word: impl Fn(T) -> String,
) -> impl Strategy<Value = String> {
    prop::option::of(values).prop_map(move |value| value.map(&word).unwrap_or_default())
}

/// Words that any VM may have.
fn common() -> impl Strategy<Value = String> {
    let device = prop::sample::select(vec!["/pl031@9010000", "/pl061@9030000"]);
    (
        maybe(page(), |at| format!("vm.testdev={at:#x}")),
        maybe((page(), 1_u64..6), |(at, n)| format!("vm.rom={at:#x}+{:#x}", n << 12)),
        maybe(device, |path| format!("vm.dev={path}")),
        maybe(0_u64..14, |n| format!("vm.dtb={:#x}", 0x4040_0000 + n * 2 * MIB)),
    )
        .prop_map(|(testdev, rom, dev, dtb)| format!("{testdev} {rom} {dev} {dtb}"))
}

/// Words of a VM that is served, if it is lucky.
fn client() -> impl Strategy<Value = String> {
    let kinds = prop::sample::select(vec!["blk", "net", "7"]);
    (
        common(),
        prop::collection::vec(kinds, 1..17).prop_map(|kinds| kinds.join(":")),
        maybe((page(), 1_u64..6), |(at, n)| format!("vm.forward=store:{at:#x}+{:#x}", n << 12)),
        maybe(1_u64..16, |n| format!("vm.share=pool:{}M:auto", 2 * n)),
    )
        .prop_map(|(words, kinds, forward, share)| {
            format!("{words} vm.devices=store:{kinds} {forward} {share}")
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever the words, what is accepted overlaps in no address and no interrupt of any VM.
    #[test]
    fn what_is_accepted_has_no_conflict(
        store in common(),
        clients in prop::collection::vec(client(), 1..3),
    ) {
        let mut lines = vec![format!("vm.name=store vm.role=device {store}")];
        lines.extend(clients);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        // About a quarter is accepted. It makes the trees too.
        try_words(&bench(&lines));
    }
}
