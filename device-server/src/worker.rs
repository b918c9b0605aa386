// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread of a queue: it blocks in read(2) of the eventfd that the driver's notification signals, and in nothing else.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::backend::{Handler, Outcome};
use crate::chain::Chain;
use crate::counters;
use crate::port::{Memory, Port, USED_BUFFER, is_lost};

/// Requests after which the driver is told, if it wants to be, though more wait.
const BATCH: u32 = 32;

/// What the driver has set up for a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// QueueNumMax.
    pub max: u16,
    /// QueueNum.
    pub size: u16,
    /// QueueDesc.
    pub descriptors: u64,
    /// QueueDriver.
    pub available: u64,
    /// QueueDevice.
    pub used: u64,
    /// VIRTIO_F_EVENT_IDX is accepted.
    pub event_idx: bool,
}

/// Why a ring is served no longer.
#[derive(Debug)]
pub enum Broken {
    /// The ring breaks the rules.
    Ring(virtio_queue::Error),
    /// It has an entry that cannot be read.
    Entry,
    /// It is not inside the peer's RAM.
    Outside,
    /// The module or the operating system.
    System(io::Error),
}

impl From<virtio_queue::Error> for Broken {
    fn from(error: virtio_queue::Error) -> Self {
        Self::Ring(error)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Makes the queue, and finds where an earlier server left it: requests are finished in ring order, so that those before
/// used.idx are finished and no others.
///
/// # Errors
///
/// What the driver has set up cannot be.
pub fn queue(setup: &Setup, memory: &Memory) -> Result<Queue, Broken> {
    let mut queue = Queue::new(setup.max)?;
    queue.try_set_size(setup.size)?;
    queue.try_set_desc_table_address(GuestAddress(setup.descriptors))?;
    queue.try_set_avail_ring_address(GuestAddress(setup.available))?;
    queue.try_set_used_ring_address(GuestAddress(setup.used))?;
    queue.set_event_idx(setup.event_idx);
    queue.set_ready(true);
    if !queue.is_valid(memory) {
        return Err(Broken::Outside);
    }
    let used = queue.used_idx(memory, Ordering::Acquire)?.0;
    queue.set_next_used(used);
    queue.set_next_avail(used);
    Ok(queue)
}

/// A queue with what serves it.
pub struct Ring {
    /// The ring.
    pub queue: Queue,
    /// The window.
    pub memory: Arc<Memory>,
    /// What serves it.
    pub handler: Box<dyn Handler>,
    /// Its counters.
    pub counters: Arc<counters::Queue>,
}

impl Ring {
    /// Serves what is in the ring. `interrupt` is called where the driver wants to be told; `stop` is asked before each
    /// request. Answers what the handler waits for, `None` if the ring is empty and the driver will notify.
    ///
    /// # Errors
    ///
    /// The ring is served no longer.
    pub fn serve(
        &mut self,
        stop: impl Fn() -> bool,
        mut interrupt: impl FnMut() -> io::Result<()>,
    ) -> Result<Option<Outcome>, Broken> {
        let memory = Arc::clone(&self.memory);
        let mut pending = false;
        loop {
            self.queue.disable_notification(&*memory)?;
            let mut progress = false;
            let mut wait = None;
            let mut batch = 0_u32;
            while let Some(descriptors) = self.queue.iter(&*memory)?.next() {
                if stop() {
                    self.queue.go_to_previous_position();
                    return Ok(None);
                }
                progress = true;
                let head = descriptors.head_index();
                let written = match Chain::walk(&memory, descriptors) {
                    Ok(mut chain) => match self.handler.handle(&mut chain, &self.counters) {
                        Outcome::Done => chain.written(),
                        other => {
                            self.queue.go_to_previous_position();
                            wait = Some(other);
                            break;
                        }
                    },
                    Err(_) => {
                        self.counters.malformed.add(1);
                        0
                    }
                };
                self.queue.add_used(&*memory, head, written)?;
                self.counters.requests.add(1);
                batch = batch.saturating_add(1);
                if batch >= BATCH {
                    batch = 0;
                    self.tell(&memory, &mut interrupt)?;
                }
            }
            if batch != 0 {
                self.tell(&memory, &mut interrupt)?;
            }
            if wait.is_some() {
                return Ok(wait);
            }
            // The ring had something at the last look, and the entry of it cannot be read.
            if pending && !progress {
                return Err(Broken::Entry);
            }
            pending = self.queue.enable_notification(&*memory)?;
            if !pending {
                return Ok(None);
            }
        }
    }

    fn tell(
        &mut self,
        memory: &Memory,
        interrupt: &mut impl FnMut() -> io::Result<()>,
    ) -> Result<(), Broken> {
        if self.queue.needs_notification(memory)? {
            self.counters.interrupts.add(1);
            interrupt()?;
        }
        Ok(())
    }
}

/// A running thread. Dropping it stops the thread and waits for its end.
pub struct Worker {
    stop: Arc<AtomicBool>,
    kick: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread that serves `ring` whenever `kick` is signalled, and once now.
    ///
    /// # Errors
    ///
    /// No thread, or no descriptor.
    pub fn start(
        ring: Ring,
        kick: Arc<EventFd>,
        port: Arc<dyn Port>,
        transport: u32,
        name: String,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let inside =
            Thread { ring, stop: Arc::clone(&stop), kick: Arc::clone(&kick), port, transport };
        let label = name.clone();
        let thread = thread::Builder::new().name(name).spawn(move || inside.run(&label))?;
        Ok(Self { stop, kick, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // It cannot fail: the sum would have to reach 2^64.
        let _ = self.kick.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Thread {
    ring: Ring,
    stop: Arc<AtomicBool>,
    kick: Arc<EventFd>,
    port: Arc<dyn Port>,
    transport: u32,
}

impl Thread {
    fn run(mut self, name: &str) {
        match self.serve() {
            Ok(()) => {}
            // The main thread learns of it too, and attaches again.
            Err(Broken::System(error)) if is_lost(&error) => {}
            Err(why) => {
                self.ring.counters.broken.add(1);
                eprintln!(
                    "portcullis-devices: {name} is stopped until the driver resets it: {why:?}"
                );
            }
        }
    }

    fn serve(&mut self) -> Result<(), Broken> {
        let (port, transport) = (Arc::clone(&self.port), self.transport);
        let stop = Arc::clone(&self.stop);
        let stopped = || stop.load(Ordering::Acquire);
        // An earlier server may have ended before it told the driver of what it had finished.
        if self.ring.queue.next_used() != 0 {
            port.interrupt(transport, USED_BUFFER)?;
        }
        let mut waiting = None;
        while !stopped() {
            match self.ring.serve(stopped, || port.interrupt(transport, USED_BUFFER))? {
                Some(Outcome::Wait { fd, write }) => {
                    let ready = match &waiting {
                        Some(ready) => ready,
                        None => waiting.insert(Ready::new(&self.kick)?),
                    };
                    ready.wait(fd, write)?;
                }
                _ => {
                    self.kick.read()?;
                    self.ring.counters.kicks.add(1);
                }
            }
        }
        Ok(())
    }
}

/// Waits for a descriptor of a handler, and for the kick that says stop.
struct Ready(Epoll);

impl Ready {
    fn new(kick: &EventFd) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        // The stop is signalled once; what else signals it stays to be read.
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0);
        epoll.ctl(ControlOperation::Add, kick.as_raw_fd(), event)?;
        Ok(Self(epoll))
    }

    fn wait(&self, fd: RawFd, write: bool) -> io::Result<()> {
        let events = if write { EventSet::OUT } else { EventSet::IN };
        self.0.ctl(ControlOperation::Add, fd, EpollEvent::new(events, 1))?;
        let waited = self.0.wait(-1, &mut [EpollEvent::default(); 2]);
        self.0.ctl(ControlOperation::Delete, fd, EpollEvent::default())?;
        match waited {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}
