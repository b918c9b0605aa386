// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaches to a peer, serves it, and attaches again when the peer has begun a new life.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::backend::{Daemon, Device, kind};
use crate::counters;
use crate::port::{Event, Port, is_lost};
use crate::transport::Transport;
use crate::uapi::{Info, RUNNING};

/// Milliseconds between looks whether a stopped peer runs, should the module not signal it.
const PATIENCE: i32 = 500;

const TOKEN_STOP: u64 = u64::MAX;
const TOKEN_LIFE: u64 = TOKEN_STOP - 1;
/// From here on: the connection to the daemon of a transport.
const TOKEN_DAEMON: u64 = 1 << 32;

/// A device and what is counted of it.
struct Place {
    device: Arc<dyn Device>,
    counters: Vec<Arc<counters::Queue>>,
}

/// The server of one peer.
pub struct Server {
    port: Arc<dyn Port>,
    places: Vec<Place>,
    name: String,
    stop: EventFd,
    attachments: counters::Counter,
}

/// Why serving has ended.
enum End {
    /// It was told to.
    Stopped,
    /// The peer has stopped, or has begun a new life.
    Life,
}

impl Server {
    /// Puts devices into the peer's transports, in the order of both among those of one kind.
    ///
    /// # Errors
    ///
    /// A transport without a device, or a device without a transport.
    pub fn new(port: Arc<dyn Port>, devices: Vec<Arc<dyn Device>>) -> Result<Self> {
        let info = port.info().context("the peer")?;
        let places = assign(&info, devices)?.into_iter().map(|device| {
            let counters = device.queues().iter().map(|_| Arc::default()).collect();
            Place { device, counters }
        });
        let places = places.collect();
        let stop = EventFd::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)?;
        let attachments = counters::Counter::default();
        Ok(Self { port, places, name: name(&info), stop, attachments })
    }

    /// What ends [`Self::run`] when it is signalled.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn stopper(&self) -> io::Result<EventFd> {
        self.stop.try_clone()
    }

    /// The peer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often this server has attached.
    #[must_use]
    pub fn attachments(&self) -> u64 {
        self.attachments.get()
    }

    /// DeviceID of each transport, the counters of its queues, and whether its daemon serves it, if it has one.
    pub fn transports(&self) -> impl Iterator<Item = (u32, &[Arc<counters::Queue>], Option<bool>)> {
        self.places.iter().map(|place| {
            let daemon = place.device.remote().map(Daemon::serves);
            (place.device.id(), place.counters.as_slice(), daemon)
        })
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    ///
    /// The module's or the operating system's, but for those of a peer that stops.
    pub fn run(&self) -> Result<()> {
        loop {
            // Eventfds end with each attachment.
            let life = EventFd::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)?;
            match self.attached(&life) {
                Ok(End::Stopped) => return Ok(()),
                Ok(End::Life) => {}
                Err(error) if error.downcast_ref().is_some_and(is_lost) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One attachment.
    fn attached(&self, life: &EventFd) -> Result<End> {
        let epoll = Epoll::new()?;
        let watch = |fd: &EventFd, token| {
            let event = EpollEvent::new(EventSet::IN, token);
            epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), event)
        };
        watch(&self.stop, TOKEN_STOP)?;
        watch(life, TOKEN_LIFE)?;
        self.port.signal(Event::Life, life)?;
        let info = loop {
            let info = self.port.info()?;
            if info.flags & RUNNING != 0 && self.attach(info.life)? {
                break info;
            }
            let mut events = [EpollEvent::default(); 2];
            let count = epoll.wait(PATIENCE, &mut events).or_else(interrupted)?;
            if events.iter().take(count).any(|event| event.data() == TOKEN_STOP) {
                return Ok(End::Stopped);
            }
            let _ = life.read();
        };
        // Detaches when this function ends, after the transports' threads have.
        let _attached = Detach(&*self.port);
        // ATTACH has removed it.
        self.port.signal(Event::Life, life)?;
        // A change before that was not signalled.
        if !self.lives(info.life)? {
            return Ok(End::Life);
        }
        let memory = Arc::new(self.port.window(&info).context("the window")?);
        let mut transports = Vec::new();
        for (index, place) in (0_u32..).zip(&self.places) {
            let name = format!("{}.{index}", kind(place.device.id()));
            let transport = Transport::offer(
                index,
                Arc::clone(&place.device),
                Arc::clone(&self.port),
                Arc::clone(&memory),
                &place.counters,
                name,
            );
            let mut transport = transport.or_else(|error| self.explain(index, error))?;
            transport.look()?;
            watch(transport.event(), index.into())?;
            if let Some(remote) = place.device.remote().filter(|remote| remote.serves()) {
                // No event but that it hangs up, which epoll always reports.
                let event = EpollEvent::new(EventSet::empty(), TOKEN_DAEMON | u64::from(index));
                epoll.ctl(ControlOperation::Add, remote.link(), event)?;
            }
            transports.push(transport);
        }
        self.attachments.add(1);
        eprintln!("portcullis-devices: serving {} ({} devices)", self.name, transports.len());
        loop {
            let mut events = [EpollEvent::default(); 34];
            let count = epoll.wait(-1, &mut events).or_else(interrupted)?;
            for event in events.iter().take(count) {
                match event.data() {
                    TOKEN_STOP => return Ok(End::Stopped),
                    TOKEN_LIFE => {
                        let _ = life.read();
                        if !self.lives(info.life)? {
                            return Ok(End::Life);
                        }
                    }
                    token if token & TOKEN_DAEMON != 0 => {
                        let index = (token & !TOKEN_DAEMON) as usize;
                        let device = self.places.get(index).map(|place| &place.device);
                        if let Some(remote) = device.and_then(|device| device.remote()) {
                            epoll.ctl(
                                ControlOperation::Delete,
                                remote.link(),
                                Default::default(),
                            )?;
                            remote.ended();
                        }
                    }
                    index => {
                        if let Some(transport) = transports.get_mut(index as usize) {
                            transport.look()?;
                        }
                    }
                }
            }
        }
    }

    /// Answers whether this server is attached: not if the peer has gone on to another life meanwhile.
    fn attach(&self, life: u64) -> io::Result<bool> {
        match self.port.attach(life) {
            Ok(()) => Ok(true),
            Err(error) if is_lost(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn lives(&self, life: u64) -> io::Result<bool> {
        let info = self.port.info()?;
        Ok(info.life == life && info.flags & RUNNING != 0)
    }

    fn explain(&self, index: u32, error: io::Error) -> Result<Transport> {
        if error.raw_os_error() == Some(libc::EINVAL) {
            bail!(
                "transport {index} of {} was offered by another server with other features or queues: give it the same \
                 device as before, or reset {}",
                self.name,
                self.name
            );
        }
        Err(error.into())
    }
}

struct Detach<'a>(&'a dyn Port);

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        // It fails if the attachment is over already.
        let _ = self.0.detach();
    }
}

/// A signal is no event.
fn interrupted(error: io::Error) -> io::Result<usize> {
    if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
}

/// The peer's name.
#[must_use]
pub fn name(info: &Info) -> String {
    let name: Vec<u8> = info.name.iter().copied().take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&name).into_owned()
}

/// A device for each transport.
fn assign(info: &Info, devices: Vec<Arc<dyn Device>>) -> Result<Vec<Arc<dyn Device>>> {
    let name = name(info);
    let mut left = devices;
    let mut places = Vec::new();
    for (index, id) in info.device_id.iter().take(info.transports as usize).enumerate() {
        let kind = kind(*id);
        match left.iter().position(|device| device.id() == *id) {
            Some(at) => places.push(left.remove(at)),
            None => bail!("transport {index} of {name} is {kind}, and no --{kind} is left for it"),
        }
    }
    match left.first().map(|device| kind(device.id())) {
        Some(kind) => {
            bail!("--{kind} is given, and {name} has no transport for it: see its vm.devices")
        }
        None => Ok(places),
    }
}
