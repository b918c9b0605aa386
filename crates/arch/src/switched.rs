// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers that are switched with a vCPU, in one list each, from which hyp makes the code that saves and
//! restores them.

/// Hands the registers of EL1 and EL0 that every CPU has to the macro `$then`, two in a pair.
#[macro_export]
macro_rules! switched_system {
    ($then:ident) => {
        $then! {
            /// Registers that every CPU has.
            System {
                sctlr = "sctlr_el1", cpacr = "cpacr_el1";
                ttbr0 = "ttbr0_el1", ttbr1 = "ttbr1_el1";
                tcr = "tcr_el1", mair = "mair_el1";
                amair = "amair_el1", vbar = "vbar_el1";
                contextidr = "contextidr_el1", csselr = "csselr_el1";
                tpidr_el0 = "tpidr_el0", tpidrro_el0 = "tpidrro_el0";
                tpidr_el1 = "tpidr_el1", par = "par_el1";
                sp_el0 = "sp_el0", sp_el1 = "sp_el1";
                elr = "elr_el1", spsr = "spsr_el1";
                esr = "esr_el1", far = "far_el1";
                afsr0 = "afsr0_el1", afsr1 = "afsr1_el1";
                cntkctl = "cntkctl_el1", cntv_cval = "cntv_cval_el0";
            }
        }
    };
}

/// Hands the registers that say which debug events there are to the macro `$then`. All zero, the other debug
/// registers have no effect (DDI 0487 D2.4.1, H4.2): that is what a vCPU leaves behind.
#[macro_export]
macro_rules! switched_debug_control {
    ($then:ident) => {
        $then! {
            /// What says which debug events there are.
            DebugControl { mdscr = "mdscr_el1", mdccint = "mdccint_el1"; }
        }
    };
}

/// Hands the data of the debug communications channel to the macro `$then`.
#[macro_export]
macro_rules! switched_debug_channel {
    ($then:ident) => {
        $then! {
            /// DTRRX and DTRTX, read and written without side effects.
            DebugChannel { receive = "osdtrrx_el1", transmit = "osdtrtx_el1"; }
        }
    };
}

/// MDSCR_EL1 fields that are an external debugger's, visible while the OS lock is closed: INTdis, TDA, SC2, HDE,
/// ERR (DDI 0487 D19.3, MDSCR_EL1).
const EXTERNAL: u64 = 0b11 << 22 | 1 << 21 | 1 << 19 | 1 << 14 | 1 << 6;

/// What is written to MDSCR_EL1, with the OS lock closed, for a vCPU that had `own` there, where the CPU has
/// `current`: the debugger's fields stay; the channel's flags (RXfull, TXfull, RXO, TXU) are the vCPU's.
pub const fn mdscr_for(own: u64, current: u64) -> u64 {
    own & !EXTERNAL | current & EXTERNAL
}

#[cfg(test)]
mod tests {
    use super::mdscr_for;
    use std::vec::Vec;

    macro_rules! names {
        ($(#[$doc:meta])* $name:ident { $($one:ident = $one_reg:literal, $two:ident = $two_reg:literal;)* }) => {
            [$($one_reg, $two_reg),*]
        };
    }

    #[test]
    fn every_register_that_a_guest_writes_natively_is_switched() {
        let mut listed: Vec<&str> = switched_system!(names).into();
        let mut expected = [
            "sctlr_el1",
            "cpacr_el1",
            "ttbr0_el1",
            "ttbr1_el1",
            "tcr_el1",
            "mair_el1",
            "amair_el1",
            "vbar_el1",
            "contextidr_el1",
            "csselr_el1",
            "tpidr_el0",
            "tpidrro_el0",
            "tpidr_el1",
            "par_el1",
            "sp_el0",
            "sp_el1",
            "elr_el1",
            "spsr_el1",
            "esr_el1",
            "far_el1",
            "afsr0_el1",
            "afsr1_el1",
            "cntkctl_el1",
            "cntv_cval_el0",
        ];
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected);
    }

    #[test]
    fn debug_events_end_with_their_vcpu() {
        assert_eq!(switched_debug_control!(names), ["mdscr_el1", "mdccint_el1"]);
        assert_eq!(switched_debug_channel!(names), ["osdtrrx_el1", "osdtrtx_el1"]);
    }

    #[test]
    fn the_channels_flags_are_the_vcpus_and_the_debuggers_fields_stay() {
        for bit in [30, 29, 27, 26, 15, 13, 12, 0] {
            assert_eq!(mdscr_for(1 << bit, 0), 1 << bit);
            assert_eq!(mdscr_for(0, 1 << bit), 0);
        }
        for bit in [23, 22, 21, 19, 14, 6] {
            assert_eq!(mdscr_for(1 << bit, 0), 0);
            assert_eq!(mdscr_for(0, 1 << bit), 1 << bit);
        }
    }
}
