// SPDX-License-Identifier: MIT OR Apache-2.0
//! The map of a guest's address space: what EL2 emulates at which address and interrupt, as QEMU's virt machine has it.
//!
//! The VM's devices and the guest's device tree are made from it. `hyp`'s oracle has a copy of its own, on purpose.

use crate::{Ipa, PAGE_SIZE};

/// Start of RAM.
pub const RAM_IPA: Ipa = Ipa::new(0x4000_0000);
/// Bytes that belong to the GIC, whatever its version.
pub const GIC_WINDOW: u64 = 0x100_0000;
/// GIC distributor.
pub const GICD_IPA: Ipa = Ipa::new(0x0800_0000);
/// Size of the distributor.
pub const GICD_SIZE: u64 = 0x1_0000;
/// GICv2 CPU interface.
pub const GICC_IPA: Ipa = Ipa::new(0x0801_0000);
/// Size of the CPU interface.
pub const GICC_SIZE: u64 = 0x1_0000;
/// GICv3 redistributors, one after the other.
pub const GICR_IPA: Ipa = Ipa::new(0x080a_0000);
/// A redistributor has 2 to this power bytes: RD_base and SGI_base.
pub const GICR_FRAME_SHIFT: u32 = 17;
/// Size of one redistributor.
pub const GICR_SIZE: u64 = 1 << GICR_FRAME_SHIFT;
/// PL011.
pub const UART_IPA: Ipa = Ipa::new(0x0900_0000);
/// Size of the PL011.
pub const UART_SIZE: u64 = PAGE_SIZE;
/// Interrupt of the PL011.
pub const UART_INTID: u32 = 33;
/// QEMU's firmware configuration device.
pub const FW_CFG_IPA: Ipa = Ipa::new(0x0902_0000);
/// QEMU's 32 virtio-mmio transports, 512 bytes each.
pub const VIRTIO_IPA: Ipa = Ipa::new(0x0a00_0000);
/// Size of the transports.
pub const VIRTIO_SIZE: u64 = 0x4000;

/// Most virtio-mmio transports that a device VM serves to one VM (`vm.devices`).
pub const MAX_TRANSPORTS: usize = 16;
/// Bytes of a transport: a page, so that the guard decides for each by itself.
pub const TRANSPORT_SIZE: u64 = PAGE_SIZE;
/// Interrupt of transport 0; the others follow.
pub const TRANSPORT_INTID: u32 = 64;

/// First of the interrupts that are kept for passed-through devices.
pub const PASSED_INTID: u32 = 34;
/// Number of interrupts that are kept for passed-through devices.
pub const PASSED_INTIDS: u32 = TRANSPORT_INTID - PASSED_INTID;

/// Shared interrupts of a VM's GIC.
pub const SPIS: usize = 64;

/// Page of transport `index`.
pub const fn transport_ipa(index: usize) -> Ipa {
    Ipa::new(VIRTIO_IPA.raw().saturating_add((index as u64).saturating_mul(TRANSPORT_SIZE)))
}

/// Interrupt of transport `index`.
pub const fn transport_intid(index: usize) -> u32 {
    TRANSPORT_INTID.saturating_add(index as u32)
}

/// Most banks of flash.
pub const MAX_FLASH: usize = 4;
/// Smallest bank of flash: one block of its chips.
pub const MIN_FLASH_BYTES: u64 = 256 << 10;
/// Largest bank of flash. It bounds what one store may do to stage 2.
pub const MAX_FLASH_BYTES: u64 = 16 << 20;

const _: () = assert!(TRANSPORT_INTID as usize + MAX_TRANSPORTS <= 32 + SPIS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_interrupts_are_where_the_map_has_them() {
        assert_eq!((transport_ipa(15).raw(), transport_intid(15)), (0x0a00_f000, 79));
        assert_eq!(PASSED_INTIDS, 30);
    }
}
