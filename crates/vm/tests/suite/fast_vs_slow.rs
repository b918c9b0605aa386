// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fast path's exits, and everything that is one bit beside them: the slow path comes to the same there.

use crate::common::*;
use arch::{Exit, ExitInfo, Ipa, SCTLR_E0E, SCTLR_EE, SysRegAccess, Width, pstate, sysreg};
use mmio_guard::{Dialect, Policy};
use stage2::Annotation;
use vm::Outcome;

/// ESR_EL2 has 32 bits of EC, IL and ISS.
const ESR_BITS: u32 = 32;
/// FAR_EL2's offset in a page.
const OFFSET_BITS: u32 = 12;

/// The exits that guests make most, all of which the fast path handles, and x0.
fn frequent() -> Vec<(&'static str, ExitInfo, u64)> {
    let of = |exit| encode(exit);
    let sysreg = |reg, write| of(Exit::SysReg(SysRegAccess { reg, rt: 5, write }));
    let hvc = of(Exit::Hvc { imm: 0 });
    vec![
        ("a refused load", of(load(VOID, Width::B4)), 0),
        ("a refused store", of(store(VOID + 8, Width::B8)), 0),
        ("flags of the PL011", of(load(UART + 0x18, Width::B1)), 0),
        ("GICD_TYPER", of(load(GICD + 4, Width::B4)), 0),
        ("a store to GICD_TYPER", of(store(GICD + 4, Width::B4)), 0),
        ("GICD_ISENABLER1", of(load(GICD + 0x104, Width::B4)), 0),
        ("a store to GICD_ISENABLER1", of(store(GICD + 0x104, Width::B4)), 0),
        ("GICR_TYPER", of(load(GICR + 8, Width::B8)), 0),
        // Its upper half is not zero.
        ("GICR_TYPER of the other vCPU", of(load(GICR + 0x2_0008, Width::B8)), 0),
        ("a store to GICR_ISENABLER0", of(store(GICR + 0x1_0100, Width::B4)), 0),
        ("ID_AA64PFR0_EL1", sysreg(sysreg::ID_AA64PFR0_EL1, false), 0),
        ("ICC_SGI1R_EL1", sysreg(sysreg::ICC_SGI1R_EL1, true), 0),
        ("WFI", of(Exit::Wfx { wfe: false, il: true }), 0),
        ("SMCCC_VERSION", hvc, 0x8000_0000),
        ("PSCI_VERSION", hvc, 0x8400_0000),
        ("CPU_SUSPEND", hvc, 0xc400_0001),
        ("MAP", hvc, 0xc600_0007),
        ("UNMAP", hvc, 0xc600_0008),
        ("the guard's range call", hvc, 0xc600_000a),
    ]
}

/// Two VMs that are alike; one takes the fast path, the other does not.
struct Pair {
    short: Rig,
    long: Rig,
}

impl Pair {
    fn new(config: &Config) -> Self {
        let (mut short, mut long) = (config.build(), config.build());
        for rig in [&mut short, &mut long] {
            for page in [UART, GICD, GICR, GICR + 0x1_0000, GICR + 0x2_0000] {
                rig.call(0xc600_0007, [page, 0, 0]);
            }
            rig.went_slow = 0;
        }
        Self { short, long }
    }

    /// One exit of vCPU 0 in both, whose outcome and state must agree.
    fn agree(&mut self, name: &str, info: ExitInfo, x0: u64, spsr: u64, sctlr: u64) -> Outcome {
        for rig in [&mut self.short, &mut self.long] {
            rig.machine.log().sctlr = sctlr;
            let regs = &mut rig.vcpus[0].regs;
            regs.x[..6].copy_from_slice(&[x0, VOID + 0x5000, 1, 0, 0, 0x8642_0000_8642_0001]);
            (regs.elr, regs.spsr) = (0x4000_0000, spsr);
        }
        let a = self.short.exit_raw(0, info);
        let b = self.long.exit_slow(0, arch::decode(info, &arch::Errata::NONE));
        let (short, long) = (&self.short, &self.long);
        assert_eq!(a, b, "{name}: {info:x?}, SPSR {spsr:#x}, SCTLR {sctlr:#x}");
        assert_eq!(short.vcpus[0].regs, long.vcpus[0].regs, "{name}: {info:x?}");
        assert_eq!(short.vcpus[0].refusal, long.vcpus[0].refusal, "{name}: {info:x?}");
        assert_eq!(short.vm.counts(), long.vm.counts(), "{name}: {info:x?}");
        a
    }

    fn end(&self, name: &str) {
        assert_eq!(self.short.snapshot(), self.long.snapshot(), "{name}");
        let (a, b) = (self.short.machine.log(), self.long.machine.log());
        assert_eq!(a.kicked, b.kicked, "{name}");
        assert_eq!(a.output, b.output, "{name}");
    }
}

#[test]
fn frequent_exits_take_the_fast_path() {
    let mut pair = Pair::new(&Config::of(Policy::Enforce, Dialect::Pkvm));
    for (name, info, x0) in frequent() {
        pair.agree(name, info, x0, pstate::EL1H, 0);
        assert_eq!(pair.short.went_slow, 0, "{name}");
    }
}

#[test]
fn what_the_distributor_always_says_is_answered_at_once() {
    let mut pair = Pair::new(&Config::of(Policy::Enforce, Dialect::Pkvm));
    let (vcpu, vm) = (&mut pair.short.vcpus[0], &pair.short.vm);
    for (offset, at_once) in [(4, true), (8, true), (5, false), (0x104, false)] {
        let info = encode(load(GICD + offset, Width::B4));
        let path = vm::try_fast_path(&info, &arch::Errata::NONE, vcpu, vm);
        assert_eq!(path == vm::FastPath::ADVANCE, at_once, "{offset:#x}: {path:?}");
    }
}

#[test]
fn one_bit_of_the_syndrome_beside_it_both_ways_agree() {
    for policy in [Policy::Enforce, Policy::Enrol] {
        for (name, info, x0) in frequent() {
            let mut pair = Pair::new(&Config::of(policy, Dialect::Pkvm));
            for bit in 0..ESR_BITS {
                let info = ExitInfo { esr: info.esr ^ 1 << bit, ..info };
                pair.agree(name, info, x0, pstate::EL1H, 0);
            }
            pair.end(name);
        }
    }
}

#[test]
fn one_bit_of_the_address_beside_it_both_ways_agree() {
    for (name, info, x0) in frequent() {
        let mut pair = Pair::new(&Config::of(Policy::Enforce, Dialect::Pkvm));
        for bit in 0..OFFSET_BITS {
            pair.agree(name, ExitInfo { far: info.far ^ 1 << bit, ..info }, x0, pstate::EL1H, 0);
        }
        pair.end(name);
    }
}

#[test]
fn big_endian_guests_and_aarch32_are_for_the_long_way() {
    for (name, info, x0) in frequent() {
        let mut pair = Pair::new(&Config::of(Policy::Enforce, Dialect::Pkvm));
        for sctlr in [0, SCTLR_EE, SCTLR_E0E, SCTLR_EE | SCTLR_E0E] {
            for spsr in [pstate::EL1H, pstate::EL0T] {
                pair.agree(name, info, x0, spsr, sctlr);
            }
        }
        // T32 in an IT block, which a step must move on.
        for spsr in [pstate::M_AARCH32, pstate::M_AARCH32 | 1 << 5 | 0b1000 << 10 | 0b01 << 25] {
            pair.agree(name, info, x0, spsr, 0);
        }
        pair.end(name);
    }
}

#[test]
fn an_empty_page_of_memory_is_for_the_long_way() {
    const ROM: u64 = 0x40_0000;
    let mut config = Config::of(Policy::Enforce, Dialect::Pkvm);
    config.roms = vec![range(ROM, 0x2000)];
    let mut pair = Pair::new(&config);
    for page in [RAM + 0x5000, ROM] {
        for rig in [&pair.short, &pair.long] {
            let empty = Annotation::Empty;
            rig.vm.stage2().unmap(&rig.order, range(page, 0x1000), empty).unwrap();
        }
        for exit in [load(page + 8, Width::B4), store(page + 8, Width::B4)] {
            let outcome = pair.agree("memory", encode(exit), 0, pstate::EL1H, 0);
            assert!(matches!(outcome, Outcome::Abort(_)), "{outcome:?}");
        }
    }
    // A ROM elsewhere makes no memory of what is none.
    pair.agree("nothing", encode(load(VOID, Width::B4)), 0, pstate::EL1H, 0);
    assert_eq!(pair.long.vcpus[0].refusal.ipa, Some(Ipa::new(VOID)));
    pair.end("memory");
}
