// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeds for guests, made from the machine's.
//!
//! Each VM, and each life of it, gets seeds of its own: BLAKE2s keyed with what the firmware gave,
//! over the VM's number, its name, the count of its resets and what the seed is for. A guest can
//! learn from its seeds neither the machine's nor another VM's.

use alloc::vec::Vec;
use blake2::Blake2sMac256;
use blake2::digest::{KeyInit, Mac};
use core::fmt;

/// Longest key of BLAKE2s, in bytes.
const KEY_BYTES: usize = 32;

/// What the firmware gave of randomness; not shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Seeds {
    rng: Vec<u8>,
    kaslr: Vec<u8>,
}

/// Seeds of one life of one VM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GuestSeeds {
    /// For the guest's random number generator.
    pub rng: [u8; 32],
    /// For the placement of its kernel.
    pub kaslr: u64,
}

impl Seeds {
    /// From the values of rng-seed and kaslr-seed; empty where there is none.
    #[must_use]
    pub fn new(rng: Vec<u8>, kaslr: Vec<u8>) -> Self {
        Self { rng, kaslr }
    }

    /// Whether the firmware gave any randomness.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rng.is_empty() && self.kaslr.is_empty()
    }

    /// The seeds of VM number `vm` with this name in its life number `life` (0 at boot, one more
    /// after each reset). `None` where the firmware gave nothing: no seed is better than one that
    /// pretends.
    #[must_use]
    pub fn for_guest(&self, vm: usize, name: &str, life: u64) -> Option<GuestSeeds> {
        if self.is_empty() {
            return None;
        }
        // First down to the length of a key, lengths included so that the parts cannot be mistaken.
        let key = mac(
            b"portcullis machine seed",
            &[&length(&self.rng), &self.rng, &length(&self.kaslr), &self.kaslr],
        )?;
        let who = [&(vm as u64).to_le_bytes()[..], &life.to_le_bytes(), name.as_bytes()];
        let rng = mac(&key, &[b"rng-seed", who[0], who[1], who[2]])?;
        let kaslr = mac(&key, &[b"kaslr-seed", who[0], who[1], who[2]])?;
        Some(GuestSeeds { rng, kaslr: u64::from_be_bytes(*kaslr.first_chunk()?) })
    }
}

fn length(bytes: &[u8]) -> [u8; 8] {
    (bytes.len() as u64).to_le_bytes()
}

/// BLAKE2s-256 of all `parts` under `key`, of at most 32 bytes.
fn mac(key: &[u8], parts: &[&[u8]]) -> Option<[u8; KEY_BYTES]> {
    let mut mac = <Blake2sMac256 as KeyInit>::new_from_slice(key).ok()?;
    for part in parts {
        mac.update(part);
    }
    Some(mac.finalize().into_bytes().into())
}

impl fmt::Debug for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seeds({} + {} bytes)", self.rng.len(), self.kaslr.len())
    }
}

impl fmt::Debug for GuestSeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestSeeds(..)")
    }
}
