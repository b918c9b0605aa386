// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an abort says, and when.

/// Classes of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Translation, access flag, address size.
    Stage2,
    /// Permission.
    Permission,
    /// The machine's own answer, and all that stage 2 has no part in.
    External,
}

/// Within which the machine has read its clock: at `from` at the earliest, at `to` at the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The earliest.
    pub from: u64,
    /// The latest.
    pub to: u64,
}

impl Moment {
    /// An exact one.
    pub const fn at(now: u64) -> Self {
        Self { from: now, to: now }
    }

    pub(crate) fn latest(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.max(other.to) }
    }

    pub(crate) const fn after(self, ticks: u64) -> Self {
        Self { from: self.from.saturating_add(ticks), to: self.to.saturating_add(ticks) }
    }
}

/// A data abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// The number of the vCPU.
    pub vcpu: usize,
    /// When it is judged.
    pub now: Moment,
    /// Where it leads, if the machine says so.
    pub ipa: Option<u64>,
    /// Class of the fault.
    pub fault: Fault,
    /// It hit a stage-1 walk.
    pub walk: bool,
    /// ISS.WnR.
    pub write: bool,
    /// ISS.CM: cache maintenance.
    pub maintenance: bool,
    /// Its size in bytes and its register, where the syndrome is valid.
    pub access: Option<(u64, u8)>,
    /// What a store has in its register.
    pub value: u64,
    /// Its bytes go to memory in falling order.
    pub big_endian: bool,
    /// A load extends the sign.
    pub signed: bool,
    /// A load writes all 64 bits of its register, or else the lower 32.
    pub wide: bool,
    /// The instruction has four bytes, or else two.
    pub long: bool,
}

/// The lowest `bytes` bytes of `value`.
pub(crate) fn cut(value: u64, bytes: u64) -> u64 {
    (0..bytes).fold(0, |sum, n| sum | value & 0xff << (8 * n))
}

impl Data {
    /// `value` of `bytes` bytes, as the order of bytes has it.
    fn ordered(&self, value: u64, bytes: u64) -> u64 {
        if !self.big_endian {
            return cut(value, bytes);
        }
        (0..bytes).fold(0, |sum, n| sum | (value >> (8 * n) & 0xff) << (8 * (bytes - 1 - n)))
    }

    /// What a store of `bytes` bytes writes.
    pub(crate) fn stored(&self, bytes: u64) -> u64 {
        self.ordered(self.value, bytes)
    }

    /// What the register of a load of `bytes` bytes has after it that found `value`.
    pub(crate) fn loaded(&self, bytes: u64, value: u64) -> u64 {
        let value = self.ordered(value, bytes);
        let negative = self.signed && value >> (8 * bytes - 1) & 1 == 1;
        let above = if negative { !cut(u64::MAX, bytes) } else { 0 };
        if self.wide { value | above } else { cut(value | above, 4) }
    }
}

/// An instruction abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Where it leads, if the machine says so.
    pub ipa: Option<u64>,
    /// Class of the fault.
    pub fault: Fault,
    /// It hit a stage-1 walk.
    pub walk: bool,
}
