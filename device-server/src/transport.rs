// SPDX-License-Identifier: MIT OR Apache-2.0
//! One transport: offers the device, and brings the threads of its queues in line with the registers.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_config::VIRTIO_CONFIG_S_DRIVER_OK;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::EventFd;

use crate::backend::{Device, RemoteRing, bit};
use crate::counters;
use crate::port::{Event, Memory, Port, Register, USED_BUFFER};
use crate::worker::{self, Ring, Setup, Worker};

/// "PRTC": whose device it is.
const VENDOR: u64 = 0x4354_5250;
/// Bit of [`Register::Outstanding`].
const RESET: u64 = 1 << 16;
/// Bit of [`Register::Outstanding`].
const CONFIG_STORE: u64 = 1 << 17;
/// Times that one look reads the registers anew, before it leaves what else has happened to the next event.
const ROUNDS: u32 = 64;

/// A queue of a transport.
struct Line {
    kick: Arc<EventFd>,
    counters: Arc<counters::Queue>,
    /// The thread, and the number of the event that made its ring ready.
    running: Option<(u32, Option<Running>)>,
}

/// What serves a ring. Dropping it ends that, and waits for the end.
enum Running {
    /// A thread.
    Thread { _worker: Worker },
    /// A daemon.
    Daemon(Arc<dyn Device>, u8),
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Daemon(device, n) = self
            && let Some(remote) = device.remote()
        {
            remote.stop(*n);
        }
    }
}

/// A transport of an attached peer. Dropping it ends its threads.
pub struct Transport {
    index: u32,
    device: Arc<dyn Device>,
    port: Arc<dyn Port>,
    memory: Arc<Memory>,
    event: EventFd,
    /// For a daemon: raises the interrupt.
    call: EventFd,
    lines: Vec<Line>,
    name: String,
}

impl Transport {
    /// Offers `device` as transport `index`, and serves what an earlier server has left.
    ///
    /// # Errors
    ///
    /// The module's. Where the peer has begun to use another offer, it says so.
    pub fn offer(
        index: u32,
        device: Arc<dyn Device>,
        port: Arc<dyn Port>,
        memory: Arc<Memory>,
        counters: &[Arc<counters::Queue>],
        name: String,
    ) -> io::Result<Self> {
        let mut lines = Vec::new();
        for counters in counters {
            let kick = Arc::new(EventFd::new(libc::EFD_CLOEXEC)?);
            lines.push(Line { kick, counters: Arc::clone(counters), running: None });
        }
        let event = EventFd::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)?;
        let call = EventFd::new(libc::EFD_CLOEXEC)?;
        let transport = Self { index, device, port, memory, event, call, lines, name };
        transport.announce()?;
        Ok(transport)
    }

    fn announce(&self) -> io::Result<()> {
        let (port, index) = (&self.port, self.index);
        port.set(index, Register::VendorId, VENDOR)?;
        port.set(index, Register::DeviceFeatures, self.device.offer())?;
        for (n, size) in (0_u8..).zip(self.device.queues()) {
            port.set(index, Register::QueueNumMax(n), u64::from(*size))?;
        }
        let config = self.device.config();
        if !config.is_empty() {
            port.set_config(index, 0, &config)?;
        }
        if let Some(remote) = self.device.remote() {
            remote.window(port.file(), &port.info()?);
            port.signal(Event::Call(index, USED_BUFFER), &self.call)?;
        }
        port.signal(Event::Transport(index), &self.event)?;
        for (n, line) in (0_u8..).zip(&self.lines) {
            port.signal(Event::Queue(index, n), &line.kick)?;
        }
        port.set(index, Register::Ready, 1)
    }

    /// What is signalled when [`Self::look`] has something to do.
    #[must_use]
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// Reads the registers and does what they ask for: ends threads and says so, starts threads.
    ///
    /// # Errors
    ///
    /// The module's.
    pub fn look(&mut self) -> io::Result<()> {
        match self.event.read() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        for _ in 0..ROUNDS {
            if !self.finish()? {
                return self.start();
            }
        }
        // The driver goes on resetting. Others are served in between.
        self.event.write(1)
    }

    /// Does what the driver waits for. Answers whether there was something.
    fn finish(&mut self) -> io::Result<bool> {
        let outstanding = self.get(Register::Outstanding)?;
        if outstanding == 0 {
            return Ok(false);
        }
        if outstanding & RESET != 0 {
            let seq = self.get(Register::ResetSeq)?;
            self.stop_all();
            self.done(seq)?;
            return Ok(true);
        }
        for n in 0..16_u8 {
            if outstanding & 1_u64.wrapping_shl(n.into()) != 0 {
                let seq = self.get(Register::QueueStop(n))?;
                if let Some(line) = self.lines.get_mut(usize::from(n)) {
                    line.running = None;
                }
                self.done(seq)?;
            }
        }
        if outstanding & CONFIG_STORE != 0 {
            // No device here has a writable field: the store is finished without an effect.
            let store = self.get(Register::ConfigStore)?;
            self.done(store >> 32)?;
        }
        Ok(true)
    }

    fn done(&self, seq: u64) -> io::Result<()> {
        let Some(seq) = u32::try_from(seq).ok().filter(|seq| *seq != 0) else { return Ok(()) };
        match self.port.event_done(self.index, seq) {
            // Its deadline has passed: it is done without this server.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result,
        }
    }

    /// Ends threads of rings that are no more, and starts those of new ones.
    fn start(&mut self) -> io::Result<()> {
        let status = self.get(Register::Status)?;
        let begun = status & u64::from(VIRTIO_CONFIG_S_DRIVER_OK) != 0;
        let features = self.get(Register::DriverFeatures)?;
        for n in (0..16_u8).take(self.lines.len()) {
            let ready = self.get(Register::QueueReady(n))? as u32;
            let wanted = begun && ready != 0;
            let Some(line) = self.lines.get(usize::from(n)) else { continue };
            if line.running.as_ref().map(|(number, _)| *number) == wanted.then_some(ready) {
                continue;
            }
            self.stop(n);
            if !wanted {
                continue;
            }
            let setup = self.setup(n, features)?;
            // Another ring by now: its event is on the way.
            if self.get(Register::QueueReady(n))? as u32 != ready {
                continue;
            }
            let worker = self.run(n, features, &setup)?;
            if let Some(line) = self.lines.get_mut(usize::from(n)) {
                line.running = Some((ready, worker));
            }
        }
        Ok(())
    }

    fn setup(&self, n: u8, features: u64) -> io::Result<Setup> {
        let size = u16::try_from(self.get(Register::QueueNum(n))?).unwrap_or(0);
        Ok(Setup {
            max: self.device.queues().get(usize::from(n)).copied().unwrap_or(0),
            size,
            descriptors: self.get(Register::QueueDesc(n))?,
            available: self.get(Register::QueueDriver(n))?,
            used: self.get(Register::QueueDevice(n))?,
            event_idx: features & bit(VIRTIO_RING_F_EVENT_IDX) != 0,
        })
    }

    /// What serves queue `n`; `None` if its ring cannot be served.
    fn run(&self, n: u8, features: u64, setup: &Setup) -> io::Result<Option<Running>> {
        let Some(line) = self.lines.get(usize::from(n)) else { return Ok(None) };
        let name = format!("{}.{n}", self.name);
        let queue = match worker::queue(setup, &self.memory) {
            Ok(queue) => queue,
            Err(why) => {
                line.counters.broken.add(1);
                eprintln!("portcullis-devices: {name} cannot be served: {why:?}");
                return Ok(None);
            }
        };
        if let Some(remote) = self.device.remote() {
            let ring = RemoteRing {
                size: setup.size,
                descriptors: setup.descriptors,
                available: setup.available,
                used: setup.used,
                next: queue.next_used(),
                features,
            };
            remote.start(n, &ring, &line.kick, &self.call)?;
            return Ok(Some(Running::Daemon(Arc::clone(&self.device), n)));
        }
        let handler = self.device.handler(n, features)?;
        let counters = Arc::clone(&line.counters);
        let ring = Ring { queue, memory: Arc::clone(&self.memory), handler, counters };
        let kick = Arc::clone(&line.kick);
        let worker = Worker::start(ring, kick, Arc::clone(&self.port), self.index, name)?;
        Ok(Some(Running::Thread { _worker: worker }))
    }

    fn stop(&mut self, n: u8) {
        if let Some(line) = self.lines.get_mut(usize::from(n)) {
            line.running = None;
        }
    }

    fn stop_all(&mut self) {
        for line in &mut self.lines {
            line.running = None;
        }
    }

    fn get(&self, register: Register) -> io::Result<u64> {
        self.port.get(self.index, register)
    }
}
