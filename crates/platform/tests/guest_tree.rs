// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trees that guests get: against golden sources, against our own reader, against dtoolkit's.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

mod support;

use arch::Mpidr;
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};
use platform::{
    Board, Conduit, GicVersion, GuestHardware, GuestSeeds, MAX_BOOTARGS, PL011, TREE_SPACE,
    UartKind, VmConfig, guest_tree, guest_tree_with_places,
};
use proptest::prelude::*;
use support::*;

const SEEDS: GuestSeeds = GuestSeeds { rng: [0xa5; 32], kaslr: 0x0123_4567_89ab_cdef };

fn hardware() -> GuestHardware {
    GuestHardware { cpu_compatible: "arm,cortex-a57".into() }
}

fn vm(gic: GicVersion, words: &str) -> VmConfig {
    let mut vm = one(words).ramdisk(0x5100_0000, 0x12345).vm();
    vm.gic = gic;
    vm
}

fn tree(vm: &VmConfig) -> Vec<u8> {
    guest_tree(vm, &hardware(), Some(&SEEDS)).unwrap()
}

/// The value of a property, as cells.
fn cells(blob: &[u8], path: &str, name: &str) -> Vec<u32> {
    let node = Fdt::new(blob).unwrap().find_node(path).unwrap();
    node.property(name).unwrap().value_as::<Vec<u32>>().unwrap()
}

/// Compares with tests/fixtures/NAME; GOLDEN=write makes it anew, to be reviewed as a diff.
#[track_caller]
fn assert_golden(name: &str, blob: &[u8]) {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let header = "// SPDX-License-Identifier: MIT OR Apache-2.0\n";
    let text = format!("{header}{}", Fdt::new(blob).unwrap());
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, golden, "{name} is not what it was");
}

#[test]
fn the_places_of_the_seeds_are_those_of_their_values() {
    let vm = vm(GicVersion::V3, "");
    let (mut blob, places) = guest_tree_with_places(&vm, &hardware(), Some(&SEEDS)).unwrap();
    let places = places.unwrap();
    let other = GuestSeeds { rng: [0x11; 32], kaslr: 0xfedc_ba98_7654_3210 };
    blob[places.rng..places.rng + 32].copy_from_slice(&other.rng);
    blob[places.kaslr..places.kaslr + 8].copy_from_slice(&other.kaslr.to_be_bytes());
    assert_eq!(blob, guest_tree(&vm, &hardware(), Some(&other)).unwrap());
    assert_eq!(guest_tree_with_places(&vm, &hardware(), None).unwrap().1, None);
}

#[test]
fn a_gicv2_tree_is_the_golden_one() {
    let vm = vm(GicVersion::V2, "vm.cpus=2 vm.mem=464M console=ttyAMA0 panic=-1");
    assert_golden("guest-g2.golden", &tree(&vm));
}

// bug: 58 79
#[test]
fn a_gicv3_tree_is_the_golden_one() {
    let vm = vm(GicVersion::V3, "vm.cpus=2 vm.mem=464M console=ttyAMA0 panic=-1");
    assert_golden("guest-g3.golden", &tree(&vm));
}

/// What a guest can see of its tree, through the reader for machines.
fn assert_round_trip(vm: &VmConfig) {
    let blob = tree(vm);
    // EL2's board wants GICH and GICV, which a guest has not.
    let board = match vm.gic {
        GicVersion::V3 => Board::from_tree(&blob).unwrap(),
        GicVersion::V2 => {
            assert_eq!(
                cells(&blob, "/intc@8000000", "reg"),
                [0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1_0000]
            );
            Board::from_tree(&with_cells(
                &blob,
                "/intc@8000000",
                "reg",
                &[
                    0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1_0000, 0, 0x803_0000, 0,
                    0x1_0000, 0, 0x804_0000, 0, 0x1_0000,
                ],
            ))
            .unwrap()
        }
    };
    assert_eq!(board.ram, [pa(vm.ram.start().raw(), vm.ram.size())]);
    assert!(board.reserved.is_empty() && board.modules.is_empty());
    let ids: Vec<Mpidr> = board.cpus.iter().map(|cpu| cpu.mpidr).collect();
    assert_eq!(ids, (0..vm.vcpus() as u64).map(Mpidr::new).collect::<Vec<_>>());
    assert!(board.cpus.iter().all(|cpu| cpu.is_startable()));
    assert!(board.cpus.iter().all(|cpu| cpu.compatible == "arm,cortex-a57"));
    assert_eq!(board.psci.unwrap().conduit, Conduit::Hvc);
    let timer = board.timer;
    assert_eq!((timer.physical, timer.virt, timer.hypervisor), (30, 27, 26));
    assert_eq!(timer.secure_physical, Some(29));
    let uart = board.uart.unwrap();
    assert_eq!(uart.kind, UartKind::Driven { name: "PL011", driver: PL011 });
    assert_eq!(uart.registers, pa(0x900_0000, 0x1000));
    assert_eq!(uart.intid, Some(33));
    assert_eq!(board.bootargs, vm.bootargs);
    let ramdisk = vm.placement.ramdisk.map(|range| pa(range.start().raw(), range.size()));
    assert_eq!(board.initrd, ramdisk);
    if let platform::Gic::V3 { gicd, redistributors, .. } = board.gic {
        assert_eq!(gicd, pa(0x800_0000, 0x1_0000));
        assert_eq!(redistributors, [pa(0x80a_0000, 0x2_0000 * vm.vcpus() as u64)]);
    }
}

#[test]
fn a_tree_says_what_its_vm_is() {
    for gic in [GicVersion::V2, GicVersion::V3] {
        for vcpus in 1..=4 {
            assert_round_trip(&vm(gic, &format!("vm.cpus={vcpus} vm.mem=64M root=/dev/vda")));
        }
    }
}

// bug: 79
#[test]
fn every_device_of_the_tree_is_one_of_the_memory_map() {
    for gic in [GicVersion::V2, GicVersion::V3] {
        let vm = vm(gic, "vm.cpus=3");
        let blob = tree(&vm);
        let map = vm.memory_map();
        let fdt = Fdt::new(&blob).unwrap();
        let mut seen = 0;
        for node in fdt.root().children() {
            let Some(regs) = node.reg().unwrap() else { continue };
            for reg in regs {
                let (start, size): (u64, u64) = (reg.address().unwrap(), reg.size().unwrap());
                let range = ipa(start, size);
                // All of it is something: nothing that is not there is described.
                let covered: u64 = map
                    .regions()
                    .iter()
                    .filter(|region| range.encloses(&region.range))
                    .map(|region| region.range.size())
                    .sum();
                assert_eq!(covered, size, "{} {range}", node.name());
                seen += 1;
            }
        }
        // RAM, PL011, and two of the GIC.
        assert_eq!(seen, 4);
    }
}

#[test]
fn interrupts_of_a_gicv2_have_a_mask_of_the_vcpus() {
    for (vcpus, mask) in [(1, 0x104), (2, 0x304), (4, 0xf04)] {
        let vm = vm(GicVersion::V2, &format!("vm.cpus={vcpus}"));
        let expected = [1, 13, mask, 1, 14, mask, 1, 11, mask, 1, 10, mask];
        assert_eq!(cells(&tree(&vm), "/timer", "interrupts"), expected);
    }
    let vm = vm(GicVersion::V3, "vm.cpus=4");
    assert_eq!(cells(&tree(&vm), "/timer", "interrupts")[..3], [1, 13, 4]);
}

#[test]
fn every_phandle_that_is_used_exists() {
    for gic in [GicVersion::V2, GicVersion::V3] {
        let blob = tree(&vm(gic, ""));
        let fdt = Fdt::new(&blob).unwrap();
        let handles: Vec<u32> = fdt
            .root()
            .children()
            .filter_map(|node| node.property("phandle")?.value_as().ok())
            .collect();
        let used =
            [cells(&blob, "/", "interrupt-parent"), cells(&blob, "/pl011@9000000", "clocks")];
        assert!(used.concat().iter().all(|handle| handles.contains(handle)));
        assert_eq!(handles.len(), 2);
    }
}

#[test]
fn without_ramdisk_and_seeds_their_properties_are_not_there() {
    let vm = one("").vm();
    let blob = guest_tree(&vm, &hardware(), None).unwrap();
    let chosen = Fdt::new(&blob).unwrap().find_node("/chosen").unwrap();
    let names: Vec<String> = chosen.properties().map(|it| it.name().to_owned()).collect();
    assert_eq!(names, ["bootargs", "stdout-path"]);
}

#[test]
fn seeds_arrive_as_given() {
    let blob = tree(&one("").vm());
    let board = Board::from_tree(&blob).unwrap();
    let given = platform::Seeds::new(&SEEDS.rng, &SEEDS.kaslr.to_be_bytes());
    assert_eq!(board.seeds, given);
}

#[test]
fn two_vms_of_one_machine_have_different_seeds() {
    let bench = one("vm.mem=4M").kernel(0x5100_0000, 0x1000, "vm.mem=4M");
    let vms = bench.vms().unwrap();
    let seeds: Vec<GuestSeeds> = vms
        .iter()
        .enumerate()
        .map(|(index, vm)| bench.board.seeds.for_guest(index, &vm.name, 0).unwrap())
        .collect();
    assert_ne!(seeds[0].rng, seeds[1].rng);
    assert_ne!(seeds[0].kaslr, seeds[1].kaslr);
}

#[test]
fn the_longest_bootargs_and_eight_vcpus_fit() {
    let mut vm = one(&"x".repeat(MAX_BOOTARGS)).vm();
    vm.share.cpus = vec![0; 8];
    for gic in [GicVersion::V2, GicVersion::V3] {
        vm.gic = gic;
        assert!(tree(&vm).len() as u64 <= TREE_SPACE);
    }
    // Who makes a VmConfig by hand is told, not trusted.
    vm.bootargs = "x".repeat(TREE_SPACE as usize);
    let message = guest_tree(&vm, &hardware(), None).unwrap_err().to_string();
    assert!(message.contains("VM 'vm0'") && message.contains("shorten its bootargs"), "{message}");
}

#[test]
fn a_guest_sees_the_machines_cpu() {
    let board = Board::from_tree(VIRT_G3).unwrap();
    assert_eq!(GuestHardware::of(&board).cpu_compatible, "arm,cortex-a72");
    let blob = without_property(VIRT_G2, "/cpus/cpu@0", "compatible");
    let board = Board::from_tree(&blob).unwrap();
    assert_eq!(GuestHardware::of(&board).cpu_compatible, "arm,armv8");
}

proptest! {
    /// Any bootargs that a VM can have arrive in the tree as they are.
    #[test]
    fn bootargs_arrive_as_they_are(args in "[^\\x00]{0,64}") {
        prop_assume!(!args.contains("vm."));
        let mut vm = one("").vm();
        vm.bootargs = args.clone();
        let board = Board::from_tree(&tree(&vm)).unwrap();
        prop_assert_eq!(board.bootargs, args);
    }
}

/// A device VM and a VM that it serves, in this order.
fn device_vms(words: &str) -> Vec<VmConfig> {
    let bench = one("vm.name=store vm.mem=64M vm.role=device").kernel(
        0x5100_0000,
        4096,
        &format!("vm.name=web vm.mem=32M {words}"),
    );
    bench.kernel(0x5200_0000, 4096, "vm.mem=4M vm.forward=store:0xc000000+4K").vms().unwrap()
}

#[test]
fn the_tree_of_a_served_vm_is_the_golden_one() {
    let vms = device_vms("vm.devices=store:blk:net vm.share=pool:8M");
    assert_golden("guest-served.golden", &tree(&vms[1]));
}

#[test]
fn the_tree_of_a_device_vm_is_the_golden_one() {
    let vms = device_vms("vm.devices=store:blk:net vm.share=pool:8M");
    assert_golden("guest-device-vm.golden", &tree(&vms[0]));
}

#[test]
fn a_served_vm_finds_its_transports_and_its_pool() {
    for share in ["guest", "all", "pool:2M", "pool:8M:auto"] {
        let vms = device_vms(&format!("vm.devices=store:blk:net:rng vm.share={share}"));
        let served = vms[1].served.as_ref().unwrap();
        let blob = tree(&vms[1]);
        let fdt = Fdt::new(&blob).unwrap();
        let nodes: Vec<_> =
            fdt.root().children().filter(|it| it.name().starts_with("virtio_mmio")).collect();
        assert_eq!(nodes.len(), served.transports.len());
        for (index, node) in nodes.iter().enumerate() {
            let start = arch::guest_map::transport_ipa(index).raw();
            assert_eq!(node.name(), format!("virtio_mmio@{start:x}"));
            let path = format!("/{}", node.name());
            assert_eq!(cells(&blob, &path, "reg"), [0, start as u32, 0, 0x1000]);
            let spi = arch::guest_map::transport_intid(index) - 32;
            assert_eq!(cells(&blob, &path, "interrupts"), [0, spi, 4]);
            assert!(node.property("dma-coherent").unwrap().value().is_empty());
            let pool = node.property("memory-region").map(|it| it.value_as::<u32>().unwrap());
            assert_eq!(pool.is_some(), served.share.pool().is_some(), "{share}");
        }
        // EL2's own reader finds the pool where it is, inside RAM.
        let board = Board::from_tree(&blob).unwrap();
        let reserved: Vec<_> = board.reserved.iter().map(|it| it.range).collect();
        let pool = served.share.pool().map(|pool| pa(pool.start().raw(), pool.size()));
        assert_eq!(reserved, pool.into_iter().collect::<Vec<_>>(), "{share}");
        assert!(reserved.iter().all(|pool| board.ram[0].encloses(pool)));
        let Some(pool) = served.share.pool() else { continue };
        let path = format!("/reserved-memory/pool@{:x}", pool.start().raw());
        let node = fdt.find_node(&path).unwrap();
        assert_eq!(node.property("compatible").unwrap().value(), b"restricted-dma-pool\0");
        // Linux refuses a pool that is not in its linear map, or that others may have.
        assert!(node.property("no-map").is_none() && node.property("reusable").is_none());
        let phandle = cells(&blob, &path, "phandle");
        assert_eq!(cells(&blob, "/virtio_mmio@a000000", "memory-region"), phandle);
    }
}

#[test]
fn a_device_vm_finds_its_peers() {
    let vms = device_vms("vm.devices=store:blk:0x1a vm.share=all");
    let store = &vms[0];
    let blob = tree(store);
    let fdt = Fdt::new(&blob).unwrap();
    let node = fdt.find_node("/device-vm").unwrap();
    assert_eq!(node.property("compatible").unwrap().value(), b"portcullis,device-vm-1\0");
    assert!(node.property("ranges").unwrap().value().is_empty());
    assert_eq!(node.children().count(), store.peers.len());
    let map = store.memory_map();
    let mut described = 0;
    for (child, peer) in node.children().zip(&store.peers) {
        let path = format!("/device-vm/{}", child.name());
        assert_eq!(child.name(), format!("peer@{:x}", peer.control_page().raw()));
        assert_eq!(child.property("label").unwrap().value_as::<&str>().unwrap(), peer.name);
        let long = |pair: &[u32]| u64::from(pair[0]) << 32 | u64::from(pair[1]);
        let reg = cells(&blob, &path, "reg");
        let ranges: Vec<_> =
            reg.chunks(4).map(|reg| ipa(long(&reg[..2]), long(&reg[2..]))).collect();
        let control = ipa(peer.control_page().raw(), 0x1000);
        let expected: Vec<_> =
            [control, peer.window].into_iter().chain(peer.register_images()).collect();
        assert_eq!(ranges, expected);
        let names = child.property("reg-names").unwrap();
        assert_eq!(names.value().split(|byte| *byte == 0).count() - 1, ranges.len());
        for range in &ranges {
            assert!(map.regions().iter().any(|region| region.range == *range), "{range}");
            described += 1;
        }
        assert_eq!(cells(&blob, &path, "interrupts"), [0, peer.intid() - 32, 1]);
        let devices = child.property("portcullis,devices");
        let devices = devices.map_or_else(Vec::new, |it| it.value_as::<Vec<u32>>().unwrap());
        let ids: Vec<u32> = peer.transports.iter().map(|device| device.raw()).collect();
        assert_eq!(devices, ids);
    }
    // Two peers, one of them with transports; what else is mapped is RAM, the GIC and the PL011.
    assert_eq!(described, 5);
    assert_eq!(map.regions().len(), 5 + 4);
    // The windows are not memory: a kernel would give them to anyone.
    assert_eq!(cells(&blob, "/memory@40000000", "reg"), [0, 0x4000_0000, 0, 64 << 20]);
    let memories = fdt.root().children().filter(|it| it.name().starts_with("memory"));
    assert_eq!(memories.count(), 1);
    assert!(Board::from_tree(&blob).unwrap().reserved.is_empty());
    // A device VM without peers has the node all the same, others have not.
    let alone = tree(&one("vm.role=device").vm());
    assert_eq!(Fdt::new(&alone).unwrap().find_node("/device-vm").unwrap().children().count(), 0);
    let other = tree(&vms[1]);
    assert!(Fdt::new(&other).unwrap().find_node("/device-vm").is_none());
}

/// The binding names what a peer's node has, and nothing else.
#[test]
fn the_binding_of_device_vms_has_what_their_tree_has() {
    let text = include_str!("../../../docs/bindings/portcullis,device-vm.yaml");
    let peer = text.split("\npatternProperties:").nth(1).unwrap();
    let peer = peer.split("\n    properties:").nth(1).unwrap().split("\n    required:").next();
    let names = peer.unwrap().lines().filter_map(|line| line.strip_prefix("      "));
    let names = names.filter(|line| !line.starts_with(' '));
    let mut names: Vec<&str> = names.filter_map(|line| line.strip_suffix(':')).collect();
    let vms = device_vms("vm.devices=store:blk");
    let blob = tree(&vms[0]);
    let node = Fdt::new(&blob).unwrap().find_node("/device-vm/peer@b000000").unwrap();
    let mut has: Vec<String> = node.properties().map(|it| it.name().to_owned()).collect();
    names.sort_unstable();
    has.sort_unstable();
    assert_eq!(has, names);
    for fixed in ["const: device-vm", "const: portcullis,device-vm-1", "const: registers"] {
        assert!(text.contains(fixed), "{fixed}");
    }
}

#[test]
fn the_largest_served_and_device_vms_fit() {
    let mut store = device_vms("vm.devices=store:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1 vm.share=pool:8M");
    assert!(tree(&store[1]).len() as u64 <= TREE_SPACE);
    let peer = &store[0].peers[0];
    let all = (0..mmio_guard::abi::device::map::PEERS).map(|number| platform::PeerConfig {
        number,
        name: "x".repeat(31),
        ..peer.clone()
    });
    store[0].peers = all.collect();
    store[0].bootargs = "x".repeat(MAX_BOOTARGS);
    assert!(tree(&store[0]).len() as u64 <= TREE_SPACE);
}
