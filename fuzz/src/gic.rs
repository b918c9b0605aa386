// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams of register accesses, interrupts and list-register traffic, beside the ideal GIC.

use crate::count;
use crate::gics::scene::{Scene, Step, run as play};
use arbitrary::{Result, Unstructured};
use vgic::Version;

/// INTIDs that meet each other: SGIs, PPIs, the first and the last SPIs.
const INTIDS: [u16; 14] = [0, 1, 7, 15, 16, 27, 30, 32, 33, 34, 37, 60, 63, 67];

fn step(u: &mut Unstructured<'_>) -> Result<Step> {
    let intid = |u: &mut Unstructured<'_>| u.choose(&INTIDS).copied();
    Ok(match u.int_in_range(0..=25)? {
        0..=3 => Step::Bits(u.arbitrary()?, u.int_in_range(0..=2)?, u.arbitrary()?),
        4 => Step::Bits(1, u.int_in_range(0..=2)?, u32::MAX),
        5 => Step::Priority(intid(u)?, u.arbitrary()?),
        6 => Step::Trigger(u.int_in_range(0..=5)?, u.arbitrary()?),
        7 => Step::Route(intid(u)?, u.arbitrary()?),
        8 => Step::Control(u.arbitrary()?),
        9 => Step::Store(
            u.arbitrary()?,
            u.int_in_range(0..=0x1_ffff)?,
            u.int_in_range(0..=3)?,
            u.arbitrary()?,
        ),
        10 | 11 => Step::Sgi(u.int_in_range(0..=15)?, u.arbitrary()?),
        12 => Step::SgiWord(u.arbitrary()?),
        13 => Step::Sgi0(u.int_in_range(0..=15)?, u.arbitrary()?),
        14 => Step::Sources(u.arbitrary()?, u.int_in_range(0..=15)?, u.arbitrary()?),
        15 | 16 => Step::Level(intid(u)?, u.arbitrary()?),
        17 => Step::Forward(intid(u)?),
        18 | 19 => Step::Ack,
        20 | 21 => Step::Eoi,
        22 => Step::Dir(u.arbitrary()?),
        23 => Step::Pmr(u.arbitrary()?),
        24 => Step::Groups(u.arbitrary()?),
        _ => Step::Read(u.arbitrary()?, u.int_in_range(0..=2)?),
    })
}

fn scene(u: &mut Unstructured<'_>) -> Result<(Scene, bool)> {
    let version = if u.arbitrary()? { Version::V3 } else { Version::V2 };
    let scarce = u.arbitrary()?;
    let lrs = if scarce { u.int_in_range(1..=4)? } else { 16 };
    let eoi_mode: bool = u.arbitrary()?;
    let mut scene = Scene {
        version,
        vcpus: u.int_in_range(1..=3)?,
        lrs,
        eoi_mode: eoi_mode && version == Version::V3,
        short: u.arbitrary()?,
        awake: u.ratio(9, 10)?,
        steps: Vec::new(),
    };
    while !u.is_empty() && scene.steps.len() < 400 {
        scene.steps.push((u.arbitrary()?, step(u)?));
    }
    Ok((scene, scarce))
}

/// One scene; an access a step.
pub fn run(data: &[u8]) {
    let Ok((scene, scarce)) = scene(&mut Unstructured::new(data)) else { return };
    play(&scene, scarce);
    count::add(scene.steps.len() as u64);
}
