// SPDX-License-Identifier: MIT OR Apache-2.0
//! The physical timer of a vCPU. EL2 has the machine's own to itself, so that accesses trap and are served here
//! (DDI 0487 D12.2.4); the virtual timer is the CPU's.

use arch::counter::{compare_of_timer_value, timer_value};
use arch::sysreg::{CNTP_CTL_EL0, CNTP_CVAL_EL0, CNTP_TVAL_EL0};

/// Its interrupt in every VM: private peripheral interrupt 14.
pub const PHYSICAL_TIMER_INTID: u32 = 30;

const ENABLE: u64 = 1;
const IMASK: u64 = 1 << 1;
const ISTATUS: u64 = 1 << 2;

/// Out of reset: off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhysicalTimer {
    /// ENABLE and IMASK.
    pub(crate) control: u64,
    compare: u64,
    /// The interrupt line, as the interrupt controller was told.
    pub(crate) line: bool,
}

impl PhysicalTimer {
    /// Off, and its line is low: time changes nothing.
    #[inline(always)]
    pub const fn is_quiet(&self) -> bool {
        self.control & ENABLE == 0 && !self.line
    }

    const fn expired(&self, now: u64) -> bool {
        self.control & ENABLE != 0 && now >= self.compare
    }

    /// CNTPCT_EL0 at which there is something to do: the line is to rise.
    #[inline(always)]
    pub const fn deadline(&self) -> Option<u64> {
        if self.control & (ENABLE | IMASK) == ENABLE && !self.line {
            Some(self.compare)
        } else {
            None
        }
    }

    /// A register, at CNTPCT_EL0 `now`.
    pub(crate) const fn read(&self, reg: u16, now: u64) -> u64 {
        match reg {
            CNTP_CTL_EL0 => self.control | if self.expired(now) { ISTATUS } else { 0 },
            CNTP_CVAL_EL0 => self.compare,
            // CNTP_TVAL_EL0.
            _ => timer_value(now, self.compare),
        }
    }

    pub(crate) const fn write(&mut self, reg: u16, value: u64, now: u64) {
        match reg {
            CNTP_CTL_EL0 => self.control = value & (ENABLE | IMASK),
            CNTP_CVAL_EL0 => self.compare = value,
            // CNTP_TVAL_EL0.
            _ => self.compare = compare_of_timer_value(now, value),
        }
    }

    /// Whether the line has to move, and moves it.
    pub(crate) const fn moves(&mut self, now: u64) -> bool {
        let line = self.control & IMASK == 0 && self.expired(now);
        let moved = line != self.line;
        self.line = line;
        moved
    }
}

/// Whether `reg` is one of the timer's.
pub(crate) const fn owns(reg: u16) -> bool {
    matches!(reg, CNTP_CTL_EL0 | CNTP_CVAL_EL0 | CNTP_TVAL_EL0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;

    const ON: u64 = ENABLE;

    fn at(compare: u64, control: u64) -> PhysicalTimer {
        PhysicalTimer { control, compare, line: false }
    }

    #[test]
    fn it_expires_at_its_time_and_stays_so() {
        let timer = at(1000, ON);
        for (now, status) in
            [(0, 0), (999, 0), (1000, ISTATUS), (1001, ISTATUS), (u64::MAX, ISTATUS)]
        {
            assert_eq!(timer.read(CNTP_CTL_EL0, now), ON | status, "{now}");
        }
        // Unsigned: the largest value is in the far future, not in the past.
        assert_eq!(at(u64::MAX, ON).read(CNTP_CTL_EL0, 5), ON);
        assert_eq!(at(0, 0).read(CNTP_CTL_EL0, 5), 0, "off: no status");
    }

    #[test]
    fn tval_is_signed_when_written_and_32_bits_when_read() {
        let mut timer = PhysicalTimer::default();
        timer.write(CNTP_TVAL_EL0, 0xffff_ffff_0000_0010, 1000);
        assert_eq!(timer.read(CNTP_CVAL_EL0, 0), 1016, "the upper half does not count");
        timer.write(CNTP_TVAL_EL0, 0xffff_fff0, 1000);
        assert_eq!(timer.read(CNTP_CVAL_EL0, 0), 984);
        assert_eq!(timer.read(CNTP_TVAL_EL0, 1000), 0xffff_fff0);
        timer.write(CNTP_CVAL_EL0, u64::MAX, 0);
        assert_eq!(timer.read(CNTP_TVAL_EL0, 0), 0xffff_ffff);
    }

    #[test]
    fn only_enable_and_mask_can_be_written() {
        let mut timer = PhysicalTimer::default();
        timer.write(CNTP_CTL_EL0, u64::MAX, 0);
        timer.write(CNTP_CVAL_EL0, 10, 0);
        assert_eq!(timer.read(CNTP_CTL_EL0, 0), ENABLE | IMASK);
    }

    #[test]
    fn the_line_moves_once_each_way() {
        let mut timer = at(1000, ON);
        assert!(!timer.is_quiet());
        assert!(!timer.moves(999));
        assert_eq!(timer.deadline(), Some(1000));
        assert!(timer.moves(1000));
        assert!(!timer.moves(2000));
        assert_eq!(timer.deadline(), None, "nothing more to wait for");
        timer.write(CNTP_CTL_EL0, ENABLE | IMASK, 2000);
        assert!(timer.moves(2000));
        assert_eq!(timer.deadline(), None, "masked");
        timer.write(CNTP_CTL_EL0, ENABLE, 2000);
        assert!(timer.moves(2000), "still expired");
        timer.write(CNTP_CVAL_EL0, 3000, 2000);
        assert!(timer.moves(2000));
        assert_eq!(timer.deadline(), Some(3000));
        timer.write(CNTP_CVAL_EL0, 1000, 2000);
        assert!(timer.moves(2000));
        timer.write(CNTP_CTL_EL0, 0, 2000);
        assert!(!timer.is_quiet(), "its line has still to fall");
        assert!(timer.moves(2000));
        assert!(timer.is_quiet());
    }
}
