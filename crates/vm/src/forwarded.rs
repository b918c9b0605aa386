// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a vCPU waits for while the VM that serves its own is asked.

use crate::Refusal;
use crate::link::TransportWait;
use arch::Access;

/// An access that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The server is to answer it.
    Access(ForwardedAccess),
    /// The server is to be ready for it, or to finish what it began; then it is executed again.
    Transport(TransportWait),
}

/// An access that the server is to answer: what its end needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedAccess {
    pub(crate) access: Access,
    /// The bytes of the data are in the opposite order (SCTLR_EL1.EE).
    pub(crate) turned: bool,
    pub(crate) il: bool,
    pub(crate) refusal: Refusal,
}
