// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a forwarded access while the VM's server is away.

/// The choice of a served VM's owner (`vm.onloss`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// It waits for the next server.
    #[default]
    Wait,
    /// It ends in a synchronous external abort.
    Abort,
}

impl OnLoss {
    /// The choice that this word names.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "wait" => Some(Self::Wait),
            "abort" => Some(Self::Abort),
            _ => None,
        }
    }
}
