// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests whose data is big-endian: the bus is not (scenario D1).

use crate::common::*;
use arch::{SCTLR_E0E, SCTLR_EE, Width};
use mmio_guard::{Dialect, Policy};

const VALUE: u64 = 0x30;
const LAST_VALUE: u64 = 0x20;
const WINDOW: u64 = 0x800;

#[test]
fn loads_and_stores_turn_around_where_the_level_is_big_endian() {
    let mut rig = rig(Policy::Enrol, Dialect::Pkvm);
    rig.write(TEST + VALUE, Width::B8, 0x0123_4567_89ab_cdef).unwrap();
    rig.machine.log().sctlr = SCTLR_EE;
    for (width, turned) in [
        (Width::B1, 0xef),
        (Width::B2, 0xefcd),
        (Width::B4, 0xefcd_ab89),
        (Width::B8, 0xefcd_ab89_6745_2301),
    ] {
        assert_eq!(rig.read(TEST + WINDOW, width), Ok(turned), "{width:?}");
    }
    rig.write(TEST + WINDOW, Width::B2, 0x1122).unwrap();
    rig.machine.log().sctlr = 0;
    assert_eq!(rig.read(TEST + LAST_VALUE, Width::B8), Ok(0x2211));
}

#[test]
fn the_other_levels_order_does_not_matter() {
    let mut rig = rig(Policy::Enrol, Dialect::Pkvm);
    rig.write(TEST + VALUE, Width::B4, 0x1122_3344).unwrap();
    rig.vcpus[0].regs.spsr = arch::pstate::EL1H;
    rig.machine.log().sctlr = SCTLR_E0E;
    assert_eq!(rig.read(TEST + WINDOW, Width::B4), Ok(0x1122_3344));
    rig.vcpus[0].regs.spsr = arch::pstate::EL0T;
    assert_eq!(rig.read(TEST + WINDOW, Width::B4), Ok(0x4433_2211));
}
