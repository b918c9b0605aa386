// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fake records.

use arch::{Ipa, Pa};

/// One thing done to memory that a walker can reach, or to a TLB or cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A descriptor of a live table was written.
    Store {
        ipa: Ipa,
        level: u8,
        old: u64,
        new: u64,
    },
    DsbIshst,
    DsbIsh,
    Isb,
    TlbiIpa {
        ipa: Ipa,
        level: Option<u8>,
    },
    TlbiStage1,
    TlbiAll,
    Clean {
        pa: Pa,
        bytes: u64,
    },
    /// What no code can ask of [`Tlb`], but an implementation of it could do: see [`Fake::inject`].
    DsbNsh,
    TlbiIpaNsh {
        ipa: Ipa,
    },
    TlbiStage1Nsh,
    TlbiAllNsh,
}
