// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boards from whole device trees: those of QEMU's virt machine and of made-up boards.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

use arch::{Mpidr, Pa, Range};
use platform::{Board, Conduit, Gic, ModuleKind, StartMethod, Timer, UartKind};

const VIRT_G2: &[u8] = include_bytes!("fixtures/virt-g2.dtb");
const VIRT_G3: &[u8] = include_bytes!("fixtures/virt-g3.dtb");

fn pa(start: u64, size: u64) -> Range<Pa> {
    Range::<Pa>::new(Pa::new(start), size).unwrap()
}

#[test]
fn qemu_virt_with_gicv2_is_read_whole() {
    let board = Board::from_tree(VIRT_G2).unwrap();
    assert_eq!(board.model, "linux,dummy-virt");
    assert_eq!(board.ram, [pa(0x4000_0000, 0x4000_0000)]);
    assert!(board.reserved.is_empty());
    let cpus: Vec<_> = board.cpus.iter().map(|cpu| (cpu.mpidr, &cpu.start)).collect();
    assert_eq!(cpus, [(Mpidr::new(0), &StartMethod::Psci), (Mpidr::new(1), &StartMethod::Psci)]);
    assert_eq!(board.cpus[0].compatible, "arm,cortex-a57");
    let psci = board.psci.unwrap();
    assert_eq!((psci.conduit, psci.cpu_on), (Conduit::Smc, 0xc400_0003));
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
    let uart = board.uart.unwrap();
    assert_eq!((uart.kind, uart.registers), (UartKind::Pl011, pa(0x900_0000, 0x1000)));
    assert_eq!((uart.intid, uart.path.as_str()), (Some(33), "/pl011@9000000"));
    assert!(!board.seeds.is_empty());
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
    assert_eq!(board.modules.len(), 3);
}
