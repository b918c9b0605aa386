// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams of exits into a VM: the short way beside the long one, and what holds after each.

use crate::common::{Config, RAM, Rig, VOID, range};
use crate::count;
use arbitrary::{Result, Unstructured};
use arch::{ExitInfo, Pa};
use mmio_guard::{Dialect, Policy};
use vm::{Direct, Outcome};

const LIMIT: u64 = 1 << 40;
const DIRECT: u64 = 0x0801_0000;

/// Pages where something changes: memory, devices, edges of tables and of the IPA space.
const PAGES: [u64; 24] = [
    0,
    0x3f_f000,
    0x40_0000,
    0x40_1000,
    0x40_2000,
    0x0800_0000,
    DIRECT - 0x1000,
    DIRECT,
    DIRECT + 0x1000,
    0x080a_0000,
    0x0900_0000,
    0x0a00_0000,
    VOID,
    VOID + 0x1000,
    VOID + 0x1f_f000,
    VOID + 0x20_0000,
    RAM - 0x1000,
    RAM,
    RAM + 0x7f_f000,
    RAM + 0x80_0000,
    0x1_0000_0000 - 0x1000,
    LIMIT - 0x1000,
    LIMIT,
    u64::MAX - 0xfff,
];
const COUNTS: [u64; 10] = [0, 1, 2, 7, 511, 512, 513, 1 << 28, 1 << 52, u64::MAX];
const IDS: [u64; 28] = [
    0xc600_0000,
    0xc600_0001,
    0xc600_0002,
    0xc600_0003,
    0xc600_0004,
    0xc600_0005,
    0xc600_0006,
    0xc600_0007,
    0xc600_0008,
    0xc600_0009,
    0xc600_000a,
    0xc600_000b,
    0xc600_f000,
    0xc600_f001,
    0xc600_f002,
    0x8600_0000,
    0x8600_ff01,
    0x8000_0000,
    0x8000_0001,
    0x8400_0000,
    0x8400_000a,
    0xc400_0003,
    0xc400_0004,
    0x8400_0050,
    0x8400_0051,
    0x8400_0052,
    0x8400_0053,
    0xc400_0053,
];

fn page(u: &mut Unstructured<'_>) -> Result<u64> {
    let base = *u.choose(&PAGES)?;
    Ok(if u.ratio(1, 4)? { base.wrapping_add(u64::from(u.arbitrary::<u8>()?) << 12) } else { base })
}

fn exit(u: &mut Unstructured<'_>, regs: &mut [u64; 8]) -> Result<ExitInfo> {
    *regs = [0; 8];
    let il = 1 << 25;
    Ok(match u.int_in_range(0..=9_u8)? {
        0..=4 => {
            regs[0] =
                if u.ratio(15, 16)? { *u.choose(&IDS)? } else { u.arbitrary::<u32>()?.into() };
            regs[1] = page(u)? | if u.ratio(1, 16)? { u.arbitrary::<u16>()?.into() } else { 0 };
            regs[2] = *u.choose(&COUNTS)?;
            if u.ratio(1, 8)? {
                regs[3] = u.arbitrary()?;
                regs[0] |= u64::from(u.arbitrary::<u32>()?) << 32;
            }
            let class = if u.ratio(1, 8)? { 0x17 } else { 0x16 };
            ExitInfo { esr: class << 26 | il | u64::from(u.ratio(1, 32)?), far: 0, hpfar: 0 }
        }
        5..=7 => {
            let page = page(u)?;
            let offset = u64::from(u.arbitrary::<u16>()? & 0xfff);
            let iss: u64 = u64::from(u.arbitrary::<u32>()?) & 0x1ff_ffff;
            // Mostly a translation fault with a syndrome.
            let iss = if u.ratio(7, 8)? { iss & 0x00ff_c040 | 1 << 24 | 4 | iss & 3 } else { iss };
            regs[5] = iss << 7;
            ExitInfo { esr: 0x24 << 26 | il | iss, far: page | offset, hpfar: page >> 12 << 4 }
        }
        8 => {
            let page = page(u)?;
            let iss = u64::from(u.arbitrary::<u8>()?);
            ExitInfo { esr: 0x20 << 26 | il | iss, far: page, hpfar: page >> 12 << 4 }
        }
        _ => {
            let esr =
                if u.arbitrary()? { 0x18 << 26 } else { u64::from(u.arbitrary::<u8>()?) << 26 };
            ExitInfo {
                esr: esr & 0xfc00_0000 | u64::from(u.arbitrary::<u32>()?) & 0x3ff_ffff,
                far: u.arbitrary()?,
                hpfar: u.arbitrary()?,
            }
        }
    })
}

/// What no exit may do.
fn check(rig: &Rig) {
    rig.machine.fake.assert_quiet();
}

fn stream(u: &mut Unstructured<'_>) -> Result<u64> {
    let policy = *u.choose(&[Policy::Off, Policy::Enrol, Policy::Enforce])?;
    let dialect = if u.ratio(3, 4)? { Dialect::Pkvm } else { Dialect::Series };
    let mut config = Config::of(policy, dialect);
    config.pool = *u.choose(&[4, 8, 40])?;
    config.version = if u.arbitrary()? { vgic::Version::V3 } else { vgic::Version::V2 };
    if u.arbitrary()? {
        config.roms = vec![range(0x40_0000, 0x2000)];
        config.direct = vec![Direct { ipa: range(DIRECT, 0x2000), pa: Pa::new(0x1234_0000) }];
        config.pool += 4;
    }
    let (mut short, mut long) = (config.build(), config.build());
    let mut regs = [0; 8];
    let mut tried = 0;
    while !u.is_empty() && tried < 2000 {
        let info = exit(u, &mut regs)?;
        let before = long.vm.declared_pages();
        for rig in [&mut short, &mut long] {
            let own = &mut rig.vcpus[0].regs;
            own.x[..8].copy_from_slice(&regs);
            own.spsr = 0x3c5;
            own.elr = 0x4000_0000;
        }
        let decoded = arch::decode(info, &arch::Errata::NONE);
        let a = short.exit_raw(0, info);
        let b = long.exit_slow(0, decoded);
        assert_eq!(a, b, "{info:x?} {decoded:?}");
        assert_eq!(short.vcpus[0].regs, long.vcpus[0].regs, "{info:x?} {decoded:?}");
        assert_eq!(short.vm.counts(), long.vm.counts(), "{decoded:?}");
        if matches!(a, Outcome::Abort(_)) {
            assert_eq!(short.vcpus[0].refusal, long.vcpus[0].refusal);
            assert_eq!(long.vm.declared_pages(), before, "an abort declares nothing");
        }
        tried += 1;
        // A stopping VM runs no further; what stops it is judged elsewhere.
        if long.vm.lifecycle().stopping().is_some() {
            break;
        }
    }
    check(&short);
    check(&long);
    assert_eq!(short.snapshot(), long.snapshot());
    Ok(tried)
}

/// One VM's life.
pub fn run(data: &[u8]) {
    if let Ok(tried) = stream(&mut Unstructured::new(data)) {
        count::add(tried);
    }
}
