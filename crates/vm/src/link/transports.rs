// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtio-mmio transports of a served VM. `virtio_mmio` decides; here are the locks, the interrupt's level and what the server
//! is told.

use crate::Host;
use crate::link::control_page::ControlPage;
use arch::guest_map::transport_intid;
use arch::{Pa, Width};
use lock::atomic::{AtomicBool, AtomicU32, Ordering};
use lock::{Lock, Order, Rank};
use virtio_mmio::{
    Blocked, DeviceId, INTERRUPT_STATUS, Limits, QUEUES, Refused, Register, Store, Transport,
};

/// The state of one transport.
pub struct TransportState {
    registers: Lock<Transport>,
    /// Level of the interrupt, as the last change left it. The line is set from it under the vGIC's lock, so that the last setter
    /// sets the last level.
    level: AtomicBool,
    /// InterruptStatus, and [`ANSWERS`] once READY was said: what the fast path answers without the lock.
    status: AtomicU32,
    notified: [AtomicU32; QUEUES],
    image: Pa,
}

/// In [`TransportState::status`].
const ANSWERS: u32 = 1 << 31;

#[inline(always)]
fn status_word(registers: &Transport) -> u32 {
    registers.interrupt_status().map_or(0, |status| status | ANSWERS)
}

/// The transports of one VM.
pub(crate) struct Transports(&'static [TransportState]);

/// The interrupt of a transport whose level may have changed.
#[derive(Clone, Copy)]
pub(crate) struct Moved<'a> {
    /// INTID in the served VM.
    pub(crate) intid: u32,
    /// What the level is.
    pub(crate) level: &'a AtomicBool,
}

/// What an access of the driver leads to.
pub(crate) enum Accessed<'a> {
    /// It is done: what a load reads.
    Value(u64),
    /// It is done; the interrupt moves.
    Moved(Moved<'a>),
    /// It is done, and the server is told.
    Told(Option<Moved<'a>>),
    /// The vCPU waits, and then executes the access again. The server has been told where `told`.
    Wait { seq: Option<u32>, told: bool },
}

impl TransportState {
    /// A transport for a device of this kind; its configuration space is the page at `image`. `limits` are
    /// [`ring_limits`](super::ring_limits).
    pub fn new(id: u32, limits: Limits, image: Pa) -> Self {
        Self {
            registers: Lock::new(Rank::Device, Transport::new(DeviceId(id), limits)),
            level: AtomicBool::new(false),
            status: AtomicU32::new(0),
            notified: Default::default(),
            image,
        }
    }

    /// The page of its configuration space.
    pub const fn image(&self) -> Pa {
        self.image
    }
}

impl core::fmt::Debug for TransportState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TransportState").field("image", &self.image).finish_non_exhaustive()
    }
}

impl Transports {
    pub(crate) const fn new(all: &'static [TransportState]) -> Self {
        Self(all)
    }

    fn get(&self, d: usize) -> Result<&TransportState, Refused> {
        self.0.get(d).ok_or(Refused::Register)
    }

    /// Changes the registers of transport `d`. Also returns its interrupt, if the level has changed.
    fn change<R>(
        &self,
        order: &Order,
        d: usize,
        change: impl FnOnce(&mut Transport) -> R,
    ) -> Result<(R, Option<Moved<'_>>), Refused> {
        let device = self.get(d)?;
        let mut registers = device.registers.lock(order);
        let result = change(&mut registers);
        let level = registers.is_raised();
        let moved = device.level.swap(level, Ordering::AcqRel) != level;
        device.status.store(status_word(&registers), Ordering::Release);
        drop(registers);
        let moved = moved.then_some(Moved { intid: transport_intid(d), level: &device.level });
        Ok((result, moved))
    }

    /// InterruptStatus for a load of four bytes at `offset` of transport `d`; `None` for any other register, and before READY. Takes no
    /// lock.
    #[inline(always)]
    pub(crate) fn interrupt_status(&self, d: usize, offset: u64) -> Option<u64> {
        let status = self.0.get(d)?.status.load(Ordering::Acquire);
        (offset == INTERRUPT_STATUS && status & ANSWERS != 0).then_some((status & !ANSWERS).into())
    }

    /// A load of the driver.
    #[inline]
    pub(crate) fn load<H: Host>(
        &self,
        host: &H,
        order: &Order,
        (d, offset): (usize, u64),
        width: Width,
    ) -> Option<Accessed<'_>> {
        let device = self.0.get(d)?;
        let config = |offset, width| host.peek(device.image, offset, width);
        let loaded = device.registers.lock(order).load(offset, width, config);
        Some(loaded.map_or_else(Accessed::blocked, Accessed::Value))
    }

    /// A store of the driver.
    #[inline]
    pub(crate) fn store<H: Host>(
        &self,
        host: &H,
        order: &Order,
        page: ControlPage,
        (d, offset): (usize, u64),
        (width, value): (Width, u64),
    ) -> Option<Accessed<'_>> {
        let change = |registers: &mut Transport| {
            let stored = registers.store(offset, width, value);
            // Under the lock, so that the last number is written last.
            if let Ok(Store::Posted { event, .. } | Store::Wait(event)) = stored {
                page.event(host, d, event.seq);
            }
            stored
        };
        let (stored, moved) = self.change(order, d, change).ok()?;
        Some(match stored {
            Err(blocked) => Accessed::blocked(blocked),
            Ok(Store::Notify(queue)) => {
                let queue = usize::from(queue);
                let count = self.0.get(d)?.notified.get(queue)?.fetch_add(1, Ordering::AcqRel);
                page.notify(host, d, queue, count.wrapping_add(1));
                Accessed::Told(None)
            }
            Ok(Store::Posted { .. }) => Accessed::Told(moved),
            Ok(Store::Wait(event)) => Accessed::Wait { seq: Some(event.seq), told: true },
            Ok(Store::Done | Store::Lowered) => match moved {
                Some(moved) => Accessed::Moved(moved),
                None => Accessed::Value(0),
            },
        })
    }

    /// Whether event `seq` of transport `d` is waited for, or its server has not said READY yet where there is no event.
    pub(crate) fn waits(&self, order: &Order, d: usize, seq: Option<u32>) -> bool {
        let Some(device) = self.0.get(d) else { return false };
        let registers = device.registers.lock(order);
        match seq {
            Some(seq) => registers.is_outstanding(seq),
            None => registers.get(Register::Ready).is_ok_and(|ready| ready >> 1 == 0),
        }
    }

    /// The deadline of event `seq` has passed. Where it was finished just now, nothing changes.
    pub(crate) fn expire(&self, order: &Order, d: usize, seq: u32) -> Option<Moved<'_>> {
        self.change(order, d, |registers| registers.expire(seq).is_ok()).ok()?.1
    }

    /// Calls `moved` for each transport the interrupt of which moves as all have been changed by `change`.
    pub(crate) fn all(
        &self,
        order: &Order,
        change: impl Fn(&mut Transport),
        mut moved: impl FnMut(Moved<'_>),
    ) {
        for d in 0..self.0.len() {
            if let Ok((_, Some(it))) = self.change(order, d, &change) {
                moved(it);
            }
        }
    }

    /// As [`Self::change`], for the server, which has to be attached. That is looked at under the lock, so that nothing of one
    /// attachment or life happens in the next: who ends one says so before changing the registers.
    fn serve<R>(
        &self,
        order: &Order,
        attached: &AtomicBool,
        d: usize,
        change: impl FnOnce(&mut Transport) -> Result<R, Refused>,
    ) -> Result<(R, Option<Moved<'_>>), Refused> {
        let change = |registers: &mut Transport| {
            if attached.load(Ordering::SeqCst) { change(registers) } else { Err(Refused::NotReady) }
        };
        let (result, moved) = self.change(order, d, change)?;
        result.map(|result| (result, moved))
    }

    /// REG, get.
    pub(crate) fn get_register(
        &self,
        order: &Order,
        attached: &AtomicBool,
        d: usize,
        raw: u64,
    ) -> Result<u64, Refused> {
        let register = Register::from_raw(raw).ok_or(Refused::Register)?;
        if !attached.load(Ordering::SeqCst) {
            return Err(Refused::NotReady);
        }
        self.get(d)?.registers.lock(order).get(register)
    }

    /// REG, set.
    pub(crate) fn set_register(
        &self,
        order: &Order,
        attached: &AtomicBool,
        d: usize,
        raw: u64,
        value: u64,
    ) -> Result<(), Refused> {
        let register = Register::from_raw(raw).ok_or(Refused::Register)?;
        self.serve(order, attached, d, |registers| registers.set(register, value))?;
        Ok(())
    }

    /// IRQ.
    pub(crate) fn raise(
        &self,
        order: &Order,
        attached: &AtomicBool,
        d: usize,
        bits: u64,
    ) -> Result<Option<Moved<'_>>, Refused> {
        Ok(self.serve(order, attached, d, |registers| registers.raise(bits))?.1)
    }

    /// EVENT_DONE.
    pub(crate) fn event_done(
        &self,
        order: &Order,
        attached: &AtomicBool,
        d: usize,
        seq: u32,
    ) -> Result<Option<Moved<'_>>, Refused> {
        Ok(self.serve(order, attached, d, |registers| registers.event_done(seq))?.1)
    }
}

impl Accessed<'_> {
    const fn blocked(blocked: Blocked) -> Self {
        let seq = match blocked {
            Blocked::NotReady => None,
            Blocked::Config(seq) => Some(seq),
        };
        Self::Wait { seq, told: false }
    }
}
