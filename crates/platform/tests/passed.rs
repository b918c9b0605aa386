// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that VMs have for themselves: which are given away, which are refused and why, what the guest's tree says.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

mod support;

use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};
use platform::{Board, GuestHardware, Passed, PassedInterrupt, RegionKind, VmConfig, guest_tree};
use support::*;

const CLOCK: &str = "vm.dev=/pl031@9010000";

/// A VM with these words on a machine with this tree.
fn on(tree: Vec<u8>, words: &str) -> Bench {
    let mut bench = one(words);
    bench.board.uart = Board::from_tree(VIRT_G3).unwrap().uart;
    bench.tree = tree;
    bench
}

fn virt(words: &str) -> Bench {
    on(VIRT_G3.into(), words)
}

#[track_caller]
fn assert_refused(bench: &Bench, parts: &[&str]) {
    let message = bench.refusal();
    for part in parts.iter().chain(&["VM 'vm0'", "vm.dev"]) {
        assert!(message.contains(part), "'{message}' does not say '{part}'");
    }
}

#[test]
fn a_clock_and_a_gpio_are_given_away() {
    let vm = virt("vm.dev=/pl061@9030000:/pl031@9010000").vm();
    let [gpio, clock] = vm.devices.as_slice() else { panic!("{:?}", vm.devices) };
    assert_eq!(
        *clock,
        Passed {
            node: "/pl031@9010000".into(),
            registers: vec![pa(0x901_0000, 0x1000)],
            interrupts: vec![PassedInterrupt { physical: 34, intid: 35, flags: 4 }],
            clocks: vec![24_000_000],
            properties: vec![
                ("clock-names".into(), b"apb_pclk\0".into()),
                ("compatible".into(), b"arm,pl031\0arm,primecell\0".into()),
            ],
        }
    );
    assert_eq!(gpio.interrupts, [PassedInterrupt { physical: 39, intid: 34, flags: 4 }]);
    let map = vm.memory_map();
    assert_eq!(map.at(arch::Ipa::new(0x903_0fff)).unwrap().kind, RegionKind::Passed);
    assert_eq!(map.describe(arch::Ipa::new(0x903_1000)), None);
}

#[test]
fn a_vms_devices_have_seven_regions_at_most() {
    let regions = |count: u32| {
        let reg: Vec<u32> =
            (0..count).flat_map(|n| [0, 0x900_0000 + (0x10 + n) * 0x1000, 0, 0x1000]).collect();
        on(with_cells(VIRT_G3, "/pl031@9010000", "reg", &reg), CLOCK)
    };
    assert_eq!(regions(7).vm().devices[0].registers.len(), 7);
    assert_refused(&regions(8), &["more than 7 regions", "leave one out"]);
}

fn tree_of(vm: &VmConfig) -> Vec<u8> {
    guest_tree(vm, &GuestHardware { cpu_compatible: "arm,armv8".into() }, None).unwrap()
}

/// A property of a node, as cells.
fn cells(blob: &[u8], path: &str, name: &str) -> Vec<u32> {
    let node = Fdt::new(blob).unwrap().find_node(path).unwrap();
    node.property(name).unwrap().value_as::<Vec<u32>>().unwrap()
}

#[test]
fn the_guests_tree_has_the_device_and_the_flash() {
    let words = "vm.dev=/pl061@9030000:/pl031@9010000 vm.flash=0x0+2M:0x4000000+1M vm.load=0";
    let blob = tree_of(&virt(words).vm());
    let gpio = "/pl061@9030000";
    assert_eq!(cells(&blob, gpio, "reg"), [0, 0x903_0000, 0, 0x1000]);
    assert_eq!(cells(&blob, gpio, "interrupts"), [0, 2, 4]);
    assert_eq!(cells(&blob, gpio, "#gpio-cells"), [2]);
    assert_eq!(cells(&blob, "/pl031@9010000", "interrupts"), [0, 3, 4]);
    // The clocks are its own: nothing of the machine's phandles is left.
    let clock = cells(&blob, gpio, "clocks");
    let fdt = Fdt::new(&blob).unwrap();
    let provider = fdt.root().children().find(|node| {
        node.property("phandle").is_some_and(|p| p.value_as::<u32>().unwrap() == clock[0])
    });
    let frequency = provider.unwrap().property("clock-frequency").unwrap();
    assert_eq!(frequency.value_as::<u32>().unwrap(), 24_000_000);
    let node = fdt.find_node(gpio).unwrap();
    assert!(node.property("phandle").is_none() && node.property("gpio-controller").is_some());
    assert_eq!(cells(&blob, "/flash@0", "reg"), [0, 0, 0, 0x20_0000]);
    assert_eq!(cells(&blob, "/flash@4000000", "reg"), [0, 0x400_0000, 0, 0x10_0000]);
    assert_eq!(cells(&blob, "/flash@4000000", "bank-width"), [4]);
}

#[test]
fn an_image_in_flash_is_placed_there() {
    let vm = virt("vm.rom=0x8000+4K vm.flash=0x4000000+1M:0x200000+2M vm.load=0x200000").vm();
    // Behind the one rom, the second bank.
    assert_eq!(vm.placement.image_rom, Some(2));
    let message = virt("vm.flash=0x200000+256K vm.load=0x300000").refusal();
    assert!(message.contains("nor in a vm.rom or vm.flash"), "{message}");
}

#[test]
fn what_masters_the_bus_or_may_is_refused() {
    for (path, why) in [
        ("/virtio_mmio@a000000", "dma-coherent"),
        ("/pcie@10000000", "dma-coherent"),
        ("/fw-cfg@9020000", "dma-coherent"),
        ("/flash@0", "'cfi-flash' may master the bus"),
        ("/memory@40000000", "may master the bus"),
        ("/platform-bus@c000000", ""),
    ] {
        assert_refused(&virt(&format!("vm.dev={path}")), &[path, why]);
    }
    for name in ["dmas", "iommus", "dma-ranges", "dma-coherent", "memory-region"] {
        let tree = with_cells(VIRT_G3, "/pl031@9010000", name, &[1]);
        assert_refused(&on(tree, CLOCK), &["it may reach memory by itself", name]);
    }
    let tree = with_bytes(VIRT_G3, "/pl031@9010000", "compatible", b"arm,pl330\0".into());
    assert_refused(&on(tree, CLOCK), &["'arm,pl330' may master the bus", "arm,pl011"]);
}

#[test]
fn what_is_not_there_is_refused() {
    assert_refused(&virt("vm.dev=/pl031@9020000"), &["/pl031@9020000", "no such node"]);
    let tree = with_bytes(VIRT_G3, "/pl031@9010000", "status", b"disabled\0".into());
    assert_refused(&on(tree, CLOCK), &["no such node that is enabled"]);
    assert_refused(&virt("vm.dev=/"), &["the root has no registers"]);
    assert_refused(&virt("vm.dev=/timer"), &["it has no reg"]);
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "reg", &[]);
    assert_refused(&on(tree, CLOCK), &["no bytes"]);
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "reg", &[0, 0x901_0000, 0, 0]);
    assert_refused(&on(tree, CLOCK), &["no bytes"]);
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "reg", &[1, 0x901_0000, 0, 0x4_1000]);
    assert_refused(&on(tree, CLOCK), &["64 pages"]);
}

#[test]
fn what_portcullis_uses_is_refused() {
    for path in ["/pl011@9000000", "/intc@8000000"] {
        assert_refused(&virt(&format!("vm.dev={path}")), &[path, "Portcullis itself uses it"]);
    }
    // The interrupt of the console is as good as the console.
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "interrupts", &[0, 1, 4]);
    assert_refused(&on(tree, CLOCK), &["Portcullis itself uses it"]);
    // Its page, too.
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "reg", &[0, 0x900_0800, 0, 0x100]);
    assert_refused(&on(tree, CLOCK), &["Portcullis itself uses it"]);
}

#[test]
fn a_page_with_another_device_is_refused() {
    let tree = edited(VIRT_G3, |tree| {
        tree.root.add_child(node("wdt@9010800", &[("reg", &[0, 0x901_0800, 0, 0x100])]));
    });
    assert_refused(&on(tree, CLOCK), &["/wdt@9010800 has registers in the same page"]);
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "reg", &[0, 0x4000_0000, 0, 0x1000]);
    assert_refused(&on(tree, CLOCK), &["/memory@40000000 has registers in the same page"]);
}

#[test]
fn interrupts_and_clocks_must_be_such_as_can_be_given() {
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "interrupts", &[1, 2, 4]);
    assert_refused(&on(tree, CLOCK), &["no shared one of the GIC"]);
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "interrupts", &[0, 988, 4]);
    assert_refused(&on(tree, CLOCK), &["no shared one of the GIC"]);
    let tree = without_property(VIRT_G3, "/apb-pclk", "clock-frequency");
    assert_refused(&on(tree.clone(), CLOCK), &["no fixed frequency"]);
    // The node's own word counts then.
    let model = edited(&tree, |tree| {
        let node = tree.find_node_mut("/pl031@9010000").unwrap();
        node.add_property(dtoolkit::model::DeviceTreeProperty::new_unchecked(
            "clock-frequency",
            1_000_000_u32,
        ));
    });
    assert_eq!(on(model, CLOCK).vm().devices[0].clocks, [1_000_000]);
    let many: Vec<u32> = (0..63).flat_map(|n| [0, n + 100, 4]).collect();
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "interrupts", &many);
    // As many as are read.
    assert_eq!(on(tree, CLOCK).vm().devices[0].interrupts.len(), 16);
}

#[test]
fn a_device_is_one_vms_and_given_once() {
    assert_refused(&virt("vm.dev=/pl031@9010000:/pl031@9010000"), &["given twice"]);
    // By another spelling of the path.
    assert_refused(&virt("vm.dev=/pl031@9010000:/pl031"), &["given twice"]);
    let mut bench = virt("vm.name=a vm.mem=4M vm.dev=/pl031@9010000").kernel(
        0x5100_0000,
        4096,
        "vm.name=b vm.mem=4M vm.dev=/pl061@9030000",
    );
    assert_eq!(bench.vms().unwrap().len(), 2);
    bench.board.modules[1].bootargs = "vm.name=b vm.mem=4M vm.dev=/pl031".into();
    let message = bench.refusal();
    assert!(message.contains("VM 'b'") && message.contains("VM 'a' has it"), "{message}");
    // Two devices on one line.
    bench.tree = with_cells(VIRT_G3, "/pl061@9030000", "interrupts", &[0, 2, 4]);
    bench.board.modules[1].bootargs = "vm.name=b vm.mem=4M vm.dev=/pl061".into();
    let message = bench.refusal();
    assert!(message.contains("VM 'a' has it, or its interrupt"), "{message}");
}

#[test]
fn its_pages_are_nothing_else() {
    for words in ["vm.rom=0x9010000+4K", "vm.testdev=0x9010000", "vm.flash=0x9000000+256K"] {
        let message = virt(&format!("{CLOCK} {words}")).refusal();
        assert!(message.contains("overlaps"), "{message}");
    }
    // Declaring it is what it is for.
    virt(&format!("{CLOCK} vm.preset=0x9010000+4K vm.allow=0x9010000+4K")).vm();
    let tree = with_cells(VIRT_G3, "/pl031@9010000", "reg", &[0x20, 0x901_0000, 0, 0x1000]);
    let message = on(tree, &format!("{CLOCK} vm.ipa=32")).refusal();
    assert!(message.contains("ends beyond its 32 bits of IPA"), "{message}");
}

#[test]
fn flash_overlaps_nothing() {
    for words in [
        "vm.flash=0x40000000+1M",
        "vm.flash=0x8000000+1M",
        "vm.flash=0x9000000+256K",
        "vm.flash=0x0+1M:0x80000+512K",
        "vm.flash=0x0+1M vm.rom=0xff000+4K",
        "vm.flash=0x0+1M vm.testdev=0xff000",
        "vm.flash=0x100000000+1M vm.ipa=32",
    ] {
        let message = virt(words).refusal();
        assert!(message.contains("vm.flash") && message.contains("move"), "{message}");
    }
    virt("vm.flash=0x0+1M vm.preset=0x0+1M vm.allow=0x0+2M").vm();
}
