// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's firmware configuration device, with nothing to configure. docs/vm.md has its registers.
//!
//! Source: QEMU's docs/specs/fw_cfg.rst, "ARM Register Locations".

use arch::Width;
use lock::atomic::{AtomicU64, Ordering::Relaxed};

/// The selector, 16 bits, big-endian; the data register is below it.
const SELECTOR: u64 = 0x08;
/// Size of the data register.
const DATA: u64 = 8;
const KEY_SHIFT: u32 = 32;

/// Which item is selected, and how far it has been read: one word, so that it needs no lock.
#[derive(Debug, Default)]
pub(crate) struct FwCfg(AtomicU64);

/// The bytes of an item, as far as they are not zero.
const fn item(key: u16) -> &'static [u8] {
    match key {
        // The signature.
        0 => b"QEMU",
        // The features, little-endian: the data register, and no DMA.
        1 => &[1],
        // No file in the directory, no kernel, no CPUs beyond those of the device tree.
        _ => &[],
    }
}

impl FwCfg {
    /// The VM starts.
    pub(crate) fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    /// A load: of the data register the next bytes of the item, in the order of their addresses.
    #[inline(never)]
    pub(crate) fn read(&self, offset: u64, width: Width) -> u64 {
        if offset >= DATA {
            return 0;
        }
        let state = self.0.load(Relaxed);
        let bytes = item((state >> KEY_SHIFT) as u16);
        let (mut value, mut at) = (0, state as u32);
        for n in 0..width.bytes() as u32 {
            let byte = bytes.get(at as usize).copied().unwrap_or(0);
            value |= u64::from(byte) << (n << 3);
            at = at.saturating_add(1);
        }
        self.0.store((state >> KEY_SHIFT) << KEY_SHIFT | u64::from(at), Relaxed);
        value
    }

    /// A store: of the selector; all others are ignored.
    #[inline(never)]
    pub(crate) fn write(&self, offset: u64, width: Width, value: u64) {
        if offset == SELECTOR && matches!(width, Width::B2) {
            let key = (value as u16).swap_bytes();
            self.0.store(u64::from(key) << KEY_SHIFT, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(device: &FwCfg, key: u16) {
        device.write(8, Width::B2, key.to_be().into());
    }

    #[test]
    fn the_signature_is_read_in_any_width() {
        let device = FwCfg::default();
        select(&device, 0);
        for byte in *b"QEMU\0\0" {
            assert_eq!(device.read(0, Width::B1), byte.into());
        }
        select(&device, 0);
        assert_eq!(device.read(0, Width::B2), u16::from_le_bytes(*b"QE").into());
        assert_eq!(device.read(0, Width::B4), u32::from_le_bytes(*b"MU\0\0").into());
        select(&device, 0);
        assert_eq!(device.read(0, Width::B8), u64::from_le_bytes(*b"QEMU\0\0\0\0"));
    }

    #[test]
    fn there_is_no_dma_and_no_file() {
        let device = FwCfg::default();
        select(&device, 1);
        assert_eq!(device.read(0, Width::B4), 1);
        for key in [0x19, 0x05, 0x08, 0x4000, 0x8000, 0xffff] {
            select(&device, key);
            assert_eq!(device.read(0, Width::B8), 0, "{key:#x}");
        }
        // Of the DMA register, nothing.
        assert_eq!(device.read(16, Width::B8), 0);
    }

    #[test]
    fn only_the_selector_can_be_written_and_a_reset_undoes_it() {
        let device = FwCfg::default();
        select(&device, 1);
        for (offset, width) in [(0, Width::B1), (8, Width::B4), (8, Width::B1), (10, Width::B2)] {
            device.write(offset, width, 0);
        }
        device.write(16, Width::B8, u64::MAX);
        assert_eq!(device.read(0, Width::B1), 1);
        assert_eq!(device.read(8, Width::B2), 0, "it cannot be read");
        device.reset();
        assert_eq!(device.read(0, Width::B1), b'Q'.into());
    }

    #[test]
    fn reading_for_ever_stays_behind_the_end() {
        let device = FwCfg::default();
        device.0.store(u32::MAX.into(), Relaxed);
        for _ in 0..3 {
            assert_eq!(device.read(0, Width::B8), 0);
        }
        assert_eq!(device.0.load(Relaxed), u32::MAX.into());
    }
}
