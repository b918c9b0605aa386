// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs from the modules of whole device trees.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

use arch::{Ipa, Pa, Range};
use mmio_guard::Policy;
use platform::{Board, GicVersion, GuestHardware, Machine, Occupied, guest_tree, vms};

const VIRT_G2: &[u8] = include_bytes!("fixtures/virt-g2.dtb");

fn ipa(start: u64, size: u64) -> Range<Ipa> {
    Range::<Ipa>::new(Ipa::new(start), size).unwrap()
}

#[test]
fn one_kernel_with_its_ramdisk_becomes_a_vm() {
    let board = Board::from_tree(VIRT_G2).unwrap();
    let own = Range::<Pa>::new(Pa::new(0x4008_0000), 0x20_0000).unwrap();
    let own = [Occupied { name: "Portcullis's image", range: own }];
    let zeros = [0; 64];
    let read = |range: Range<Pa>| zeros.get(..range.size() as usize);
    let configs =
        vms(&Machine { board: &board, own: &own, cpus: 2, pa_bits: 44, read: &read }).unwrap();
    let [config] = configs.as_slice() else { panic!("{configs:?}") };
    assert_eq!(config.name, "a");
    assert_eq!(config.ram, ipa(0x4000_0000, 64 << 20));
    assert_eq!((config.vcpus, config.policy, config.ipa_bits), (2, Policy::Enrol, 40));
    assert_eq!((config.gic, config.bootargs.as_str()), (GicVersion::V2, "console=ttyAMA0"));
    assert_eq!(config.placement.entry, Ipa::new(0x4020_0000));
    assert_eq!(config.placement.ramdisk, Some(ipa(0x4040_0000, 1000)));
    assert_eq!(config.placement.tree, ipa(0x4000_0000, 0x1_0000));
    let hardware = GuestHardware::of(&board);
    let seeds = board.seeds.for_guest(0, &config.name, 0);
    let tree = guest_tree(config, &hardware, seeds.as_ref()).unwrap();
    assert!(tree.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]));
}
