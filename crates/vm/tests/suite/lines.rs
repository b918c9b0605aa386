// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people read of a refusal.

use crate::common::*;
use arch::{Exit, Width};
use mmio_guard::Dialect;

fn line(rig: &Rig, left_out: u64) -> String {
    rig.vm.refusal_line(0, rig.vcpus[0].refusal, left_out).to_string()
}

#[test]
fn a_refusal_names_all_and_says_how_to_declare_the_page() {
    for (dialect, id) in [(Dialect::Pkvm, "0xc6000007"), (Dialect::Series, "0xc6000004")] {
        let mut rig = rig(ENFORCE, dialect);
        rig.vcpus[0].regs.elr = 0xffff_8000_1000_0040;
        rig.write(UART + 0x18, Width::B2, 1).unwrap_err();
        assert_eq!(
            line(&rig, 0),
            format!(
                "guest: vCPU 0: refused store of 2 bytes at IPA 0x9000018 (VA 0xffff000009000018, PC \
                 0xffff800010000040): undeclared, pl011@9000000; declare it: HVC {id} with x1=0x9000000, or \
                 vm.preset=0x9000000+0x1000"
            )
        );
    }
}

#[test]
fn a_page_without_a_device_names_none() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.read(VOID, Width::B8).unwrap_err();
    let text = line(&rig, 0);
    assert!(text.contains("refused load of 8 bytes at IPA 0xc000000 "), "{text}");
    assert!(
        text.contains(": undeclared; declare it: HVC 0xc6000007 with x1=0xc000000, or"),
        "{text}"
    );
}

#[test]
fn the_gic_is_named_by_its_node() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    for ipa in [GICD + 4, GICR + 0x1_0008] {
        rig.read(ipa, Width::B4).unwrap_err();
        assert!(line(&rig, 0).contains("undeclared, intc@8000000;"), "{}", line(&rig, 0));
    }
}

#[test]
fn what_was_left_out_is_counted() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.read(VOID, Width::B4).unwrap_err();
    assert!(line(&rig, 1234).ends_with(" (1234 more lines left out)"));
    assert!(!line(&rig, 0).contains("left out"));
}

#[test]
fn a_page_that_cannot_be_declared_says_why() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.read(1 << 40, Width::B4).unwrap_err();
    assert!(
        line(&rig, 0).ends_with("; beyond the VM's IPA size, cannot be declared"),
        "{}",
        line(&rig, 0)
    );
    rig.call(0xc600_0007, [RAM - 0x1000, 0, 0]);
    rig.read(RAM - 2, Width::B4).unwrap_err();
    assert!(line(&rig, 0).ends_with("; memory cannot be declared"), "{}", line(&rig, 0));
    let mut rig = Config { allow: vec![range(UART, 0x1000)], ..Config::default() }.build();
    rig.read(VOID, Width::B4).unwrap_err();
    assert!(
        line(&rig, 0).ends_with("; not in vm.allow, or vm.preset=0xc000000+0x1000"),
        "{}",
        line(&rig, 0)
    );
}

#[test]
fn other_aborts_are_not_called_refusals_and_give_no_advice() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    rig.read(VOID, Width::B4).unwrap_err();
    let text = line(&rig, 0);
    assert!(text.contains("vCPU 0: aborted load of 4 bytes at IPA 0xc000000 "), "{text}");
    assert!(text.ends_with(": no device"), "{text}");
    rig.read(TEST + 0x400, Width::B4).unwrap_err();
    assert!(line(&rig, 0).ends_with(": device error, test-device"), "{}", line(&rig, 0));
    rig.exit(0, Exit::InstructionAbort(fetch(VOID)));
    assert!(line(&rig, 0).contains("aborted fetch at IPA 0xc000000 "), "{}", line(&rig, 0));
    let abort = arch::DataAbort { access: None, ..data(VOID, Width::B4, true) };
    rig.exit(0, Exit::DataAbort(abort));
    assert!(line(&rig, 0).contains("aborted store at IPA 0xc000000 "), "{}", line(&rig, 0));
    let fault = arch::Fault { kind: arch::FaultKind::External, level: 0 };
    rig.exit(0, Exit::DataAbort(arch::DataAbort { fault, ipa: None, ..abort }));
    assert!(line(&rig, 0).contains("at an unknown IPA (VA "), "{}", line(&rig, 0));
}
