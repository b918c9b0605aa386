// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs from modules: what is paired, what is refused, and with which message.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

mod support;

use arch::{Ipa, Range};
use mmio_guard::{Dialect, Policy};
use platform::{
    Board, BudgetUs, CpuOptions, CpuShare, ErrorKind, Gic, GicVersion, HostResources, ImagePart,
    MAX_BOOTARGS, ModuleKind, Placement, RegionKind, Reserved, VmConfig, vms,
};
use proptest::prelude::*;
use support::*;

const KERNEL: u64 = 0x5000_0000;
const MIB: u64 = 1 << 20;

/// Asserts that the message has all of `parts`.
#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{message}' does not say '{part}'");
    }
}

#[test]
fn qemus_modules_become_a_vm() {
    let board = Board::from_tree(VIRT_G2).unwrap();
    let zeros = [0; 4096];
    let read = |range: Range<arch::Pa>| zeros.get(..range.size() as usize);
    let machine = HostResources {
        board: &board,
        tree: VIRT_G2,
        own: &[],
        appended: None,
        cpus: 2,
        pa_bits: 44,
        read: &read,
    };
    let configs = vms(&machine).unwrap();
    let expected = VmConfig {
        name: "a".into(),
        ram: ipa(0x4000_0000, 64 * MIB),
        policy: Policy::Enrol,
        dialect: Dialect::Pkvm,
        allow: vec![],
        preset: vec![],
        roms: vec![],
        flash: vec![],
        devices: vec![],
        ipa_bits: 40,
        pool_pages: 160,
        cpu_options: CpuOptions::default(),
        share: CpuShare {
            cpus: vec![0, 1],
            dedicated: false,
            priority: 8,
            budget: None,
            slice: 4000,
        },
        kernel: pa(0x5000_0000, 4096),
        ramdisk: Some(pa(0x5200_0000, 1000)),
        bootargs: "console=ttyAMA0".into(),
        placement: Placement {
            image: ipa(0x4020_0000, 4096),
            parts: vec![ImagePart { offset: 0, to: ipa(0x4020_0000, 4096) }],
            entry: Ipa::new(0x4020_0000),
            image_rom: None,
            // In the middle of its RAM: a flat binary does not say where its BSS ends.
            ramdisk: Some(ipa(0x4200_0000, 1000)),
            tree: ipa(0x4000_0000, 0x1_0000),
        },
        warning: None,
        test_device: None,
        on_crash: arch::OnCrash::Stop,
        role: platform::Role::Guest,
        served: None,
        peers: vec![],
        gic: GicVersion::V2,
        node: "/chosen/module@0x50000000".into(),
    };
    assert_eq!(configs, [expected]);
}

#[test]
fn without_words_the_defaults_hold() {
    let vm = one("").vm();
    assert_eq!((vm.name.as_str(), vm.ram_size(), vm.vcpus()), ("vm0", 128 * MIB, 1));
    assert_eq!((vm.policy, vm.dialect), (Policy::Enrol, Dialect::Pkvm));
    assert_eq!((vm.ipa_bits, vm.pool_pages, vm.bootargs.as_str()), (40, 160, ""));
    assert_eq!((vm.test_device, vm.gic), (None, GicVersion::V3));
}

#[test]
fn every_word_arrives_in_the_vm() {
    let vm = one("a vm.name=x vm.mem=4M vm.cpus=3 vm.guard=off vm.dialect=series \
                  vm.allow=0x8000000+64K vm.preset=0x9000000+4K vm.rom=0x4000000+256K \
                  vm.load=0x4000000 vm.ipa=32 vm.pool=3 vm.testdev=0xb000000 \
                  vm.slice=8000 vm.affinity=1:0 vm.priority=9 vm.budget=100/500 b")
    .vm();
    assert_eq!((vm.name.as_str(), vm.ram_size(), vm.vcpus()), ("x", 4 * MIB, 3));
    assert_eq!((vm.policy, vm.dialect), (Policy::Off, Dialect::Series));
    assert_eq!(vm.allow, [ipa(0x800_0000, 0x1_0000)]);
    assert_eq!(vm.preset, [ipa(0x900_0000, 0x1000)]);
    assert_eq!(vm.roms, [ipa(0x400_0000, 0x4_0000)]);
    assert_eq!((vm.placement.entry, vm.placement.image_rom), (Ipa::new(0x400_0000), Some(0)));
    assert_eq!((vm.ipa_bits, vm.pool_pages), (32, 3));
    let budget = Some(BudgetUs { us: 100, period: 500 });
    let share =
        CpuShare { cpus: vec![1, 0, 1], dedicated: false, priority: 9, budget, slice: 8000 };
    assert_eq!(vm.share, share);
    assert_eq!(vm.test_device, Some(Ipa::new(0xb00_0000)));
    assert_eq!(vm.bootargs, "a b");
    let map = vm.memory_map();
    let kinds: Vec<RegionKind> = map.regions().iter().map(|region| region.kind).collect();
    assert_eq!(
        kinds,
        [
            RegionKind::Rom,
            RegionKind::GicDistributor,
            RegionKind::GicRedistributor(0),
            RegionKind::GicRedistributor(1),
            RegionKind::GicRedistributor(2),
            RegionKind::Uart,
            // It is entered in its ROM.
            RegionKind::FwCfg,
            RegionKind::TestDevice,
            RegionKind::Ram,
        ]
    );
    assert_eq!(map.describe(Ipa::new(0xb00_0fff)), Some("testdev"));
}

#[test]
fn the_gic_of_a_vm_is_that_of_the_machine() {
    let mut bench = one("");
    assert!(matches!(bench.board.gic, Gic::V3 { .. }));
    bench.board.gic = Board::from_tree(VIRT_G2).unwrap().gic;
    assert_eq!(bench.vm().gic, GicVersion::V2);
}

#[test]
fn a_ramdisk_belongs_to_the_kernel_right_below_it() {
    let vms = Bench::new()
        .ramdisk(0x5900_0000, 0x300)
        .kernel(0x5800_0000, 0x1000, "vm.name=second")
        .kernel(0x5400_0000, 0x1000, "vm.name=bare")
        .ramdisk(0x5100_0000, 0x200)
        .kernel(0x5000_0000, 0x1000, "vm.name=first")
        .vms()
        .unwrap();
    let pairs: Vec<_> = vms.iter().map(|vm| (vm.name.as_str(), vm.ramdisk)).collect();
    assert_eq!(
        pairs,
        [
            ("first", Some(pa(0x5100_0000, 0x200))),
            ("bare", None),
            ("second", Some(pa(0x5900_0000, 0x300))),
        ]
    );
}

#[test]
fn a_ramdisk_without_a_kernel_is_refused_by_name() {
    let below = Bench::new().ramdisk(0x5000_0000, 0x200).kernel(0x5100_0000, 0x1000, "");
    assert_says(&below.refusal(), &["ramdisk /chosen/module@0x50000000 at 0x50000000+0x200"]);
    let second = one("").ramdisk(0x5100_0000, 0x200).ramdisk(0x5200_0000, 0x200);
    assert_says(&second.refusal(), &["ramdisk /chosen/module@0x52000000", "not the next module"]);
}

#[test]
fn no_guest_is_refused_with_what_to_do() {
    let message = Bench::new().refusal();
    assert_says(&message, &["no guest", "multiboot,kernel", "guest-loader"]);
}

#[test]
fn thirty_two_vms_are_possible_and_thirty_three_are_refused() {
    let many = |count: u64| {
        (0..count).fold(Bench::new(), |bench, index| {
            bench.kernel(KERNEL + index * MIB, 0x1000, "vm.mem=4M")
        })
    };
    let names: Vec<String> = many(32).vms().unwrap().into_iter().map(|vm| vm.name).collect();
    let expected: Vec<String> = (0..32).map(|number| format!("vm{number}")).collect();
    assert_eq!(names, expected);
    let message = many(33).refusal();
    assert_says(&message, &["33 VMs, at most 32", "/chosen/module@0x52000000"]);
}

#[test]
fn two_vms_of_one_name_are_refused_with_both() {
    let message = one("vm.name=twin").kernel(0x5100_0000, 0x1000, "vm.name=twin").refusal();
    assert_says(
        &message,
        &["named 'twin'", "/chosen/module@0x50000000", "/chosen/module@0x51000000"],
    );
    // A given name may not be the default of another.
    let message = one("vm.name=vm1").kernel(0x5100_0000, 0x1000, "").refusal();
    assert_says(&message, &["named 'vm1'"]);
    // The default of one that has another name is free.
    assert!(
        one("vm.name=vm1 vm.mem=4M").kernel(0x5100_0000, 1, "vm.name=vm0 vm.mem=4M").vms().is_ok()
    );
}

#[test]
fn a_bad_word_names_the_module() {
    let error = one("vm.mem=64X").vms().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Option);
    assert_says(error.message(), &["/chosen/module@0x50000000", "'vm.mem=64X'", "multiple of 2M"]);
    assert_says(&one("vm.name=hyp").refusal(), &["'vm.name=hyp'", "hypervisor"]);
    assert_says(&one("vm.guards=off").refusal(), &["'vm.guards=off'", "did you mean vm.guard=?"]);
}

#[test]
fn one_bad_vm_of_several_refuses_all() {
    let bench = one("vm.mem=4M").kernel(0x5100_0000, 0x1000, "vm.mem=4M vm.cpus=0");
    assert_says(&bench.refusal(), &["/chosen/module@0x51000000", "vm.cpus=0"]);
}

#[test]
fn a_module_of_another_kind_is_refused_by_name() {
    let kind = ModuleKind::Other("multiboot,microcode".into());
    let message = one("").module(kind, 0x5100_0000, 0x1000, "").refusal();
    assert_says(&message, &["/chosen/module@0x51000000", "multiboot,microcode", "leave it out"]);
}

// bug: 26 80
#[test]
fn a_module_over_anything_is_refused_with_both_ranges() {
    let bench = |start, size| Bench::new().kernel(start, size, "");
    let image = bench(0x4027_f000, 0x2000).refusal();
    assert_says(
        &image,
        &[
            "module /chosen/module@0x4027f000 at 0x4027f000+0x2000",
            "overlaps Portcullis's image at 0x40080000+0x200000",
            "0x50000000",
        ],
    );
    let tree = bench(0x47ff_f000, 0x1001).refusal();
    assert_says(&tree, &["overlaps the device tree at 0x48000000+0x100000"]);
    // Enclosing and enclosed, not only crossing an edge.
    assert_says(&bench(0x4000_0000, 0x1000_0000).refusal(), &["overlaps Portcullis's image"]);
    assert_says(&bench(0x4008_1000, 1).refusal(), &["overlaps Portcullis's image"]);

    let mut reserved = one("");
    reserved.board.reserved =
        vec![Reserved { name: "/reserved-memory/fw@0".into(), range: pa(0x5000_0fff, 1) }];
    assert_says(&reserved.refusal(), &["overlaps /reserved-memory/fw@0 at 0x50000fff+0x1"]);
    let mut initrd = one("");
    initrd.board.initrd = Some(pa(0x4fff_f000, 0x1001));
    assert_says(&initrd.refusal(), &["overlaps the initrd at 0x4ffff000+0x1001"]);
    let each_other = one("").ramdisk(0x5000_0fff, 0x10).refusal();
    assert_says(
        &each_other,
        &[
            "/chosen/module@0x50000000 at 0x50000000+0x1000",
            "/chosen/module@0x50000fff at 0x50000fff+0x10",
        ],
    );
}

#[test]
fn modules_that_only_touch_are_fine() {
    let mut bench = Bench::new().kernel(0x4028_0000, 0x1000, "").ramdisk(0x4028_1000, 0x100);
    bench.board.reserved = vec![Reserved { name: "r".into(), range: pa(0x4028_1100, 0x1000) }];
    bench.board.initrd = Some(pa(0x4800_0000 - 0x1000, 0x1000));
    assert!(bench.vms().is_ok());
}

#[test]
fn a_module_beyond_ram_is_refused_with_the_banks() {
    let message = Bench::new().kernel(0x8000_0000, 0x1000, "").refusal();
    assert_says(&message, &["0x80000000+0x1000 is not inside RAM (0x40000000+0x40000000)"]);
    let across = Bench::new().kernel(0x7fff_f800, 0x1000, "").refusal();
    assert_says(&across, &["0x7ffff800+0x1000 is not inside RAM"]);
    // Between two banks.
    let mut bench = Bench::new().kernel(0x5fff_f800, 0x1000, "");
    bench.board.ram = vec![pa(0x4000_0000, 0x2000_0000), pa(0x6000_1000, 0x1000_0000)];
    assert_says(&bench.refusal(), &["not inside RAM (0x40000000+0x20000000, 0x60001000+"]);
}

// bug: 81
#[test]
fn an_image_larger_than_its_vm_is_refused() {
    let flat = Bench::new().kernel(KERNEL, 3 * MIB, "vm.mem=4M").refusal();
    assert_says(&flat, &["VM 'vm0' (/chosen/module@0x50000000)", "0x300000 bytes", "vm.mem"]);
    let bss = one("vm.mem=32M").header(KERNEL, image_header(0, 31 * MIB, 0)).refusal();
    assert_says(&bss, &["VM 'vm0'", "0x1f00000 bytes at 0x40200000", "vm.mem"]);
}

// bug: 81
#[test]
fn an_image_size_that_cannot_be_is_warned_of() {
    for (size, entry) in [(0, 0x4008_0000), (0x4005_b856, 0x4020_0000), (u64::MAX, 0x4020_0000)] {
        let vm = one("").header(KERNEL, image_header(0, size, 0)).vm();
        assert_says(&vm.warning.unwrap(), &[&format!("image_size {size:#x}"), "0x1000 bytes"]);
        assert_eq!(vm.placement.entry, Ipa::new(entry));
    }
    assert_eq!(one("").header(KERNEL, image_header(0, MIB, 0)).vm().warning, None);
}

#[test]
fn a_container_is_refused_by_name() {
    let refused = |bytes: &[u8]| one("vm.name=k").file(KERNEL, bytes).vms().unwrap_err();
    let error = refused(b"\x1f\x8b\x08\0");
    assert_eq!(error.kind(), ErrorKind::Image);
    let parts = ["VM 'k' (/chosen/module@0x50000000): its kernel is a gzip file", "scripts/bundle"];
    assert_says(error.message(), &parts);
    assert_says(refused(b"\x27\x05\x19\x56").message(), &["a uImage; take the kernel out of it"]);
    // Where the mark is far inside.
    let mut pe = vec![0; 4096];
    pe[..2].copy_from_slice(b"MZ");
    pe[0x3c] = 0x80;
    pe[0x80..0x84].copy_from_slice(b"PE\0\0");
    assert_says(refused(&pe).message(), &["a PE file, not for arm64", "give an arm64 Image"]);
}

#[test]
fn an_image_header_that_does_not_hold_names_the_vm() {
    let big = one("vm.name=k").header(KERNEL, image_header(0, MIB, 1));
    let error = big.vms().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Image);
    assert_says(error.message(), &["VM 'k' (/chosen/module@0x50000000)", "big-endian"]);
    let odd = one("").header(KERNEL, image_header(2, MIB, 0)).refusal();
    assert_says(&odd, &["text_offset 0x2", "multiple of 4"]);
}

#[test]
fn the_image_header_places_the_image() {
    let entry = |flags| {
        let header = image_header(0x8_0000, 8 * MIB, flags);
        one("").header(KERNEL, header).vm().placement.entry.raw()
    };
    assert_eq!(entry(0xa), 0x4028_0000);
    // Bit 3 clear: it runs in the first 2 MiB of RAM only.
    assert_eq!(entry(2), 0x4008_0000);
    // A file shorter than the header is flat, whatever it holds.
    let short = Bench::new().kernel(KERNEL, 60, "").header(KERNEL, image_header(0x8_0000, 8, 1));
    assert_eq!(short.vm().placement.entry, Ipa::new(0x4020_0000));
}

#[test]
fn a_kernel_that_cannot_be_read_is_refused() {
    let board = one("").board;
    let machine = HostResources {
        board: &board,
        tree: VIRT_G3,
        own: &[],
        appended: None,
        cpus: 1,
        pa_bits: 44,
        read: &|_| None,
    };
    let message = vms(&machine).unwrap_err().to_string();
    assert_says(&message, &["VM 'vm0'", "0x50000000+0x1000 cannot be read"]);
}

#[test]
fn a_module_in_the_very_place_of_the_initrd_is_refused() {
    let mut bench = one("");
    bench.board.initrd = Some(pa(KERNEL, 4096));
    assert_says(&bench.refusal(), &["module /chosen/module@0x50000000", "overlaps the initrd"]);
}

#[test]
fn a_ramdisk_that_does_not_fit_is_refused() {
    let message = one("vm.mem=64M").ramdisk(0x5100_0000, 62 * MIB).refusal();
    assert_says(&message, &["VM 'vm0'", "ramdisk of 0x3e00000 bytes", "vm.mem"]);
}

#[test]
fn vcpus_may_share_cpus_and_too_many_are_refused_with_each_share() {
    let mut shared = one("vm.cpus=8");
    shared.cpus = 1;
    assert_eq!(shared.vm().vcpus(), 8);
    let of_eight_each = |names: &[&str]| {
        let words = |name: &str| format!("vm.mem=4M vm.cpus=8 vm.name={name}");
        let mut bench = one(&words("a"));
        bench.cpus = 1;
        for (n, name) in names.iter().enumerate() {
            bench = bench.kernel(0x5100_0000 + n as u64 * 0x10_0000, 0x1000, &words(name));
        }
        bench
    };
    assert_eq!(of_eight_each(&["b", "c", "d"]).vms().unwrap().len(), 4, "32 on one CPU");
    let five = of_eight_each(&["b", "c", "d", "e"]);
    let says =
        ["CPU 0 has 40 vCPUs (a 8, b 8, c 8, d 8, e 8)", "at most 32", "vm.cpus", "more CPUs"];
    assert_says(&five.refusal(), &says);
}

// bug: 84
#[test]
fn memory_beyond_the_machines_is_refused_with_each_share() {
    let message = one("vm.mem=1G").refusal();
    assert_says(
        &message,
        &["the VMs want 1024 MiB in all (vm0 1024 MiB)", "MiB are free", "vm.mem"],
    );
    let two = one("vm.mem=512M").kernel(0x5100_0000, 0x1000, "vm.mem=512M vm.name=b");
    assert_says(&two.refusal(), &["1024 MiB in all (vm0 512 MiB, b 512 MiB)"]);
    // ROM is memory too.
    let rom = one("vm.mem=900M vm.rom=0x10000000+512M").refusal();
    assert_says(&rom, &["1412 MiB in all"]);
    let mut huge = one("vm.ipa=48 vm.mem=0x30000G");
    huge.pa_bits = 48;
    assert_says(&huge.refusal(), &["201326592 MiB in all"]);
}

#[test]
fn memory_is_counted_in_free_pieces() {
    // 1 GiB with image, tree and module: each breaks pieces of 2 MiB.
    let mut bench = one("vm.mem=1016M");
    assert!(bench.vms().is_ok(), "{}", bench.refusal());
    bench.own.push(("more", pa(0x6000_0000, 1)));
    assert_says(&bench.refusal(), &["1014 MiB are free"]);
}

#[test]
fn pieces_begin_where_they_are_aligned() {
    // 64 MiB that begin and end in the middle of a piece hold 31 pieces.
    let with = |args| {
        let mut bench = one(args);
        bench.own.clear();
        bench.board.ram = vec![pa(KERNEL, MIB), pa(0x6010_0000, 64 * MIB)];
        bench
    };
    assert!(with("vm.mem=62M").vms().is_ok());
    assert_says(&with("vm.mem=64M").refusal(), &["want 64 MiB", "62 MiB are free"]);
}

#[test]
fn the_ipa_space_is_bounded_by_the_cpu() {
    let with = |bits, args| {
        let mut bench = one(args);
        bench.pa_bits = bits;
        bench
    };
    assert_eq!(with(36, "").vm().ipa_bits, 36, "the default gives way");
    assert_eq!(with(48, "").vm().ipa_bits, 40);
    assert_eq!(with(40, "vm.ipa=40").vm().ipa_bits, 40);
    let message = with(40, "vm.ipa=44").refusal();
    assert_says(&message, &["VM 'vm0'", "vm.ipa=44", "40 bits"]);
    assert_eq!(with(52, "vm.ipa=48").vm().ipa_bits, 48);
    // A CPU with less than any IPA space there can be.
    assert_says(&with(31, "").refusal(), &["31 bits", "at least 32"]);
}

#[test]
fn ram_ends_inside_the_ipa_space() {
    let mut bench = one("vm.ipa=32 vm.mem=3G");
    bench.board.ram = vec![pa(0x4000_0000, 8 << 30)];
    assert_eq!(bench.vm().ram.end(), Ipa::new(1 << 32));
    let mut bench = one("vm.ipa=32 vm.mem=3074M");
    bench.board.ram = vec![pa(0x4000_0000, 8 << 30)];
    assert_says(&bench.refusal(), &["3074 MiB", "beyond its 32 bits of IPA", "vm.mem", "vm.ipa"]);
    assert_says(&one("vm.mem=0x3ffffffffG").refusal(), &["beyond its 40 bits"]);
}

#[test]
fn ranges_end_inside_the_ipa_space() {
    for word in ["vm.rom", "vm.allow", "vm.preset"] {
        let message = one(&format!("vm.ipa=32 {word}=0xfffff000+8K")).refusal();
        assert_says(&message, &[word, "0xfffff000+0x2000", "beyond its 32 bits of IPA"]);
        assert!(one(&format!("vm.ipa=32 {word}=0xfffff000+4K")).vms().is_ok());
    }
    let message = one("vm.ipa=32 vm.testdev=0x100000000").refusal();
    assert_says(&message, &["vm.testdev", "beyond its 32 bits"]);
    assert_says(&one("vm.testdev=0xfffffffffffff000").refusal(), &["vm.testdev"]);
}

#[test]
fn ranges_over_ram_are_refused() {
    for word in ["vm.rom", "vm.allow", "vm.preset"] {
        // One page before the start, the last page, all around.
        for range in ["0x3ffff000+8K", "0x47fff000+4K", "0+2G", "0x40000000+128M"] {
            let message = one(&format!("{word}={range}")).refusal();
            assert_says(&message, &[word, "overlaps its RAM 0x40000000+0x8000000"]);
        }
        assert!(one(&format!("{word}=0x3ffff000+4K:0x48000000+4K")).vms().is_ok());
    }
    assert_says(&one("vm.testdev=0x40000000").refusal(), &["vm.testdev", "its RAM"]);
}

#[test]
fn rom_and_test_device_stay_out_of_device_windows() {
    for range in ["0x8000000+4K", "0x7fff000+8K", "0x8fff000+4K", "0x80a0000+64K"] {
        let message = one(&format!("vm.rom={range}")).refusal();
        assert_says(&message, &["vm.rom", "overlaps the GIC at 0x8000000+0x1000000"]);
    }
    assert_says(&one("vm.rom=0x9000000+4K").refusal(), &["the PL011 at 0x9000000+0x1000"]);
    assert_says(&one("vm.testdev=0x9000000").refusal(), &["vm.testdev", "the PL011"]);
    assert_says(&one("vm.testdev=0x8010000").refusal(), &["vm.testdev", "the GIC"]);
    assert!(one("vm.rom=0x7fff000+4K:0x9001000+4K").vms().is_ok());
    // Devices may be declared: that is what declaring is for.
    assert!(one("vm.preset=0x8000000+64K:0x9000000+4K vm.allow=0x8000000+17M").vms().is_ok());
}

#[test]
fn rom_overlaps_nothing_that_is_declared_or_rom() {
    let cases = [
        ("vm.rom=0+64K:0xf000+4K", "vm.rom 0xf000+0x1000"),
        ("vm.rom=0+64K:0+64K", "vm.rom 0x0+0x10000"),
        ("vm.rom=0x1000+4K:0+64K", "vm.rom 0x0+0x10000"),
        ("vm.rom=0+64K vm.allow=0xf000+8K", "vm.allow 0xf000+0x2000"),
        ("vm.rom=0+64K vm.preset=0+4K", "vm.preset 0x0+0x1000"),
        ("vm.rom=0+64K vm.testdev=0xf000", "vm.testdev 0xf000+0x1000"),
    ];
    for (words, other) in cases {
        assert_says(&one(words).refusal(), &["vm.rom", "overlaps", other, "ROM is memory"]);
    }
    assert!(one("vm.rom=0+64K:0x10000+64K vm.preset=0x20000+4K").vms().is_ok());
}

#[test]
fn a_load_address_outside_memory_names_the_vm() {
    let message = one("vm.name=u vm.load=0x9000000").refusal();
    assert_says(&message, &["VM 'u'", "vm.load=0x9000000", "neither in its RAM"]);
    let kernel = one("vm.load=0x40300000").header(KERNEL, image_header(0, MIB, 0)).refusal();
    assert_says(&kernel, &["vm.load=0x40300000", "multiple of 2M"]);
}

#[test]
fn bootargs_that_no_tree_can_hold_are_refused() {
    let args = "x".repeat(MAX_BOOTARGS + 1);
    assert_says(&one(&args).refusal(), &["VM 'vm0'", "4097 bytes", "shorten"]);
    assert!(one(&args[1..]).vms().is_ok());
}

/// A range of whole pages from 0x50000000, small enough to collide often.
fn some_range() -> impl Strategy<Value = (u64, u64)> {
    (0_u64..24, 1_u64..12).prop_map(|(page, pages)| (0x5000_0000 + page * 0x1000, pages * 0x1000))
}

fn overlap((a, a_size): (u64, u64), (b, b_size): (u64, u64)) -> bool {
    (a..a + a_size).step_by(0x1000).any(|page| (b..b + b_size).contains(&page))
}

proptest! {
    /// Whichever of two things is the module: they are refused exactly when they share a page.
    // bug: 80
    #[test]
    fn overlap_is_symmetric(left in some_range(), right in some_range()) {
        let expected = overlap(left, right);
        prop_assert_eq!(expected, overlap(right, left));
        for (module, other) in [(left, right), (right, left)] {
            let new = || Bench::new().kernel(module.0, module.1, "vm.mem=32M");
            let mut own = new();
            own.own.push(("own", pa(other.0, other.1)));
            prop_assert_eq!(own.vms().is_err(), expected, "own");
            let mut reserved = new();
            reserved.board.reserved = vec![Reserved { name: "r".into(), range: pa(other.0, other.1) }];
            prop_assert_eq!(reserved.vms().is_err(), expected, "reserved");
            let mut initrd = new();
            initrd.board.initrd = Some(pa(other.0, other.1));
            prop_assert_eq!(initrd.vms().is_err(), expected, "initrd");
            let kernels = new().kernel(other.0, other.1, "vm.mem=32M");
            prop_assert_eq!(kernels.vms().is_err(), expected, "another kernel");
        }
    }

    /// The same for what a VM's words say: ROMs among each other and against what is declared.
    // bug: 80
    #[test]
    fn overlap_of_words_is_symmetric(left in some_range(), right in some_range()) {
        let text = |(start, size): (u64, u64)| format!("{start:#x}+{size:#x}");
        let expected = overlap(left, right);
        for (one_side, other) in [(left, right), (right, left)] {
            let (first, second) = (text(one_side), text(other));
            for words in [
                format!("vm.mem=32M vm.rom={first}:{second}"),
                format!("vm.mem=32M vm.rom={first} vm.allow={second}"),
                format!("vm.mem=32M vm.preset={first} vm.rom={second}"),
            ] {
                prop_assert_eq!(one(&words).vms().is_err(), expected, "{}", words);
            }
        }
    }

    /// A VM that is accepted keeps what VmConfig promises, whatever its words were.
    #[test]
    fn what_is_accepted_fits(
        mem in prop_oneof![Just(2_u64), Just(4), 1_u64..600],
        vcpus in 0_usize..10,
        ipa_bits in 30_u8..50,
        load in prop::option::of(0_u64..0x5000_0000),
        kernel in 1_u64..(8 << 20),
        ramdisk in prop::option::of(1_u64..(8 << 20)),
        rom in prop::option::of((0_u64..0x5000_0000, 1_u64..(16 << 20))),
    ) {
        let page = |address: u64| address & !0xfff;
        let mut words = format!("vm.mem={mem}M vm.cpus={vcpus} vm.ipa={ipa_bits}");
        if let Some(load) = load {
            words += &format!(" vm.load={:#x}", page(load));
        }
        if let Some((start, size)) = rom {
            words += &format!(" vm.rom={:#x}+{:#x}", page(start), page(size) + 0x1000);
        }
        let mut bench = Bench::new().kernel(KERNEL, kernel, &words);
        if let Some(size) = ramdisk {
            bench = bench.ramdisk(0x5100_0000, size);
        }
        let Ok(vms) = bench.vms() else { return Ok(()) };
        let vm = &vms[0];
        prop_assert!(mem > 0 && mem % 2 == 0 && (1..=8).contains(&vm.vcpus()));
        prop_assert!((32..=44).contains(&vm.ipa_bits));
        prop_assert!(vm.ram.end().raw() <= 1 << vm.ipa_bits);
        let home = vm.placement.image_rom.map_or(vm.ram, |rom| vm.roms[rom]);
        prop_assert!(home.encloses(&vm.placement.image));
        prop_assert!(vm.ram.encloses(&vm.placement.tree));
        let map = vm.memory_map();
        for pair in map.regions().windows(2) {
            prop_assert!(pair[0].range.end() <= pair[1].range.start(), "{:?}", pair);
        }
    }
}
