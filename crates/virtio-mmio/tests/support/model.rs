// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of virtio 1.2, section 4.2.2, and of docs/virtio-mmio.md, in maps and lists: slow, and without the structure of the
//! crate. Numbers are written out.

use arch::Width;
use std::collections::BTreeMap;
use virtio_mmio::{Blocked, Event, EventKind, Line, Refused, Store};

const STATUS: u64 = 0x70;
const QUEUE_SEL: u64 = 0x30;
const ACCEPTED_WORD: u64 = 0x24;
const OFFERED_WORD: u64 = 0x14;

/// The model.
pub struct Model {
    device: u32,
    /// First and last address that a ring may cover.
    memory: (u128, u128),
    pool: bool,
    ready_said: bool,
    server: bool,
    vendor: u64,
    offer: u64,
    generation: u64,
    largest: BTreeMap<u64, u64>,
    /// Registers that hold what was written, of the device: by offset.
    written: BTreeMap<u64, u32>,
    /// Accepted features: by word.
    accepted: BTreeMap<u32, u32>,
    /// Registers that hold what was written, of queues: by queue and offset.
    queues: BTreeMap<(u32, u64), u32>,
    /// Queues that are ready, and since which event.
    started: BTreeMap<u32, u32>,
    isr: u64,
    /// Number of the latest event.
    latest: u32,
    /// What the server has been asked and has not finished.
    open: Vec<(u32, EventKind)>,
    /// Number of the latest reset.
    reset: u32,
    /// Offset, bytes and value of the open store to configuration space, or of one that has lost its server.
    config: Option<(u32, u64, u64, u64)>,
    lost: u64,
}

/// What a server's call answers: a value, or what the line does.
pub type Answer<T> = Result<T, Refused>;

impl Model {
    pub fn new(device: u32, memory: (u64, u64), pool: bool) -> Self {
        let (start, bytes) = (u128::from(memory.0), u128::from(memory.1));
        let end = (start + bytes).min(u128::from(u64::MAX));
        Self {
            device,
            memory: (start, end),
            pool,
            ready_said: false,
            server: false,
            vendor: 0,
            offer: 0,
            generation: 0,
            largest: BTreeMap::new(),
            written: BTreeMap::new(),
            accepted: BTreeMap::new(),
            queues: BTreeMap::new(),
            started: BTreeMap::new(),
            isr: 0,
            latest: 0,
            open: Vec::new(),
            reset: 0,
            config: None,
            lost: 0,
        }
    }

    pub fn line(&self) -> bool {
        self.isr > 0
    }

    pub fn is_open(&self, seq: u32) -> bool {
        let config = self.config.is_some_and(|config| config.0 == seq && self.server);
        config || self.open.iter().any(|(open, _)| *open == seq)
    }

    fn held(&self, offset: u64) -> u32 {
        self.written.get(&offset).copied().unwrap_or(0)
    }

    fn status(&self) -> u32 {
        self.held(STATUS)
    }

    fn resetting(&self) -> bool {
        self.open.iter().any(|(_, kind)| *kind == EventKind::Reset)
    }

    fn features(&self) -> u64 {
        let word = |n| u64::from(self.accepted.get(&n).copied().unwrap_or(0));
        word(1) * 0x1_0000_0000 + word(0)
    }

    fn must_have(&self) -> u64 {
        if self.pool { 0x3_0000_0000 } else { 0x1_0000_0000 }
    }

    /// A number for a new event.
    fn tell(&mut self, kind: EventKind) -> Event {
        self.latest = if self.latest == u32::MAX { 1 } else { self.latest + 1 };
        Event { seq: self.latest, kind }
    }

    /// The place in configuration space, for an access there.
    fn config_place(offset: u64, width: Width) -> Option<u64> {
        let place = offset.checked_sub(0x100)?;
        (place <= 0xff && place.is_multiple_of(width.bytes())).then_some(place)
    }

    pub fn load(
        &self,
        offset: u64,
        width: Width,
        config: impl Fn(u64, Width) -> u64,
    ) -> Result<u64, Blocked> {
        if !self.ready_said {
            return Err(Blocked::NotReady);
        }
        if let Some(place) = Self::config_place(offset, width) {
            if let (Some((seq, ..)), true) = (self.config, self.server) {
                return Err(Blocked::Config(seq));
            }
            return Ok(match width {
                Width::B1 => u64::from(config(place, width) as u8),
                Width::B2 => u64::from(config(place, width) as u16),
                Width::B4 => u64::from(config(place, width) as u32),
                Width::B8 => config(place, width),
            });
        }
        if width != Width::B4 {
            return Ok(0);
        }
        let queue = self.held(QUEUE_SEL);
        Ok(match offset {
            0x00 => u64::from(u32::from_le_bytes(*b"virt")),
            0x04 => 2,
            0x08 => u64::from(self.device),
            0x0c => self.vendor,
            0x10 => match self.held(OFFERED_WORD) {
                0 => self.offer % 0x1_0000_0000,
                1 => self.offer / 0x1_0000_0000,
                _ => 0,
            },
            0x34 => self.largest.get(&u64::from(queue)).copied().unwrap_or(0),
            0x44 => u64::from(self.started.contains_key(&queue)),
            0x60 => self.isr,
            0x70 => u64::from(self.status()),
            0xb0 | 0xb4 | 0xb8 | 0xbc => 0xffff_ffff,
            0xfc => self.generation,
            _ => 0,
        })
    }

    pub fn store(&mut self, offset: u64, width: Width, value: u64) -> Result<Store, Blocked> {
        if !self.ready_said {
            return Err(Blocked::NotReady);
        }
        if let Some(place) = Self::config_place(offset, width) {
            return self.store_config(place, width, value);
        }
        if width != Width::B4 {
            return Ok(Store::Done);
        }
        let value = (value % 0x1_0000_0000) as u32;
        let queue = self.held(QUEUE_SEL);
        match offset {
            0x50 => {
                let started = self.started.contains_key(&value);
                return Ok(if started { Store::Notify(value as u8) } else { Store::Done });
            }
            0x64 => {
                let before = self.line();
                for bit in 0..32 {
                    if value >> bit & 1 == 1 && self.isr >> bit & 1 == 1 {
                        self.isr -= 1 << bit;
                    }
                }
                return Ok(if before && !self.line() { Store::Lowered } else { Store::Done });
            }
            STATUS if value.is_multiple_of(256) => return Ok(self.store_reset()),
            _ if self.resetting() => {}
            STATUS => return Ok(self.store_status(value)),
            0x44 if queue < 16 => return Ok(self.store_ready(queue, value)),
            0x14 | 0x24 | 0x30 => {
                self.written.insert(offset, value);
            }
            0x20 if self.status() & 8 == 0 && self.held(ACCEPTED_WORD) < 2 => {
                self.accepted.insert(self.held(ACCEPTED_WORD), value);
            }
            0x38 | 0x80 | 0x84 | 0x90 | 0x94 | 0xa0 | 0xa4
                if queue < 16 && !self.started.contains_key(&queue) =>
            {
                self.queues.insert((queue, offset), value);
            }
            _ => {}
        }
        Ok(Store::Done)
    }

    fn store_config(&mut self, place: u64, width: Width, value: u64) -> Result<Store, Blocked> {
        match self.config {
            Some((seq, ..)) if self.server => return Err(Blocked::Config(seq)),
            _ if self.resetting() => return Ok(Store::Done),
            Some(_) => self.lost += 1,
            None => {}
        }
        let value = match width {
            Width::B1 => u64::from(value as u8),
            Width::B2 => u64::from(value as u16),
            Width::B4 => u64::from(value as u32),
            Width::B8 => value,
        };
        let event = self.tell(EventKind::Config);
        self.config = Some((event.seq, place, width.bytes(), value));
        Ok(Store::Posted { event, line: Line::Unchanged })
    }

    fn store_reset(&mut self) -> Store {
        if self.resetting() {
            return Store::Wait(Event { seq: self.reset, kind: EventKind::Reset });
        }
        let status = self.status();
        if status == 0 {
            return match self.forget_driver() {
                Line::Lowered => Store::Lowered,
                _ => Store::Done,
            };
        }
        let event = self.tell(EventKind::Reset);
        self.reset = event.seq;
        if self.server && (status & 4 == 4 || !self.started.is_empty()) {
            self.open.push((event.seq, event.kind));
            return Store::Wait(event);
        }
        Store::Posted { event, line: self.forget_driver() }
    }

    fn store_status(&mut self, value: u32) -> Store {
        let mut status = self.status();
        for bit in [1, 2, 128] {
            status |= value & bit;
        }
        let wanted = self.features();
        let offered = (0..64).all(|bit| wanted >> bit & 1 <= self.offer >> bit & 1);
        if value & 8 == 8 && offered && wanted & self.must_have() == self.must_have() {
            status |= 8;
        }
        let begins = value & 4 == 4 && status & 4 == 0 && status & 8 == 8;
        if begins {
            status |= 4;
        }
        self.written.insert(STATUS, status);
        if begins {
            let event = self.tell(EventKind::DriverOk);
            return Store::Posted { event, line: Line::Unchanged };
        }
        Store::Done
    }

    fn store_ready(&mut self, queue: u32, value: u32) -> Store {
        let started = self.started.contains_key(&queue);
        if value == 0 && started {
            let kind = EventKind::QueueStop(queue as u8);
            if let Some((seq, kind)) = self.open.iter().find(|(_, open)| *open == kind) {
                return Store::Wait(Event { seq: *seq, kind: *kind });
            }
            let event = self.tell(kind);
            if self.server {
                self.open.push((event.seq, kind));
                return Store::Wait(event);
            }
            self.started.remove(&queue);
            return Store::Posted { event, line: Line::Unchanged };
        }
        if value != 0 && !started && self.status() & 8 == 8 && self.can_start(queue) {
            let event = self.tell(EventKind::QueueReady(queue as u8));
            self.started.insert(queue, event.seq);
            return Store::Posted { event, line: Line::Unchanged };
        }
        Store::Done
    }

    fn queue_word(&self, queue: u32, offset: u64) -> u128 {
        u128::from(self.queues.get(&(queue, offset)).copied().unwrap_or(0))
    }

    fn address(&self, queue: u32, offset: u64) -> u128 {
        self.queue_word(queue, offset) + (self.queue_word(queue, offset + 4) << 32)
    }

    fn can_start(&self, queue: u32) -> bool {
        let size = self.queue_word(queue, 0x38);
        let largest = u128::from(self.largest.get(&u64::from(queue)).copied().unwrap_or(0));
        // Virtio 2.7: bytes of the descriptor table, of the available ring, of the used ring.
        let areas = [(0x80, 16, 16 * size), (0x90, 2, 6 + 2 * size), (0xa0, 4, 6 + 8 * size)];
        let sizes: Vec<u128> = (0..16).map(|shift| 1 << shift).collect();
        sizes.contains(&size)
            && size <= largest
            && areas.iter().all(|(offset, align, bytes)| {
                let start = self.address(queue, *offset);
                let end = start + bytes;
                start.is_multiple_of(*align) && start >= self.memory.0 && end <= self.memory.1
            })
    }

    /// A reset of the device, as it is complete.
    fn forget_driver(&mut self) -> Line {
        let line = if self.line() { Line::Lowered } else { Line::Unchanged };
        self.written.clear();
        self.accepted.clear();
        self.queues.clear();
        self.started.clear();
        self.open.clear();
        self.config = None;
        self.isr = 0;
        line
    }

    /// Sets the register of a number.
    pub fn set(&mut self, number: u64, value: u64) -> Answer<()> {
        let (register, queue) = (number % 256, number / 256);
        let exists = match register {
            2 | 0x20..=0x25 => queue < 16,
            0 | 1 | 3 | 4 | 0x10..=0x18 => queue == 0,
            _ => false,
        };
        if !exists {
            return Err(Refused::Register);
        }
        let fixed =
            |old: u64| if self.ready_said && old != value { Err(Refused::Fixed) } else { Ok(()) };
        match register {
            0 if value > 0xffff_ffff => return Err(Refused::Value),
            0 => {
                fixed(self.vendor)?;
                self.vendor = value;
            }
            1 if [34, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49]
                .iter()
                .any(|bit| value >> bit & 1 == 1) =>
            {
                return Err(Refused::Value);
            }
            1 => {
                fixed(self.offer)?;
                self.offer = value;
            }
            2 if value != 0 && (value.count_ones() != 1 || value > 32768) => {
                return Err(Refused::Value);
            }
            2 => {
                fixed(self.largest.get(&queue).copied().unwrap_or(0))?;
                self.largest.insert(queue, value);
            }
            3 if value > 0xffff_ffff => return Err(Refused::Value),
            3 => self.generation = value,
            4 if value != 1 => return Err(Refused::Value),
            4 if self.offer & self.must_have() != self.must_have() => {
                return Err(Refused::Features);
            }
            4 => {
                self.ready_said = true;
                self.server = true;
            }
            _ => return Err(Refused::Register),
        }
        Ok(())
    }

    /// The value of the register of a number.
    pub fn get(&self, number: u64) -> Answer<u64> {
        let (register, queue) = (number % 256, number / 256);
        let of_queue = matches!(register, 2 | 0x20..=0x25);
        if of_queue && queue > 15 || !of_queue && queue > 0 {
            return Err(Refused::Register);
        }
        let q = queue as u32;
        let ready = |value: u128| if self.started.contains_key(&q) { value as u64 } else { 0 };
        Ok(match register {
            0x00 => self.vendor,
            0x01 => self.offer,
            0x02 => self.largest.get(&queue).copied().unwrap_or(0),
            0x03 => self.generation,
            0x04 => u64::from(self.server) + 2 * u64::from(self.ready_said),
            0x10 => u64::from(self.status()),
            0x11 => {
                if self.status() & 8 == 8 {
                    self.features()
                } else {
                    0
                }
            }
            0x12 => self.isr,
            0x13 => u64::from(self.latest),
            0x14 => {
                let stops = self.open.iter().map(|(_, kind)| match kind {
                    EventKind::QueueStop(queue) => 1 << queue,
                    _ => 1 << 16,
                });
                stops.sum::<u64>() + if self.config.is_some() { 1 << 17 } else { 0 }
            }
            0x15 => u64::from(self.reset),
            0x16 => match self.config {
                Some((seq, place, bytes, _)) => {
                    u64::from(seq) * 0x1_0000_0000 + bytes * 256 + place
                }
                None => 0,
            },
            0x17 => self.config.map_or(0, |config| config.3),
            0x18 => self.lost,
            0x20 => ready(self.queue_word(q, 0x38)),
            0x21 => u64::from(self.started.get(&q).copied().unwrap_or(0)),
            0x22 => ready(self.address(q, 0x80)),
            0x23 => ready(self.address(q, 0x90)),
            0x24 => ready(self.address(q, 0xa0)),
            0x25 => {
                let wanted = EventKind::QueueStop(q as u8);
                let open = self.open.iter().find(|(_, kind)| *kind == wanted);
                open.map_or(0, |(seq, _)| u64::from(*seq))
            }
            _ => return Err(Refused::Register),
        })
    }

    pub fn raise(&mut self, bits: u64) -> Answer<Line> {
        if bits > 3 {
            return Err(Refused::Value);
        }
        if !self.server {
            return Err(Refused::NotReady);
        }
        let before = self.line();
        if bits & 1 == 1 && self.status() & 4 == 4 {
            self.isr |= 1;
        }
        self.isr |= bits & 2;
        Ok(if !before && self.line() { Line::Raised } else { Line::Unchanged })
    }

    pub fn done(&mut self, seq: u32) -> Answer<Line> {
        if !self.is_open(seq) {
            return Err(Refused::Stale);
        }
        if self.config.is_some_and(|config| config.0 == seq) {
            self.config = None;
            return Ok(Line::Unchanged);
        }
        let (_, kind) = self.open.iter().find(|(open, _)| *open == seq).copied().unwrap();
        Ok(self.complete(seq, kind))
    }

    fn complete(&mut self, seq: u32, kind: EventKind) -> Line {
        if let EventKind::QueueStop(queue) = kind {
            self.started.remove(&u32::from(queue));
            self.open.retain(|(open, _)| *open != seq);
            return Line::Unchanged;
        }
        self.forget_driver()
    }

    pub fn expire(&mut self, seq: u32) -> Answer<Line> {
        let config = self.config.is_some_and(|config| config.0 == seq);
        let line = self.done(seq)?;
        self.lost += u64::from(config);
        Ok(line)
    }

    pub fn detach(&mut self) -> Line {
        self.server = false;
        let mut line = Line::Unchanged;
        for (seq, kind) in self.open.clone() {
            if self.complete(seq, kind) == Line::Lowered {
                line = Line::Lowered;
            }
        }
        line
    }

    pub fn reset(&mut self) -> Line {
        let line = self.forget_driver();
        let memory = (self.memory.0 as u64, (self.memory.1 - self.memory.0) as u64);
        *self = Self { latest: self.latest, ..Self::new(self.device, memory, self.pool) };
        line
    }
}
