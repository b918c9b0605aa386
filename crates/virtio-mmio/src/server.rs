// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server's half: the registers it gets and sets, the interrupt, and the end of events.

use crate::event::{EventKind, Line, Refused};
use crate::features;
use crate::offsets::{interrupt, status};
use crate::queue::{MAX_QUEUE_SIZE, Queue};
use crate::register::Register;
use crate::transport::{Transport, bit};

const RESET_OUTSTANDING: u64 = 1 << 16;
const CONFIG_OUTSTANDING: u64 = 1 << 17;

impl Transport {
    /// Sets a register.
    ///
    /// # Errors
    ///
    /// As [`Refused`] says. Nothing has changed then.
    pub fn set(&mut self, register: Register, value: u64) -> Result<(), Refused> {
        let word = u32::try_from(value).map_err(|_| Refused::Value);
        match register {
            Register::VendorId => {
                let word = word?;
                self.fix(u64::from(self.vendor_id), value)?;
                self.vendor_id = word;
            }
            Register::DeviceFeatures => {
                if value & features::REFUSED != 0 {
                    return Err(Refused::Value);
                }
                self.fix(self.device_features, value)?;
                self.device_features = value;
            }
            Register::QueueNumMax(n) => self.set_queue_num_max(n, value)?,
            Register::ConfigGeneration => self.config_generation = word?,
            Register::Ready => self.set_ready(value)?,
            _ => return Err(Refused::Register),
        }
        Ok(())
    }

    /// After READY only the same value may be set again, as a server does that was started anew.
    fn fix(&self, old: u64, new: u64) -> Result<(), Refused> {
        if self.offered && old != new { Err(Refused::Fixed) } else { Ok(()) }
    }

    fn set_queue_num_max(&mut self, n: u8, value: u64) -> Result<(), Refused> {
        let max = u16::try_from(value).map_err(|_| Refused::Value)?;
        if max > MAX_QUEUE_SIZE || max != 0 && !max.is_power_of_two() {
            return Err(Refused::Value);
        }
        self.fix(u64::from(self.queue(n)?.max), value)?;
        if let Some(queue) = self.queues.get_mut(usize::from(n)) {
            queue.max = max;
        }
        Ok(())
    }

    fn set_ready(&mut self, value: u64) -> Result<(), Refused> {
        if value != 1 {
            return Err(Refused::Value);
        }
        if self.demanded() & !self.device_features != 0 {
            return Err(Refused::Features);
        }
        self.offered = true;
        self.served = true;
        Ok(())
    }

    /// The value of a register.
    ///
    /// # Errors
    ///
    /// [`Refused::Register`]: there is no such queue.
    pub fn get(&self, register: Register) -> Result<u64, Refused> {
        let ready = |n, value: fn(&Queue) -> u64| {
            self.queue(n).map(|queue| if queue.ready != 0 { value(queue) } else { 0 })
        };
        Ok(match register {
            Register::VendorId => self.vendor_id.into(),
            Register::DeviceFeatures => self.device_features,
            Register::QueueNumMax(n) => self.queue(n)?.max.into(),
            Register::ConfigGeneration => self.config_generation.into(),
            Register::Ready => u64::from(self.served) | u64::from(self.offered) << 1,
            Register::Status => self.status.into(),
            Register::DriverFeatures if self.status & status::FEATURES_OK == 0 => 0,
            Register::DriverFeatures => self.driver_features,
            Register::InterruptStatus => self.interrupt.into(),
            Register::EventSeq => self.seq.into(),
            Register::Outstanding => self.outstanding_bits(),
            Register::ResetSeq => self.reset_seq.into(),
            Register::ConfigStore => self.config_store.map_or(0, |store| {
                let seq = u64::from(store.seq) << 32;
                seq | store.width.bytes() << 8 | u64::from(store.offset)
            }),
            Register::ConfigValue => self.config_store.map_or(0, |store| store.value),
            Register::ConfigLost => self.config_lost.into(),
            Register::QueueNum(n) => ready(n, |queue| queue.size.into())?,
            Register::QueueReady(n) => self.queue(n)?.ready.into(),
            Register::QueueDesc(n) => ready(n, |queue| queue.areas[0])?,
            Register::QueueDriver(n) => ready(n, |queue| queue.areas[1])?,
            Register::QueueDevice(n) => ready(n, |queue| queue.areas[2])?,
            Register::QueueStop(n) if self.stopping & bit(n) == 0 => 0,
            Register::QueueStop(n) => self.queue(n)?.stop.into(),
        })
    }

    fn queue(&self, n: u8) -> Result<&Queue, Refused> {
        self.queues.get(usize::from(n)).ok_or(Refused::Register)
    }

    fn outstanding_bits(&self) -> u64 {
        let reset = if self.resetting { RESET_OUTSTANDING } else { 0 };
        let config = if self.config_store.is_some() { CONFIG_OUTSTANDING } else { 0 };
        u64::from(self.stopping) | reset | config
    }

    /// Sets bits of InterruptStatus: bit 0, buffers were used; bit 1, the configuration has changed. Bit 0 has no effect before
    /// DRIVER_OK (virtio 2.1.2).
    ///
    /// # Errors
    ///
    /// [`Refused::Value`] for other bits. [`Refused::NotReady`] before READY.
    #[inline]
    pub fn raise(&mut self, bits: u64) -> Result<Line, Refused> {
        if bits & !u64::from(interrupt::USED_BUFFER | interrupt::CONFIG_CHANGE) != 0 {
            return Err(Refused::Value);
        }
        if !self.served {
            return Err(Refused::NotReady);
        }
        let mut bits = bits as u32;
        if self.status & status::DRIVER_OK == 0 {
            bits &= !interrupt::USED_BUFFER;
        }
        let before = self.interrupt;
        self.interrupt |= bits;
        Ok(if before == 0 && bits != 0 { Line::Raised } else { Line::Unchanged })
    }

    /// The server has finished the outstanding event `seq`: a reset, the stop of a queue, or a store to configuration space.
    ///
    /// # Errors
    ///
    /// [`Refused::Stale`]: no such event is outstanding.
    pub fn event_done(&mut self, seq: u32) -> Result<Line, Refused> {
        match self.outstanding(seq).ok_or(Refused::Stale)? {
            EventKind::Reset => return Ok(self.reset_driver()),
            EventKind::QueueStop(n) => self.stop_queue(n),
            _ => self.config_store = None,
        }
        Ok(Line::Unchanged)
    }

    /// The deadline of the outstanding event `seq` has passed: it is complete without the server. A store to configuration space
    /// counts as lost.
    ///
    /// # Errors
    ///
    /// [`Refused::Stale`]: no such event is outstanding.
    pub fn expire(&mut self, seq: u32) -> Result<Line, Refused> {
        let kind = self.outstanding(seq);
        let line = self.event_done(seq)?;
        if kind == Some(EventKind::Config) {
            self.config_lost = self.config_lost.saturating_add(1);
        }
        Ok(line)
    }

    /// The server is gone. Outstanding resets and stops are complete, as no server holds a ring any more. All else stays for
    /// the next server, also a store to configuration space, for which nothing waits now.
    pub fn detach(&mut self) -> Line {
        self.served = false;
        if self.resetting {
            return self.reset_driver();
        }
        while self.stopping != 0 {
            self.stop_queue(self.stopping.trailing_zeros() as u8);
        }
        Line::Unchanged
    }
}
