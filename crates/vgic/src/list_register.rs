// SPDX-License-Identifier: MIT OR Apache-2.0
//! List registers: how EL2 hands a virtual interrupt to the CPU, and their two encodings.

/// What a list register says of its interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The register is free; also: the guest has finished with the interrupt.
    #[default]
    Invalid = 0,
    /// Waiting to be acknowledged.
    Pending = 1,
    /// Acknowledged, not yet deactivated.
    Active = 2,
    /// Acknowledged, and waiting once more.
    PendingActive = 3,
}

impl State {
    /// The state with these two bits.
    #[inline(always)]
    pub const fn of(pending: bool, active: bool) -> Self {
        match (pending, active) {
            (false, false) => Self::Invalid,
            (true, false) => Self::Pending,
            (false, true) => Self::Active,
            (true, true) => Self::PendingActive,
        }
    }
    /// The state that a list register has in two bits, in ICH_LR\<n\>_EL2 63:62, in GICH_LRn 29:28. Other bits do not matter.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Invalid,
            1 => Self::Pending,
            2 => Self::Active,
            _ => Self::PendingActive,
        }
    }
    /// Whether the interrupt waits to be acknowledged.
    #[inline(always)]
    pub const fn pending(self) -> bool {
        self as u8 & 1 != 0
    }
    /// Whether the interrupt has been acknowledged and not deactivated.
    #[inline(always)]
    pub const fn active(self) -> bool {
        self as u8 & 2 != 0
    }
}

/// One list register, decoded: ICH_LR\<n\>_EL2 (GICv3) or GICH_LRn (GICv2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListRegister {
    /// Virtual INTID, 0..=1019.
    pub intid: u32,
    /// State; [`State::Invalid`] makes the register free.
    pub state: State,
    /// Priority, 0 the highest. GICv2 keeps the upper five bits.
    pub priority: u8,
    /// Group 1 (vIRQ) or group 0 (vFIQ where the guest's CPU interface says so).
    pub group1: bool,
    /// The physical INTID that the guest's deactivation deactivates, where the interrupt is forwarded.
    pub hw: Option<u32>,
    /// Ask for a maintenance interrupt at deactivation. Never together with `hw`.
    pub eoi_maintenance: bool,
    /// GICv2 SGIs: the vCPU that sent it. 0 otherwise.
    pub source: u8,
}

impl ListRegister {
    /// A free list register.
    pub const FREE: Self = Self {
        intid: 0,
        state: State::Invalid,
        priority: 0,
        group1: false,
        hw: None,
        eoi_maintenance: false,
        source: 0,
    };

    /// The value of ICH_LR\<n\>_EL2 (IHI 0069 section 12.4.9); `source` has no place there.
    #[inline(always)]
    pub const fn to_v3(self) -> u64 {
        let physical = match self.hw {
            Some(pintid) => 1 << 61 | (pintid as u64 & 0x1fff) << 32,
            None => (self.eoi_maintenance as u64) << 41,
        };
        (self.state as u64) << 62
            | (self.group1 as u64) << 60
            | (self.priority as u64) << 48
            | physical
            | self.intid as u64
    }

    /// Decodes ICH_LR\<n\>_EL2. Every value decodes to something.
    #[inline(always)]
    pub const fn from_v3(raw: u64) -> Self {
        let hw = raw >> 61 & 1 != 0;
        Self {
            intid: raw as u32,
            state: State::from_bits(raw >> 62),
            priority: (raw >> 48) as u8,
            group1: raw >> 60 & 1 != 0,
            hw: if hw { Some((raw >> 32) as u32 & 0x1fff) } else { None },
            eoi_maintenance: !hw && raw >> 41 & 1 != 0,
            source: 0,
        }
    }

    /// The value of GICH_LRn (IHI 0048 section 5.3.9): ten bits of INTID, five of priority.
    #[inline(always)]
    pub const fn to_v2(self) -> u32 {
        let physical = match self.hw {
            Some(pintid) => 1 << 31 | (pintid & 0x3ff) << 10,
            None => (self.eoi_maintenance as u32) << 19 | (self.source as u32 & 7) << 10,
        };
        (self.group1 as u32) << 30
            | (self.state as u32) << 28
            | (self.priority as u32 >> 3) << 23
            | physical
            | self.intid & 0x3ff
    }

    /// Decodes GICH_LRn. Every value decodes to something.
    #[inline]
    pub const fn from_v2(raw: u32) -> Self {
        let hw = raw >> 31 != 0;
        Self {
            intid: raw & 0x3ff,
            state: State::from_bits(raw as u64 >> 28),
            priority: (raw >> 20) as u8 & 0xf8,
            group1: raw >> 30 & 1 != 0,
            hw: if hw { Some(raw >> 10 & 0x3ff) } else { None },
            eoi_maintenance: !hw && raw >> 19 & 1 != 0,
            source: if hw { 0 } else { (raw >> 10) as u8 & 7 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state() -> impl Strategy<Value = State> {
        (any::<bool>(), any::<bool>()).prop_map(|(pending, active)| State::of(pending, active))
    }

    #[test]
    fn states_are_pending_and_active_bits() {
        for (bits, state) in
            [State::Invalid, State::Pending, State::Active, State::PendingActive].iter().enumerate()
        {
            assert_eq!(*state as usize, bits);
            assert_eq!(State::from_bits(bits as u64 | 4), *state);
            assert_eq!(state.pending(), bits & 1 != 0);
            assert_eq!(state.active(), bits & 2 != 0);
            assert_eq!(State::of(state.pending(), state.active()), *state);
        }
    }

    #[test]
    fn a_free_list_register_is_zero() {
        assert_eq!(ListRegister::FREE.to_v3(), 0);
        assert_eq!(ListRegister::FREE.to_v2(), 0);
        assert_eq!(ListRegister::FREE, ListRegister::default());
        assert_eq!(ListRegister::from_v3(0), ListRegister::FREE);
        assert_eq!(ListRegister::from_v2(0), ListRegister::FREE);
    }

    #[test]
    fn v3_fields_stand_where_the_architecture_has_them() {
        // State 63:62, HW 61, Group 60, Priority 55:48, pINTID 44:32, vINTID 31:0.
        let timer = ListRegister {
            intid: 27,
            state: State::Pending,
            priority: 0xa0,
            group1: true,
            hw: Some(27),
            eoi_maintenance: false,
            source: 0,
        };
        assert_eq!(timer.to_v3(), 0x70a0_001b_0000_001b);
        let uart = ListRegister { intid: 33, hw: None, eoi_maintenance: true, ..timer };
        assert_eq!(uart.to_v3(), 0x50a0_0200_0000_0021);
        let sgi =
            ListRegister { intid: 7, eoi_maintenance: false, state: State::PendingActive, ..uart };
        assert_eq!(sgi.to_v3(), 0xd0a0_0000_0000_0007);
        let group0 = ListRegister { group1: false, state: State::Active, ..sgi };
        assert_eq!(group0.to_v3(), 0x80a0_0000_0000_0007);
    }

    #[test]
    fn v2_fields_stand_where_the_architecture_has_them() {
        // HW 31, Grp1 30, State 29:28, Priority 27:23, PhysicalID 19:10 (EOI 19, CPUID 12:10), VirtualID 9:0.
        let timer = ListRegister {
            intid: 27,
            state: State::Pending,
            priority: 0xa0,
            group1: false,
            hw: Some(27),
            eoi_maintenance: false,
            source: 0,
        };
        assert_eq!(timer.to_v2(), 1 << 31 | 1 << 28 | 20 << 23 | 27 << 10 | 27);
        let sgi = ListRegister { intid: 5, hw: None, source: 6, group1: true, ..timer };
        assert_eq!(sgi.to_v2(), 1 << 30 | 1 << 28 | 20 << 23 | 6 << 10 | 5);
        let uart = ListRegister { intid: 1019, eoi_maintenance: true, source: 0, ..sgi };
        assert_eq!(uart.to_v2(), 1 << 30 | 1 << 28 | 20 << 23 | 1 << 19 | 1019);
    }

    #[test]
    fn physical_and_eoi_exclude_each_other_in_what_is_written() {
        let both = ListRegister {
            intid: 40,
            hw: Some(0),
            eoi_maintenance: true,
            source: 7,
            ..ListRegister::FREE
        };
        assert_eq!(both.to_v3(), 1 << 61 | 40);
        assert_eq!(both.to_v2(), 1 << 31 | 40);
    }

    proptest! {
        #[test]
        fn v3_round_trips(
            intid in 0u32..1020, state in state(), priority: u8, group1: bool, physical in 0u32..0x2000, kind in 0..3,
        ) {
            let lr = ListRegister {
                intid, state, priority, group1,
                hw: if kind == 0 { Some(physical) } else { None },
                eoi_maintenance: kind == 1,
                source: 0,
            };
            prop_assert_eq!(ListRegister::from_v3(lr.to_v3()), lr);
        }

        #[test]
        fn v2_round_trips(
            intid in 0u32..1020, state in state(), priority: u8, group1: bool, physical in 0u32..0x400, kind in 0..3,
            source in 0u8..8,
        ) {
            let lr = ListRegister {
                intid, state, group1,
                priority: priority & 0xf8,
                hw: if kind == 0 { Some(physical) } else { None },
                eoi_maintenance: kind == 1,
                source: if kind == 0 { 0 } else { source },
            };
            prop_assert_eq!(ListRegister::from_v2(lr.to_v2()), lr);
        }

        #[test]
        fn every_value_decodes_and_what_it_means_survives(raw: u64) {
            let v3 = ListRegister::from_v3(raw);
            prop_assert_eq!(ListRegister::from_v3(v3.to_v3()), v3);
            let v2 = ListRegister::from_v2(raw as u32);
            prop_assert_eq!(ListRegister::from_v2(v2.to_v2()), v2);
        }
    }
}
