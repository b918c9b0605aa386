// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a VM whose guest has crashed.

/// The choice of a VM's owner (`vm.oncrash`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCrash {
    /// It stops.
    #[default]
    Stop,
    /// It is reset and starts again, after a delay.
    Restart,
    /// It is paused.
    Pause,
}

impl OnCrash {
    /// The choice that this word names.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "stop" => Some(Self::Stop),
            "restart" => Some(Self::Restart),
            "pause" => Some(Self::Pause),
            _ => None,
        }
    }
}
