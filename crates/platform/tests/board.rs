// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boards from whole device trees: those of QEMU's virt machine and a made-up one.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

mod support;

use arch::{Mpidr, Pa};
use dtoolkit::model::DeviceTreeProperty;
use platform::{
    Board, BoardReport, Conduit, Gic, ModuleKind, PL011, Psci, ReportedRam, Reserved, Seeds,
    StartMethod, Timer, Uart, UartDriver, UartKind,
};
use support::*;

#[test]
fn qemu_virt_with_gicv2_is_read_whole() {
    let board = Board::from_tree(VIRT_G2).unwrap();
    assert_eq!(board.model, "linux,dummy-virt");
    assert_eq!(board.ram, [pa(0x4000_0000, 0x4000_0000)]);
    assert!(board.reserved.is_empty());
    let cpus: Vec<_> = board.cpus.iter().map(|cpu| (cpu.mpidr, &cpu.start)).collect();
    assert_eq!(cpus, [(Mpidr::new(0), &StartMethod::Psci), (Mpidr::new(1), &StartMethod::Psci)]);
    assert_eq!(board.cpus[0].compatible, "arm,cortex-a57");
    let psci = Psci { conduit: Conduit::Smc, cpu_on: 0xc400_0003, has_system_off: true };
    assert_eq!(board.psci, Some(psci));
    assert_eq!(
        board.gic,
        Gic::V2 {
            gicd: pa(0x800_0000, 0x1_0000),
            gicc: pa(0x801_0000, 0x1_0000),
            gich: pa(0x803_0000, 0x1_0000),
            gicv: pa(0x804_0000, 0x1_0000),
            maintenance: Some(25),
        }
    );
    assert_eq!(
        board.timer,
        Timer {
            secure_physical: Some(29),
            physical: 30,
            virt: 27,
            hypervisor: 26,
            frequency: None
        }
    );
    assert_eq!(
        board.uart,
        Some(Uart {
            kind: UartKind::Driven { name: "PL011", driver: PL011 },
            registers: pa(0x900_0000, 0x1000),
            intid: Some(33),
            path: "/pl011@9000000".into(),
            options: String::new(),
            clock: None,
        })
    );
    let words =
        |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    assert_eq!(board.seeds, Seeds::new(&words(&[1, 2, 3, 4, 5, 6, 7, 8]), &words(&[9, 10])));
    let modules: Vec<_> =
        board.modules.iter().map(|it| (&it.kind, it.range, it.bootargs.as_str())).collect();
    assert_eq!(
        modules,
        [
            (
                &ModuleKind::Kernel,
                pa(0x5000_0000, 4096),
                "vm.name=a vm.mem=64M vm.cpus=2 console=ttyAMA0"
            ),
            (&ModuleKind::Ramdisk, pa(0x5200_0000, 1000), ""),
        ]
    );
    assert_eq!(board.modules[0].name, "/chosen/module@0x50000000");
    assert_eq!((board.bootargs.as_str(), board.initrd), ("", None));
}

#[test]
fn qemu_virt_with_gicv3_is_read_whole() {
    let board = Board::from_tree(VIRT_G3).unwrap();
    assert_eq!(board.ram, [pa(0x4000_0000, 8 << 30)]);
    assert_eq!(board.cpus.len(), 4);
    assert_eq!(
        board.gic,
        Gic::V3 {
            gicd: pa(0x800_0000, 0x1_0000),
            redistributors: vec![pa(0x80a_0000, 0xf6_0000)],
            stride: None,
            maintenance: Some(25),
        }
    );
    let starts: Vec<u64> = board.modules.iter().map(|module| module.range.start().raw()).collect();
    assert_eq!(starts, [0x5000_0000, 0x5800_0000, 0x5c00_0000], "sorted by address");
}

#[test]
fn secure_ram_is_not_ours() {
    let board = Board::from_tree(VIRT_SECURE).unwrap();
    assert_eq!(board.ram, [pa(0x4000_0000, 256 << 20)]);
}

#[test]
fn banks_of_numa_nodes_are_joined() {
    let board = Board::from_tree(VIRT_NUMA).unwrap();
    assert_eq!(board.ram, [pa(0x4000_0000, 1 << 30)]);
}

#[test]
fn a_board_with_buses_is_read_whole() {
    let board = Board::from_tree(BOARD_SOC).unwrap();
    assert_eq!(board.model, "Made-up board");
    assert_eq!(board.ram, [pa(0, 0x2000_0000), pa(0x1_0000_0000, 0x4000_0000)]);
    let reserved = |name: &str, range| Reserved { name: name.into(), range };
    assert_eq!(
        board.reserved,
        [
            reserved("/memreserve/", pa(0, 0x1000)),
            reserved("/memreserve/", pa(0x800_0000, 0x1_0000)),
            reserved("/reserved-memory/firmware@3f000000", pa(0xf00_0000, 0x10_0000)),
        ]
    );
    let cpus: Vec<_> = board.cpus.iter().map(|cpu| (cpu.mpidr.raw(), cpu.start.clone())).collect();
    assert_eq!(
        cpus,
        [
            (0, StartMethod::SpinTable(Pa::new(0xd8))),
            (0x100, StartMethod::SpinTable(Pa::new(0xe0))),
            (0x1_0000_0000, StartMethod::Unknown("vendor,magic".into())),
        ],
        "the one whose status is fail is left out"
    );
    assert_eq!(board.psci, None);
    // Translated through /soc.
    assert_eq!(
        board.gic,
        Gic::V2 {
            gicd: pa(0xff84_1000, 0x1000),
            gicc: pa(0xff84_2000, 0x2000),
            gich: pa(0xff84_4000, 0x2000),
            gicv: pa(0xff84_6000, 0x2000),
            maintenance: Some(25),
        }
    );
    // By name, not by place.
    assert_eq!(
        board.timer,
        Timer {
            secure_physical: None,
            physical: 30,
            virt: 27,
            hypervisor: 26,
            frequency: Some(54_000_000)
        }
    );
    // Alias, options, two buses.
    assert_eq!(
        board.uart,
        Some(Uart {
            kind: ns16550(0x14, 4, 4),
            registers: pa(0xfe20_5000, 0x100),
            intid: Some(32 + 93),
            path: "/soc/bridge@7e200000/serial@5000".into(),
            options: "115200n8".into(),
            clock: Some(48_000_000),
        })
    );
    assert_eq!(board.bootargs, "portcullis.verbose");
    assert_eq!(board.initrd, Some(pa(0x900_0000, 0x800)));
    // /chosen has cells of its own here.
    assert_eq!(board.modules[0].range, pa(0xa00_0000, 0x1000));
    assert!(board.seeds.is_empty());
}

#[test]
fn the_console_is_found_in_a_tree_that_is_refused() {
    let blob = without_node(VIRT_G2, "/", "cpus");
    assert!(Board::from_tree(&blob).is_err());
    assert_eq!(Board::with_console(&blob).0.unwrap().path, "/pl011@9000000");
}

#[test]
fn the_console_may_be_any_uart_or_none() {
    let at = |path: &str| {
        let value = [path.as_bytes(), &[0]].concat();
        let blob = with_bytes(VIRT_G2, "/chosen", "stdout-path", value);
        Board::from_tree(&blob).unwrap().uart
    };
    let rtc = at("/pl031@9010000").unwrap();
    assert_eq!(rtc.kind, UartKind::Unknown("arm,pl031".into()));
    assert_eq!(rtc.registers, pa(0x901_0000, 0x1000));
    // A node without registers cannot be driven.
    assert_eq!(at("/timer"), None);
    assert_eq!(
        Board::from_tree(&without_property(VIRT_G2, "/chosen", "stdout-path")).unwrap().uart,
        None
    );
    assert_eq!(Board::from_tree(&without_node(VIRT_SECURE, "/", "chosen")).unwrap().uart, None);
}

/// The fixture with these aliases, and with or without stdout-path.
fn with_aliases(aliases: &[(&str, &str)], stdout: Option<&str>) -> Vec<u8> {
    edited(VIRT_G2, |tree| {
        let mut all = node("aliases", &[]);
        for (name, path) in aliases {
            all.add_property(DeviceTreeProperty::new_unchecked(*name, *path));
        }
        tree.root.add_child(all);
        let chosen = tree.find_node_mut("/chosen").unwrap();
        chosen.remove_property("stdout-path").unwrap();
        if let Some(stdout) = stdout {
            chosen.add_property(DeviceTreeProperty::new_unchecked("stdout-path", stdout));
        }
    })
}

#[test]
fn without_stdout_path_the_console_is_serial0() {
    let console = |blob: &[u8]| Board::from_tree(blob).unwrap().uart.map(|uart| uart.path);
    let (pl011, rtc) = ("/pl011@9000000", "/pl031@9010000");
    let serial0 = with_aliases(&[("serial0", pl011)], None);
    assert_eq!(console(&serial0).as_deref(), Some(pl011));
    // Also where stdout-path leads to no UART; one that leads to a device comes first.
    for stdout in ["", "/nothing@0:115200", "serial9", "/timer"] {
        let blob = with_aliases(&[("serial0", pl011)], Some(stdout));
        assert_eq!(console(&blob).as_deref(), Some(pl011), "{stdout}");
    }
    let blob = with_aliases(&[("serial0", pl011), ("serial1", rtc)], Some("serial1:115200n8"));
    assert_eq!(console(&blob).as_deref(), Some(rtc));
    // stdout-path as an alias with options, and without a chosen node.
    let blob = with_aliases(&[("serial0", pl011)], Some("serial0:115200n8"));
    let uart = Board::from_tree(&blob).unwrap().uart.unwrap();
    assert_eq!((uart.path.as_str(), uart.options.as_str()), (pl011, "115200n8"));
    assert_eq!(console(&without_node(&serial0, "/", "chosen")).as_deref(), Some(pl011));
    // A first UART that is not named as the console causes no refusal, and stays untouched if it is off.
    for path in ["/nothing", "/timer", "round", "serial0"] {
        assert_eq!(console(&with_aliases(&[("serial0", path)], None)), None, "{path}");
    }
    assert_eq!(console(&with_bytes(&serial0, "/aliases", "serial0", vec![0xff])), None);
    assert_eq!(console(&with_cells(&serial0, pl011, "reg", &[0, 0x900_0000, 0, 0])), None);
    assert_eq!(console(&with_bytes(&serial0, pl011, "status", b"disabled\0".to_vec())), None);
}

#[test]
fn a_word_of_the_command_line_chooses_the_console() {
    let (pl011, rtc) = ("/pl011@9000000", "/pl031@9010000");
    let blob = with_aliases(&[("serial0", rtc), ("serial1", pl011)], Some("serial0"));
    let word = |place: &str| {
        let bootargs = format!("hyp.debug hyp.console={place}\0");
        let blob = with_bytes(&blob, "/chosen", "bootargs", bootargs.into_bytes());
        Board::from_tree(&blob).unwrap().uart.unwrap().path
    };
    assert_eq!(word(pl011), pl011);
    assert_eq!(word("serial1:115200n8"), pl011);
}

#[test]
fn a_boot_loader_may_keep_a_part_of_the_memory() {
    let ram = |blob: &[u8]| Board::from_tree(blob).unwrap().ram;
    let memory = "/memory@40000000";
    assert_eq!(ram(VIRT_G2), [pa(0x4000_0000, 0x4000_0000)]);
    let usable = [0, 0x4800_0000, 0, 0x100_0000, 0, 0x6000_0000, 0, 0x200_0000, 0, 0, 0, 0];
    let blob = with_cells(VIRT_G2, memory, "linux,usable-memory", &usable);
    let banks = [pa(0x4800_0000, 0x100_0000), pa(0x6000_0000, 0x200_0000)];
    assert_eq!(ram(&blob), banks);
    assert_eq!(ram(&without_property(&blob, memory, "reg")), banks);
    // For a crash kernel: what is left of all banks; one of size 0 is no limit.
    let range = |cells: &[u32]| with_cells(&blob, "/chosen", "linux,usable-memory-range", cells);
    let high = [0, 0x6100_0000, 1, 0];
    assert_eq!(ram(&range(&high)), [pa(0x6100_0000, 0x100_0000)]);
    let low = [&high[..], &[0, 0x4080_0000, 0, 0x780_1000]].concat();
    assert_eq!(ram(&range(&low)), [pa(0x4800_0000, 0x1000), pa(0x6100_0000, 0x100_0000)]);
    assert_eq!(ram(&range(&[0, 0x6100_0000, 0, 0])), banks);
}

#[test]
fn an_interrupt_that_does_not_go_to_the_gic_has_no_intid() {
    // /soc/serial@7e201000's interrupts of two cells go to another controller.
    let mut blob = BOARD_SOC.to_vec();
    let at = blob.windows(16).position(|window| window == b"serial0:115200n8").unwrap();
    blob[at..at + 7].copy_from_slice(b"serial1");
    let uart = Board::from_tree(&blob).unwrap().uart.unwrap();
    assert_eq!(uart.intid, None);
    assert_eq!(uart.kind, UartKind::Driven { name: "PL011", driver: PL011 });
    assert_eq!(uart.registers, pa(0xfe20_1000, 0x200));
}

#[test]
fn a_device_on_a_bus_without_ranges_has_no_address() {
    let mut blob = BOARD_SOC.to_vec();
    let at = blob.windows(16).position(|window| window == b"serial0:115200n8").unwrap();
    blob[at..at + 16].copy_from_slice(b"/soc/i2c/serial:");
    let message = refusal(&blob);
    assert!(message.contains("/soc/i2c@7e804000/serial@48"), "{message}");
    assert!(message.contains("/soc/i2c@7e804000 has no ranges"), "{message}");
}

#[test]
fn usable_cpus_are_those_that_start_and_the_one_that_runs() {
    let board = Board::from_tree(BOARD_SOC).unwrap();
    assert_eq!(board.usable_cpus(Mpidr::new(0)), 2);
    assert_eq!(board.usable_cpus(Mpidr::new(0x1_0000_0000)), 3);
    assert_eq!(Board::from_tree(VIRT_G3).unwrap().usable_cpus(Mpidr::new(0)), 4);
}

#[test]
fn a_cpu_is_what_is_called_so_or_has_that_type() {
    // By its name alone, as newer trees have it.
    let blob = without_property(VIRT_G2, "/cpus/cpu@1", "device_type");
    let cpus = Board::from_tree(VIRT_G2).unwrap().cpus.len();
    assert_eq!(Board::from_tree(&blob).unwrap().cpus.len(), cpus);
    // By its type alone; and what has neither is none.
    let blob = edited(VIRT_G2, |tree| {
        let parent = tree.find_node_mut("/cpus").unwrap();
        let mut core = node("core@100", &[("reg", &[0x100])]);
        core.add_property(DeviceTreeProperty::new_unchecked("device_type", b"cpu\0"));
        core.add_property(DeviceTreeProperty::new_unchecked("compatible", b"arm,cortex-a57\0"));
        core.add_property(DeviceTreeProperty::new_unchecked("enable-method", b"psci\0"));
        parent.add_child(core);
        parent.add_child(node("cache@200", &[("reg", &[0x200])]));
    });
    assert_eq!(Board::from_tree(&blob).unwrap().cpus.len(), cpus + 1);
}

#[test]
fn without_a_psci_node_its_cpus_cannot_be_started() {
    let board = Board::from_tree(&without_node(VIRT_G2, "/", "psci")).unwrap();
    assert_eq!(board.psci, None);
    assert_eq!(board.usable_cpus(Mpidr::new(0)), 1);
}

#[test]
fn psci_0_1_names_its_own_function_ids() {
    let blob = with_bytes(VIRT_G2, "/psci", "compatible", b"arm,psci\0".to_vec());
    let blob = with_cells(&blob, "/psci", "cpu_on", &[0x95c1_ba60]);
    let psci = Board::from_tree(&blob).unwrap().psci.unwrap();
    assert_eq!((psci.cpu_on, psci.has_system_off), (0x95c1_ba60, false));
}

// bug: 83
#[test]
fn redistributor_regions_and_stride_are_taken_from_the_tree() {
    let gic = "/intc@8000000";
    let regions = [
        0,
        0x800_0000,
        0,
        0x1_0000, // GICD
        0,
        0x10a0_0000,
        0,
        0x8_0000, // GICR, not in order
        0,
        0x80a_0000,
        0,
        0x4_0000,
    ];
    let blob = with_cells(VIRT_G3, gic, "reg", &regions);
    let blob = with_cells(&blob, gic, "#redistributor-regions", &[2]);
    let blob = with_cells(&blob, gic, "redistributor-stride", &[0, 0x4_0000]);
    let Gic::V3 { redistributors, stride, .. } = Board::from_tree(&blob).unwrap().gic else {
        panic!("no GICv3");
    };
    assert_eq!(redistributors, [pa(0x10a0_0000, 0x8_0000), pa(0x80a_0000, 0x4_0000)]);
    assert_eq!(stride, Some(0x4_0000));
}

// bug: 26
#[test]
fn free_ram_is_what_nobody_uses_in_whole_pages() {
    let mut board = Board::from_tree(VIRT_G2).unwrap();
    board.reserved = vec![Reserved { name: "r".into(), range: pa(0x4100_0800, 0x1000) }];
    board.initrd = Some(pa(0x6000_0000, 0x100));
    let own = [pa(0x4000_0000, 0x20_0000), pa(0x4800_0000, 0x10_0000)];
    assert_eq!(
        board.free_ram(&own),
        [
            pa(0x4020_0000, 0x4100_0000 - 0x4020_0000),
            pa(0x4100_2000, 0x4800_0000 - 0x4100_2000),
            pa(0x4810_0000, 0x5000_0000 - 0x4810_0000),
            pa(0x5000_1000, 0x5200_0000 - 0x5000_1000),
            pa(0x5200_1000, 0x6000_0000 - 0x5200_1000),
            pa(0x6000_1000, 0x8000_0000 - 0x6000_1000),
        ]
    );
}

#[test]
fn a_longer_region_than_the_tree_is_fine() {
    let mut blob = VIRT_G2.to_vec();
    blob.resize(1 << 20, 0xa5);
    assert!(Board::from_tree(&blob).is_ok());
    assert_eq!(platform::tree_size(&blob), Some(VIRT_G2.len()));
}

#[test]
fn debug_output_keeps_the_seeds() {
    let board = Board::from_tree(VIRT_G2).unwrap();
    assert!(format!("{board:?}").contains("Seeds(..)"));
}

#[test]
fn an_interrupt_that_no_gic_has_is_none() {
    let maintenance = |cells: &[u32]| {
        let blob = with_cells(VIRT_G2, "/intc@8000000", "interrupts", cells);
        Board::from_tree(&blob).unwrap().gic.maintenance()
    };
    assert_eq!(maintenance(&[1, 9, 4]), Some(25));
    assert_eq!(maintenance(&[1, 15, 4]), Some(31));
    assert_eq!(maintenance(&[1, 16, 4]), None);
    assert_eq!(maintenance(&[0, 0, 4]), Some(32));
    assert_eq!(maintenance(&[0, 987, 4]), Some(1019));
    assert_eq!(maintenance(&[0, 988, 4]), None);
    // Those of GICv3.1.
    assert_eq!(maintenance(&[2, 1023, 4]), Some(5119));
    assert_eq!(maintenance(&[2, 1024, 4]), None);
    assert_eq!(maintenance(&[3, 63, 4]), Some(1119));
    assert_eq!(maintenance(&[3, 64, 4]), None);
    assert_eq!(maintenance(&[4, 0, 4]), None);
    assert_eq!(maintenance(&[]), None);
}

/// A 16550 with its LSR and IER at these offsets.
fn ns16550(lsr: u16, ier: u16, width: u8) -> UartKind {
    let driver = UartDriver {
        send: 0,
        receive: 0,
        status: lsr,
        room: 0x20,
        room_when_set: true,
        arrived: 1,
        arrived_when_set: true,
        interrupt: Some((ier, 1)),
        enable: None,
        width,
    };
    UartKind::Driven { name: "16550", driver }
}

/// virt's console with another `compatible` and properties of one cell.
fn console(compatible: &[u8], properties: &[(&str, u32)]) -> UartKind {
    let uart = "/pl011@9000000";
    let mut blob = with_bytes(VIRT_G2, uart, "compatible", compatible.to_vec());
    for (name, value) in properties {
        blob = with_cells(&blob, uart, name, &[*value]);
    }
    Board::from_tree(&blob).unwrap().uart.unwrap().kind
}

#[test]
fn a_16550_has_bytes_side_by_side_unless_it_says_otherwise() {
    assert_eq!(console(b"ns16550a\0", &[]), ns16550(5, 1, 1));
    let apb = b"vendor,x\0snps,dw-apb-uart\0";
    assert_eq!(console(apb, &[("reg-shift", 2)]), ns16550(20, 4, 1));
    assert_eq!(console(b"ns16550\0", &[("reg-io-width", 2)]), ns16550(5, 1, 2));
    let wide = [("reg-shift", 4), ("reg-io-width", 4)];
    assert_eq!(console(b"ns8250\0", &wide), ns16550(80, 16, 4));
    // Those that never say it.
    let mediatek = b"mediatek,mt8183-uart\0mediatek,mt6577-uart\0";
    assert_eq!(console(mediatek, &[]), ns16550(20, 4, 4));
    assert_eq!(console(b"ti,j721e-uart\0ti,am654-uart\0", &[]), ns16550(20, 4, 4));
}

#[test]
fn every_other_uart_has_the_registers_of_its_manual() {
    type Bit = (u32, bool);
    // (send, receive, status, room and when, arrived and when)
    let all: [(&[u8], [u16; 3], Bit, Bit); 8] = [
        (b"arm,pl011\0", [0, 0, 0x18], (0x20, false), (0x10, false)),
        (b"arm,sbsa-uart\0", [0, 0, 0x18], (0x20, false), (0x10, false)),
        (b"brcm,bcm2835-aux-uart\0", [0, 0, 0x14], (0x20, true), (1, true)),
        (b"xlnx,zynqmp-uart\0cdns,uart-r1p12\0", [0x30, 0x30, 0x2c], (0x10, false), (2, false)),
        (b"fsl,imx8mp-uart\0fsl,imx6q-uart\0", [0x40, 0, 0xb4], (0x10, false), (0x20, false)),
        (
            b"fsl,imx93-lpuart\0fsl,imx7ulp-lpuart\0",
            [0x1c, 0x1c, 0x14],
            (0x80_0000, true),
            (0x20_0000, true),
        ),
        (b"amlogic,meson-gx-uart\0", [0, 4, 0xc], (0x20_0000, false), (0x10_0000, false)),
        (b"marvell,armada-3700-uart\0", [4, 0, 0xc], (0x800, false), (0x10, true)),
    ];
    for (compatible, registers, room, arrived) in all {
        let UartKind::Driven { driver: it, .. } = console(compatible, &[]) else {
            panic!("{} is not driven", String::from_utf8_lossy(compatible));
        };
        assert_eq!([it.send, it.receive, it.status], registers);
        assert_eq!(
            ((it.room, it.room_when_set), (it.arrived, it.arrived_when_set)),
            (room, arrived)
        );
        assert_eq!(it.width, 4);
        // Cadence's CR: TXEN and RXEN. The others are on when the image starts.
        let cadence = it.status == 0x2c;
        assert_eq!(it.enable, cadence.then_some((0, 0x14)));
        // IMSC: RXIM and RTIM; the mini UART's IER: bits 0 and 2. The others are asked now and then.
        let interrupt = match it.status {
            0x18 => Some((0x38, 0x50)),
            0x14 if it.room_when_set && it.send == 0 => Some((4, 5)),
            _ => None,
        };
        assert_eq!(it.interrupt, interrupt, "{}", String::from_utf8_lossy(compatible));
    }
}

#[test]
fn pages_of_a_gicv2_that_are_repeated_are_taken_where_they_are_neighbours() {
    let regs = |gicc: u32, gicv: u32| {
        let cells = [
            0, 0x800_0000, 0, 0x1_0000, 0, 0x802_0000, 0, gicc, 0, 0x804_0000, 0, 0x1000, 0,
            0x806_0000, 0, gicv,
        ];
        Board::from_tree(&with_cells(VIRT_G2, "/intc@8000000", "reg", &cells)).unwrap().gic
    };
    let Gic::V2 { gicc, gicv, .. } = regs(0x2_0000, 0x2_0000) else { panic!() };
    assert_eq!((gicc, gicv), (pa(0x802_f000, 0x2000), pa(0x806_f000, 0x2000)));
    let Gic::V2 { gicc, gicv, .. } = regs(0x2000, 0x1_0000) else { panic!() };
    assert_eq!((gicc, gicv), (pa(0x802_0000, 0x2000), pa(0x806_0000, 0x1_0000)));
}

#[test]
fn a_survey_is_of_a_tree_that_firmware_has_not_filled_in() {
    let blob = with_cells(VIRT_G2, "/memory@40000000", "reg", &[0, 0x4000_0000, 0, 0]);
    assert!(Board::from_tree(&blob).is_err());
    let report = BoardReport::of(&blob).unwrap();
    assert_eq!(report.ram.as_ref().unwrap(), &ReportedRam::FilledByFirmware);
    assert!(report.refusal().is_none() && report.has_el2_gic);
    // As in a whole one.
    let whole = BoardReport::of(VIRT_G2).unwrap();
    assert_eq!(whole.ram.unwrap(), ReportedRam::Banks(vec![pa(0x4000_0000, 0x4000_0000)]));
    // What is wrong is said of its part.
    let report = BoardReport::of(&without_node(VIRT_G2, "/", "timer")).unwrap();
    assert!(report.gic.is_ok() && report.timer.is_err());
    assert!(report.refusal().unwrap().message().contains("arm,armv8-timer"));
    // A GICv2 that cannot serve EL2.
    let two = [0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1_0000];
    let report = BoardReport::of(&with_cells(VIRT_G2, "/intc@8000000", "reg", &two)).unwrap();
    assert!(!report.has_el2_gic && report.refusal().is_some());
}
