// SPDX-License-Identifier: MIT OR Apache-2.0
//! Power and version calls: PSCI 1.1, SMCCC 1.1, TRNG, with their error codes.

use core::sync::atomic::{AtomicU64, Ordering::*};

use crate::hvc::hvc;
use crate::psci::{call, id, result};
use crate::scratch::Shared;
use crate::smp::need_vcpus;
use crate::verdict::Verdict;
use crate::{boot, cpu, gic, guard, smp, time, tree};

tests! {
    psci_versions: "", "", "" => versions;
    psci_features: "", "", "" => features;
    psci_not_supported: "A9", "", "" => not_supported;
    psci_affinity_info: "", "vm.cpus=2", "" => affinity_info;
    psci_cpu_on_errors: "E4", "vm.cpus=2", "" => cpu_on_errors;
    // bug: 66
    psci_cpu_on_state: "G2", "vm.cpus=2", "" => cpu_on_state;
    psci_cpu_suspend: "I12", "", "" => cpu_suspend;
    psci_reset2_errors: "", "", "" => reset2_errors;
    psci_smccc_features: "", "", "" => smccc_features;
    psci_trng: "", "", "" => trng;
    psci_device_tree: "J1", "", "" => device_tree;
    psci_seeds: "", "", "" => seeds;
    psci_system_off_with_others: "G6,E3", "vm.cpus=2", "alone" => system_off_with_others;
}

fn portcullis() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    Ok(())
}

fn versions() -> Verdict {
    portcullis()?;
    equal!(hvc(id::VERSION, [0; 3])[0], 0x1_0001, "PSCI_VERSION");
    equal!(hvc(id::SMCCC_VERSION, [0; 3])[0], 0x1_0001, "SMCCC_VERSION");
    equal!(call(id::MIGRATE_INFO_TYPE, [0; 3]), 2, "MIGRATE_INFO_TYPE: no trusted OS");
    Ok(())
}

/// What there is says so, what is not says so as well.
fn features() -> Verdict {
    portcullis()?;
    for function in [
        id::VERSION,
        id::CPU_SUSPEND,
        id::CPU_SUSPEND & !(1 << 30),
        id::CPU_OFF,
        id::CPU_ON,
        id::CPU_ON & !(1 << 30),
        id::AFFINITY_INFO,
        id::MIGRATE_INFO_TYPE,
        id::SYSTEM_OFF,
        id::SYSTEM_RESET,
        id::FEATURES,
        id::SYSTEM_RESET2,
        id::SMCCC_VERSION,
    ] {
        equal!(
            call(id::FEATURES, [function, 0, 0]),
            result::SUCCESS,
            "PSCI_FEATURES({function:#x})"
        );
    }
    for function in [
        id::SYSTEM_SUSPEND,
        id::SYSTEM_SUSPEND & !(1 << 30),
        0x8400_0005, // MIGRATE
        0x8400_0007, // MIGRATE_INFO_UP_CPU
        0x8400_000b, // CPU_FREEZE
        0x8400_000c, // CPU_DEFAULT_SUSPEND
        0xc400_000d, // NODE_HW_STATE
        0x8400_000f, // PSCI_SET_SUSPEND_MODE
        0x8400_0013, // MEM_PROTECT
        0x8400_001f,
        0xc400_0002, // CPU_OFF has no 64-bit form
        0xc600_0007,
        0,
    ] {
        let answer = call(id::FEATURES, [function, 0, 0]);
        equal!(answer, result::NOT_SUPPORTED, "PSCI_FEATURES({function:#x})");
    }
    Ok(())
}

/// Functions that are not served are refused, and change no register but x0 to x3.
fn not_supported() -> Verdict {
    portcullis()?;
    for function in [
        id::SYSTEM_SUSPEND,
        0x8400_0005,
        0x8400_0007,
        0x8400_000b,
        0x8400_000c,
        0xc400_000d,
        0x8400_000f,
        0x8400_0010,
        0x8400_0013,
        0x8400_0014,
        0x8400_001f,
        0x8400_00ff,
        0xc400_0002,
        0xc400_0008,
        0xc400_0009,
    ] {
        equal!(call(function, [0; 3]), result::NOT_SUPPORTED, "{function:#x}");
    }
    Ok(())
}

fn affinity_info() -> Verdict {
    portcullis()?;
    need_vcpus(2)?;
    smp::stop(1)?;
    let (own, other) = (cpu::of(0).mpidr, cpu::of(1).mpidr);
    equal!(call(id::AFFINITY_INFO, [own, 0, 0]), 0, "of the calling vCPU");
    equal!(call(id::AFFINITY_INFO, [other, 0, 0]), 1, "of one that is off");
    smp::start(1)?;
    equal!(call(id::AFFINITY_INFO, [other, 0, 0]), 0, "of one that is on");
    equal!(call(id::AFFINITY_INFO & !(1 << 30), [other, 0, 0]), 0, "by the 32-bit call");
    smp::stop(1)?;
    equal!(call(id::AFFINITY_INFO, [other, 0, 0]), 1, "of one that went off");
    for target in [0xff, 1 << 8, 1 << 16, 1 << 32, 1 << 24, u64::MAX] {
        let answer = call(id::AFFINITY_INFO, [target, 0, 0]);
        equal!(answer, result::INVALID_PARAMETERS, "of {target:#x}");
    }
    for level in [1, 2, 3, 4, u64::MAX] {
        let answer = call(id::AFFINITY_INFO, [own, level, 0]);
        check!(
            answer == result::INVALID_PARAMETERS || answer == 0 && level < 4,
            "level {level}: {answer}"
        );
    }
    Ok(())
}

fn cpu_on_errors() -> Verdict {
    portcullis()?;
    need_vcpus(2)?;
    smp::stop(1)?;
    let entry = boot::secondary_entry as *const () as usize as u64;
    let other = cpu::of(1).mpidr;
    for target in [2, 0xff, 1 << 8, 1 << 32, 1 << 31 | 1, 1 << 24 | 1, u64::MAX] {
        let answer = call(id::CPU_ON, [target, entry, 0]);
        equal!(answer, result::INVALID_PARAMETERS, "CPU_ON of {target:#x}");
    }
    let (base, size) = tree::get().ram;
    for bad in [0, tree::get().uart, base + size, base - 4, 1 << 63, u64::MAX - 3, guard::HOLE] {
        let answer = call(id::CPU_ON, [other, bad, 0]);
        equal!(answer, result::INVALID_ADDRESS, "CPU_ON at {bad:#x}");
    }
    equal!(call(id::AFFINITY_INFO, [other, 0, 0]), 1, "the target is still off");
    equal!(call(id::CPU_ON, [cpu::of(0).mpidr, entry, 0]), result::ALREADY_ON, "CPU_ON of itself");
    smp::start(1)?;
    smp::stop(1)
}

/// Where a vCPU writes what it was started with: x0 to x3, then system registers.
static STATE: Shared<[u64; 16]> = Shared::new([0; 16]);
static WRITTEN: AtomicU64 = AtomicU64::new(0);

core::arch::global_asm!(
    r#"
    .arch_extension fp
    .section .text.state_entry, "ax"
state_entry:
    mrs     x10, CurrentEL
    mrs     x11, spsel
    mrs     x12, daif
    mrs     x13, sctlr_el1
    mov     x14, #(3 << 20)
    msr     cpacr_el1, x14
    isb
    adrp    x14, {state}
    add     x14, x14, :lo12:{state}
    stp     x0, x1, [x14]
    stp     x2, x3, [x14, #16]
    stp     x10, x11, [x14, #32]
    stp     x12, x13, [x14, #48]
    mrs     x10, tpidr_el0
    mrs     x11, tpidrro_el0
    stp     x10, x11, [x14, #64]
    mrs     x10, tpidr_el1
    mrs     x11, cntv_ctl_el0
    stp     x10, x11, [x14, #80]
    mrs     x10, contextidr_el1
    stp     x10, x19, [x14, #96]
    stp     d0, d31, [x14, #112]
    adrp    x14, {written}
    add     x14, x14, :lo12:{written}
    mov     x10, #1
    dsb     sy
    str     x10, [x14]
    dsb     sy
    mov     w0, #2                  // CPU_OFF
    movk    w0, #0x8400, lsl #16
    hvc     #0
    b       .
    .previous
    .arch_extension nofp
    "#,
    state = sym STATE,
    written = sym WRITTEN,
);

unsafe extern "C" {
    fn state_entry();
}

/// A pattern that no register has by itself.
const PATTERN: u64 = 0x5ec2_e7ed_5ec2_e7ed;

/// Leaves the pattern in every register that an earlier boot could betray.
pub fn dirty_registers(_: u64) -> u64 {
    msr!("tpidr_el0", PATTERN);
    msr!("tpidrro_el0", PATTERN);
    msr!("contextidr_el1", PATTERN & 0xffff_ffff);
    msr!("cntv_cval_el0", 0);
    msr!("cntv_ctl_el0", 3);
    msr!("par_el1", PATTERN & 0xffff_f000);
    snippet!(fill, "fmov d0, x20", "fmov d31, x20", "mov x19, x20");
    crate::machine::run(&mut crate::machine::Machine::new(fill).with(20, PATTERN));
    0
}

/// The state that PSCI promises, and nothing of the vCPU's earlier boot.
fn cpu_on_state() -> Verdict {
    portcullis()?;
    need_vcpus(2)?;
    smp::give(1, dirty_registers, 0)?;
    smp::finish(1, 60_000)?;
    smp::stop(1)?;
    WRITTEN.store(0, Release);
    // What the new boot writes with its MMU off must not be hidden by an old line.
    crate::mmu::clean_image();
    let context = 0x0123_4567_89ab_cdef;
    let entry = state_entry as *const () as usize as u64;
    equal!(call(id::CPU_ON, [cpu::of(1).mpidr, entry, context]), 0, "CPU_ON");
    let off = || call(id::AFFINITY_INFO, [cpu::of(1).mpidr, 0, 0]) == 1;
    check!(time::wait_until(20_000, off), "vCPU 1 did not come to its CPU_OFF");
    crate::mmu::clean_image();
    equal!(WRITTEN.load(Acquire), 1, "that it ran");
    // SAFETY: the vCPU that wrote it is off.
    let state = unsafe { *(STATE.address() as *const [u64; 16]) };
    equal!(state[0], context, "x0, the context");
    equal!(state[4], 4, "CurrentEL");
    equal!(state[5], 1, "SPSel");
    equal!(state[6], 0x3c0, "DAIF");
    equal!(state[7] & 0x0200_1005, 0, "SCTLR_EL1 EE, I, C, M");
    equal!(state[11] & 1, 0, "CNTV_CTL_EL0.ENABLE");
    for (n, value) in state.iter().enumerate() {
        check!(
            *value & 0xffff_ffff != PATTERN & 0xffff_ffff,
            "state {n} of the former life is left: {value:#x}"
        );
    }
    Ok(())
}

/// CPU_SUSPEND comes back when an interrupt is pending, as a WFI does.
fn cpu_suspend() -> Verdict {
    portcullis()?;
    need!(tree::get().gic != tree::Gic::None, "no GIC");
    guard::activate()?;
    gic::init();
    gic::init_cpu();
    for function in [id::CPU_SUSPEND, id::CPU_SUSPEND & !(1 << 30)] {
        let start = time::now();
        msr!("cntv_cval_el0", start + time::ticks(10));
        msr!("cntv_ctl_el0", 1);
        plain!("isb");
        let before = gic::count(0, gic::VTIMER);
        equal!(
            call(function, [0, boot::secondary_entry as *const () as usize as u64, 0]),
            0,
            "CPU_SUSPEND"
        );
        gic::unmask();
        let come = time::wait_until(20_000, || gic::count(0, gic::VTIMER) > before);
        gic::mask();
        check!(come, "the timer that woke it is not taken");
        let took = time::now() - start;
        check!(took >= time::ticks(10), "it woke after {} us", time::microseconds(took));
    }
    Ok(())
}

fn reset2_errors() -> Verdict {
    portcullis()?;
    for kind in [1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        for function in [id::SYSTEM_RESET2, id::SYSTEM_RESET2 & !(1 << 30)] {
            let answer = call(function, [kind, 0, 0]);
            check!(
                answer == result::INVALID_PARAMETERS || answer == result::NOT_SUPPORTED,
                "SYSTEM_RESET2 of type {kind:#x}: {answer}"
            );
        }
    }
    Ok(())
}

/// ARCH_FEATURES: of the calls themselves, and of workarounds. WORKAROUND_1 and 3 have -1, 0 or 1, and one
/// with 0 can be called. WORKAROUND_2 has -2, -1 or 1, and cannot: EL2 switches it.
fn smccc_features() -> Verdict {
    portcullis()?;
    equal!(call(id::ARCH_FEATURES, [id::SMCCC_VERSION, 0, 0]), 0, "of SMCCC_VERSION");
    equal!(call(id::ARCH_FEATURES, [id::ARCH_FEATURES, 0, 0]), 0, "of ARCH_FEATURES");
    for workaround in [0x8000_8000, 0x8000_7fff, 0x8000_3fff] {
        let answer = call(id::ARCH_FEATURES, [workaround, 0, 0]);
        let second = workaround == 0x8000_7fff;
        let known = if second { [-2, -1, 1] } else { [-1, 0, 1] };
        check!(known.contains(&answer), "of {workaround:#x}: {answer}");
        if second {
            equal!(call(workaround, [1, 0, 0]), -1, "WORKAROUND_2");
        } else if answer == 0 {
            hvc(workaround, [0; 3]);
        }
    }
    for other in [0x8000_0002, 0xc500_0020, 0x8000_1234, 0xc600_0007, 0] {
        equal!(call(id::ARCH_FEATURES, [other, 0, 0]), -1, "of {other:#x}");
    }
    Ok(())
}

/// TRNG: not supported at all, or as its specification says (DEN0098).
fn trng() -> Verdict {
    portcullis()?;
    let version = call(0x8400_0050, [0; 3]);
    if version == result::NOT_SUPPORTED {
        for function in [0x8400_0051, 0x8400_0052, 0x8400_0053, 0xc400_0053] {
            equal!(call(function, [64, 0, 0]), result::NOT_SUPPORTED, "{function:#x}");
        }
        return Ok(());
    }
    check!(version >= 0x1_0000, "TRNG_VERSION: {version:#x}");
    equal!(call(0xc400_0053, [0, 0, 0]), -2, "TRNG_RND64 of 0 bits");
    equal!(call(0xc400_0053, [193, 0, 0]), -2, "TRNG_RND64 of 193 bits");
    let [x0, x1, x2, x3] = hvc(0xc400_0053, [64, 0, 0]);
    if x0 == 0 {
        equal!([x1, x2], [0, 0], "TRNG_RND64 of 64 bits: the upper words");
        check!(x3 != 0, "64 random bits are all zero");
    }
    Ok(())
}

/// The tree describes the machine that is there.
fn device_tree() -> Verdict {
    portcullis()?;
    let tree = tree::get();
    check!(tree.psci_hvc, "/psci method is not hvc");
    equal!(tree.address & 7, 0, "alignment of the tree");
    check!(tree.size > 0 && tree.size < 1 << 21, "size of the tree: {}", tree.size);
    equal!(tree.ram.0, 0x4000_0000, "RAM base");
    check!(
        tree.ram.1 >= 16 << 20 && tree.ram.1.is_multiple_of(2 << 20),
        "RAM size {:#x}",
        tree.ram.1
    );
    equal!(tree.uart, 0x0900_0000, "PL011");
    let base = match tree.gic {
        tree::Gic::V2(distributor, _) | tree::Gic::V3(distributor, ..) => distributor,
        tree::Gic::None => 0,
    };
    equal!(base, 0x0800_0000, "GIC distributor");
    for index in 0..tree.vcpus {
        equal!(cpu::of(index).mpidr & 0xff, index as u64, "MPIDR of vCPU {index}");
    }
    for word in tree::arguments().split_ascii_whitespace() {
        check!(!word.starts_with("vm."), "the guest sees {word}");
    }
    Ok(())
}

/// Seeds of the VM's own.
fn seeds() -> Verdict {
    portcullis()?;
    let (rng, kaslr) = tree::get().seeds;
    check!(rng >= 32, "rng-seed has {rng} bytes");
    equal!(kaslr, 8, "bytes of kaslr-seed");
    check!(tree::get().seed != 0, "the seeds are zero");
    Ok(())
}

/// SYSTEM_OFF by one vCPU ends the other, whatever it does. What follows is the harness's to judge: this
/// test must print its verdict before.
fn system_off_with_others() -> Verdict {
    portcullis()?;
    need_vcpus(2)?;
    fn spin(_: u64) -> u64 {
        loop {
            core::hint::spin_loop();
        }
    }
    smp::give(1, spin, 0)?;
    time::sleep(10);
    check!(smp::busy(1), "vCPU 1 does not spin");
    Ok(())
}
