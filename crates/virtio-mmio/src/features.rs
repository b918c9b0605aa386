// SPDX-License-Identifier: MIT OR Apache-2.0
//! Feature bits that concern the register file (virtio 6). The others are the driver's and the server's.

/// VIRTIO_F_VERSION_1: without it the interface is the legacy one.
pub const VERSION_1: u64 = 1 << 32;
/// VIRTIO_F_ACCESS_PLATFORM: the driver passes addresses by its DMA interface, so that they are in its pool.
pub const ACCESS_PLATFORM: u64 = 1 << 33;

/// Bits that a server cannot offer: VIRTIO_F_RING_PACKED (34) has rings of another layout. VIRTIO_F_SR_IOV (37) and the bits
/// from VIRTIO_F_NOTIFICATION_DATA (38) to 49 ask of a transport what this one lacks, or are reserved for such.
pub const REFUSED: u64 = (1 << 34) | ((1 << 50) - (1 << 37));

/// Whether FEATURES_OK may be set (virtio 2.2): `driver` is a subset of `device` and holds all of `demanded`.
pub const fn acceptable(driver: u64, device: u64, demanded: u64) -> bool {
    driver & !device == 0 && demanded & !driver == 0
}
