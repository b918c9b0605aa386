// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's virtio-mmio transports without a device behind them: what guests find that look for one without a device tree.
//! docs/vm.md has their registers.
//!
//! Source: Virtual I/O Device (VIRTIO) 1.2, section 4.2.2.

/// Distance of two transports.
const STEP: u64 = 0x200;
/// "virt".
const MAGIC: u64 = 0x7472_6976;
const VERSION: u64 = 2;

/// A load at `offset` from the first transport. DeviceID is 0: there is none. Stores are ignored.
#[cold]
#[inline(never)]
pub(crate) const fn read(offset: u64) -> u64 {
    match offset & (STEP - 1) {
        0x000 => MAGIC,
        0x004 => VERSION,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_a_transport_without_a_device() {
        for slot in 0..32_u64 {
            let register = |offset| read(slot * 0x200 + offset);
            assert_eq!([register(0), register(4), register(8)], [0x7472_6976, 2, 0]);
            for offset in (0x0c..0x200).step_by(4) {
                assert_eq!(register(offset), 0);
            }
        }
    }
}
