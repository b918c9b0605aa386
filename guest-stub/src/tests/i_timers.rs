// SPDX-License-Identifier: MIT OR Apache-2.0
//! I6, I7: what any guest asks of its two timers. The demands are those of the timer suites that
//! hypervisors are tested with; each passes without a hypervisor too (`natively` in `tests/cases`).

use crate::tree::Gic;
use crate::verdict::Verdict;
use crate::{gic, guard, time, tree};

tests! {
    i06_timer_v_not_before: "I6", "", "" => || not_before(Timer::Virtual);
    i06_timer_v_pending: "I6", "", "" => || pending(Timer::Virtual);
    i06_timer_v_masked: "I6", "", "" => || masked(Timer::Virtual);
    i06_timer_v_off_again: "I6", "", "" => || off_again(Timer::Virtual);
    i06_timer_v_withdrawn: "I6", "", "" => || withdrawn(Timer::Virtual);
    i06_timer_v_interrupt: "I6", "", "" => || interrupt(Timer::Virtual);
    i06_timer_v_active: "I6", "", "" => || active(Timer::Virtual);
    i06_timer_v_stays: "I6", "", "" => || stays(Timer::Virtual);
    i06_timer_v_ended_first: "I6", "", "" => || ended_first(Timer::Virtual);
    i06_timer_v_wakes: "I6", "", "" => || wakes(Timer::Virtual);
    i06_timer_v_value: "I6", "", "" => || value(Timer::Virtual);
    i06_timer_p_not_before: "I7", "", "" => || not_before(Timer::Physical);
    i06_timer_p_pending: "I7", "", "" => || pending(Timer::Physical);
    i06_timer_p_masked: "I7", "", "" => || masked(Timer::Physical);
    i06_timer_p_off_again: "I7", "", "" => || off_again(Timer::Physical);
    i06_timer_p_withdrawn: "I7", "", "" => || withdrawn(Timer::Physical);
    i06_timer_p_interrupt: "I7", "", "" => || interrupt(Timer::Physical);
    i06_timer_p_active: "I7", "", "" => || active(Timer::Physical);
    i06_timer_p_stays: "I7", "", "" => || stays(Timer::Physical);
    i06_timer_p_ended_first: "I7", "", "" => || ended_first(Timer::Physical);
    i06_timer_p_wakes: "I7", "", "" => || wakes(Timer::Physical);
    i06_timer_p_value: "I7", "", "" => || value(Timer::Physical);
    // "alone" keeps it off other boards' models in a QEMU before 8.2, which it would stop.
    i06_timer_parked: "I6", "", "alone" => parked;
}

const ENABLE: u64 = 1;
const IMASK: u64 = 1 << 1;
const ISTATUS: u64 = 1 << 2;

/// How long an interrupt may take to be seen, in milliseconds.
const PATIENCE: u64 = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Virtual,
    Physical,
}

impl Timer {
    fn intid(self) -> u32 {
        match self {
            Self::Virtual => gic::VTIMER,
            Self::Physical => gic::PTIMER,
        }
    }

    fn bit(self) -> u32 {
        1 << self.intid()
    }

    /// Its counter.
    fn now(self) -> u64 {
        plain!("isb");
        match self {
            Self::Virtual => mrs!("cntvct_el0"),
            Self::Physical => mrs!("cntpct_el0"),
        }
    }

    fn set_control(self, value: u64) {
        match self {
            Self::Virtual => msr!("cntv_ctl_el0", value),
            Self::Physical => msr!("cntp_ctl_el0", value),
        }
        plain!("isb");
    }

    fn control(self) -> u64 {
        plain!("isb");
        7 & match self {
            Self::Virtual => mrs!("cntv_ctl_el0"),
            Self::Physical => mrs!("cntp_ctl_el0"),
        }
    }

    fn set_compare(self, value: u64) {
        match self {
            Self::Virtual => msr!("cntv_cval_el0", value),
            Self::Physical => msr!("cntp_cval_el0", value),
        }
        plain!("isb");
    }

    fn compare(self) -> u64 {
        match self {
            Self::Virtual => mrs!("cntv_cval_el0"),
            Self::Physical => mrs!("cntp_cval_el0"),
        }
    }

    fn set_value(self, value: u64) {
        match self {
            Self::Virtual => msr!("cntv_tval_el0", value),
            Self::Physical => msr!("cntp_tval_el0", value),
        }
        plain!("isb");
    }

    fn value(self) -> u64 {
        plain!("isb");
        match self {
            Self::Virtual => mrs!("cntv_tval_el0"),
            Self::Physical => mrs!("cntp_tval_el0"),
        }
    }

    fn is_pending(self) -> bool {
        gic::pending() & self.bit() != 0
    }

    fn is_active(self) -> bool {
        gic::active() & self.bit() != 0
    }

    fn count(self) -> u32 {
        gic::count(0, self.intid())
    }

    /// Expired, as soon as its interrupt is pending.
    fn expire(self) -> Verdict {
        self.set_compare(self.now() - 1);
        self.set_control(ENABLE);
        check!(time::wait_until(PATIENCE, || self.is_pending()), "an expired timer is not pending");
        Ok(())
    }

    /// Ways to make its line fall.
    fn fall(self, way: u32) {
        match way {
            0 => self.set_control(0),
            1 => self.set_control(ENABLE | IMASK),
            2 => self.set_compare(self.now() + time::ticks(1_000_000)),
            _ => self.set_value(0x7fff_ffff),
        }
    }
}

const WAYS: u32 = 4;

/// Runs `body` with the timer off and its interrupt disabled; so they are left.
fn with(timer: Timer, body: impl FnOnce() -> Verdict) -> Verdict {
    need!(tree::get().gic != Gic::None, "no GIC");
    guard::activate_if_there()?;
    gic::mask();
    gic::init();
    gic::init_cpu();
    timer.set_control(0);
    gic::disable(timer.bit());
    gic::clear();
    let verdict = body();
    gic::mask();
    timer.set_control(0);
    gic::disable(timer.bit());
    // What is pending in spite of all that is not left to the next test.
    let spurious = gic::acknowledge();
    gic::end(spurious);
    gic::clear();
    verdict
}

/// Lets interrupts in for a while; none may come.
fn none_comes(timer: Timer, when: &str) -> Verdict {
    let before = timer.count();
    gic::unmask();
    time::sleep(2);
    gic::mask();
    equal!(timer.count(), before, "interrupts {when}");
    Ok(())
}

/// The next interrupt, polled.
fn next(timer: Timer) -> Result<u32, crate::verdict::Why> {
    let mut value = 1023;
    time::wait_until(PATIENCE, || {
        value = gic::acknowledge();
        value & 0x3ff < 1020
    });
    equal!(value & 0x3ff, timer.intid(), "the interrupt acknowledged");
    Ok(value)
}

fn nothing_to_acknowledge(when: &str) -> Verdict {
    let value = gic::acknowledge();
    if value & 0x3ff < 1020 {
        gic::end(value);
    }
    equal!(value & 0x3ff, 1023, "acknowledged {when}");
    Ok(())
}

/// Before its time it has not expired, and is not pending.
fn not_before(timer: Timer) -> Verdict {
    with(timer, || {
        timer.set_compare(timer.now() + time::ticks(1_000_000));
        timer.set_control(ENABLE);
        time::sleep(2);
        equal!(timer.control(), ENABLE, "control");
        check!(!timer.is_pending(), "it is pending");
        gic::enable(timer.bit());
        none_comes(timer, "before its time")
    })
}

/// Past its time it is pending, though disabled in the GIC, and not active.
fn pending(timer: Timer) -> Verdict {
    with(timer, || {
        timer.expire()?;
        equal!(timer.control(), ENABLE | ISTATUS, "control");
        check!(!timer.is_active(), "it is active");
        none_comes(timer, "of a disabled one")?;
        check!(timer.is_pending(), "it is pending no longer");
        gic::enable(timer.bit());
        let value = next(timer)?;
        timer.set_control(0);
        gic::end(value);
        Ok(())
    })
}

/// Masked in its control register it has expired, and is not pending.
fn masked(timer: Timer) -> Verdict {
    with(timer, || {
        timer.set_compare(timer.now() - 1);
        timer.set_control(ENABLE | IMASK);
        time::sleep(2);
        equal!(timer.control(), ENABLE | IMASK | ISTATUS, "control");
        check!(!timer.is_pending(), "it is pending");
        gic::enable(timer.bit());
        none_comes(timer, "of a masked one")?;
        gic::disable(timer.bit());
        timer.set_control(ENABLE);
        check!(time::wait_until(PATIENCE, || timer.is_pending()), "unmasked it is not pending");
        timer.set_control(ENABLE | IMASK);
        check!(!timer.is_pending(), "masked again it is pending");
        Ok(())
    })
}

/// It has been pending, disabled in the GIC, and is no longer when that is enabled.
fn off_again(timer: Timer) -> Verdict {
    with(timer, || {
        for way in 0..WAYS {
            timer.expire()?;
            timer.fall(way);
            gic::enable(timer.bit());
            none_comes(timer, "of a line that has fallen")?;
            check!(!timer.is_pending(), "way {way}: it is pending");
            check!(!timer.is_active(), "way {way}: it is active");
            gic::disable(timer.bit());
            // The other order: seen before it is enabled.
            timer.expire()?;
            timer.fall(way);
            check!(!timer.is_pending(), "way {way}: it is pending, disabled");
            gic::enable(timer.bit());
            none_comes(timer, "of a line that was seen to have fallen")?;
            gic::disable(timer.bit());
        }
        // It can come again.
        gic::enable(timer.bit());
        timer.expire()?;
        let value = next(timer)?;
        timer.set_control(0);
        gic::end(value);
        Ok(())
    })
}

/// It has been pending, enabled, and is no longer when interrupts are let in.
fn withdrawn(timer: Timer) -> Verdict {
    with(timer, || {
        gic::enable(timer.bit());
        for way in 0..WAYS {
            timer.expire()?;
            timer.fall(way);
            check!(!timer.is_pending(), "way {way}: it is pending");
            none_comes(timer, "of a line that has fallen")?;
            nothing_to_acknowledge("of a line that has fallen")?;
        }
        timer.expire()?;
        let value = next(timer)?;
        timer.set_control(0);
        gic::end(value);
        Ok(())
    })
}

/// It comes in 10 ms, once, and not before.
fn interrupt(timer: Timer) -> Verdict {
    with(timer, || {
        gic::enable(timer.bit());
        for n in 0..3 {
            let before = timer.count();
            let due = timer.now() + time::ticks(10);
            timer.set_compare(due);
            timer.set_control(ENABLE);
            gic::unmask();
            let came = time::wait_until(PATIENCE, || timer.count() > before);
            let now = timer.now();
            gic::mask();
            check!(came, "round {n}: it did not come; control {:#x}", timer.control());
            check!(now >= due, "round {n}: it came early");
            none_comes(timer, "after the first")?;
            equal!(timer.count(), before + 1, "interrupts of round {n}");
        }
        Ok(())
    })
}

/// Acknowledged it is active; ended, with its line low, it is neither active nor pending.
fn active(timer: Timer) -> Verdict {
    with(timer, || {
        gic::enable(timer.bit());
        timer.expire()?;
        let value = next(timer)?;
        check!(timer.is_active(), "acknowledged it is not active");
        nothing_to_acknowledge("while it is active")?;
        timer.set_control(ENABLE | IMASK);
        check!(timer.is_active(), "masked it is not active");
        check!(!timer.is_pending(), "its line is low and it is pending");
        gic::end(value);
        check!(!timer.is_active(), "ended it is active");
        check!(!timer.is_pending(), "ended it is pending");
        nothing_to_acknowledge("after it was ended")
    })
}

/// QEMU's GICv2 looks at a level that was ended through a list register again only when something
/// else happens: here EL2's timer, for a physical timer of which the guest does not want to know.
fn nudge(timer: Timer) {
    if timer == Timer::Virtual && matches!(tree::get().gic, Gic::V2(..)) {
        Timer::Physical.set_control(0);
        Timer::Physical.set_value(time::ticks(1));
        Timer::Physical.set_control(ENABLE);
    }
}

/// A line that stays high comes again each time that it is ended.
fn stays(timer: Timer) -> Verdict {
    with(timer, || {
        gic::enable(timer.bit());
        timer.expire()?;
        for _ in 0..5 {
            let value = next(timer)?;
            gic::end(value);
            nudge(timer);
        }
        let value = next(timer)?;
        timer.set_control(0);
        gic::end(value);
        Timer::Physical.set_control(0);
        check!(!timer.is_pending(), "its line is low and it is pending");
        nothing_to_acknowledge("of a line that is low")
    })
}

/// Ended before its line falls: that is one interrupt, where the GIC has been looked at between.
fn ended_first(timer: Timer) -> Verdict {
    with(timer, || {
        gic::enable(timer.bit());
        for way in 0..WAYS {
            timer.expire()?;
            let value = next(timer)?;
            gic::end(value);
            timer.fall(way);
            check!(!timer.is_pending(), "way {way}: its line is low and it is pending");
            nothing_to_acknowledge("of a line that has fallen")?;
        }
        Ok(())
    })
}

/// It ends a WFI, with interrupts masked at the PE, when it has expired.
fn wakes(timer: Timer) -> Verdict {
    with(timer, || {
        gic::enable(timer.bit());
        for n in 0..3 {
            let before = timer.count();
            timer.set_value(time::ticks(10));
            timer.set_control(ENABLE);
            let mut woken = 0;
            while timer.control() & ISTATUS == 0 && woken < 1_000_000 {
                plain!("wfi");
                woken += 1;
            }
            equal!(timer.control(), ENABLE | ISTATUS, "round {n}: control after WFI");
            equal!(timer.count(), before, "round {n}: interrupts while they are masked");
            check!(timer.value() as i32 <= 0, "round {n}: value {:#x}", timer.value());
            gic::unmask();
            let came = time::wait_until(PATIENCE, || timer.count() > before);
            gic::mask();
            check!(came, "round {n}: it did not come");
            equal!(timer.count(), before + 1, "interrupts of round {n}");
        }
        Ok(())
    })
}

/// The value register is signed and has 32 bits.
fn value(timer: Timer) -> Verdict {
    with(timer, || {
        timer.set_control(ENABLE | IMASK);
        for (value, expired) in [(0x7fff_ffff, 0), (0xffff_ff00, ISTATUS), (0, ISTATUS)] {
            let before = timer.now();
            timer.set_value(0xffff_ffff_0000_0000 | value);
            let after = timer.now();
            let compare = timer.compare();
            let added = value as u32 as i32 as i64;
            check!(
                compare.wrapping_sub(before.wrapping_add_signed(added)) <= after - before,
                "value {value:#x}: compare {compare:#x}, {before:#x} to {after:#x}"
            );
            equal!(timer.control(), ENABLE | IMASK | expired, "control after value {value:#x}");
            check!(timer.value() <= 0xffff_ffff, "value {:#x}", timer.value());
            let left = compare.wrapping_sub(timer.now()) as u32;
            check!((timer.value() as u32).wrapping_sub(left) as i32 <= 0, "less is left later");
        }
        Ok(())
    })
}

/// Compare values that do not come: the virtual timer is parked, and never pending, while the
/// physical one wakes the vCPU.
fn parked() -> Verdict {
    let timer = Timer::Virtual;
    with(timer, || {
        let offset = mrs!("cntpct_el0").wrapping_sub(mrs!("cntvct_el0"));
        gic::enable(timer.bit() | 1 << gic::PTIMER);
        for compare in [u64::MAX, u64::MAX - 1, 1 << 63, offset.wrapping_neg(), 1 << 62] {
            // Where the counter is ahead of the machine's, the fourth has been.
            if compare <= timer.now() + time::ticks(1_000_000) {
                continue;
            }
            timer.set_compare(compare);
            timer.set_control(ENABLE);
            for _ in 0..3 {
                let before = gic::count(0, gic::PTIMER);
                msr!("cntp_tval_el0", time::ticks(5));
                msr!("cntp_ctl_el0", ENABLE);
                plain!("isb");
                while Timer::Physical.control() & ISTATUS == 0 {
                    plain!("wfi");
                    check!(!timer.is_pending(), "{compare:#x}: it is pending");
                }
                none_comes(timer, "of a parked timer")?;
                equal!(gic::count(0, gic::PTIMER), before + 1, "the physical timer's interrupts");
            }
            equal!(timer.control(), ENABLE, "control at {compare:#x}");
            timer.set_control(0);
        }
        gic::disable(1 << gic::PTIMER);
        Ok(())
    })
}
