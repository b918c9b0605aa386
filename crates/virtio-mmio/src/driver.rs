// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's accesses (virtio 4.2.2).
//!
//! Registers are 32 bits wide and accessed so (virtio 4.2.2.2). Any other access to them reads 0 and changes nothing, as does
//! an unaligned one to configuration space.

use crate::event::{Blocked, Event, EventKind, Line, Store};
use crate::features;
use crate::offsets::*;
use crate::queue::Queue;
use crate::transport::{ConfigStore, QUEUES, Transport, bit};
use arch::Width;

impl Transport {
    /// Answers a load at `offset` into the page. `config` reads configuration space: it gets an offset below 256, aligned to the
    /// width. The value has no bits beyond the width.
    ///
    /// # Errors
    ///
    /// The access has to wait, and is then executed again.
    #[inline(always)]
    pub fn load(
        &self,
        offset: u64,
        width: Width,
        config: impl FnOnce(u64, Width) -> u64,
    ) -> Result<u64, Blocked> {
        if !self.offered {
            return Err(Blocked::NotReady);
        }
        // Of each interrupt.
        if offset == INTERRUPT_STATUS && width == Width::B4 {
            return Ok(u64::from(self.interrupt));
        }
        match config_offset(offset, width) {
            Some(offset) => {
                self.config_is_settled()?;
                Ok(config(u64::from(offset), width) & width.mask())
            }
            None => Ok(u64::from(self.load_register(offset, width))),
        }
    }

    /// Performs a store at `offset` into the page. Bits of `value` beyond the width do not count.
    ///
    /// # Errors
    ///
    /// The access has to wait, and is then executed again.
    #[inline(always)]
    pub fn store(&mut self, offset: u64, width: Width, value: u64) -> Result<Store, Blocked> {
        if !self.offered {
            return Err(Blocked::NotReady);
        }
        if width == Width::B4 {
            let value = value as u32;
            // Of each request, and of each interrupt.
            match offset {
                QUEUE_NOTIFY => return Ok(self.notify(value)),
                INTERRUPT_ACK => return Ok(self.acknowledge(value)),
                _ => {}
            }
        }
        self.store_rare(offset, width, value)
    }

    /// A notification of a queue that is not ready has no effect.
    #[inline(always)]
    fn notify(&self, queue: u32) -> Store {
        if queue < QUEUES as u32 && self.ready.wrapping_shr(queue) & 1 != 0 {
            Store::Notify(queue as u8)
        } else {
            Store::Done
        }
    }

    #[inline(always)]
    fn acknowledge(&mut self, bits: u32) -> Store {
        let before = self.interrupt;
        self.interrupt &= !bits;
        if before != 0 && self.interrupt == 0 { Store::Lowered } else { Store::Done }
    }

    /// A driver that has stored to configuration space reads there what the server makes of it (virtio 5.8.5 relies on it), and
    /// a second store does not overtake the first.
    fn config_is_settled(&self) -> Result<(), Blocked> {
        match self.awaited_config() {
            Some(store) => Err(Blocked::Config(store.seq)),
            None => Ok(()),
        }
    }

    #[inline(never)]
    fn load_register(&self, offset: u64, width: Width) -> u32 {
        if width != Width::B4 {
            return 0;
        }
        match offset {
            MAGIC_VALUE => MAGIC,
            VERSION => NOT_LEGACY,
            DEVICE_ID => self.device.0,
            VENDOR_ID => self.vendor_id,
            DEVICE_FEATURES => word(self.device_features, self.device_features_sel),
            QUEUE_NUM_MAX => u32::from(self.selected().max),
            QUEUE_READY => u32::from(self.selected().ready != 0),
            STATUS => u32::from(self.status),
            // There are no shared memory regions (virtio 4.2.2.1).
            SHM_LEN_LOW..=SHM_BASE_HIGH if offset & 3 == 0 => u32::MAX,
            CONFIG_GENERATION => self.config_generation,
            _ => 0,
        }
    }

    #[inline(never)]
    fn store_rare(&mut self, offset: u64, width: Width, value: u64) -> Result<Store, Blocked> {
        if let Some(offset) = config_offset(offset, width) {
            return self.store_config(offset, width, value & width.mask());
        }
        if width != Width::B4 {
            return Ok(Store::Done);
        }
        Ok(self.store_register(offset, value as u32))
    }

    fn store_register(&mut self, offset: u64, value: u32) -> Store {
        match offset {
            STATUS if value as u8 == 0 => return self.store_reset(),
            // What the driver sets up next, it sets up after the reset.
            _ if self.resetting => {}
            STATUS => return self.store_status(value as u8),
            QUEUE_READY => return self.store_ready(value != 0),
            DEVICE_FEATURES_SEL => self.device_features_sel = value,
            DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            QUEUE_SEL => self.queue_sel = value,
            // Negotiated features do not change (virtio 3.1.1).
            DRIVER_FEATURES if self.status & status::FEATURES_OK == 0 => {
                set_word(&mut self.driver_features, self.driver_features_sel, value);
            }
            _ => self.store_queue(offset, value),
        }
        Store::Done
    }

    fn store_config(&mut self, offset: u8, width: Width, value: u64) -> Result<Store, Blocked> {
        self.config_is_settled()?;
        if self.resetting {
            return Ok(Store::Done);
        }
        let event = self.event(EventKind::Config);
        let store = ConfigStore { seq: event.seq, offset, width, value };
        if self.config_store.replace(store).is_some() {
            self.config_lost = self.config_lost.saturating_add(1);
        }
        Ok(Store::Posted { event, line: Line::Unchanged })
    }

    /// Status = 0 (virtio 2.4). It is complete when the server uses no ring any more.
    fn store_reset(&mut self) -> Store {
        if self.resetting {
            return Store::Wait(Event { seq: self.reset_seq, kind: EventKind::Reset });
        }
        if self.status == 0 {
            return match self.reset_driver() {
                Line::Lowered => Store::Lowered,
                _ => Store::Done,
            };
        }
        let event = self.event(EventKind::Reset);
        self.reset_seq = event.seq;
        if self.served && self.is_in_use() {
            self.resetting = true;
            return Store::Wait(event);
        }
        Store::Posted { event, line: self.reset_driver() }
    }

    /// Sets bits of Status. Nothing but a reset clears any (virtio 2.1.1).
    fn store_status(&mut self, value: u8) -> Store {
        use status::*;
        self.status |= value & (ACKNOWLEDGE | DRIVER | FAILED);
        let driver = self.driver_features;
        if value & FEATURES_OK != 0
            && features::acceptable(driver, self.device_features, self.demanded())
        {
            self.status |= FEATURES_OK;
        }
        let begun = self.status & DRIVER_OK != 0;
        if begun || value & DRIVER_OK == 0 || self.status & FEATURES_OK == 0 {
            return Store::Done;
        }
        self.status |= DRIVER_OK;
        Store::Posted { event: self.event(EventKind::DriverOk), line: Line::Unchanged }
    }

    /// QueueReady. Zero is complete when the server does not use the ring any more (virtio 4.2.2.2).
    fn store_ready(&mut self, ready: bool) -> Store {
        let Some(n) = self.selected_index() else { return Store::Done };
        let is_ready = self.ready & bit(n) != 0;
        if ready == is_ready {
            return Store::Done;
        }
        if ready {
            return self.start_queue(n);
        }
        if self.stopping & bit(n) != 0 {
            return Store::Wait(Event { seq: self.selected().stop, kind: EventKind::QueueStop(n) });
        }
        let event = self.event(EventKind::QueueStop(n));
        if let Some(queue) = self.selected_mut() {
            queue.stop = event.seq;
        }
        if self.served {
            self.stopping |= bit(n);
            return Store::Wait(event);
        }
        self.stop_queue(n);
        Store::Posted { event, line: Line::Unchanged }
    }

    /// Makes queue `n` ready, if it can be. Queues come after FEATURES_OK (virtio 3.1.1).
    fn start_queue(&mut self, n: u8) -> Store {
        let negotiated = self.status & status::FEATURES_OK != 0;
        if !negotiated || !self.selected().is_valid(self.bounds()) {
            return Store::Done;
        }
        let event = self.event(EventKind::QueueReady(n));
        self.ready |= bit(n);
        if let Some(queue) = self.selected_mut() {
            queue.ready = event.seq;
        }
        Store::Posted { event, line: Line::Unchanged }
    }

    /// The registers of the selected queue. They do not change while it is ready (virtio 4.2.2.2).
    fn store_queue(&mut self, offset: u64, value: u32) {
        let Some(queue) = self.selected_mut().filter(|queue| queue.ready == 0) else { return };
        let [descriptors, driver, device] = &mut queue.areas;
        match offset {
            QUEUE_NUM => queue.size = value,
            QUEUE_DESC_LOW => set_word(descriptors, 0, value),
            QUEUE_DESC_HIGH => set_word(descriptors, 1, value),
            QUEUE_DRIVER_LOW => set_word(driver, 0, value),
            QUEUE_DRIVER_HIGH => set_word(driver, 1, value),
            QUEUE_DEVICE_LOW => set_word(device, 0, value),
            QUEUE_DEVICE_HIGH => set_word(device, 1, value),
            _ => {}
        }
    }

    fn selected_index(&self) -> Option<u8> {
        (self.queue_sel < QUEUES as u32).then_some(self.queue_sel as u8)
    }

    /// For a queue that there is not, registers read 0.
    fn selected(&self) -> &Queue {
        self.queues.get(self.queue_sel as usize).unwrap_or(&Queue::NONE)
    }

    fn selected_mut(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(self.queue_sel as usize)
    }
}

/// Where in configuration space an access is.
#[inline(always)]
fn config_offset(offset: u64, width: Width) -> Option<u8> {
    let inside = offset.wrapping_sub(CONFIG);
    let aligned = inside & width.bytes().wrapping_sub(1) == 0;
    (inside < CONFIG_BYTES && aligned).then_some(inside as u8)
}

/// Word `n` of 64 feature bits, of which there are two (virtio 4.2.2: the others are reserved).
fn word(bits: u64, n: u32) -> u32 {
    match n {
        0 => bits as u32,
        1 => bits.wrapping_shr(32) as u32,
        _ => 0,
    }
}

fn set_word(bits: &mut u64, n: u32, value: u32) {
    let value = u64::from(value);
    match n {
        0 => *bits = *bits & !0xffff_ffff | value,
        1 => *bits = *bits & 0xffff_ffff | value.wrapping_shl(32),
        _ => {}
    }
}
