// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeds for guests, made from the machine's.
//!
//! Each VM, and each boot of it, gets seeds of its own: BLAKE2s keyed with what the firmware gave,
//! over the VM's number, its name, the count of its resets and what the seed is for. A guest can
//! learn from its seeds neither the machine's nor another VM's.

use blake2::Blake2sMac256;
use blake2::digest::{KeyInit, Mac};
use core::fmt;

/// Longest key of BLAKE2s, in bytes.
const KEY_BYTES: usize = 32;

/// What comes of the randomness that the firmware gave; not shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Seeds {
    key: Option<[u8; KEY_BYTES]>,
}

/// Seeds of one boot of one VM.
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
    pub fn new(rng: &[u8], kaslr: &[u8]) -> Self {
        if rng.is_empty() && kaslr.is_empty() {
            return Self::default();
        }
        // Down to the length of a key, lengths included so that the parts cannot be mistaken.
        let parts = [&length(rng)[..], rng, &length(kaslr), kaslr];
        Self { key: mac(b"portcullis machine seed", &parts) }
    }

    /// Whether the firmware gave any randomness.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.key.is_none()
    }

    /// The seeds of VM number `vm` with this name in its life number `life` (0 at boot, one more
    /// after each reset). `None` where the firmware gave nothing: no seed is better than one that
    /// pretends.
    #[must_use]
    pub fn for_guest(&self, vm: usize, name: &str, life: u64) -> Option<GuestSeeds> {
        let rng = self.rng_for_guest(vm, name, life)?;
        Some(GuestSeeds { rng, kaslr: self.kaslr_for_guest(vm, name, life)? })
    }

    /// [`GuestSeeds::rng`] of [`Seeds::for_guest`].
    #[must_use]
    pub fn rng_for_guest(&self, vm: usize, name: &str, life: u64) -> Option<[u8; KEY_BYTES]> {
        self.derive(b"rng-seed", vm, name, life)
    }

    /// [`GuestSeeds::kaslr`] of [`Seeds::for_guest`].
    #[must_use]
    pub fn kaslr_for_guest(&self, vm: usize, name: &str, life: u64) -> Option<u64> {
        let kaslr = self.derive(b"kaslr-seed", vm, name, life)?;
        Some(u64::from_be_bytes(*kaslr.first_chunk()?))
    }

    fn derive(&self, purpose: &[u8], vm: usize, name: &str, life: u64) -> Option<[u8; KEY_BYTES]> {
        let vm = (vm as u64).to_le_bytes();
        mac(&self.key?, &[purpose, &vm, &life.to_le_bytes(), name.as_bytes()])
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
        f.write_str(if self.is_empty() { "Seeds(none)" } else { "Seeds(..)" })
    }
}

impl fmt::Debug for GuestSeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestSeeds(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn machine() -> Seeds {
        Seeds::new(&[7; 32], &[9; 8])
    }

    #[test]
    fn the_same_question_has_the_same_answer() {
        assert_eq!(machine().for_guest(1, "a", 0), machine().for_guest(1, "a", 0));
    }

    #[test]
    fn every_vm_name_life_and_machine_has_seeds_of_its_own() {
        let machines = [
            machine(),
            Seeds::new(&[7; 32], &[9; 7]),
            Seeds::new(&[7; 31], &[7, 9, 9, 9, 9, 9, 9, 9, 9]),
            Seeds::new(&[7; 32], &[]),
            Seeds::new(&[], &[7; 32]),
            Seeds::new(&[0], &[]),
        ];
        let mut all = Vec::new();
        for machine in &machines {
            for vm in 0..3 {
                for name in ["a", "b", "", "a\0"] {
                    for life in [0, 1, u64::MAX] {
                        all.push(machine.for_guest(vm, name, life).unwrap());
                    }
                }
            }
        }
        for (index, seeds) in all.iter().enumerate() {
            for other in &all[..index] {
                assert_ne!(seeds.rng, other.rng);
                assert_ne!(seeds.kaslr, other.kaslr);
            }
            // The one does not tell the other.
            assert_ne!(seeds.rng[..8], seeds.kaslr.to_be_bytes());
        }
    }

    #[test]
    fn the_machines_seeds_are_not_in_a_guests() {
        let seeds = machine().for_guest(0, "a", 0).unwrap();
        assert!(!seeds.rng.windows(4).any(|window| window == [7; 4] || window == [9; 4]));
    }

    #[test]
    fn without_randomness_there_are_no_seeds() {
        assert!(Seeds::default().is_empty());
        assert_eq!(Seeds::default().for_guest(0, "a", 0), None);
    }

    /// RFC 7693's function, as `python3 -c 'import hashlib; ...'` computes it: the library is what it
    /// says, and nothing but it is mixed in.
    #[test]
    fn seeds_are_blake2s_of_what_is_documented() {
        let reference = mac(b"key", &[b"ab", b"c"]).unwrap();
        let expected: [u8; 32] = [
            0x3f, 0x97, 0x23, 0x43, 0x7b, 0x03, 0x3b, 0xf0, 0xc1, 0xf4, 0xdf, 0x43, 0xca, 0xfd,
            0x07, 0x76, 0x06, 0x8c, 0xb0, 0xa9, 0x59, 0x12, 0xde, 0x13, 0xf3, 0xb2, 0x95, 0x2a,
            0x3a, 0xba, 0x76, 0x4d,
        ];
        assert_eq!(reference, expected);
    }
}
