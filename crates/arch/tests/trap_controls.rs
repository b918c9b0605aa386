// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trap controls of EL2 against the manual's bit positions, written out here once more, and the page
//! docs/trap-controls.md against the table. `UPDATE_DOCS=1 cargo test -p arch --test trap_controls` writes it.
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use arch::trap_controls::*;

/// DDI 0487 D19.2, D19.3 and D19.12: each field that is not zero, by register, name and position.
const SET: &[(&str, &str, u64)] = &[
    ("HCR_EL2", "VM", 1 << 0),
    ("HCR_EL2", "SWIO", 1 << 1),
    ("HCR_EL2", "PTW", 1 << 2),
    ("HCR_EL2", "FMO", 1 << 3),
    ("HCR_EL2", "IMO", 1 << 4),
    ("HCR_EL2", "AMO", 1 << 5),
    ("HCR_EL2", "TID3", 1 << 18),
    ("HCR_EL2", "TSC", 1 << 19),
    ("HCR_EL2", "TIDCP", 1 << 20),
    ("HCR_EL2", "TACR", 1 << 21),
    ("HCR_EL2", "TSW", 1 << 22),
    ("HCR_EL2", "RW", 1 << 31),
    ("HCR_EL2", "TLOR", 1 << 35),
    ("HCR_EL2", "TERR", 1 << 36),
    ("HCR_EL2", "APK", 1 << 40),
    ("HCR_EL2", "API", 1 << 41),
    ("HCR_EL2", "TID5", 1 << 58),
    ("CPTR_EL2", "TZ", 1 << 8),
    ("CPTR_EL2", "RES1", 0x22ff),
    ("CPTR_EL2", "TSM", 1 << 12),
    ("CPTR_EL2", "TTA", 1 << 20),
    ("CPTR_EL2", "TAM", 1 << 30),
    ("MDCR_EL2", "TPMCR", 1 << 5),
    ("MDCR_EL2", "TPM", 1 << 6),
    ("MDCR_EL2", "TDA", 1 << 9),
    ("MDCR_EL2", "TDOSA", 1 << 10),
    ("MDCR_EL2", "TDRA", 1 << 11),
    ("MDCR_EL2", "TPMS", 1 << 14),
    ("MDCR_EL2", "TTRF", 1 << 19),
    ("CNTHCTL_EL2", "EL1PCTEN", 1 << 0),
    ("MPAM2_EL2", "TRAPMPAM1EL1", 1 << 48),
    ("MPAM2_EL2", "TRAPMPAM0EL1", 1 << 49),
    ("MPAM2_EL2", "TIDR", 1 << 58),
    ("MPAMHCR_EL2", "TRAP_MPAMIDR_EL1", 1 << 31),
];

/// Fields that are zero on purpose: with a one there, a guest reaches what is not its own.
const CLEAR: &[(&str, &str, u32)] = &[
    ("HCR_EL2", "TGE", 27),
    ("HCR_EL2", "E2H", 34),
    ("HCR_EL2", "TME", 39),
    ("HCR_EL2", "NV", 42),
    ("HCR_EL2", "FIEN", 47),
    ("HCR_EL2", "EnSCXT", 53),
    ("HCR_EL2", "ATA", 56),
    ("MDCR_EL2", "TDE", 8),
    ("MDCR_EL2", "E2PB", 12),
    ("MDCR_EL2", "E2PB", 13),
    ("MDCR_EL2", "E2TB", 24),
    ("MDCR_EL2", "E2TB", 25),
    ("MDCR_EL2", "EBWE", 43),
    ("CNTHCTL_EL2", "EL1PCEN", 1),
    ("CNTHCTL_EL2", "ECV", 12),
    ("HCRX_EL2", "EnAS0", 0),
    ("HCRX_EL2", "EnALS", 1),
    ("HCRX_EL2", "EnASR", 2),
    ("HCRX_EL2", "TCR2En", 14),
    ("HCRX_EL2", "SCTLR2En", 15),
    ("HCRX_EL2", "D128En", 17),
    ("HCRX_EL2", "GCSEn", 22),
    ("HCRX_EL2", "EnFPM", 23),
    ("HFGRTR_EL2", "nTPIDR2_EL0", 55),
    ("HFGWTR_EL2", "nTPIDR2_EL0", 55),
    ("HFGRTR_EL2", "nACCDATA_EL1", 50),
    ("HFGWTR_EL2", "nSMPRI_EL1", 54),
    ("HFGWTR_EL2", "nPIR_EL1", 58),
    ("HFGWTR_EL2", "nAMAIR2_EL1", 63),
    ("HDFGRTR_EL2", "nBRBDATA", 61),
    ("HFGRTR2_EL2", "nPFAR_EL1", 0),
    ("HFGWTR2_EL2", "nRCWSMASK_EL1", 2),
];

fn register(name: &str) -> &'static Register {
    let found = REGISTERS.iter().find(|register| register.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in the table"))
}

#[test]
fn every_control_stands_at_its_bit() {
    for (name, field, bits) in SET {
        assert_eq!(register(name).value() & bits, *bits, "{name}.{field}");
    }
    for (name, field, bit) in CLEAR {
        assert_eq!(register(name).value() >> bit & 1, 0, "{name}.{field}");
    }
}

/// The fields that aarch64-cpu has too are where it has them.
#[test]
fn positions_agree_with_the_register_crate() {
    macro_rules! check {
        ($($register:ident: $($field:ident)+;)+) => {
            let mut checked = 0;
            $($(
                let known = aarch64_cpu::registers::$register::$field;
                for field in register(stringify!($register)).fields {
                    if field.name == stringify!($field) {
                        assert_eq!(field.bit as usize, known.shift, concat!(stringify!($register), ".", stringify!($field)));
                        checked += 1;
                    }
                }
            )+)+
            assert_eq!(checked, [$($(stringify!($field)),+),+].len());
        };
    }
    check! {
        HCR_EL2: VM SWIO PTW FMO IMO AMO TWI TWE TID3 TSC TIDCP TACR TSW TGE RW E2H TLOR TERR TEA TME APK API NV FIEN AMVOFFEN EnSCXT ATA TID5;
        CPTR_EL2: TAM;
        MDCR_EL2: TPMCR TPM HPME TDE TDA TDOSA TDRA E2PB TPMS TTRF E2TB TDCC EBWE;
        CNTHCTL_EL2: EL1PCTEN EL1PCEN;
        HFGRTR_EL2: nACCDATA_EL1 nGCS_EL0 nGCS_EL1 nSMPRI_EL1 nTPIDR2_EL0 nRCWMASK_EL1 nPIRE0_EL1 nPIR_EL1 nPOR_EL0 nPOR_EL1 nS2POR_EL1 nMAIR2_EL1 nAMAIR2_EL1;
        HFGWTR_EL2: nACCDATA_EL1 nGCS_EL0 nGCS_EL1 nSMPRI_EL1 nTPIDR2_EL0 nRCWMASK_EL1 nPIRE0_EL1 nPIR_EL1 nPOR_EL0 nPOR_EL1 nS2POR_EL1 nMAIR2_EL1 nAMAIR2_EL1;
        HFGITR_EL2: nBRBINJ nBRBIALL nGCSPUSHM_EL1 nGCSSTR_EL1 nGCSEPP;
        HDFGRTR_EL2: nBRBCTL nBRBDATA nPMSNEVFR_EL1;
        HDFGWTR_EL2: nBRBCTL nBRBDATA nPMSNEVFR_EL1;
    }
}

#[test]
fn a_register_knows_its_name() {
    assert!(HCR.is("HCR_EL2"));
    for other in ["HCR_EL1", "HCR_EL", "HCR_EL22", "ACR_EL2", ""] {
        assert!(!HCR.is(other), "{other}");
    }
}

#[test]
fn nothing_else_is_set() {
    for register in REGISTERS {
        let named = SET.iter().filter(|(name, ..)| *name == register.name);
        let want = named.fold(0, |bits, (.., one)| bits | one);
        assert_eq!(register.value(), want, "{}", register.name);
    }
}

#[test]
fn names_and_positions_agree_with_the_manual() {
    for register in REGISTERS {
        for field in register.fields.iter().filter(|field| field.value != 0) {
            let bits = field.value << field.bit;
            let known = SET.iter().find(|(name, one, at)| {
                *name == register.name && *one == field.name && at & bits == bits
            });
            assert!(known.is_some(), "{}.{} at bit {}", register.name, field.name, field.bit);
        }
    }
}

#[test]
fn turns_trap_wfi_and_wfe() {
    assert_eq!(HCR_SHARED, 0x6000, "TWI is bit 13, TWE bit 14");
    assert_eq!(MDCR_TDA, 0x200);
}

/// DDI 0487 D19.2, "Accessing": op0, op1, CRn, CRm, op2.
#[test]
fn encodings_are_the_manuals() {
    let want: &[(&str, u16)] = &[
        ("HCR_EL2", 0xe088),
        ("MDCR_EL2", 0xe089),
        ("CPTR_EL2", 0xe08a),
        ("HSTR_EL2", 0xe08b),
        ("HFGRTR_EL2", 0xe08c),
        ("HFGWTR_EL2", 0xe08d),
        ("HFGITR_EL2", 0xe08e),
        ("HACR_EL2", 0xe08f),
        ("HCRX_EL2", 0xe092),
        ("HDFGRTR2_EL2", 0xe188),
        ("HDFGWTR2_EL2", 0xe189),
        ("HFGRTR2_EL2", 0xe18a),
        ("HFGWTR2_EL2", 0xe18b),
        ("HDFGRTR_EL2", 0xe18c),
        ("HDFGWTR_EL2", 0xe18d),
        ("HAFGRTR_EL2", 0xe18e),
        ("HFGITR2_EL2", 0xe18f),
        ("CNTHCTL_EL2", 0xe708),
        ("MPAM2_EL2", 0xe528),
        ("MPAMHCR_EL2", 0xe520),
        ("VSESR_EL2", 0xe293),
        ("TCR2_EL2", 0xe103),
        ("SCTLR2_EL2", 0xe083),
        ("GCSCR_EL2", 0xe128),
    ];
    assert_eq!(want.len(), REGISTERS.len());
    for (name, encoding) in want {
        assert_eq!(register(name).encoding, *encoding, "{name}");
    }
}

#[test]
fn registers_are_written_where_the_cpu_has_them() {
    let with = |fields: &[(usize, u32, u64)]| {
        let mut ids = [0; 64];
        for (place, bit, value) in fields {
            ids[*place] |= value << bit;
        }
        let present = |register: &&&Register| register.presence.holds(&ids);
        REGISTERS.iter().filter(present).map(|register| register.name).collect::<Vec<_>>()
    };
    let always = ["HCR_EL2", "CPTR_EL2", "MDCR_EL2", "HSTR_EL2", "HACR_EL2", "CNTHCTL_EL2"];
    assert_eq!(with(&[]), always);
    let more = |fields: &[(usize, u32, u64)]| with(fields).split_off(always.len());
    // ID_AA64PFR0_EL1 is CRm 4, op2 0; ID_AA64MMFR0_EL1 CRm 7, op2 0.
    let fgt = ["HFGRTR_EL2", "HFGWTR_EL2", "HFGITR_EL2", "HDFGRTR_EL2", "HDFGWTR_EL2"];
    assert_eq!(more(&[(56, 56, 1)]), fgt);
    assert_eq!(more(&[(32, 44, 1)]), [""; 0], "activity monitors without fine-grained traps");
    assert_eq!(more(&[(32, 44, 1), (56, 56, 1)])[5..], ["HAFGRTR_EL2"]);
    let fgt2 = ["HFGRTR2_EL2", "HFGWTR2_EL2", "HFGITR2_EL2", "HDFGRTR2_EL2", "HDFGWTR2_EL2"];
    assert_eq!(more(&[(56, 56, 2)])[5..], fgt2);
    assert_eq!(more(&[(57, 40, 1)]), ["HCRX_EL2"]);
    assert_eq!(more(&[(32, 40, 1)]), ["MPAM2_EL2", "MPAMHCR_EL2"], "MPAM 1.0");
    assert_eq!(more(&[(33, 16, 1)]), ["MPAM2_EL2", "MPAMHCR_EL2"], "MPAM 0.1");
    assert_eq!(more(&[(32, 28, 1)]), ["VSESR_EL2"]);
    assert_eq!(more(&[(59, 0, 1)]), ["TCR2_EL2"]);
    assert_eq!(more(&[(59, 4, 1)]), ["SCTLR2_EL2"]);
    assert_eq!(more(&[(33, 44, 1)]), ["GCSCR_EL2"]);
}

/// Where an ID field is, in words.
fn field((reg, bit, least): (u16, u32, u64)) -> String {
    let name = arch::sysreg::name(reg).expect("an ID register has a name");
    format!("{name}[{}:{bit}] >= {least}", bit + 3)
}

/// The page, from the table.
fn page() -> String {
    let mut out = String::from(
        "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\n\
         <!-- Written by `UPDATE_DOCS=1 cargo test -p arch --test trap_controls`; the test fails where it is stale. -->\n\
         # Trap controls\n\n\
         What EL2 writes into each register that decides what guests may do, on every CPU that has the register. Bits that\n\
         are not named are zero. The registers are described in DDI 0487 D19.2 (general), D19.3 (debug) and D19.12 (timer).\n\
         The source is `crates/arch/src/trap_controls.rs`; `hyp/src/cpu/trap_controls.rs` writes the values.\n",
    );
    for register in REGISTERS {
        let presence = match register.presence {
            Presence::Always => "On every CPU.".to_owned(),
            Presence::Id(reg, bit, least) => format!("Where {}.", field((reg, bit, least))),
            Presence::Both(a, b) => format!("Where {} and {}.", field(a), field(b)),
            Presence::Either(a, b) => format!("Where {} or {}.", field(a), field(b)),
            Presence::MpamHcr => "Where the CPU has MPAM, and MPAMIDR_EL1.HAS_HCR.".to_owned(),
        };
        let (name, value, about) = (register.name, register.value(), register.about);
        let _ = write!(out, "\n## {name} = {value:#x}\n\n{presence} {about}\n");
        if !register.fields.is_empty() {
            out.push_str("\n| bit | name | value | reason |\n|---|---|---|---|\n");
        }
        for field in register.fields {
            let Field { bit, name, value, reason } = field;
            let _ = writeln!(out, "| {bit} | {name} | {value:#x} | {reason} |");
        }
    }
    out
}

#[test]
fn the_page_is_the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/trap-controls.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, page()).expect("the page can be written");
    }
    let found = fs::read_to_string(&file).expect("the page can be read");
    assert!(found == page(), "stale: UPDATE_DOCS=1 cargo test -p arch --test trap_controls");
}
