// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server's half of a link: its calls.

use super::{Answer, Bell, Link, NotNow};
use crate::Host;
use arch::VcpuSet;
use lock::Order;
use lock::atomic::Ordering;
use mmio_guard::abi::device::{PeerInfo, irq};

impl Link {
    /// PEER_INFO: the client's life, and its state.
    pub fn info(&self, order: &Order) -> (u64, PeerInfo) {
        let session = self.session.lock(order);
        let outstanding = self.outstanding().iter().fold(0, |bits, vcpu| bits | 1_u8 << (vcpu & 7));
        let info = PeerInfo {
            vcpus: self.setup.vcpus as u8,
            devices: self.setup.transports.len() as u8,
            running: self.running.load(Ordering::Relaxed),
            attached: self.attached.load(Ordering::Relaxed),
            outstanding,
        };
        (session.life, info)
    }

    /// ATTACH.
    ///
    /// # Errors
    /// The client has another life.
    pub fn attach<H: Host>(&self, host: &H, order: &Order, life: u64) -> Result<(), NotNow> {
        let session = self.session.lock(order);
        if session.life != life || session.ends {
            return Err(NotNow);
        }
        if !self.attached.load(Ordering::Relaxed) {
            self.bells.clear();
            host.wipe(self.setup.window.scratch(), arch::PAGE_SIZE);
            // A server that attaches again and again puts no deadline off.
            self.attached_at.store(host.counter(), Ordering::Relaxed);
        }
        self.attachment.fetch_add(1, Ordering::SeqCst);
        self.known.store(true, Ordering::SeqCst);
        self.attached.store(true, Ordering::SeqCst);
        drop(session);
        // Deadlines count from here.
        host.wake_of(self.setup.client, self.outstanding());
        Ok(())
    }

    /// DETACH.
    ///
    /// # Errors
    /// The client has another life, or is not attached.
    pub fn detach<H: Host>(&self, host: &H, order: &Order, life: u64) -> Result<(), NotNow> {
        let session = self.session.lock(order);
        if session.life != life || !self.attached.load(Ordering::Relaxed) {
            return Err(NotNow);
        }
        let wake = self.leave();
        drop(session);
        self.leave_transports(host, order, wake);
        Ok(())
    }

    /// COMPLETE.
    ///
    /// # Errors
    /// That very access does not wait, or the server has not attached.
    pub fn complete<H: Host>(
        &self,
        host: &H,
        order: &Order,
        vcpu: usize,
        number: u64,
        answer: Answer,
    ) -> Result<(), NotNow> {
        {
            let _session = self.session.lock(order);
            let slot = self.slots.get(vcpu).ok_or(NotNow)?;
            if !self.attached.load(Ordering::Relaxed) || !slot.complete(number, answer) {
                return Err(NotNow);
            }
        }
        host.wake_of(self.setup.client, VcpuSet::single(vcpu));
        Ok(())
    }

    /// DOORBELL.
    ///
    /// # Errors
    /// No such doorbell, an address that is not forwarded, or the server has not attached.
    pub fn set_bell(&self, order: &Order, n: usize, bell: Option<Bell>) -> Result<(), NotNow> {
        let _session = self.session.lock(order);
        let outside = bell.is_some_and(|bell| !self.forwards(bell.ipa, bell.width));
        let attached = self.attached.load(Ordering::Relaxed);
        if !attached || outside || !self.bells.set(n, bell) {
            return Err(NotNow);
        }
        Ok(())
    }

    /// REG.
    ///
    /// # Errors
    /// No such register, or not now.
    pub fn register<H: Host>(
        &self,
        host: &H,
        order: &Order,
        d: usize,
        [action, register, value]: [u64; 3],
    ) -> Result<u64, NotNow> {
        match action {
            0 => Ok(self.transports.get_register(order, &self.attached, d, register)?),
            1 => {
                self.transports.set_register(order, &self.attached, d, register, value)?;
                // READY ends waits.
                let waiting = self.waiting();
                if !waiting.is_empty() {
                    host.wake_of(self.setup.client, waiting);
                }
                Ok(0)
            }
            _ => Err(NotNow),
        }
    }

    /// IRQ.
    ///
    /// # Errors
    /// No such transport, or not now.
    pub fn interrupt<H: Host>(
        &self,
        host: &H,
        order: &Order,
        d: usize,
        [action, bits]: [u64; 2],
    ) -> Result<(), NotNow> {
        if action != irq::STATUS {
            return Err(NotNow);
        }
        if let Some(moved) = self.transports.raise(order, &self.attached, d, bits)? {
            self.set_line(host, order, moved);
        }
        Ok(())
    }

    /// EVENT_DONE.
    ///
    /// # Errors
    /// No access waits for that event.
    pub fn event_done<H: Host>(
        &self,
        host: &H,
        order: &Order,
        d: usize,
        seq: u64,
    ) -> Result<(), NotNow> {
        let seq = u32::try_from(seq).map_err(|_| NotNow)?;
        if let Some(moved) = self.transports.event_done(order, &self.attached, d, seq)? {
            self.set_line(host, order, moved);
        }
        host.wake_of(self.setup.client, self.waiting());
        Ok(())
    }
}
