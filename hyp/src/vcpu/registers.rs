// SPDX-License-Identifier: MIT OR Apache-2.0
//! All registers of EL1 and EL0 that a guest can write, but for the general ones: saved when a vCPU is put, restored when
//! it is loaded. A vCPU begins with [`Context::reset`], so that it finds nothing of another vCPU.
//!
//! Debug registers are switched lazily: they trap until the vCPU uses one ([`Context::enable_lazy_debug`]). If the vCPU is
//! put without an enabled debug event, they trap again. A CPU has no debug event enabled unless its vCPU owns them.
//!
//! SVE, SME, MTE, PMU, SPE, trace and other hidden features trap, so nothing of them is switched.

use core::arch::asm;
use core::mem::offset_of;

use aarch64_cpu::registers::*;
use arch::vcpu_switch::{self, Extra, Parts, SwitchFeatures, SwitchIds};
use arm_sysregs::el1::accessors::read_id_aa64isar2_el1;

use crate::cpu::sysreg::{TPIDR2_EL0, VDISR_EL2};
use crate::cpu::{feature_probe, trap_controls};
use crate::gic::{Gic, VirtualInterface};

/// A structure of registers that are saved and restored two at a time.
macro_rules! pairs {
    ($(#[$doc:meta])* $name:ident { $($one:ident = $one_reg:literal, $two:ident = $two_reg:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Default)]
        #[repr(C)]
        struct $name {
            $($one: u64, $two: u64,)*
        }

        impl $name {
            #[inline(always)]
            fn save(&mut self) {
                let this = core::ptr::from_mut(self);
                // SAFETY: registers of EL1 and EL0, which EL2 does not use, and which exist where this is called. Each
                // pair is stored in two fields that lie side by side.
                unsafe {
                    $(asm!(concat!("mrs {a}, ", $one_reg), concat!("mrs {b}, ", $two_reg), "stp {a}, {b}, [{p}, {o}]",
                        a = out(reg) _, b = out(reg) _, p = in(reg) this, o = const offset_of!($name, $one),
                        options(nostack, preserves_flags));)*
                }
            }

            #[inline(always)]
            fn restore(&self) {
                let this = core::ptr::from_ref(self);
                // SAFETY: as for `save`; they take effect for the guest at the ERET.
                unsafe {
                    $(asm!("ldp {a}, {b}, [{p}, {o}]", concat!("msr ", $one_reg, ", {a}"), concat!("msr ", $two_reg, ", {b}"),
                        a = out(reg) _, b = out(reg) _, p = in(reg) this, o = const offset_of!($name, $one),
                        options(nostack, preserves_flags, readonly));)*
                }
            }
        }
    };
}

arch::switched_system!(pairs);
arch::switched_debug_control!(pairs);
arch::switched_debug_channel!(pairs);

pairs!(
    /// Keys of pointer authentication, by encoding (APIA, APIB, APDA, APDB, APGA).
    Keys {
        apia_lo = "S3_0_C2_C1_0", apia_hi = "S3_0_C2_C1_1";
        apib_lo = "S3_0_C2_C1_2", apib_hi = "S3_0_C2_C1_3";
        apda_lo = "S3_0_C2_C2_0", apda_hi = "S3_0_C2_C2_1";
        apdb_lo = "S3_0_C2_C2_2", apdb_hi = "S3_0_C2_C2_3";
        apga_lo = "S3_0_C2_C3_0", apga_hi = "S3_0_C2_C3_1";
    }
);

/// SCTLR_EL1 at reset: RES1 bits, MMU and caches off (DDI 0487 D17.2.118; bits that a CPU lacks ignore the write).
const SCTLR_RESET: u64 = 0x30d0_0980;
/// CNTV_CTL_EL0: ENABLE, and IMASK clear.
const TIMER_ON: u64 = 1;
const TIMER_BITS: u64 = 0b11;

/// MDSCR_EL1 but for MDE, KDE and SS: nothing that stops the guest (DDI 0487 D17.3.20).
const NO_EVENTS: u64 = !(1 << 15 | 1 << 13 | 1);

/// Breakpoints and watchpoints: value and control of each. Claim tags, and the debug channel.
#[derive(Clone, Default)]
struct Debug {
    control: DebugControl,
    channel: DebugChannel,
    claim: u64,
    breakpoints: [[u64; 2]; 16],
    watchpoints: [[u64; 2]; 16],
}

/// FP/SIMD registers. EL2 is built without FP: the instructions below are for the guest's.
#[derive(Clone)]
#[repr(C, align(16))]
struct Fp {
    v: [[u64; 2]; 32],
    fpcr: u64,
    fpsr: u64,
}

/// The registers of a vCPU that is not loaded.
#[derive(Clone)]
#[repr(C)]
pub struct Context {
    fp: Fp,
    system: System,
    cntv_ctl: u64,
    pub gic: VirtualInterface,
    /// The vCPU owns the debug registers: they are switched with the rest. Otherwise they trap.
    debug_owned: bool,
    debug: Debug,
    keys: Keys,
    /// TPIDR2_EL0 of SME. CPUs with SME and without FEAT_FGT cannot hide it.
    tpidr2: u64,
    /// VDISR_EL2: what EL1 writes as DISR_EL1, with SErrors taken to EL2 (DDI 0487 D17.2.149).
    deferred: u64,
}

/// Reads what this CPU has of what is switched.
pub fn features() -> SwitchFeatures {
    let ids = SwitchIds {
        pfr0: ID_AA64PFR0_EL1.get(),
        pfr1: ID_AA64PFR1_EL1.get(),
        dfr0: ID_AA64DFR0_EL1.get(),
        isar1: ID_AA64ISAR1_EL1.get(),
        isar2: read_id_aa64isar2_el1().bits(),
    };
    SwitchFeatures::of(&ids, feature_probe::has_claim_tags())
}

/// Saves this CPU's registers.
struct Save<'a> {
    to: &'a mut Context,
    features: &'a SwitchFeatures,
    gic: &'a Gic,
}

impl Parts for Save<'_> {
    #[inline(always)]
    fn system(&mut self) {
        self.to.system.save();
    }
    #[inline(always)]
    fn timer(&mut self) {
        self.to.cntv_ctl = CNTV_CTL_EL0.get();
        CNTV_CTL_EL0.set(0);
    }
    #[inline(always)]
    fn fp(&mut self) {
        self.to.fp.save();
    }
    #[inline(always)]
    fn interface(&mut self) {
        self.gic.save_virtual(&mut self.to.gic);
    }
    #[inline(always)]
    fn extras(&mut self) {
        self.to.save_extras(self.features);
    }
    #[inline(always)]
    fn debug(&mut self) {
        self.to.save_debug(self.features);
    }
}

/// Restores a vCPU's registers into this CPU.
struct Restore<'a> {
    from: &'a Context,
    features: &'a SwitchFeatures,
    gic: &'a Gic,
}

impl Parts for Restore<'_> {
    #[inline(always)]
    fn system(&mut self) {
        self.from.system.restore();
    }
    #[inline(always)]
    fn timer(&mut self) {
        // EL2 takes its interrupt only when the guest runs.
        CNTV_CTL_EL0.set(self.from.cntv_ctl);
    }
    #[inline(always)]
    fn fp(&mut self) {
        self.from.fp.restore();
    }
    #[inline(always)]
    fn interface(&mut self) {
        self.gic.restore_virtual(&self.from.gic);
    }
    #[inline(always)]
    fn extras(&mut self) {
        self.from.restore_extras(self.features);
    }
    #[inline(always)]
    fn debug(&mut self) {
        self.from.restore_debug(self.features);
    }
}

impl Context {
    /// The registers of a CPU out of reset.
    pub fn reset() -> Self {
        Self {
            system: System { sctlr: SCTLR_RESET, ..System::default() },
            cntv_ctl: 0,
            keys: Keys::default(),
            debug_owned: false,
            debug: Debug::default(),
            fp: Fp { v: [[0; 2]; 32], fpcr: 0, fpsr: 0 },
            tpidr2: 0,
            deferred: 0,
            gic: VirtualInterface::default(),
        }
    }

    /// Saves the registers of this CPU. The virtual timer stops: see [`Context::compare`].
    #[inline(always)]
    pub fn save(&mut self, features: &SwitchFeatures, gic: &Gic) {
        let owned = self.debug_owned;
        vcpu_switch::switch(&mut Save { to: self, features, gic }, features, owned);
    }

    /// Restores the registers into this CPU.
    #[inline(always)]
    pub fn restore(&self, features: &SwitchFeatures, gic: &Gic) {
        vcpu_switch::switch(&mut Restore { from: self, features, gic }, features, self.debug_owned);
    }

    #[inline(never)]
    fn save_extras(&mut self, features: &SwitchFeatures) {
        features.extras(|extra| match extra {
            Extra::Keys => self.keys.save(),
            Extra::DeferredError => self.deferred = VDISR_EL2.get(),
            Extra::Tpidr2 => self.tpidr2 = TPIDR2_EL0.get(),
        });
    }

    #[inline(never)]
    fn restore_extras(&self, features: &SwitchFeatures) {
        features.extras(|extra| match extra {
            Extra::Keys => self.keys.restore(),
            Extra::DeferredError => VDISR_EL2.set(self.deferred),
            Extra::Tpidr2 => TPIDR2_EL0.set(self.tpidr2),
        });
    }

    /// The access of the loaded vCPU to a debug register trapped: it owns them from now on. `false` if it did already.
    pub fn enable_lazy_debug(&mut self, features: &SwitchFeatures) -> bool {
        if self.debug_owned {
            return false;
        }
        self.debug_owned = true;
        self.restore_debug(features);
        true
    }

    #[cold]
    #[inline(never)]
    fn restore_debug(&self, features: &SwitchFeatures) {
        trap_controls::trap_debug(false);
        self.debug.restore(features);
    }

    /// Saves the debug registers, disables all debug events of this CPU, and traps its debug registers.
    #[cold]
    #[inline(never)]
    fn save_debug(&mut self, features: &SwitchFeatures) {
        self.debug.save(features);
        let control = &self.debug.control;
        self.debug_owned = control.mdscr & !NO_EVENTS != 0 || control.mdccint != 0;
        DebugControl::default().restore();
        trap_controls::trap_debug(true);
    }

    /// The vCPU is turned off: its debug registers have no effect any more.
    pub fn disable_lazy_debug(&mut self, features: &SwitchFeatures) {
        if self.debug_owned {
            self.save_debug(features);
        }
    }

    /// CNTV_CVAL_EL0 of the saved virtual timer; `None` if the timer is off or masked.
    #[inline(always)]
    pub fn compare(&self) -> Option<u64> {
        (self.cntv_ctl & TIMER_BITS == TIMER_ON).then_some(self.system.cntv_cval)
    }
}

/// Hands the names of all debug register pairs to another macro.
macro_rules! debug_pairs {
    ($each:ident, $self:expr, $features:expr) => {
        $each!($self.breakpoints, $features.breakpoints(),
            0 "dbgbvr0_el1" "dbgbcr0_el1", 1 "dbgbvr1_el1" "dbgbcr1_el1", 2 "dbgbvr2_el1" "dbgbcr2_el1",
            3 "dbgbvr3_el1" "dbgbcr3_el1", 4 "dbgbvr4_el1" "dbgbcr4_el1", 5 "dbgbvr5_el1" "dbgbcr5_el1",
            6 "dbgbvr6_el1" "dbgbcr6_el1", 7 "dbgbvr7_el1" "dbgbcr7_el1", 8 "dbgbvr8_el1" "dbgbcr8_el1",
            9 "dbgbvr9_el1" "dbgbcr9_el1", 10 "dbgbvr10_el1" "dbgbcr10_el1", 11 "dbgbvr11_el1" "dbgbcr11_el1",
            12 "dbgbvr12_el1" "dbgbcr12_el1", 13 "dbgbvr13_el1" "dbgbcr13_el1", 14 "dbgbvr14_el1" "dbgbcr14_el1",
            15 "dbgbvr15_el1" "dbgbcr15_el1");
        $each!($self.watchpoints, $features.watchpoints(),
            0 "dbgwvr0_el1" "dbgwcr0_el1", 1 "dbgwvr1_el1" "dbgwcr1_el1", 2 "dbgwvr2_el1" "dbgwcr2_el1",
            3 "dbgwvr3_el1" "dbgwcr3_el1", 4 "dbgwvr4_el1" "dbgwcr4_el1", 5 "dbgwvr5_el1" "dbgwcr5_el1",
            6 "dbgwvr6_el1" "dbgwcr6_el1", 7 "dbgwvr7_el1" "dbgwcr7_el1", 8 "dbgwvr8_el1" "dbgwcr8_el1",
            9 "dbgwvr9_el1" "dbgwcr9_el1", 10 "dbgwvr10_el1" "dbgwcr10_el1", 11 "dbgwvr11_el1" "dbgwcr11_el1",
            12 "dbgwvr12_el1" "dbgwcr12_el1", 13 "dbgwvr13_el1" "dbgwcr13_el1", 14 "dbgwvr14_el1" "dbgwcr14_el1",
            15 "dbgwvr15_el1" "dbgwcr15_el1");
    };
}

macro_rules! save_pairs {
    ($array:expr, $count:expr, $($n:literal $value:literal $control:literal),*) => {
        $(
            if $n < $count {
                let [value, control] = &mut $array[$n];
                // SAFETY: debug registers of EL1 that ID_AA64DFR0_EL1 counts; none matches anything at EL2, as
                // MDCR_EL2.TDE is clear.
                unsafe {
                    asm!(concat!("mrs {}, ", $value), concat!("mrs {}, ", $control),
                        out(reg) *value, out(reg) *control, options(nomem, nostack, preserves_flags));
                }
            }
        )*
    };
}

macro_rules! restore_pairs {
    ($array:expr, $count:expr, $($n:literal $value:literal $control:literal),*) => {
        $(
            if $n < $count {
                let [value, control] = $array[$n];
                // SAFETY: as in `save_pairs`.
                unsafe {
                    asm!(concat!("msr ", $value, ", {}"), concat!("msr ", $control, ", {}"),
                        in(reg) value, in(reg) control, options(nomem, nostack, preserves_flags));
                }
            }
        )*
    };
}

/// Every claim tag.
const CLAIM_TAGS: u64 = 0xff;

/// Closes or opens the OS lock. While it is closed there are no debug exceptions, and MDSCR_EL1 shows the flags of the
/// debug channel (DDI 0487 H6.3, D19.3 MDSCR_EL1).
fn lock_os(closed: bool) {
    // EL2 takes no debug exceptions. The lock is open again before a guest runs.
    OSLAR_EL1.write(OSLAR_EL1::OSLK.val(closed.into()));
    crate::cpu::barrier::isb();
}

impl Debug {
    fn save(&mut self, features: &SwitchFeatures) {
        debug_pairs!(save_pairs, self, features);
        if !features.claim_tags() {
            return self.control.save();
        }
        lock_os(true);
        self.control.save();
        self.channel.save();
        lock_os(false);
        // SAFETY: reads the claim tags, which are there.
        unsafe { asm!("mrs {}, dbgclaimclr_el1", out(reg) self.claim, options(nomem, nostack)) };
    }

    fn restore(&self, features: &SwitchFeatures) {
        debug_pairs!(restore_pairs, self, features);
        if !features.claim_tags() {
            return self.control.restore();
        }
        let mut current = DebugControl::default();
        lock_os(true);
        current.save();
        let mdscr = arch::switched::mdscr_for(self.control.mdscr, current.mdscr);
        DebugControl { mdscr, ..self.control.clone() }.restore();
        self.channel.restore();
        lock_os(false);
        // SAFETY: claim tags are of use to software alone: all are cleared, then the vCPU's are set.
        unsafe {
            asm!("msr dbgclaimclr_el1, {}", "isb", "msr dbgclaimset_el1, {}",
                in(reg) CLAIM_TAGS, in(reg) self.claim & CLAIM_TAGS, options(nomem, nostack));
        }
    }
}

impl Fp {
    #[inline(always)]
    fn save(&mut self) {
        // SAFETY: stores 528 bytes to `self`, which has them in this order (`repr(C)`); FP/SIMD registers belong to the guest alone.
        unsafe {
            asm!(
                ".arch_extension fp", ".arch_extension simd",
                "stp q0, q1, [{p}]", "stp q2, q3, [{p}, #32]", "stp q4, q5, [{p}, #64]",
                "stp q6, q7, [{p}, #96]", "stp q8, q9, [{p}, #128]", "stp q10, q11, [{p}, #160]",
                "stp q12, q13, [{p}, #192]", "stp q14, q15, [{p}, #224]", "stp q16, q17, [{p}, #256]",
                "stp q18, q19, [{p}, #288]", "stp q20, q21, [{p}, #320]", "stp q22, q23, [{p}, #352]",
                "stp q24, q25, [{p}, #384]", "stp q26, q27, [{p}, #416]", "stp q28, q29, [{p}, #448]",
                "stp q30, q31, [{p}, #480]",
                "mrs {c}, fpcr", "mrs {s}, fpsr", "str {c}, [{p}, #512]", "str {s}, [{p}, #520]",
                p = in(reg) core::ptr::from_mut(self), c = out(reg) _, s = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn restore(&self) {
        // SAFETY: as for `save`, the other way round.
        unsafe {
            asm!(
                ".arch_extension fp", ".arch_extension simd",
                "ldp q0, q1, [{p}]", "ldp q2, q3, [{p}, #32]", "ldp q4, q5, [{p}, #64]",
                "ldp q6, q7, [{p}, #96]", "ldp q8, q9, [{p}, #128]", "ldp q10, q11, [{p}, #160]",
                "ldp q12, q13, [{p}, #192]", "ldp q14, q15, [{p}, #224]", "ldp q16, q17, [{p}, #256]",
                "ldp q18, q19, [{p}, #288]", "ldp q20, q21, [{p}, #320]", "ldp q22, q23, [{p}, #352]",
                "ldp q24, q25, [{p}, #384]", "ldp q26, q27, [{p}, #416]", "ldp q28, q29, [{p}, #448]",
                "ldp q30, q31, [{p}, #480]", "msr fpcr, {c}", "msr fpsr, {s}",
                p = in(reg) self.v.as_ptr(), c = in(reg) self.fpcr, s = in(reg) self.fpsr,
                options(nostack, preserves_flags)
            );
        }
    }
}
