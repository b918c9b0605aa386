// SPDX-License-Identifier: MIT OR Apache-2.0
//! Doorbells: stores that only count, so that the guest does not wait for them.

use arch::{Ipa, Width};
use lock::atomic::{AtomicU32, AtomicU64, Ordering};
use mmio_guard::abi::device::map::DOORBELLS;

/// A store that rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bell {
    /// Its address.
    pub ipa: Ipa,
    /// Its size.
    pub width: Width,
    /// Only a store of this value rings.
    pub value: Option<u64>,
}

/// A place for a doorbell. `guard` is even while the other words belong together, and 0 in its lowest bits of content where
/// there is no doorbell: bits 7:0 width + 1 or 0, bit 8 match, 63:10 how often it was changed, bit 9 a change is under way.
#[derive(Debug, Default)]
struct Place {
    guard: AtomicU64,
    ipa: AtomicU64,
    value: AtomicU64,
    count: AtomicU32,
}

const MATCH: u64 = 1 << 8;
const CHANGING: u64 = 1 << 9;
const CHANGE: u64 = 1 << 10;

/// The doorbells of one served VM. One writer at a time, under the lock of its link; readers take no lock.
#[derive(Debug, Default)]
pub struct Doorbells {
    places: [Place; DOORBELLS],
    /// A bit per place that has a doorbell.
    used: AtomicU32,
}

impl Doorbells {
    /// Sets or removes doorbell `n`. `false`: no such place.
    pub fn set(&self, n: usize, bell: Option<Bell>) -> bool {
        let Some(place) = self.places.get(n) else { return false };
        let bit = 1_u32.wrapping_shl(n as u32);
        let changes = place.guard.load(Ordering::Relaxed) & !CHANGE.wrapping_sub(1);
        // A reader that sees words of two doorbells sees another guard behind them, and finds none.
        place.guard.store(changes | CHANGING, Ordering::SeqCst);
        let next = changes.wrapping_add(CHANGE);
        match bell {
            Some(bell) => {
                place.ipa.store(bell.ipa.raw(), Ordering::SeqCst);
                place.value.store(bell.value.unwrap_or(0), Ordering::SeqCst);
                let matches = if bell.value.is_some() { MATCH } else { 0 };
                let width = (bell.width as u64).wrapping_add(1);
                place.guard.store(next | matches | width, Ordering::SeqCst);
                self.used.fetch_or(bit, Ordering::Release);
            }
            None => {
                place.guard.store(next, Ordering::SeqCst);
                self.used.fetch_and(!bit, Ordering::Release);
            }
        }
        true
    }

    /// Removes all.
    pub fn clear(&self) {
        for n in 0..DOORBELLS {
            self.set(n, None);
        }
    }

    /// The doorbell that a store of `value` rings, and its new count.
    pub fn ring(&self, ipa: Ipa, width: Width, value: u64) -> Option<(usize, u32)> {
        let mut used = self.used.load(Ordering::Acquire);
        while used != 0 {
            let n = used.trailing_zeros() as usize;
            used &= used.wrapping_sub(1);
            let place = self.places.get(n)?;
            let guard = place.guard.load(Ordering::SeqCst);
            let here = place.ipa.load(Ordering::SeqCst) == ipa.raw()
                && (guard & MATCH == 0 || place.value.load(Ordering::SeqCst) == value);
            let whole = guard & CHANGING == 0 && place.guard.load(Ordering::SeqCst) == guard;
            if here && whole && guard & 0xff == (width as u64).wrapping_add(1) {
                return Some((n, place.count.fetch_add(1, Ordering::AcqRel).wrapping_add(1)));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Ipa = Ipa::new(0x1000_0040);

    #[test]
    fn a_store_rings_where_address_size_and_value_fit() {
        let bells = Doorbells::default();
        assert_eq!(bells.ring(AT, Width::B4, 0), None);
        assert!(bells.set(3, Some(Bell { ipa: AT, width: Width::B4, value: None })));
        assert!(bells.set(31, Some(Bell { ipa: AT, width: Width::B2, value: Some(9) })));
        assert!(!bells.set(32, None), "no such place");
        assert_eq!(bells.ring(AT, Width::B4, 1), Some((3, 1)));
        assert_eq!(bells.ring(AT, Width::B4, 2), Some((3, 2)));
        assert_eq!(bells.ring(AT, Width::B2, 9), Some((31, 1)));
        assert_eq!(bells.ring(AT, Width::B2, 8), None);
        assert_eq!(bells.ring(AT, Width::B8, 9), None);
        assert_eq!(bells.ring(Ipa::new(0x1000_0044), Width::B4, 1), None);
        bells.set(3, None);
        assert_eq!(bells.ring(AT, Width::B4, 1), None);
        // The width of one byte is no absence.
        bells.set(0, Some(Bell { ipa: AT, width: Width::B1, value: Some(0) }));
        assert_eq!(bells.ring(AT, Width::B1, 0), Some((0, 1)));
        bells.clear();
        assert_eq!(bells.ring(AT, Width::B1, 0), None);
        assert_eq!(bells.ring(AT, Width::B2, 9), None);
    }
}
