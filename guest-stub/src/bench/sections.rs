// SPDX-License-Identifier: MIT OR Apache-2.0
//! What makes EL2 work long with interrupts masked. The sections are measured outside, by a plugin of QEMU
//! (`xtask/plugin/sections.c`), which an instruction without effect tells what comes: MOVZ XZR, #(0x5e00 | kind). Kind 0 is
//! the end.

use mmio_guard::{Call, abi};

use super::operations::{VOID, load};
use super::vectors;
use crate::hvc::hvc;
use crate::tree::Gic;
use crate::{gic, guard, mmio, psci, time, tree};

const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;
/// `vm.flash=` of this VM, one bank of the largest size.
const FLASH: u64 = 0x0400_0000;
const FLASH_BYTES: u64 = 16 << 20;
const BLOCK: u64 = 0x4_0000;

macro_rules! mark {
    ($kind:literal) => {
        // SAFETY: writes no register.
        unsafe { core::arch::asm!("movz xzr, #{}", const 0x5e00 | $kind, options(nomem, nostack)) }
    };
}

/// From here on sections count for kind `$kind`, called so.
macro_rules! kind {
    ($kind:literal, $name:literal) => {{
        say!("section;{};{}", $kind, $name);
        // What EL2 still has to print is not this kind's.
        sleep(20);
        mark!($kind);
    }};
}

/// Time for VMs of other CPUs to start, and the end.
pub fn start() {
    sleep(200);
    mark!(0);
}

/// What a VM asks of EL2, one after the other.
pub fn all() {
    gic::init();
    gic::init_cpu();
    for part in 0..FLASH_BYTES / PAGE / 512 {
        guard::range_map(FLASH + part * 512 * PAGE, 512);
    }
    // The bank is hidden already.
    command(0, 0x70);
    kind!(1, "flash erase");
    for block in 0..2 {
        command(block * BLOCK, 0x20);
        command(block * BLOCK, 0xd0);
        ready();
    }
    kind!(2, "flash program");
    program();
    kind!(3, "flash mode change");
    command(0, 0xff);
    for _ in 0..4 {
        command(0, 0x70);
        command(0, 0xff);
    }
    kind!(4, "refusal with its log lines");
    vectors::with(|| {
        for at in [VOID + GIB + 8, VOID + GIB, FLASH - 8, VOID + 2 * GIB, 0x0c00_0000] {
            for _ in 0..16 {
                load(1, [at, 0, 0]);
            }
            sleep(1100);
        }
    });
    kind!(5, "RGUARD_MAP of 512 pages");
    for _ in 0..3 {
        guard::range_map(VOID + PAGE, 512);
        guard::range_unmap(VOID + PAGE, 512);
    }
    kind!(6, "RGUARD_MAP of 1 GiB, split");
    for n in 1..4 {
        let start = VOID + n * 64 * GIB;
        guard::range_map(start, GIB / PAGE);
        guard::unmap(start + 5 * PAGE);
        guard::range_unmap(start, GIB / PAGE);
    }
    kind!(7, "MEM_SHARE of 512 pages");
    let (base, size) = tree::get().ram;
    let page = base + size - 512 * PAGE;
    hvc(u64::from(abi::pkvm::MEM_SHARE), [page, 512, 0]);
    hvc(u64::from(abi::pkvm::MEM_UNSHARE), [page, 512, 0]);
    kind!(8, "console output");
    for _ in 0..200 {
        say!(
            "a line of some length that fills the console's ring, as fast as this guest can write it, 0123456789"
        );
    }
    kind!(9, "interrupts");
    interrupts();
    kind!(10, "calls");
    for id in [psci::id::VERSION, psci::id::SMCCC_VERSION] {
        hvc(id, [0; 3]);
    }
    guard::map(VOID);
    guard::unmap(VOID);
    let _ = (guard::id(Call::Map), guard::counters());
    mark!(0);
}

/// What another VM does on this CPU.
pub fn beside() {
    gic::init();
    gic::init_cpu();
    kind!(20, "reset of a VM");
    sleep(300);
    mark!(0);
}

/// Sleeps by WFI: a loop that waits would be measured for long.
fn sleep(milliseconds: u64) {
    let due = time::now() + time::ticks(milliseconds);
    msr!("cntv_cval_el0", due);
    msr!("cntv_ctl_el0", 1);
    plain!("isb");
    while time::now() < due {
        plain!("wfi");
        gic::unmask();
        plain!("isb");
        gic::mask();
    }
    msr!("cntv_ctl_el0", 0);
    plain!("isb");
}

fn command(offset: u64, command: u32) {
    mmio::write32(FLASH + offset, command << 16 | command);
}

/// Waits until the chips are ready.
fn ready() {
    while mmio::read32(FLASH) & 0x80 == 0 {}
}

/// A word, and a buffer.
fn program() {
    command(0x100, 0x40);
    mmio::write32(FLASH + 0x100, 0x1234_5678);
    ready();
    command(0x200, 0xe8);
    ready();
    command(0x200, 31);
    for word in 0..32 {
        mmio::write32(FLASH + 0x200 + word * 4, 0x5555_aaaa);
    }
    command(0x200, 0xd0);
    ready();
}

/// SGIs to itself, many at once.
fn interrupts() {
    if matches!(tree::get().gic, Gic::None) {
        return;
    }
    vectors::with(|| {
        for _ in 0..4 {
            for sgi in 0..8 {
                gic::sgi1r(gic::to_own() | sgi << 24);
            }
            gic::unmask();
            plain!("isb");
            gic::mask();
        }
    });
}
