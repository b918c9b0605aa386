// SPDX-License-Identifier: MIT OR Apache-2.0
//! The decoder against another one, written by other people from the same manual.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "support/oracle.rs"]
mod oracle;

use arch::Exit;
use oracle::*;
use proptest::prelude::*;

const IL: u64 = 1 << 25;

#[test]
fn every_emulable_data_abort_of_every_fault_code() {
    let mut checked = 0;
    for dfsc in 0..64 {
        // SAS, SSE, SF, AR and WnR in full; the register in steps, another at each fault code.
        for form in 0..64 {
            for srt in [0, 31, (dfsc + form) % 32] {
                let (sas, sse, sf) = (form & 3, form >> 2 & 1, form >> 3 & 1);
                let (ar, wnr) = (form >> 4 & 1, form >> 5 & 1);
                let iss = 1 << 24
                    | sas << 22
                    | sse << 21
                    | srt << 16
                    | sf << 15
                    | ar << 14
                    | wnr << 6
                    | dfsc;
                checked += u32::from(check_data_abort(0x24 << 26 | IL | iss));
            }
        }
    }
    // 64 codes less the 24 or so that are reserved; all of the defined ones must have been seen.
    assert!(checked >= 40 * 64 * 3, "{checked}");
}

#[test]
fn every_data_abort_without_a_syndrome() {
    let mut checked = 0;
    for low in 0..1 << 14 {
        checked += u32::from(check_data_abort(0x24 << 26 | IL | low));
    }
    assert!(checked > 1 << 12, "{checked}");
}

#[test]
fn every_instruction_abort() {
    let mut checked = 0;
    for low in 0..1 << 13 {
        let esr = 0x20 << 26 | IL | low;
        checked += u32::from(check_instruction_abort(esr));
    }
    assert!(checked > 300, "{checked}");
}

#[test]
fn every_system_register_in_both_directions() {
    for encoding in 0..1 << 16 {
        // The oracle's own order of fields: Op0 Op2 Op1 CRn | Rt | CRm | Direction.
        let iss = (encoding >> 4 & 0xfff) << 10 | (encoding & 0xf) << 1;
        let (rt, read) = (encoding % 32, encoding >> 3 & 1);
        let esr = 0x18 << 26 | IL | iss | rt << 5 | read;
        assert!(check_system_register(esr));
    }
}

#[test]
fn every_hvc_and_smc_immediate() {
    for imm in 0..=u16::MAX {
        for (ec, want) in [(0x16, Exit::Hvc { imm }), (0x17, Exit::Smc { imm })] {
            let esr = ec << 26 | IL | u64::from(imm);
            assert!(check_call(esr));
            assert_eq!(ours(esr), want);
        }
    }
}

#[test]
fn wfi_and_wfe() {
    for ti in 0..4 {
        for il in [0, IL] {
            let esr = 0x01 << 26 | il | ti;
            assert!(check_wfx(esr));
        }
    }
}

#[test]
fn names_of_id_registers_are_the_oracles() {
    // Where the oracle knows a register by name, that name is the one this crate has for it.
    let mut known = 0;
    for crm in 1..8_u16 {
        for op2 in 0..8_u16 {
            let reg = arch::sysreg::sys(3, 0, 0, crm, op2);
            let Some(name) = arch::sysreg::name(reg) else { continue };
            let iss = 3 << 20 | u64::from(op2) << 17 | u64::from(crm) << 1 | 1;
            let fields = aarch64_esr_decoder::decode(0x18 << 26 | IL | iss).unwrap();
            let text = format!("{:?}", fields.last().unwrap().description);
            if text.contains("_EL1") {
                assert!(text.contains(name), "{name}: {text}");
                known += 1;
            }
        }
    }
    assert!(known >= 20, "{known}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn random_data_aborts_agree(iss in 0_u64..1 << 25) {
        check_data_abort(0x24 << 26 | IL | iss);
    }

    #[test]
    fn any_three_registers_decode(esr: u64, far: u64, hpfar: u64) {
        check_any(esr, far, hpfar);
    }
}
