// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device that shows a test what reaches it. docs/vm.md has the register table.

use arch::Width;
use lock::atomic::{AtomicU64, Ordering::Relaxed};

/// "test" in ASCII, most significant byte first.
pub(crate) const ID: u64 = 0x7465_7374;
const WINDOW: u64 = 0x800;
const ERRORS: u64 = 0x400;

/// Counts what reaches its window and remembers the last of it; has a part that only answers errors.
/// Each register is one atomic, so that it needs no lock.
#[derive(Debug, Default)]
pub(crate) struct TestDevice {
    loads: AtomicU64,
    stores: AtomicU64,
    errors: AtomicU64,
    last_value: AtomicU64,
    last_access: AtomicU64,
    value: AtomicU64,
    /// Resets so far; one comes before the first start.
    resets: AtomicU64,
    /// Survives resets, unlike everything else of a VM: by it tests of resets tell one run from the next.
    keep: AtomicU64,
}

impl TestDevice {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The VM starts.
    pub(crate) fn reset(&self) {
        self.clear();
        self.resets.fetch_add(1, Relaxed);
    }

    fn clear(&self) {
        for register in [
            &self.loads,
            &self.stores,
            &self.errors,
            &self.last_value,
            &self.last_access,
            &self.value,
        ] {
            register.store(0, Relaxed);
        }
    }

    fn note(&self, offset: u64, width: Width, store: bool) {
        let access = offset | width.bytes() << 16 | u64::from(store) << 24;
        self.last_access.store(access, Relaxed);
    }

    #[inline(never)]
    pub(crate) fn read(&self, offset: u64, width: Width) -> Option<u64> {
        if offset >= WINDOW {
            self.loads.fetch_add(1, Relaxed);
            self.note(offset, width, false);
            return Some(self.value.load(Relaxed));
        }
        if offset >= ERRORS {
            self.errors.fetch_add(1, Relaxed);
            return None;
        }
        Some(match offset {
            0x00 => ID,
            0x08 => self.loads.load(Relaxed),
            0x10 => self.stores.load(Relaxed),
            0x18 => self.errors.load(Relaxed),
            0x20 => self.last_value.load(Relaxed),
            0x28 => self.last_access.load(Relaxed),
            0x30 => self.value.load(Relaxed),
            0x40 => self.resets.load(Relaxed).saturating_sub(1),
            0x48 => self.keep.load(Relaxed),
            _ => 0,
        })
    }

    #[inline(never)]
    pub(crate) fn write(&self, offset: u64, width: Width, value: u64) -> bool {
        if offset >= WINDOW {
            self.stores.fetch_add(1, Relaxed);
            self.note(offset, width, true);
            self.last_value.store(value, Relaxed);
            return true;
        }
        if offset >= ERRORS {
            self.errors.fetch_add(1, Relaxed);
            return false;
        }
        match offset {
            0x30 => self.value.store(value, Relaxed),
            0x38 => self.clear(),
            0x48 => self.keep.store(value, Relaxed),
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_counts_and_remembers() {
        let device = TestDevice::new();
        assert!(device.write(0x30, Width::B8, 0x8899_aabb_ccdd_eeff));
        assert_eq!(device.read(0x800, Width::B2), Some(0x8899_aabb_ccdd_eeff));
        assert_eq!(device.read(0x28, Width::B8), Some(0x0002_0800));
        assert!(device.write(0xfff, Width::B1, 0x5a));
        assert_eq!(device.read(0x28, Width::B8), Some(0x0101_0fff));
        assert_eq!(device.read(0x20, Width::B8), Some(0x5a));
        assert_eq!(device.read(0x08, Width::B8), Some(1));
        assert_eq!(device.read(0x10, Width::B8), Some(1));
        assert_eq!(
            device.read(0x30, Width::B8),
            Some(0x8899_aabb_ccdd_eeff),
            "a store is no value"
        );
    }

    #[test]
    fn lives_are_counted_and_a_word_outlives_them() {
        let device = TestDevice::new();
        device.reset();
        assert_eq!(device.read(0x40, Width::B8), Some(0), "the first run");
        assert!(device.write(0x48, Width::B8, 0x1234));
        assert!(device.write(0x30, Width::B8, 0x5678));
        assert!(device.write(0x38, Width::B8, 1));
        assert_eq!(device.read(0x40, Width::B8), Some(0), "CLEAR is no reset");
        device.reset();
        assert_eq!(device.read(0x40, Width::B8), Some(1));
        assert_eq!(device.read(0x48, Width::B8), Some(0x1234));
        assert_eq!(device.read(0x30, Width::B8), Some(0));
    }

    #[test]
    fn the_part_for_errors_answers_nothing_else() {
        let device = TestDevice::new();
        for offset in [0x400, 0x5f8, 0x7ff] {
            assert_eq!(device.read(offset, Width::B1), None);
            assert!(!device.write(offset, Width::B1, 1));
        }
        assert_eq!(device.read(0x18, Width::B4), Some(6));
        assert_eq!(device.read(0x08, Width::B4), Some(0));
        assert_eq!(device.read(0x10, Width::B4), Some(0));
    }

    #[test]
    fn its_own_registers_are_not_counted_and_clear_clears_all() {
        let device = TestDevice::new();
        assert_eq!(device.read(0, Width::B4), Some(0x7465_7374));
        device.write(0x30, Width::B8, 7);
        device.write(0x900, Width::B8, 8);
        device.read(0x400, Width::B8);
        device.write(0x38, Width::B4, 0);
        for offset in (0x08..0x400).step_by(8) {
            assert_eq!(device.read(offset, Width::B8), Some(0), "{offset:#x}");
        }
    }
}
