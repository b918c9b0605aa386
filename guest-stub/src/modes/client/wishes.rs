// SPDX-License-Identifier: MIT OR Apache-2.0
//! What steps are, and what they ask of the server.

use crate::control_page::Access;
use crate::hvc::hvc;
use crate::verdict::Verdict;
use crate::{mmio, served, tree};

/// A step: its name and what it does.
pub type Step = (&'static str, fn() -> Verdict);

/// Tells the server to do something, now or at the next access to the values.
pub fn order(command: u64) {
    mmio::write64(served::COMMAND, command);
}

/// The server has seen nothing that it should not have.
pub fn nothing_wrong() -> Verdict {
    equal!(mmio::read64(served::WRONG), 0, "what the server says was wrong");
    Ok(())
}

/// The last access that the server was told of, but for its number; and how many there were.
pub fn last() -> (Access, u64) {
    let access = Access {
        seq: 0,
        ipa: mmio::read64(served::LAST_IPA),
        value: mmio::read64(served::LAST_VALUE),
        kind: mmio::read64(served::LAST_KIND) as u32,
    };
    (access, mmio::read64(served::COUNT))
}

/// How often doorbell `n` rang.
pub fn rings(n: usize) -> u64 {
    mmio::read64(served::RINGS + 8 * n as u64)
}

/// MEM_SHARE or MEM_UNSHARE of one granule; whether it did anything.
pub fn share_granule(id: u32, ipa: u64) -> bool {
    hvc(id.into(), [ipa, 1, 0])[0] == 0
}

/// Where `vm.share=pool:2M` puts the pool: the end of the RAM.
pub fn pool_range() -> (u64, u64) {
    let (base, size) = tree::get().ram;
    (base + size - (2 << 20), base + size)
}

/// The VM has such a pool, as the word `pool` says.
pub fn has_pool() -> bool {
    tree::arguments().split_ascii_whitespace().any(|word| word == "pool")
}
