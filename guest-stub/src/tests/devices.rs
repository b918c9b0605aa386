// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices of the machine that the VM has for itself, and flash. QEMU's PL031 and PL061 are there to be given away.

use crate::guard::{self, State};
use crate::tree::Gic;
use crate::verdict::Verdict;
use crate::{gic, mmio, probe, psci, testdev, time, tree};

tests! {
    dev_clock_counts: "", "vm.dev=/pl031@9010000", "" => clock_counts;
    dev_clock_enforced: "", "vm.guard=enforce vm.dev=/pl031@9010000", "" => clock_enforced;
    dev_clock_enforced_series: "", "vm.guard=enforce vm.dialect=series vm.dev=/pl031@9010000", "" => clock_enforced;
    dev_clock_alarms: "", "vm.dev=/pl061@9030000:/pl031@9010000", "" => clock_alarms;
    dev_clock_line_falls: "", "vm.dev=/pl061@9030000:/pl031@9010000", "" => clock_line_falls;
    dev_uart_line_falls: "", "", "" => uart_line_falls;
    dev_clock_alarms_elsewhere: "", "vm.cpus=2 vm.dev=/pl031@9010000", "" => clock_alarms_elsewhere;
    dev_clock_reset: "", "vm.testdev=0x0b000000 vm.dev=/pl031@9010000", "alone" => clock_reset;
    dev_gpio: "", "vm.dev=/pl061@9030000:/pl031@9010000", "" => gpio;
    dev_flash_commands: "", "vm.flash=0x4000000+512K", "" => flash_commands;
    dev_flash_enforced: "", "vm.guard=enforce vm.flash=0x4000000+512K", "" => flash_enforced;
    dev_flash_enforced_series: "", "vm.guard=enforce vm.dialect=series vm.flash=0x4000000+512K", "" => flash_enforced;
    dev_flash_keeps: "", "vm.testdev=0x0b000000 vm.flash=0x4000000+256K", "alone" => flash_keeps;
}

const CLOCK: u64 = 0x0901_0000;
const GPIO: u64 = 0x0903_0000;
// Registers of the PL031 (DDI 0224).
const DR: u64 = CLOCK;
const MR: u64 = CLOCK + 0x4;
const IMSC: u64 = CLOCK + 0x10;
const ICR: u64 = CLOCK + 0x1c;
/// Its identification, as that of every PrimeCell at the end of its page.
const PART: u64 = CLOCK + 0xfe0;

const FLASH: u64 = 0x0400_0000;
const BLOCK: u64 = 0x4_0000;

/// Declares a page where that is asked for.
fn declare(page: u64) -> Verdict {
    if guard::dialect().is_some() {
        equal!(guard::map(page), guard::done(), "MAP of {page:#x}");
    }
    Ok(())
}

fn clock_counts() -> Verdict {
    equal!(mmio::read32(PART), 0x31, "the PL031's part number");
    let start = mmio::read32(DR);
    check!(start > 1_600_000_000, "the time is {start}");
    let counts = time::wait_until(5000, || mmio::read32(DR) != start);
    check!(counts, "it stays at {start}");
    check!(mmio::read32(DR).wrapping_sub(start) < 10, "it runs");
    Ok(())
}

/// Refused undeclared, there when declared, refused again.
fn clock_enforced() -> Verdict {
    guard::activate()?;
    for _ in 0..3 {
        equal!(guard::query(CLOCK), State::Undeclared, "the page");
        probe::load(PART).refused(PART)?;
        probe::access(probe::STORES[2].1, ICR).refused(ICR)?;
        declare(CLOCK)?;
        equal!(guard::query(CLOCK), State::Direct, "the page when declared");
        equal!(probe::load(PART).loaded()?, 0x31, "the part number");
        equal!(guard::unmap(CLOCK), guard::done(), "UNMAP");
    }
    probe::load(PART).refused(PART)
}

/// Enables SPI `id` for vCPU `target`.
fn enable_shared(id: u64, target: u64) -> Verdict {
    need!(tree::get().gic != Gic::None, "no GIC");
    gic::init();
    gic::init_cpu();
    gic::clear();
    let bit = 1 << (id % 32);
    match tree::get().gic {
        Gic::V2(base, _) => {
            mmio::write8(base + 0x400 + id, 0x80);
            mmio::write8(base + 0x800 + id, 1 << target);
            mmio::write32(base + 0x100 + id / 32 * 4, bit);
        }
        Gic::V3(base, ..) => {
            let group = base + 0x80 + id / 32 * 4;
            mmio::write32(group, mmio::read32(group) | bit);
            mmio::write8(base + 0x400 + id, 0x80);
            mmio::write64(base + 0x6000 + id * 8, target);
            mmio::write32(base + 0x100 + id / 32 * 4, bit);
        }
        Gic::None => {}
    }
    Ok(())
}

/// Lets the clock alarm now, or with the next second.
fn alarm() {
    mmio::write32(IMSC, 1);
    mmio::write32(MR, mmio::read32(DR));
}

/// The next interrupt, once there is one.
fn next() -> u32 {
    let mut value = 1023;
    time::wait_until(20_000, || {
        value = gic::acknowledge();
        value & 0x3ff != 1023
    });
    value
}

/// Alarms come once each; one whose line stays high comes again when it is ended, and not before.
fn alarms(id: u32, quiet: impl Fn() -> Verdict) -> Verdict {
    for round in 0..4 {
        alarm();
        let value = next();
        equal!(value & 0x3ff, id, "the interrupt of round {round}");
        equal!(gic::acknowledge() & 0x3ff, 1023, "while it is active");
        if round & 1 != 0 {
            // Its line is still high.
            gic::end(value);
            // QEMU's GICv2 looks at a level again only when something else happens: here, a timer of which the guest
            // does not want to know.
            gic::disable(1 << gic::VTIMER);
            msr!("cntv_cval_el0", 0);
            msr!("cntv_ctl_el0", 1);
            plain!("isb");
            let again = next();
            equal!(again & 0x3ff, id, "of a level that stays");
            msr!("cntv_ctl_el0", 0);
            plain!("isb");
            mmio::write32(ICR, 1);
            gic::end(again);
            gic::clear();
        } else {
            mmio::write32(ICR, 1);
            gic::end(value);
        }
        time::sleep(2);
        quiet()?;
    }
    Ok(())
}

fn clock_alarms() -> Verdict {
    guard::activate_if_there()?;
    declare(CLOCK)?;
    // Its number is the guest's: the second device's one interrupt.
    enable_shared(35, 0)?;
    alarms(35, || {
        equal!(gic::acknowledge() & 0x3ff, 1023, "after its end");
        Ok(())
    })
}

/// A level that has been pending and has fallen is neither pending nor delivered: `raise` makes line `id` high, `lower` low.
/// The SPI is disabled meanwhile, or enabled and not acknowledged, or ended before its line falls.
fn line_falls(id: u32, raise: impl Fn(), lower: impl Fn()) -> Verdict {
    let pending = |when: &str| -> Verdict {
        raise();
        check!(time::wait_until(20_000, || gic::spi_pending(id)), "{when}: it is not pending");
        Ok(())
    };
    let gone = |when: &str| -> Verdict {
        let left = gic::spi_pending(id);
        let value = gic::acknowledge();
        if value & 0x3ff < 1020 {
            gic::end(value);
        }
        check!(!left, "{when}: it is pending");
        equal!(value & 0x3ff, 1023, "acknowledged, {when}");
        Ok(())
    };
    gic::enable_spi(id, false);
    pending("disabled")?;
    lower();
    gone("fallen, disabled")?;
    pending("disabled again")?;
    lower();
    gic::enable_spi(id, true);
    time::sleep(2);
    equal!(gic::acknowledge() & 0x3ff, 1023, "acknowledged, fallen and enabled then");
    gone("fallen, enabled then")?;
    pending("enabled")?;
    lower();
    gone("fallen, enabled")?;
    raise();
    let value = next();
    equal!(value & 0x3ff, id, "the interrupt");
    gic::end(value);
    lower();
    gone("ended, and fallen then")?;
    // It is not lost for good.
    raise();
    let value = next();
    equal!(value & 0x3ff, id, "the last interrupt");
    lower();
    gic::end(value);
    gone("after the last")
}

fn clock_line_falls() -> Verdict {
    guard::activate_if_there()?;
    declare(CLOCK)?;
    mmio::write32(ICR, 1);
    enable_shared(35, 0)?;
    line_falls(35, alarm, || mmio::write32(ICR, 1))
}

/// The transmitter's interrupt of the console, which has room all the time.
fn uart_line_falls() -> Verdict {
    const UART_SPI: u32 = 33;
    const TX: u32 = 1 << 5;
    guard::activate_if_there()?;
    let uart = tree::get().uart;
    declare(uart)?;
    // IMSC, ICR: DDI 0183. TX is raised by a byte that has left.
    mmio::write32(uart + 0x38, 0);
    enable_shared(u64::from(UART_SPI), 0)?;
    let raise = || {
        mmio::write32(uart + 0x38, TX);
        mmio::write32(uart, u32::from(b'\n'));
    };
    line_falls(UART_SPI, raise, || mmio::write32(uart + 0x38, 0))?;
    line_falls(UART_SPI, raise, || mmio::write32(uart + 0x44, TX))?;
    mmio::write32(uart + 0x38, 0);
    gic::enable_spi(UART_SPI, false);
    Ok(())
}

/// The guest routes it to its second vCPU, which another CPU of the machine may run.
fn clock_alarms_elsewhere() -> Verdict {
    crate::smp::need_vcpus(2)?;
    // That model keeps one active state for each CPU where hardware has one for all.
    need!(!matches!(tree::get().gic, Gic::V2(..)), "QEMU's GICv2 deactivates for one CPU");
    guard::activate_if_there()?;
    declare(CLOCK)?;
    enable_shared(34, 1)?;
    fn job(_: u64) -> u64 {
        gic::init_cpu();
        u64::from(alarms(34, || Ok(())).is_err())
    }
    crate::smp::give(1, job, 0)?;
    equal!(crate::smp::finish(1, 60_000)?, 0, "alarms at vCPU 1");
    equal!(gic::acknowledge() & 0x3ff, 1023, "at vCPU 0");
    Ok(())
}

/// A reset in the middle of an interrupt: the next boot finds none of it, and gets its own.
fn clock_reset() -> Verdict {
    testdev::need_keeping()?;
    let life = testdev::kept();
    enable_shared(34, 0)?;
    if life == 0 {
        mmio::write32(ICR, 1);
    }
    let base = match tree::get().gic {
        Gic::V2(base, _) | Gic::V3(base, ..) => base,
        Gic::None => return Ok(()),
    };
    equal!(mmio::read32(base + 0x304) & 1 << 2, 0, "active in life {life}");
    if life < 3 {
        testdev::keep(life + 1);
        alarm();
        let value = next();
        equal!(value & 0x3ff, 34, "the interrupt of life {life}");
        if life == 1 {
            mmio::write32(ICR, 1);
        }
        psci::system_reset()
    }
    let value = next();
    equal!(value & 0x3ff, 34, "the device itself is as it was: its line is high");
    mmio::write32(ICR, 1);
    gic::end(value);
    time::sleep(2);
    equal!(gic::acknowledge() & 0x3ff, 1023, "after its end");
    mmio::write32(IMSC, 0);
    Ok(())
}

fn gpio() -> Verdict {
    guard::activate_if_there()?;
    declare(GPIO)?;
    equal!(mmio::read32(GPIO + 0xfe0), 0x61, "the PL061's part number");
    // Directions, then the lines that the address chooses (DDI 0190).
    mmio::write32(GPIO + 0x400, 0x0f);
    equal!(mmio::read32(GPIO + 0x400), 0x0f, "directions");
    mmio::write32(GPIO + 0x3fc, 0x05);
    equal!(mmio::read32(GPIO + 0x0f * 4), 0x05, "outputs");
    mmio::write32(GPIO + 0x400, 0);
    Ok(())
}

/// Both chips.
fn command(offset: u64, command: u32) {
    mmio::write32(FLASH + offset, command << 16 | command);
}

/// A word is programmed, and the status read.
fn program(offset: u64, value: u32) -> u32 {
    command(offset, 0x40);
    mmio::write32(FLASH + offset, value);
    mmio::read32(FLASH + offset)
}

/// The status once a block is erased. Until then it is busy.
fn erase(offset: u64) -> u32 {
    command(offset, 0x20);
    command(offset, 0xd0);
    for _ in 0..64 {
        let status = mmio::read32(FLASH);
        if status & 0x80 != 0 {
            return status;
        }
    }
    0
}

/// What EDK2's driver does: identify, query, erase, program words and buffers, lock.
fn commands() -> Verdict {
    command(0, 0x98);
    let query: [u32; 3] = core::array::from_fn(|n| mmio::read32(FLASH + 0x40 + n as u64 * 4));
    equal!(query, [0x0051_0051, 0x0052_0052, 0x0059_0059], "QRY");
    command(0, 0x90);
    equal!(mmio::read32(FLASH), 0x0089_0089, "the manufacturer");
    equal!(mmio::read32(FLASH + BLOCK + 8), 0, "the second block's lock");
    equal!(erase(0), 0x0080_0080, "status after an erasure");
    equal!(program(0x100, 0x1234_5678), 0x0080_0080, "status after a word");
    equal!(program(0x100, 0xffff_0000), 0x0080_0080, "status after the same word");
    // Two words by the buffer.
    command(0x200, 0xe8);
    equal!(mmio::read32(FLASH + 0x200), 0x0080_0080, "the buffer is free");
    command(0x200, 1);
    mmio::write32(FLASH + 0x200, 0xaaaa_5555);
    mmio::write32(FLASH + 0x204, 0x5555_aaaa);
    command(0x200, 0xd0);
    equal!(mmio::read32(FLASH), 0x0080_0080, "status after a buffer");
    command(0, 0xff);
    equal!(mmio::read32(FLASH + 0x100), 0x1234_0000, "bits that were cleared");
    // As one load, which cannot be emulated: it does not trap.
    equal!(mmio::read64(FLASH + 0x200), 0x5555_aaaa_aaaa_5555, "the buffer's words");
    equal!(mmio::read32(FLASH + 0x104), u32::MAX, "what was erased");
    // A locked block stays as it is.
    command(0, 0x60);
    command(0, 0x01);
    command(0, 0x50);
    equal!(program(0x100, 0), 0x0092_0092, "status in a locked block");
    equal!(erase(0), 0x00b2_00b2, "the same, erased");
    command(0, 0x60);
    command(0, 0xd0);
    command(0, 0x50);
    command(0, 0xff);
    equal!(mmio::read32(FLASH + 0x100), 0x1234_0000, "the locked word");
    equal!(erase(0), 0x0080_0080, "an erasure when it is unlocked");
    command(0, 0xff);
    equal!(mmio::read32(FLASH + 0x100), u32::MAX, "the erased word");
    Ok(())
}

fn flash_commands() -> Verdict {
    commands()
}

/// Undeclared it is refused, loads and commands; half declared it traps; declared it is there.
fn flash_enforced() -> Verdict {
    guard::activate()?;
    let pages = 2 * BLOCK / 0x1000;
    probe::load(FLASH).refused(FLASH)?;
    probe::access(probe::STORES[2].1, FLASH).refused(FLASH)?;
    for page in 0..pages {
        equal!(guard::query(FLASH + page * 0x1000), State::Undeclared, "page {page}");
        declare(FLASH + page * 0x1000)?;
        if page == 0 {
            equal!(guard::query(FLASH), State::Declared, "a bank of which a page is declared");
            equal!(probe::load(FLASH).loaded()?, 0xffff_ffff, "its first word");
            probe::load(FLASH + 0x1000).refused(FLASH + 0x1000)?;
        }
    }
    equal!(guard::query(FLASH + BLOCK), State::Direct, "a bank that is declared");
    commands()?;
    command(0, 0x70);
    equal!(guard::query(FLASH + BLOCK), State::Declared, "a bank that shows its status");
    command(0, 0xff);
    equal!(guard::query(FLASH + BLOCK), State::Direct, "a bank that shows what it holds");
    equal!(guard::unmap(FLASH + BLOCK), guard::done(), "UNMAP");
    probe::load(FLASH + BLOCK).refused(FLASH + BLOCK)?;
    probe::load(FLASH + BLOCK - 4).completed(&[0])?;
    declare(FLASH + BLOCK)?;
    probe::load(FLASH + BLOCK).completed(&[0])?;
    for page in 0..pages {
        equal!(guard::unmap(FLASH + page * 0x1000), guard::done(), "UNMAP of page {page}");
    }
    probe::load(FLASH).refused(FLASH)
}

/// What it holds outlives a reset; what it was doing does not.
fn flash_keeps() -> Verdict {
    testdev::need_keeping()?;
    let life = testdev::kept();
    if life == 0 {
        equal!(mmio::read32(FLASH + 8), u32::MAX, "as it comes");
    } else {
        equal!(mmio::read32(FLASH + 8), 0x600d_f00d, "what the former life wrote");
        command(0, 0x90);
        equal!(mmio::read32(FLASH + 8), 0, "its lock");
    }
    if life == 2 {
        command(0, 0xff);
        return Ok(());
    }
    testdev::keep(life + 1);
    program(8, 0x600d_f00d);
    command(0, 0x60);
    command(0, 0x01);
    command(0, 0x90);
    psci::system_reset()
}
