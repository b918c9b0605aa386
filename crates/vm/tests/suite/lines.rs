// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people read of a refusal.

use crate::common::*;
use arch::{Exit, Pa, Width};
use mmio_guard::Dialect;

fn line(rig: &Rig) -> String {
    rig.vm.refusal_line(0, rig.vcpus[0].refusal).to_string()
}

fn advice(rig: &Rig) -> Option<String> {
    rig.vm.advice(&rig.vcpus[0].refusal).map(|it| it.to_string())
}

#[test]
fn a_refusal_names_all_and_a_second_line_says_how_to_declare_the_page() {
    for (dialect, id) in [(Dialect::Pkvm, "0xc6000007"), (Dialect::Series, "0xc6000004")] {
        let mut rig = rig(ENFORCE, dialect);
        rig.vcpus[0].regs.elr = 0xffff_8000_1000_0040;
        rig.write(UART + 0x18, Width::B2, 1).unwrap_err();
        assert_eq!(
            line(&rig),
            "guest: vCPU 0: refused store of 2 bytes at IPA 0x9000018 (VA 0xffff000009000018, PC \
             0xffff800010000040): undeclared, pl011@9000000"
        );
        let text = format!(
            "guest: to declare pl011@9000000: HVC {id} with x1=0x9000000, or vm.preset=0x9000000+0x1000"
        );
        assert_eq!(advice(&rig), Some(text));
        // Once.
        assert_eq!(advice(&rig), None);
    }
}

#[test]
fn a_page_without_a_device_names_none() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.read(VOID, Width::B8).unwrap_err();
    let text = line(&rig);
    assert!(text.contains("refused load of 8 bytes at IPA 0xc000000 "), "{text}");
    assert!(text.ends_with(": undeclared"), "{text}");
    let text = "guest: to declare this page: HVC 0xc6000007 with x1=0xc000000, or \
                vm.preset=0xc000000+0x1000";
    assert_eq!(advice(&rig).as_deref(), Some(text));
    assert_eq!(advice(&rig), None);
    // Each page once, and not more than a few: a guest may touch as many as it likes.
    let mut told = 1;
    for page in 1..100 {
        for offset in [0, 0xff8] {
            rig.read(VOID + page * 0x1000 + offset, Width::B8).unwrap_err();
            told += usize::from(advice(&rig).is_some());
        }
    }
    assert_eq!(told, 8);
    // Devices have their own.
    rig.read(UART, Width::B4).unwrap_err();
    assert!(advice(&rig).is_some());
}

#[test]
fn advice_is_about_the_whole_device_once_whichever_page_was_touched() {
    let cases = [
        (
            GICD + 0x8004,
            "intc@8000000: HVC 0xc600000a with x1=0x8000000 x2=0x10",
            "0x8000000+0x10000",
        ),
        (
            GICR + 0x1_0008,
            "intc@8000000: HVC 0xc600000a with x1=0x80a0000 x2=0x40",
            "0x80a0000+0x40000",
        ),
        (UART, "pl011@9000000: HVC 0xc6000007 with x1=0x9000000", "0x9000000+0x1000"),
        (TEST + 0xff0, "test-device: HVC 0xc6000007", &format!("{TEST:#x}+0x1000")),
    ];
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    for (ipa, call, preset) in cases {
        rig.read(ipa, Width::B4).unwrap_err();
        let text = advice(&rig).unwrap();
        assert!(text.contains(&format!("to declare {call}")), "{text}");
        assert!(text.ends_with(&format!(", or vm.preset={preset}")), "{text}");
        rig.read(ipa & !0xfff, Width::B4).unwrap_err();
        assert_eq!(advice(&rig), None, "{ipa:#x}");
    }
    // The series has no call for a range.
    let mut rig = self::rig(ENFORCE, Dialect::Series);
    rig.read(GICD, Width::B4).unwrap_err();
    assert_eq!(
        advice(&rig).unwrap(),
        "guest: to declare intc@8000000: HVC 0xc6000004 with x1=0x8000000 and each page to 0x800f000, \
         or vm.preset=0x8000000+0x10000"
    );
    // Pages that are reached without a trap: GICv2's CPU interface, and a device of the machine.
    let mapped_mmio =
        |start, size| vm::MappedMmio { ipa: range(start, size), pa: Pa::new(0x1000_0000) };
    let mapped_mmio = vec![mapped_mmio(0x801_0000, 0x2000), mapped_mmio(0xd00_0000, 0x3000)];
    let mut rig = Config { policy: ENFORCE, mapped_mmio, ..Config::default() }.build();
    for (ipa, text) in [
        (0x801_1000, "intc@8000000: HVC 0xc600000a with x1=0x8010000 x2=0x2, "),
        (0xd00_1000, "this device: HVC 0xc600000a with x1=0xd000000 x2=0x3, "),
    ] {
        rig.read(ipa, Width::B4).unwrap_err();
        let found = advice(&rig).unwrap();
        assert!(found.contains(text), "{found}");
        assert_eq!(advice(&rig), None);
    }
}

#[test]
fn the_gic_is_named_by_its_node() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    for ipa in [GICD + 4, GICR + 0x1_0008] {
        rig.read(ipa, Width::B4).unwrap_err();
        assert!(line(&rig).contains("undeclared, intc@8000000"), "{}", line(&rig));
    }
}

#[test]
fn a_page_that_cannot_be_declared_says_why() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.read(1 << 40, Width::B4).unwrap_err();
    assert!(
        line(&rig).ends_with("; beyond the VM's IPA size, cannot be declared"),
        "{}",
        line(&rig)
    );
    assert_eq!(advice(&rig), None);
    rig.call(0xc600_0007, [RAM - 0x1000, 0, 0]);
    rig.read(RAM - 2, Width::B4).unwrap_err();
    assert!(line(&rig).ends_with("; memory cannot be declared"), "{}", line(&rig));
    assert_eq!(advice(&rig), None);
    let mut rig = Config { allow: vec![range(UART, 0x1000)], ..Config::default() }.build();
    rig.read(VOID, Width::B4).unwrap_err();
    let text = "guest: not in vm.allow: to declare this page: vm.preset=0xc000000+0x1000";
    assert_eq!(advice(&rig).as_deref(), Some(text));
    // A part of the device is not enough.
    let mut rig = Config { allow: vec![range(GICD, 0x1000)], ..Config::default() }.build();
    rig.read(GICD, Width::B4).unwrap_err();
    let text = "guest: not in vm.allow: to declare intc@8000000: vm.preset=0x8000000+0x10000";
    assert_eq!(advice(&rig).as_deref(), Some(text));
}

#[test]
fn other_aborts_are_not_called_refusals_and_give_no_advice() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    rig.read(VOID, Width::B4).unwrap_err();
    let text = line(&rig);
    assert!(text.contains("vCPU 0: aborted load of 4 bytes at IPA 0xc000000 "), "{text}");
    assert!(text.ends_with(": no device"), "{text}");
    assert_eq!(advice(&rig), None);
    rig.read(TEST + 0x400, Width::B4).unwrap_err();
    assert!(line(&rig).ends_with(": device error, test-device"), "{}", line(&rig));
    rig.exit(0, Exit::InstructionAbort(fetch(VOID)));
    assert!(line(&rig).contains("aborted fetch at IPA 0xc000000 "), "{}", line(&rig));
    let abort = arch::DataAbort { access: None, ..data(VOID, Width::B4, true) };
    rig.exit(0, Exit::DataAbort(abort));
    assert!(line(&rig).contains("aborted store at IPA 0xc000000 "), "{}", line(&rig));
    let fault = arch::Fault { kind: arch::FaultKind::External, level: 0 };
    rig.exit(0, Exit::DataAbort(arch::DataAbort { fault, ipa: None, ..abort }));
    assert!(line(&rig).contains("at an unknown IPA (VA "), "{}", line(&rig));
}
