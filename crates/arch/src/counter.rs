// SPDX-License-Identifier: MIT OR Apache-2.0
//! The generic timer's arithmetic: a VM's counter, and when its compare values are reached.
//!
//! A guest chooses compare values freely, and some guests park a timer at 2^64 - 1. Every sum with
//! such a value is made here, so that none of them wraps.
//!
//! Source: DDI 0487 D11.2, and the pages of the registers named here.

/// CNTPCT_EL0 of a deadline that does not come.
pub const NEVER: u64 = u64::MAX;

/// CNTVOFF_EL2: a VM's CNTVCT_EL0 is CNTPCT_EL0 less this, modulo 2^64 (DDI 0487 D11.2).
///
/// The register is read as signed: a VM's counter may be behind the machine's or ahead of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterOffset(u64);

impl CounterOffset {
    /// The offset with this value of CNTVOFF_EL2.
    #[inline(always)]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The offset under which CNTVCT_EL0 reads `count` when CNTPCT_EL0 reads `now`.
    #[inline]
    pub const fn with_count(count: u64, now: u64) -> Self {
        Self(now.wrapping_sub(count))
    }

    /// The value of CNTVOFF_EL2.
    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// CNTVCT_EL0 at CNTPCT_EL0 `now`.
    #[inline]
    pub const fn count(self, now: u64) -> u64 {
        now.wrapping_sub(self.0)
    }

    /// CNTPCT_EL0 at which CNTVCT_EL0 reaches `compare`, which the guest has written to
    /// CNTV_CVAL_EL0. The timer compares unsigned values (DDI 0487 D11.2): one that lies beyond
    /// the end of CNTPCT_EL0 is not reached ([`NEVER`]), one before its beginning has been (0).
    #[inline(always)]
    pub const fn deadline(self, compare: u64) -> u64 {
        compare.saturating_add_signed(self.0 as i64)
    }
}

/// What a write of `value` to CNTP_TVAL_EL0 makes of CNTP_CVAL_EL0 at `count`: the low half of
/// `value` is signed, and the sum is modulo 2^64 (DDI 0487, CNTP_TVAL_EL0). The guest reads it
/// back, so that it does not saturate.
#[inline]
pub const fn compare_of_timer_value(count: u64, value: u64) -> u64 {
    count.wrapping_add_signed(value as u32 as i32 as i64)
}

/// What CNTP_TVAL_EL0 reads at `count`: the low half of what is left (DDI 0487, CNTP_TVAL_EL0).
#[inline]
pub const fn timer_value(count: u64, compare: u64) -> u64 {
    compare.wrapping_sub(count) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use proptest::prelude::*;

    /// 19 hours of a counter of 62.5 MHz, about.
    const EPOCH: u64 = 1 << 42;

    #[test]
    fn a_parked_timer_does_not_expire() {
        for epoch in [1, 62_500_000, EPOCH, i64::MAX as u64] {
            let offset = CounterOffset::new(epoch);
            for compare in [u64::MAX, u64::MAX - epoch + 1] {
                assert_eq!(offset.deadline(compare), NEVER, "{epoch:#x} {compare:#x}");
            }
            assert_eq!(offset.deadline(u64::MAX - epoch), NEVER, "the last that does not wrap");
            assert_eq!(offset.deadline(1 << 63), (1 << 63) + epoch);
        }
        assert_eq!(CounterOffset::default().deadline(u64::MAX), NEVER);
    }

    #[test]
    fn a_counter_ahead_of_the_machines_has_reached_what_lies_before_its_beginning() {
        let offset = CounterOffset::with_count(1 << 44, 1000);
        assert_eq!(offset.raw(), 1000u64.wrapping_sub(1 << 44));
        assert_eq!(offset.count(1000), 1 << 44);
        assert_eq!(offset.count(1016), (1 << 44) + 16);
        assert_eq!(offset.deadline((1 << 44) + 16), 1016);
        assert_eq!(offset.deadline((1 << 44) - 1000), 0);
        assert_eq!(offset.deadline(5), 0);
        assert_eq!(offset.deadline(u64::MAX), u64::MAX - (1 << 44) + 1000);
    }

    #[test]
    fn the_timer_value_is_signed_and_has_32_bits() {
        assert_eq!(compare_of_timer_value(1000, 16), 1016);
        assert_eq!(compare_of_timer_value(1000, 0xffff_ffff_0000_0010), 1016);
        assert_eq!(compare_of_timer_value(1000, 0xffff_fff0), 984);
        assert_eq!(compare_of_timer_value(1000, 0x8000_0000), 1000u64.wrapping_sub(1 << 31));
        assert_eq!(compare_of_timer_value(u64::MAX, 1), 0);
        assert_eq!(timer_value(1000, 1016), 16);
        assert_eq!(timer_value(1000, 984), 0xffff_fff0);
        assert_eq!(timer_value(0, u64::MAX), 0xffff_ffff);
    }

    proptest! {
        /// The timer's own condition, in integers that do not wrap.
        #[test]
        fn a_deadline_has_come_exactly_when_the_timer_has_expired(
            raw in prop_oneof![any::<u64>(), 0u64..1 << 50, (0u64..1 << 50).prop_map(u64::wrapping_neg)],
            compare in prop_oneof![any::<u64>(), 0u64..1 << 50, u64::MAX - (1 << 50)..=u64::MAX],
            now in 0..NEVER,
        ) {
            let count = i128::from(now) - i128::from(raw as i64);
            let expired = count >= i128::from(compare);
            prop_assert_eq!(CounterOffset::new(raw).deadline(compare) <= now, expired);
        }
    }
}
