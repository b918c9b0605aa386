// SPDX-License-Identifier: MIT OR Apache-2.0
//! The image itself: what its instructions must be, wherever QEMU would not notice.

use anyhow::anyhow;
use std::fs;

use xtask::elf;

use crate::fixture::{Checked, Fixture};

cases![
    vttbr_is_in_effect_before_an_invalidation,
    el2_starts_with_no_translation_of_a_guest,
    nothing_is_speculated_past_an_eret,
    what_qemu_does_not_miss_is_there,
    the_guests_list_is_that_of_its_sources,
];

// Encodings: Arm ARM C5.5, C6.2; the register operand is the low five bits.
const ISB: u32 = 0xd503_3fdf;
const DSB_NSH: u32 = 0xd503_379f;
const SB: u32 = 0xd503_30ff;
const ERET: u32 = 0xd69f_03e0;
const MSR_VTTBR_EL2: u32 = 0xd51c_2100;
const TLBI_ALLE1: u32 = 0xd50c_879f;
const REGISTER: u32 = 0x1f;

/// Whether `word` is a TLBI of any kind: SYS with CRn = 8.
fn is_tlbi(word: u32) -> bool {
    word & 0xfff8_f000 == 0xd508_8000
}

/// Whether `word` leaves its function or goes elsewhere for good: RET, BR, B, ERET.
fn ends(word: u32) -> bool {
    word & 0xffff_fc1f == 0xd65f_0000
        || word & 0xffff_fc1f == 0xd61f_0000
        || word & 0xfc00_0000 == 0x1400_0000
        || word == ERET
}

fn text(fixture: &Fixture) -> anyhow::Result<Vec<u32>> {
    let bytes = fs::read(&fixture.images.hypervisor_elf)?;
    let words = elf::text(&bytes)?;
    // Fewer would be another file, or a section that was not found.
    if words.len() < 10_000 {
        return Err(anyhow!("only {} instructions", words.len()));
    }
    Ok(words)
}

/// After each write of VTTBR_EL2 the next barrier is an ISB, before any TLBI and before the function ends.
// bug: 16
fn vttbr_is_in_effect_before_an_invalidation(fixture: &Fixture) -> Checked {
    let words = text(fixture)?;
    let mut writes = 0;
    for (at, word) in words.iter().enumerate() {
        if word & !REGISTER != MSR_VTTBR_EL2 {
            continue;
        }
        writes += 1;
        let rest = words.get(at + 1..).unwrap_or_default();
        let first = rest.iter().find(|word| **word == ISB || is_tlbi(**word) || ends(**word));
        if first != Some(&ISB) {
            return Err(anyhow!("no ISB behind MSR VTTBR_EL2 at text+{:#x}", at * 4));
        }
    }
    // One to enter a vCPU, two around an invalidation for another VM.
    if writes < 3 { Err(anyhow!("only {writes} writes of VTTBR_EL2")) } else { Ok(()) }
}

/// Instructions that a vCPU switch needs, and whose absence QEMU does not show.
fn what_qemu_does_not_miss_is_there(fixture: &Fixture) -> Checked {
    let words = text(fixture)?;
    let count =
        |wanted: u32, mask: u32| words.iter().filter(|word| **word & !mask == wanted).count();
    for (name, wanted, mask, least) in [
        ("TLBI VMALLE1", 0xd508_871f, 0, 1),
        ("IC IALLU", 0xd508_751f, 0, 1),
        ("ESB", 0xd503_221f, 0, 1),
        ("MRS DISR_EL1", 0xd538_c120, REGISTER, 1),
        ("MRS ISR_EL1", 0xd538_c100, REGISTER, 2),
        ("MSR AMAIR_EL1", 0xd518_a300, REGISTER, 1),
        ("MSR MDCCINT_EL1", 0xd510_0200, REGISTER, 2),
        ("MSR OSDTRTX_EL1", 0xd510_0340, REGISTER, 1),
        ("MSR OSDTRRX_EL1", 0xd510_0040, REGISTER, 1),
    ] {
        if count(wanted, mask) < least {
            return Err(anyhow!("not {least} times in the image: {name}"));
        }
    }
    // A vCPU that follows another of its VM: both are invalidated, then awaited.
    let sequence = [0xd508_871f, 0xd508_751f, DSB_NSH, ISB];
    if !words.windows(sequence.len()).any(|window| window == sequence) {
        return Err(anyhow!("no TLBI VMALLE1, IC IALLU, DSB NSH, ISB"));
    }
    Ok(())
}

/// What a former EL2 left in the TLB under a VMID must not be believed: ALLE1 before the first guest, on each CPU.
// bug: 16
fn el2_starts_with_no_translation_of_a_guest(fixture: &Fixture) -> Checked {
    let words = text(fixture)?;
    match words.iter().filter(|word| **word == TLBI_ALLE1).count() {
        0 => Err(anyhow!("no TLBI ALLE1")),
        _ => Ok(()),
    }
}

/// Straight-line speculation: an ERET is followed by a barrier that stops it.
// bug: 73
fn nothing_is_speculated_past_an_eret(fixture: &Fixture) -> Checked {
    let words = text(fixture)?;
    let mut erets = 0;
    for (at, _) in words.iter().enumerate().filter(|(_, word)| **word == ERET) {
        erets += 1;
        let behind = (words.get(at + 1), words.get(at + 2));
        if behind.0 != Some(&SB) && behind != (Some(&DSB_NSH), Some(&ISB)) {
            return Err(anyhow!("no barrier behind the ERET at text+{:#x}", at * 4));
        }
    }
    if erets == 0 { Err(anyhow!("no ERET at all")) } else { Ok(()) }
}

/// The catalogue reads the stub's tables in its sources; it must see what the stub has.
fn the_guests_list_is_that_of_its_sources(fixture: &Fixture) -> Checked {
    let listed = xtask::stub::list(&fixture.images.guest_stub)?;
    let mut listed: Vec<String> = listed.into_iter().map(|test| test.name).collect();
    listed.sort();
    let registry = xtask::catalogue::Registry::collect(&xtask::paths::root())?;
    let read = registry.guest_tests();
    if listed.iter().map(String::as_str).eq(read.iter().copied()) {
        Ok(())
    } else {
        Err(anyhow!("the stub lists {} tests, its sources {}", listed.len(), read.len()))
    }
}
