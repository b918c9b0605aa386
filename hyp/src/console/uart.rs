// SPDX-License-Identifier: MIT OR Apache-2.0
//! The UART, polled, in the state in which firmware or the boot loader left it. One driver serves all UARTs: a
//! `platform::UartDriver` describes each.

use platform::{Uart as Described, UartDriver, UartKind};

/// A UART.
#[derive(Clone, Copy)]
pub struct Uart {
    base: u64,
    driver: UartDriver,
}

impl Uart {
    /// The driver for what the tree describes, if there is one.
    pub fn new(described: &Described) -> Option<Self> {
        match described.kind {
            UartKind::Driven { driver, .. } => {
                let uart = Self::at(described.registers.start().raw(), driver);
                if let Some((register, value)) = driver.enable {
                    uart.write(register, value);
                }
                Some(uart)
            }
            UartKind::Unknown(_) => None,
        }
    }

    /// The one at `base`.
    pub const fn at(base: u64, driver: UartDriver) -> Self {
        Self { base, driver }
    }

    fn read(&self, register: u16) -> u32 {
        let address = self.base.wrapping_add(u64::from(register));
        // SAFETY: registers of the UART that the tree describes, mapped as a device (or, before the MMU is on,
        // physical), in the width that it wants.
        unsafe {
            match self.driver.width {
                4 => (address as *const u32).read_volatile(),
                2 => u32::from((address as *const u16).read_volatile()),
                _ => u32::from((address as *const u8).read_volatile()),
            }
        }
    }

    fn write(&self, register: u16, value: u32) {
        let address = self.base.wrapping_add(u64::from(register));
        // SAFETY: as for `read`.
        unsafe {
            match self.driver.width {
                4 => (address as *mut u32).write_volatile(value),
                2 => (address as *mut u16).write_volatile(value as u16),
                _ => (address as *mut u8).write_volatile(value as u8),
            }
        }
    }

    /// Enables or disables the interrupt for received bytes. All other interrupts stay off. Requires [`Self::interrupts`].
    pub fn interrupt_for_input(&self, on: bool) {
        if let Some((register, value)) = self.driver.interrupt {
            self.write(register, if on { value } else { 0 });
        }
    }

    /// Whether it can interrupt for input.
    pub const fn interrupts(&self) -> bool {
        self.driver.interrupt.is_some()
    }

    /// Whether a byte can be written without waiting.
    pub fn ready(&self) -> bool {
        (self.read(self.driver.status) & self.driver.room != 0) == self.driver.room_when_set
    }

    /// Writes a byte. It is lost if the UART is not ready.
    pub fn put(&self, byte: u8) {
        self.write(self.driver.send, u32::from(byte));
    }

    /// The next received byte, if any.
    pub fn get(&self) -> Option<u8> {
        let arrived = self.read(self.driver.status) & self.driver.arrived != 0;
        (arrived == self.driver.arrived_when_set).then(|| self.read(self.driver.receive) as u8)
    }
}
