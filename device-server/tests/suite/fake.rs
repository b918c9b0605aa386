// SPDX-License-Identifier: MIT OR Apache-2.0
//! A port without a kernel: the register model that EL2 uses, a file as the peer's RAM, and the module's errors.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use arch::{Ipa, Width};
use device_server::module;
use device_server::port::{Event, Memory, Port, Register};
use device_server::uapi::{ATTACHED, Info, RUNNING};
use virtio_mmio::{Blocked, DeviceId, Limits, Store, Transport};
use vmm_sys_util::eventfd::EventFd;

/// Where the peer's RAM begins.
pub const RAM: u64 = 0x4000_0000;
/// Its bytes.
pub const RAM_BYTES: u64 = 16 << 20;
/// The pool that rings must be in.
pub const POOL: u64 = RAM + (8 << 20);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

struct State {
    life: u64,
    running: bool,
    attached: bool,
    attachments: u64,
    transports: Vec<Transport>,
    images: Vec<[u8; 256]>,
    fds: HashMap<(u32, u8), EventFd>,
    events: HashMap<u32, EventFd>,
    started: Option<EventFd>,
}

/// The module, EL2 and the peer in one.
pub struct Fake {
    state: Mutex<State>,
    changed: Condvar,
    ram: Arc<File>,
    devices: Vec<u32>,
    me: Weak<Fake>,
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn transports(devices: &[u32]) -> Vec<Transport> {
    let limits =
        Limits { start: Ipa::new(POOL), bytes: RAM + RAM_BYTES - POOL, access_platform: true };
    devices.iter().map(|id| Transport::new(DeviceId(*id), limits)).collect()
}

impl Fake {
    /// A peer that runs, with transports of these DeviceIDs.
    pub fn new(devices: &[u32]) -> Arc<Self> {
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(RAM_BYTES).unwrap();
        let state = State {
            life: 1,
            running: true,
            attached: false,
            attachments: 0,
            transports: transports(devices),
            images: vec![[0; 256]; devices.len()],
            fds: HashMap::new(),
            events: HashMap::new(),
            started: None,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let (ram, devices) = (Arc::new(ram), devices.to_vec());
        Arc::new_cyclic(|me| Self { state, changed, ram, devices, me: me.clone() })
    }

    /// The peer's own view of its RAM.
    pub fn ram(&self) -> Memory {
        module::window(&self.ram, &self.info().unwrap()).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until `done` answers something.
    fn until<T>(&self, what: &str, mut done: impl FnMut(&mut State) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut state = self.lock();
        loop {
            if let Some(result) = done(&mut state) {
                return result;
            }
            let left = end.checked_duration_since(Instant::now());
            let left = left.unwrap_or_else(|| panic!("{what} did not come"));
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// A load of the peer's driver, which waits as a vCPU does.
    pub fn load(&self, transport: usize, offset: u64, width: Width) -> u64 {
        self.until("an answer to a load", |state| {
            let image = state.images[transport];
            let config = |offset, width: Width| {
                let mut bytes = [0; 8];
                let (at, count) = (offset as usize, width.bytes() as usize);
                bytes[..count].copy_from_slice(&image[at..at + count]);
                u64::from_le_bytes(bytes)
            };
            state.transports[transport].load(offset, width, config).ok()
        })
    }

    /// A store of the peer's driver, which waits as a vCPU does.
    pub fn store(&self, transport: usize, offset: u64, value: u64) {
        let store = self.until("an answer to a store", |state| {
            let stored = state.transports[transport].store(offset, Width::B4, value);
            match stored {
                Err(Blocked::NotReady | Blocked::Config(_)) => return None,
                Ok(Store::Notify(queue)) => {
                    if let Some(fd) = state.fds.get(&(transport as u32, queue)) {
                        fd.write(1).unwrap();
                    }
                }
                Ok(Store::Posted { .. } | Store::Wait(_)) => state.event(transport),
                Ok(_) => {}
            }
            stored.ok()
        });
        if let Store::Wait(event) = store {
            self.until("the end of a wait", |state| {
                (!state.transports[transport].is_outstanding(event.seq)).then_some(())
            });
        }
        self.changed.notify_all();
    }

    /// Waits for the interrupt, and acknowledges it. Answers InterruptStatus.
    pub fn interrupted(&self, transport: usize) -> u64 {
        self.until("an interrupt", |state| {
            let transport = &mut state.transports[transport];
            let bits = transport.interrupt_status().filter(|bits| *bits != 0)?;
            let _ = transport.store(0x64, Width::B4, bits.into()).unwrap();
            Some(bits.into())
        })
    }

    /// Whether the interrupt is high.
    pub fn is_raised(&self, transport: usize) -> bool {
        self.lock().transports[transport].is_raised()
    }

    /// Waits until a server has attached `number` times.
    pub fn attachments(&self, number: u64) {
        self.until("an attachment", |state| (state.attachments >= number).then_some(()));
    }

    /// Waits until no server is attached.
    pub fn detached(&self) {
        self.until("a detachment", |state| (!state.attached).then_some(()));
    }

    /// The peer stops.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.running = false;
        state.end(&self.devices);
        state.signal_life();
        self.changed.notify_all();
    }

    /// The peer starts again.
    pub fn start(&self) {
        let mut state = self.lock();
        state.running = true;
        state.life += 1;
        state.signal_life();
        self.changed.notify_all();
    }
}

impl State {
    fn event(&self, transport: usize) {
        if let Some(fd) = self.events.get(&(transport as u32)) {
            fd.write(1).unwrap();
        }
    }

    fn forget(&mut self) {
        self.fds.clear();
        self.events.clear();
        self.started = None;
    }

    fn signal_life(&self) {
        if let Some(fd) = &self.started {
            fd.write(1).unwrap();
        }
    }

    /// A life ends, and with it the attachment.
    fn end(&mut self, devices: &[u32]) {
        self.attached = false;
        self.transports = transports(devices);
    }

    fn check(&self) -> io::Result<()> {
        // The module keeps the attachment of a life that is over until DETACH.
        if self.attached {
            Ok(())
        } else if self.attachments != 0 {
            Err(error(libc::ESTALE))
        } else {
            Err(error(libc::ENOTCONN))
        }
    }

    fn transport(&mut self, transport: u32) -> io::Result<&mut Transport> {
        self.check()?;
        self.transports.get_mut(transport as usize).ok_or_else(|| error(libc::EINVAL))
    }
}

fn register(register: Register) -> virtio_mmio::Register {
    virtio_mmio::Register::from_raw(register.number().into()).unwrap()
}

impl Port for Fake {
    fn info(&self) -> io::Result<Info> {
        let state = self.lock();
        let mut info = Info {
            life: state.life,
            ram_base: RAM,
            ram_size: RAM_BYTES,
            timeout_ms: 30_000,
            vcpus: 1,
            transports: self.devices.len() as u32,
            flags: 0,
            ..Info::default()
        };
        info.flags |= if state.running { RUNNING } else { 0 };
        info.flags |= if state.attached { ATTACHED } else { 0 };
        info.device_id[..self.devices.len()].copy_from_slice(&self.devices);
        info.name[..3].copy_from_slice(b"web");
        Ok(info)
    }

    fn attach(&self, life: u64) -> io::Result<()> {
        let mut state = self.lock();
        if life != state.life || !state.running {
            return Err(error(libc::ESTALE));
        }
        state.forget();
        state.attached = true;
        state.attachments += 1;
        self.changed.notify_all();
        Ok(())
    }

    fn detach(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.forget();
        state.check()?;
        state.attached = false;
        for transport in &mut state.transports {
            let _ = transport.detach();
        }
        self.changed.notify_all();
        Ok(())
    }

    fn window(&self, info: &Info) -> io::Result<Memory> {
        module::window(&self.ram, info)
    }

    fn file(&self) -> &File {
        &self.ram
    }

    fn get(&self, transport: u32, what: Register) -> io::Result<u64> {
        let mut state = self.lock();
        state.transport(transport)?.get(register(what)).map_err(|_| error(libc::EINVAL))
    }

    fn set(&self, transport: u32, what: Register, value: u64) -> io::Result<()> {
        let mut state = self.lock();
        let set = state.transport(transport)?.set(register(what), value);
        self.changed.notify_all();
        set.map_err(|_| error(libc::EINVAL))
    }

    fn set_config(&self, transport: u32, offset: u8, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.check()?;
        let image = &mut state.images[transport as usize];
        image[usize::from(offset)..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn signal(&self, event: Event, fd: &EventFd) -> io::Result<()> {
        let fd = fd.try_clone()?;
        assert!(fd.as_raw_fd() >= 0);
        let mut state = self.lock();
        if event != Event::Life {
            state.check()?;
        }
        match event {
            Event::Queue(transport, queue) => drop(state.fds.insert((transport, queue), fd)),
            Event::Transport(transport) => drop(state.events.insert(transport, fd)),
            Event::Life => state.started = Some(fd),
            Event::Call(transport, bits) => {
                let fake = self.me.upgrade().unwrap();
                let attachment = state.attachments;
                // The module does it from the eventfd's wake-up callback, until DETACH.
                std::thread::spawn(move || {
                    while fd.read().is_ok() && fake.lock().attachments == attachment {
                        let _ = fake.interrupt(transport, bits);
                    }
                });
            }
        }
        Ok(())
    }

    fn interrupt(&self, transport: u32, bits: u32) -> io::Result<()> {
        let mut state = self.lock();
        let raised = state.transport(transport)?.raise(bits.into());
        self.changed.notify_all();
        raised.map(drop).map_err(|_| error(libc::EINVAL))
    }

    fn event_done(&self, transport: u32, seq: u32) -> io::Result<()> {
        let mut state = self.lock();
        let done = state.transport(transport)?.event_done(seq);
        self.changed.notify_all();
        done.map(drop).map_err(|_| error(libc::EINVAL))
    }
}
