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
    pub eoi: bool,
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
        eoi: false,
        source: 0,
    };

    /// The value of ICH_LR\<n\>_EL2 (IHI 0069 section 12.4.9); `source` has no place there.
    #[inline]
    pub const fn to_v3(self) -> u64 {
        let physical = match self.hw {
            Some(pintid) => 1 << 61 | (pintid as u64 & 0x1fff) << 32,
            None => (self.eoi as u64) << 41,
        };
        (self.state as u64) << 62
            | (self.group1 as u64) << 60
            | (self.priority as u64) << 48
            | physical
            | self.intid as u64
    }

    /// Decodes ICH_LR\<n\>_EL2. Every value decodes to something.
    #[inline]
    pub const fn from_v3(raw: u64) -> Self {
        let hw = raw >> 61 & 1 != 0;
        Self {
            intid: raw as u32,
            state: State::of(raw >> 62 & 1 != 0, raw >> 63 != 0),
            priority: (raw >> 48) as u8,
            group1: raw >> 60 & 1 != 0,
            hw: if hw { Some((raw >> 32) as u32 & 0x1fff) } else { None },
            eoi: !hw && raw >> 41 & 1 != 0,
            source: 0,
        }
    }

    /// The value of GICH_LRn (IHI 0048 section 5.3.9): ten bits of INTID, five of priority.
    #[inline]
    pub const fn to_v2(self) -> u32 {
        let physical = match self.hw {
            Some(pintid) => 1 << 31 | (pintid & 0x3ff) << 10,
            None => (self.eoi as u32) << 19 | (self.source as u32 & 7) << 10,
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
            state: State::of(raw >> 28 & 1 != 0, raw >> 29 & 1 != 0),
            priority: (raw >> 20) as u8 & 0xf8,
            group1: raw >> 30 & 1 != 0,
            hw: if hw { Some(raw >> 10 & 0x3ff) } else { None },
            eoi: !hw && raw >> 19 & 1 != 0,
            source: if hw { 0 } else { (raw >> 10) as u8 & 7 },
        }
    }
}
