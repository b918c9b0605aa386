// SPDX-License-Identifier: MIT OR Apache-2.0
//! Portcullis' own calls: what is at a page, and what happened so far.

use super::{CallError, Code, Hypercall};
use crate::Call;
use crate::abi::{Hint, PageState, own};

/// What is at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The state, or `None` for one that a later version of the host knows.
    pub state: Option<PageState>,
    /// What was said when it was declared; nothing but zeros where it is not.
    pub hint: Hint,
}

/// What happened in this VM since its last reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Accesses that the guard refused.
    pub refused: u64,
    /// Pages that are declared now.
    pub declared: u64,
    /// Hypercalls made.
    pub hypercalls: u64,
}

/// The calls from 0xC600F000 on, found by [`Guard::own`](super::Guard::own).
#[derive(Clone, Copy, Debug)]
pub struct Own<'host, H> {
    host: &'host H,
    version: u64,
    functions: u64,
}

impl<'host, H: Hypercall> Own<'host, H> {
    /// Asks for the version; only a major version of 1 is understood.
    pub(super) fn find(host: &'host H) -> Option<Self> {
        let [version, functions, ..] = host.call(own::VERSION, [0; 3]);
        // Whatever is no 32-bit number is an error; a lesser major number is nonsense.
        (version >> 16 == own::VERSION_1_0 >> 16).then_some(Self { host, version, functions })
    }

    /// Major << 16 | minor.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// What is at the page that holds `ipa`.
    ///
    /// # Errors
    /// [`CallError::NotOffered`]; [`CallError::Refused`] at or beyond the size of the address space.
    pub fn query(&self, ipa: u64) -> Result<Page, CallError> {
        let [x1, x2, _] = self.call(own::QUERY_PAGE, Call::QueryPage, ipa)?;
        Ok(Page { state: PageState::from_raw(x1), hint: Hint::from_raw(x2) })
    }

    /// The counters of this VM.
    ///
    /// # Errors
    /// [`CallError::NotOffered`], [`CallError::Refused`].
    pub fn counters(&self) -> Result<Counters, CallError> {
        let [refused, declared, hypercalls] = self.call(own::COUNTERS, Call::Counters, 0)?;
        Ok(Counters { refused, declared, hypercalls })
    }

    fn call(&self, id: u32, call: Call, ipa: u64) -> Result<[u64; 3], CallError> {
        if self.functions >> (id & 0x3F) & 1 == 0 {
            return Err(CallError::NotOffered(call));
        }
        let [x0, x1, x2, x3] = self.host.call(id, [ipa, 0, 0]);
        Code::check(x0).map_err(|code| CallError::Refused { call, ipa, code })?;
        Ok([x1, x2, x3])
    }
}
