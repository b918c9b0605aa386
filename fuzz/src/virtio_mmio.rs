// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accesses of a driver, calls of a server and deadlines, beside the naive model of the registers.

use crate::count;
use crate::transports::scene::{Scene, Step, run as play};
use arbitrary::{Result, Unstructured};
use arch::Width;

/// VERSION_1, ACCESS_PLATFORM, and a few of no meaning here.
const FEATURES: u64 = 0x3_3000_0011;
/// Registers that can be written, and some that cannot.
const OFFSETS: [u16; 24] = [
    0x00, 0x0c, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64, 0x70, 0x80, 0x84,
    0x90, 0x94, 0xa0, 0xa4, 0xb0, 0xfc, 0x100, 0x1fc,
];
const SIZES: [u64; 8] = [0, 1, 2, 3, 8, 256, 32768, 65536];
const STATUSES: [u64; 7] = [0, 3, 7, 11, 15, 64, 143];
const RAM: (u64, u64) = (0x4000_0000, 0x0080_0000);

fn width(u: &mut Unstructured<'_>) -> Result<Width> {
    u.choose(&[
        Width::B4,
        Width::B4,
        Width::B4,
        Width::B4,
        Width::B4,
        Width::B1,
        Width::B2,
        Width::B8,
    ])
    .copied()
}

fn offset(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=9)? {
        0 => u.arbitrary()?,
        1 => u.int_in_range(0x100..=0x204)?,
        _ => u.choose(&OFFSETS).copied()?.into(),
    })
}

fn value(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=7)? {
        0 => u.arbitrary()?,
        1 => u.int_in_range(RAM.0..=RAM.0 + RAM.1)?,
        2 => u.choose(&STATUSES).copied()?,
        _ => u.int_in_range(0..=17)?,
    })
}

fn features(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=7)? {
        0 => u.arbitrary()?,
        1 => FEATURES ^ 1 << u.int_in_range(0..=63)?,
        2 => 1 << 32,
        _ => FEATURES,
    })
}

fn place(u: &mut Unstructured<'_>, memory: (u64, u64)) -> Result<u64> {
    let near = u64::from(u.arbitrary::<u16>()?);
    Ok(match u.int_in_range(0..=5)? {
        0 => u.arbitrary()?,
        1 => memory.0.wrapping_add(memory.1).wrapping_sub(near),
        2 => memory.0.wrapping_add(near).wrapping_sub(0x1000),
        _ => memory.0.wrapping_add(near & !15),
    })
}

fn step(u: &mut Unstructured<'_>, memory: (u64, u64)) -> Result<Step> {
    Ok(match u.int_in_range(0..=31)? {
        0 | 1 => Step::Load(offset(u)?, width(u)?),
        2..=10 => Step::Store(offset(u)?, width(u)?, value(u)?),
        11 => Step::Set(u.arbitrary()?, value(u)?),
        12 => Step::Set(u.int_in_range(0..=4)?, value(u)?),
        13 | 14 => Step::Raise(value(u)?),
        15..=17 => Step::Done(u.int_in_range(0..=3)?),
        18 => Step::Done(u.arbitrary()?),
        19 => Step::Expire(u.int_in_range(0..=3)?),
        20 => Step::Detach,
        21 if u.ratio(1, 8)? => Step::Reset,
        21..=23 => Step::Offer(features(u)?, u.choose(&SIZES).copied()?),
        24 | 25 => Step::Negotiate(features(u)?, u.choose(&STATUSES).copied()?),
        26..=28 => {
            Step::Queue(u.int_in_range(0..=4)?, u.choose(&SIZES).copied()?, place(u, memory)?)
        }
        29 => Step::Store(0x44, Width::B4, u.int_in_range(0..=1)?),
        30 => Step::Store(0x30, Width::B4, u.int_in_range(0..=4)?),
        _ => Step::Store(0x70, Width::B4, 0),
    })
}

fn scene(u: &mut Unstructured<'_>) -> Result<Scene> {
    let memory = if u.ratio(7, 8)? { RAM } else { u.arbitrary()? };
    let mut scene = Scene { memory, pool: u.arbitrary()?, steps: Vec::new() };
    // Without these, most of the input would be about a driver that waits.
    if u.ratio(7, 8)? {
        scene.steps.push(Step::Offer(FEATURES, 256));
        scene.steps.push(Step::Negotiate(FEATURES, 11));
    }
    while !u.is_empty() && scene.steps.len() < 400 {
        scene.steps.push(step(u, memory)?);
    }
    Ok(scene)
}

/// One scene.
pub fn run(data: &[u8]) {
    let Ok(scene) = scene(&mut Unstructured::new(data)) else { return };
    play(&scene);
    count::add(scene.steps.len() as u64);
}
