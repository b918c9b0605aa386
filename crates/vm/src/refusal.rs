// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why an access was aborted.

use arch::{AbortKind, Ipa, Va, Width};

/// Why a guest's access got a synchronous external abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The guard is active and the page is not declared. Only these count as refused.
    #[default]
    Undeclared = 0,
    /// Nothing answers at this address.
    NoDevice = 1,
    /// The syndrome does not describe the access (ISV = 0).
    NoSyndrome = 2,
    /// The access reaches into a second page.
    CrossesPage = 3,
    /// A store to read-only memory.
    ReadOnly = 4,
    /// An instruction fetch outside memory.
    Fetch = 5,
    /// A stage-1 walk outside memory.
    Walk = 6,
    /// The device answered with an error.
    DeviceError = 7,
    /// Memory that was given away.
    GivenAway = 8,
    /// The machine itself answered the access with an abort.
    External = 9,
    /// No access: EL2 has made the instruction UNDEFINED.
    Undefined = 10,
    /// The VM that serves this one has not answered in time, or is gone.
    NoAnswer = 11,
}

impl Reason {
    /// A short description for the log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Undeclared => "undeclared",
            Self::NoDevice => "no device",
            Self::NoSyndrome => "no syndrome",
            Self::CrossesPage => "crosses a page",
            Self::ReadOnly => "read-only",
            Self::Fetch => "fetch",
            Self::Walk => "walk",
            Self::DeviceError => "device error",
            Self::GivenAway => "given away",
            Self::External => "external",
            Self::Undefined => "undefined",
            Self::NoAnswer => "device VM: no answer",
        }
    }

    /// The reason with this number, as a trace event has it.
    pub const fn from_raw(raw: u8) -> Option<Self> {
        Some(match raw {
            0 => Self::Undeclared,
            1 => Self::NoDevice,
            2 => Self::NoSyndrome,
            3 => Self::CrossesPage,
            4 => Self::ReadOnly,
            5 => Self::Fetch,
            6 => Self::Walk,
            7 => Self::DeviceError,
            8 => Self::GivenAway,
            9 => Self::External,
            10 => Self::Undefined,
            11 => Self::NoAnswer,
            _ => return None,
        })
    }
}

/// An access that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Address of the instruction.
    pub pc: u64,
    /// The VA accessed: what FAR_EL1 gets.
    pub va: Va,
    /// Where that leads, if EL2 knows: page-exact for walks. Where the access crosses into a page that is
    /// not declared, that page's first address.
    pub ipa: Option<Ipa>,
    /// Why.
    pub reason: Reason,
    /// Data or instruction.
    pub kind: AbortKind,
    /// Size of the access, if the syndrome says.
    pub width: Option<Width>,
    /// ISS.WnR: a store, or an instruction that counts as one.
    pub write: bool,
}

impl Default for Refusal {
    fn default() -> Self {
        Self {
            pc: 0,
            va: Va::new(0),
            ipa: None,
            reason: Reason::default(),
            kind: AbortKind::Data,
            width: None,
            write: false,
        }
    }
}
