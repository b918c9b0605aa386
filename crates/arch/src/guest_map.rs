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

/// Most VMs that a device VM serves.
pub const MAX_PEERS: usize = 32;
/// Control page of a device VM's peer 0; the others follow.
pub const CONTROL_PAGE_IPA: Ipa = Ipa::new(0x0b00_0000);
/// Register images of a device VM's peer 0, a page for each transport; those of the others follow.
pub const REGISTER_IMAGE_IPA: Ipa = Ipa::new(0x0b10_0000);
/// Start of the windows of a device VM: nothing else lies there.
pub const WINDOWS_IPA: Ipa = Ipa::new(0x10_0000_0000);
/// Bytes of all windows.
pub const WINDOWS_SIZE: u64 = 0x30_0000_0000;
/// A window begins at a multiple of this.
pub const WINDOW_ALIGN: u64 = 1 << 30;
/// Interrupt of a device VM's peer 0; the others follow.
pub const PEER_INTID: u32 = 96;

/// Shared interrupts of a VM's GIC.
pub const SPIS: usize = 64;
/// Shared interrupts of a device VM's GIC: one more for each peer.
pub const DEVICE_VM_SPIS: usize = SPIS + MAX_PEERS;

/// Page of transport `index`.
pub const fn transport_ipa(index: usize) -> Ipa {
    page(VIRTIO_IPA, index)
}

/// Interrupt of transport `index`.
pub const fn transport_intid(index: usize) -> u32 {
    TRANSPORT_INTID.saturating_add(index as u32)
}

/// Control page of peer `number`.
pub const fn control_page_ipa(number: usize) -> Ipa {
    page(CONTROL_PAGE_IPA, number)
}

/// Register image of transport `index` of peer `number`.
pub const fn register_image_ipa(number: usize, index: usize) -> Ipa {
    page(REGISTER_IMAGE_IPA, number.saturating_mul(MAX_TRANSPORTS).saturating_add(index))
}

/// Interrupt of peer `number`.
pub const fn peer_intid(number: usize) -> u32 {
    PEER_INTID.saturating_add(number as u32)
}

const fn page(base: Ipa, index: usize) -> Ipa {
    Ipa::new(base.raw().saturating_add((index as u64).saturating_mul(PAGE_SIZE)))
}

/// Most banks of flash.
pub const MAX_FLASH: usize = 4;
/// Smallest bank of flash: one block of its chips.
pub const MIN_FLASH_BYTES: u64 = 256 << 10;
/// Largest bank of flash. It bounds what one store may do to stage 2.
pub const MAX_FLASH_BYTES: u64 = 16 << 20;

// The interrupts of a GIC end behind the last transport, or behind the last peer.
const _: () = assert!(TRANSPORT_INTID as usize + MAX_TRANSPORTS <= 32 + SPIS);
const _: () = assert!(PEER_INTID as usize == 32 + SPIS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_interrupts_are_where_the_map_has_them() {
        assert_eq!((transport_ipa(15).raw(), transport_intid(15)), (0x0a00_f000, 79));
        assert_eq!((control_page_ipa(31).raw(), peer_intid(31)), (0x0b01_f000, 127));
        assert_eq!(register_image_ipa(0, 15).raw(), 0x0b10_f000);
        assert_eq!(register_image_ipa(31, 15).raw(), 0x0b2f_f000);
        assert_eq!(DEVICE_VM_SPIS, 96);
        assert_eq!(PASSED_INTIDS, 30);
    }
}
