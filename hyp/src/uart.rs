// SPDX-License-Identifier: MIT OR Apache-2.0
//! UARTs that EL2 can write to and read from by polling, as the firmware or the boot loader left them.

use platform::{Uart as Described, UartKind};

/// A UART, by its kind.
#[derive(Clone, Copy)]
pub enum Uart {
    /// Arm PL011 (DDI 0183 3.3).
    Pl011 { base: u64 },
    /// 16550 and its relatives: registers `1 << shift` apart, accessed by `wide` (32 bits) or bytes.
    Ns16550 { base: u64, shift: u8, wide: bool },
}

const PL011_DR: u64 = 0x0;
const PL011_FR: u64 = 0x18;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
const PL011_IMSC: u64 = 0x38;
/// RXIM, RTIM: bytes have arrived.
const IMSC_RX: u32 = 1 << 4 | 1 << 6;
const IER: u64 = 1;
/// ERBFI: a byte has arrived.
const IER_RX: u32 = 1;
const LSR: u64 = 5;
const LSR_DR: u32 = 1;
const LSR_THRE: u32 = 1 << 5;

fn read32(address: u64) -> u32 {
    // SAFETY: registers of the UART that the tree describes, mapped as a device (or, before the MMU is on, physical).
    unsafe { (address as *const u32).read_volatile() }
}

fn write32(address: u64, value: u32) {
    // SAFETY: as for `read32`.
    unsafe { (address as *mut u32).write_volatile(value) }
}

impl Uart {
    /// The driver for what the tree describes, if there is one.
    pub fn new(described: &Described) -> Option<Self> {
        let base = described.registers.start().raw();
        match described.kind {
            UartKind::Pl011 => Some(Self::Pl011 { base }),
            UartKind::Ns16550 { reg_shift, io_width } => {
                Some(Self::Ns16550 { base, shift: reg_shift, wide: io_width == 4 })
            }
            _ => None,
        }
    }

    fn ns_read(base: u64, shift: u8, wide: bool, register: u64) -> u32 {
        let address = base + (register << shift);
        if wide {
            read32(address)
        } else {
            // SAFETY: as for `read32`, byte wide.
            u32::from(unsafe { (address as *const u8).read_volatile() })
        }
    }

    fn ns_write(base: u64, shift: u8, wide: bool, register: u64, value: u32) {
        let address = base + (register << shift);
        if wide {
            write32(address, value);
        } else {
            // SAFETY: as for `read32`, byte wide.
            unsafe { (address as *mut u8).write_volatile(value as u8) }
        }
    }

    /// Interrupts for as long as a byte that has arrived waits, or never: every other reason stays off.
    pub fn interrupt_for_input(&self, on: bool) {
        match *self {
            Self::Pl011 { base } => write32(base + PL011_IMSC, if on { IMSC_RX } else { 0 }),
            Self::Ns16550 { base, shift, wide } => {
                Self::ns_write(base, shift, wide, IER, if on { IER_RX } else { 0 });
            }
        }
    }

    /// Whether a byte can be written without waiting.
    #[inline]
    pub fn ready(&self) -> bool {
        match *self {
            Self::Pl011 { base } => read32(base + PL011_FR) & FR_TXFF == 0,
            Self::Ns16550 { base, shift, wide } => {
                Self::ns_read(base, shift, wide, LSR) & LSR_THRE != 0
            }
        }
    }

    /// Writes a byte; lost where the UART is not ready.
    #[inline]
    pub fn put(&self, byte: u8) {
        match *self {
            Self::Pl011 { base } => write32(base + PL011_DR, u32::from(byte)),
            Self::Ns16550 { base, wide: true, .. } => write32(base, u32::from(byte)),
            // SAFETY: as for `read32`, byte wide.
            Self::Ns16550 { base, .. } => unsafe { (base as *mut u8).write_volatile(byte) },
        }
    }

    /// Whether a byte has arrived.
    #[inline]
    pub fn has_input(&self) -> bool {
        match *self {
            Self::Pl011 { base } => read32(base + PL011_FR) & FR_RXFE == 0,
            Self::Ns16550 { base, shift, wide } => {
                Self::ns_read(base, shift, wide, LSR) & LSR_DR != 0
            }
        }
    }

    /// A byte that has arrived, if any.
    #[inline]
    pub fn get(&self) -> Option<u8> {
        if !self.has_input() {
            return None;
        }
        Some(match *self {
            Self::Pl011 { base } => read32(base + PL011_DR) as u8,
            Self::Ns16550 { base, shift, wide } => Self::ns_read(base, shift, wide, 0) as u8,
        })
    }
}
