// SPDX-License-Identifier: MIT OR Apache-2.0
//! System registers that the register crate lacks, by their encoding.

/// Defines `read` and `write` for a register named by its `S<op0>_<op1>_C<n>_C<m>_<op2>` form.
macro_rules! sysreg {
    ($(#[$doc:meta])* $name:ident = $encoding:literal) => {
        $(#[$doc])*
        #[allow(dead_code)]
        pub mod $name {
            /// Reads the register.
            #[inline(always)]
            pub fn read() -> u64 {
                let value: u64;
                // SAFETY: every register named here exists where this is called (the GIC's after ICC_SRE_EL2.SRE has
                // been found set) and reading it touches no memory.
                unsafe {
                    core::arch::asm!(concat!("mrs {}, ", $encoding), out(reg) value,
                        options(nostack, preserves_flags));
                }
                value
            }
            /// Writes the register.
            #[inline(always)]
            pub fn write(value: u64) {
                // SAFETY: as for `read`; none of these registers changes how EL2 itself accesses memory.
                unsafe {
                    core::arch::asm!(concat!("msr ", $encoding, ", {}"), in(reg) value,
                        options(nostack, preserves_flags));
                }
            }
        }
    };
}

// GIC CPU interface (IHI 0069 12.2).
sysreg!(icc_sre_el1 = "S3_0_C12_C12_5");
sysreg!(icc_sre_el2 = "S3_4_C12_C9_5");
sysreg!(icc_iar1_el1 = "S3_0_C12_C12_0");
sysreg!(icc_eoir1_el1 = "S3_0_C12_C12_1");
sysreg!(icc_dir_el1 = "S3_0_C12_C11_1");
sysreg!(icc_pmr_el1 = "S3_0_C4_C6_0");
sysreg!(icc_bpr1_el1 = "S3_0_C12_C12_3");
sysreg!(icc_ctlr_el1 = "S3_0_C12_C12_4");
sysreg!(icc_igrpen1_el1 = "S3_0_C12_C12_7");
sysreg!(icc_sgi1r_el1 = "S3_0_C12_C11_5");
// GIC hypervisor interface (IHI 0069 12.4).
sysreg!(ich_hcr_el2 = "S3_4_C12_C11_0");
sysreg!(ich_vtr_el2 = "S3_4_C12_C11_1");
sysreg!(ich_misr_el2 = "S3_4_C12_C11_2");
sysreg!(ich_elrsr_el2 = "S3_4_C12_C11_5");
sysreg!(ich_vmcr_el2 = "S3_4_C12_C11_7");
sysreg!(ich_ap0r0_el2 = "S3_4_C12_C8_0");
sysreg!(ich_ap1r0_el2 = "S3_4_C12_C9_0");
sysreg!(ich_ap0r1_el2 = "S3_4_C12_C8_1");
sysreg!(ich_ap1r1_el2 = "S3_4_C12_C9_1");
sysreg!(ich_ap0r2_el2 = "S3_4_C12_C8_2");
sysreg!(ich_ap1r2_el2 = "S3_4_C12_C9_2");
sysreg!(ich_ap0r3_el2 = "S3_4_C12_C8_3");
sysreg!(ich_ap1r3_el2 = "S3_4_C12_C9_3");
sysreg!(ich_lr0_el2 = "S3_4_C12_C12_0");
sysreg!(ich_lr1_el2 = "S3_4_C12_C12_1");
sysreg!(ich_lr2_el2 = "S3_4_C12_C12_2");
sysreg!(ich_lr3_el2 = "S3_4_C12_C12_3");
sysreg!(ich_lr4_el2 = "S3_4_C12_C12_4");
sysreg!(ich_lr5_el2 = "S3_4_C12_C12_5");
sysreg!(ich_lr6_el2 = "S3_4_C12_C12_6");
sysreg!(ich_lr7_el2 = "S3_4_C12_C12_7");
sysreg!(ich_lr8_el2 = "S3_4_C12_C13_0");
sysreg!(ich_lr9_el2 = "S3_4_C12_C13_1");
sysreg!(ich_lr10_el2 = "S3_4_C12_C13_2");
sysreg!(ich_lr11_el2 = "S3_4_C12_C13_3");
sysreg!(ich_lr12_el2 = "S3_4_C12_C13_4");
sysreg!(ich_lr13_el2 = "S3_4_C12_C13_5");
sysreg!(ich_lr14_el2 = "S3_4_C12_C13_6");
sysreg!(ich_lr15_el2 = "S3_4_C12_C13_7");
// Identity of the CPU that guests see.
sysreg!(vpidr_el2 = "S3_4_C0_C0_0");
sysreg!(cnthp_cval_el2 = "S3_4_C14_C2_2");
sysreg!(cnthp_ctl_el2 = "S3_4_C14_C2_1");
sysreg!(disr_el1 = "S3_0_C12_C1_1");
sysreg!(vdisr_el2 = "S3_4_C12_C1_1");
sysreg!(tpidr2_el0 = "S3_3_C13_C0_5");
