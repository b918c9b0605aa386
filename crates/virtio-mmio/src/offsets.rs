// SPDX-License-Identifier: MIT OR Apache-2.0
//! Offsets of the registers (virtio 4.2.2), and the bits of Status (2.1).

pub const MAGIC_VALUE: u64 = 0x000;
pub const VERSION: u64 = 0x004;
pub const DEVICE_ID: u64 = 0x008;
pub const VENDOR_ID: u64 = 0x00c;
pub const DEVICE_FEATURES: u64 = 0x010;
pub const DEVICE_FEATURES_SEL: u64 = 0x014;
pub const DRIVER_FEATURES: u64 = 0x020;
pub const DRIVER_FEATURES_SEL: u64 = 0x024;
pub const QUEUE_SEL: u64 = 0x030;
pub const QUEUE_NUM_MAX: u64 = 0x034;
pub const QUEUE_NUM: u64 = 0x038;
pub const QUEUE_READY: u64 = 0x044;
pub const QUEUE_NOTIFY: u64 = 0x050;
/// Offset of InterruptStatus, in bytes (virtio 4.2.2).
pub const INTERRUPT_STATUS: u64 = 0x060;
pub const INTERRUPT_ACK: u64 = 0x064;
pub const STATUS: u64 = 0x070;
pub const QUEUE_DESC_LOW: u64 = 0x080;
pub const QUEUE_DESC_HIGH: u64 = 0x084;
pub const QUEUE_DRIVER_LOW: u64 = 0x090;
pub const QUEUE_DRIVER_HIGH: u64 = 0x094;
pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
pub const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
/// The four registers of the shared memory region that SHMSel chooses: length and base, low and high.
pub const SHM_LEN_LOW: u64 = 0x0b0;
pub const SHM_BASE_HIGH: u64 = 0x0bc;
pub const CONFIG_GENERATION: u64 = 0x0fc;
/// Configuration space.
pub const CONFIG: u64 = 0x100;
/// Its size. What is behind it reads 0.
pub const CONFIG_BYTES: u64 = 0x100;

/// What MagicValue holds: "virt".
pub const MAGIC: u32 = 0x7472_6976;
/// What Version holds: not the legacy interface.
pub const NOT_LEGACY: u32 = 2;

pub mod status {
    //! Bits of Status that a driver may set. DEVICE_NEEDS_RESET (0x40) is the device's and is never set.
    pub const ACKNOWLEDGE: u8 = 1;
    pub const DRIVER: u8 = 2;
    pub const DRIVER_OK: u8 = 4;
    pub const FEATURES_OK: u8 = 8;
    pub const FAILED: u8 = 128;
}

pub mod interrupt {
    //! Bits of InterruptStatus.
    pub const USED_BUFFER: u32 = 1;
    pub const CONFIG_CHANGE: u32 = 2;
}
