// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is fixed of a link before any VM runs.

use arch::{Ipa, OnLoss, Pa, Range};
use arrayvec::{ArrayString, ArrayVec};
use stage2::Window;
use virtio_mmio::Limits;

use super::transports::TransportState;

/// Most ranges of `vm.forward`.
pub const MAX_FORWARDS: usize = 8;

/// What of its RAM a client may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareLimit {
    /// Any granule that the client shares itself.
    Guest,
    /// The client shares within this range alone. With `auto`, EL2 shares all of it at each start.
    Pool {
        /// The pool.
        range: Range<Ipa>,
        /// EL2 shares it.
        auto: bool,
    },
    /// All RAM is shared from the start, for good.
    All,
}

/// What is fixed of a link before any VM runs.
#[derive(Clone, Debug)]
pub struct LinkSetup {
    /// The client's name, cut after 32 bytes.
    pub name: ArrayString<32>,
    /// The client's number ([`Setup::id`](crate::Setup::id)).
    pub client: u16,
    /// The server's number.
    pub server: u16,
    /// The client's number among the server's peers.
    pub peer: u8,
    /// Number of the client's vCPUs.
    pub vcpus: usize,
    /// The client's RAM.
    pub ram: Range<Ipa>,
    /// The window on it in the server's address space.
    pub window: Window,
    /// The control page.
    pub control: Pa,
    /// The client's virtio transports, at most 16.
    pub transports: &'static [TransportState],
    /// What is forwarded to the server besides.
    pub forwards: ArrayVec<Range<Ipa>, MAX_FORWARDS>,
    /// What the client may share.
    pub share: ShareLimit,
    /// Ticks of CNTPCT_EL0 that an access waits; 0: for ever.
    pub timeout: u64,
    /// The same in milliseconds, for the server.
    pub timeout_ms: u64,
    /// What happens when the server leaves.
    pub on_loss: OnLoss,
}

/// What rings a client with `ram` may set up.
pub fn ring_limits(share: ShareLimit, ram: Range<Ipa>) -> Limits {
    let (range, access_platform) = match share {
        ShareLimit::Pool { range, .. } => (range, true),
        ShareLimit::Guest | ShareLimit::All => (ram, false),
    };
    Limits { start: range.start(), bytes: range.size(), access_platform }
}
