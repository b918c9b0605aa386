// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps of a driver, a server and EL2, done by a transport and by the model, which must agree.

use super::model::Model;
use arch::{Ipa, Width};
use virtio_mmio::{DeviceId, Limits, Refused, Register, Transport};

/// One step. Those from `Offer` on are the usual sequences, without which little would be reached.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Load(u64, Width),
    Store(u64, Width, u64),
    Set(u64, u64),
    Raise(u64),
    /// The event that is so many before the latest is done.
    Done(u32),
    Expire(u32),
    Detach,
    Reset,
    /// The server sets up features and queues of this size, and says READY.
    Offer(u64, u64),
    /// The driver negotiates features, and sets Status to this at the end.
    Negotiate(u64, u64),
    /// The driver sets up a queue: its number, size, and where its rings are.
    Queue(u64, u64, u64),
}

/// What a scene has.
#[derive(Clone, Debug)]
pub struct Scene {
    pub memory: (u64, u64),
    pub pool: bool,
    pub steps: Vec<Step>,
}

const DEVICE: u32 = 2;

/// Plays a scene.
///
/// # Panics
///
/// The transport and the model disagree.
pub fn run(scene: &Scene) {
    let limits = Limits {
        start: Ipa::new(scene.memory.0),
        bytes: scene.memory.1,
        access_platform: scene.pool,
    };
    let mut both = Both {
        transport: Transport::new(DeviceId(DEVICE), limits),
        model: Model::new(DEVICE, scene.memory, scene.pool),
    };
    for (n, step) in scene.steps.iter().enumerate() {
        both.step(*step);
        both.compare_short(*step);
        // All of it takes the time of many steps.
        if n % 8 == 0 || n + 1 == scene.steps.len() {
            both.compare(*step);
        }
    }
}

struct Both {
    transport: Transport,
    model: Model,
}

/// What configuration space holds, with more bits than were asked for.
fn config(offset: u64, width: Width) -> u64 {
    0x8123_4567_89ab_cdef_u64.rotate_left(offset as u32).wrapping_add(width.bytes())
}

impl Both {
    fn step(&mut self, step: Step) {
        match step {
            Step::Load(offset, width) => {
                let ours = self.transport.load(offset, width, config);
                assert_eq!(ours, self.model.load(offset, width, config), "{step:x?}");
            }
            Step::Store(offset, width, value) => self.store(offset, width, value),
            Step::Set(number, value) => self.set(number, value),
            Step::Raise(bits) => {
                assert_eq!(self.transport.raise(bits), self.model.raise(bits), "{step:x?}");
            }
            Step::Done(before) => {
                let seq = self.seq(before);
                assert_eq!(self.transport.event_done(seq), self.model.done(seq), "{step:x?}");
            }
            Step::Expire(before) => {
                let seq = self.seq(before);
                assert_eq!(self.transport.expire(seq), self.model.expire(seq), "{step:x?}");
            }
            Step::Detach => assert_eq!(self.transport.detach(), self.model.detach()),
            Step::Reset => assert_eq!(self.transport.reset(), self.model.reset()),
            Step::Offer(features, size) => {
                self.set(1, features);
                for queue in 0..4 {
                    self.set(2 | queue << 8, size);
                }
                self.set(4, 1);
            }
            Step::Negotiate(features, status) => {
                self.write(0x24, 1);
                self.write(0x20, features >> 32);
                self.write(0x24, 0);
                self.write(0x20, features);
                self.write(0x70, status & !4);
                self.write(0x70, status);
            }
            Step::Queue(queue, size, place) => {
                self.write(0x30, queue);
                self.write(0x38, size);
                for (offset, behind) in [
                    (0x80, 0),
                    (0x90, size.wrapping_mul(16)),
                    (0xa0, size.wrapping_mul(20).wrapping_add(8)),
                ] {
                    let address = place.wrapping_add(behind);
                    self.write(offset, address);
                    self.write(offset + 4, address >> 32);
                }
                self.write(0x44, 1);
            }
        }
    }

    fn seq(&self, before: u32) -> u32 {
        let latest = self.transport.get(Register::EventSeq).unwrap() as u32;
        latest.wrapping_sub(before)
    }

    fn write(&mut self, offset: u64, value: u64) {
        self.store(offset, Width::B4, value);
    }

    fn store(&mut self, offset: u64, width: Width, value: u64) {
        let ours = self.transport.store(offset, width, value);
        let model = self.model.store(offset, width, value);
        assert_eq!(ours, model, "store of {value:#x} at {offset:#x}, {width:?}");
    }

    fn set(&mut self, number: u64, value: u64) {
        let ours = match Register::from_raw(number) {
            Some(register) => self.transport.set(register, value),
            None => Err(Refused::Register),
        };
        assert_eq!(ours, self.model.set(number, value), "set {number:#x} to {value:#x}");
    }

    /// What a step is likely to change.
    fn compare_short(&self, step: Step) {
        for number in [0x10, 0x12, 0x13, 0x14] {
            let ours = self.transport.get(Register::from_raw(number).unwrap());
            assert_eq!(ours, self.model.get(number), "register {number:#x} after {step:x?}");
        }
        for offset in [0x10, 0x34, 0x44] {
            let ours = self.transport.load(offset, Width::B4, config);
            let model = self.model.load(offset, Width::B4, config);
            assert_eq!(ours, model, "{offset:#x} after {step:x?}");
        }
        assert_eq!(self.transport.is_raised(), self.model.line(), "the line after {step:x?}");
    }

    /// All that anyone can see.
    fn compare(&self, step: Step) {
        let queues = [0, 1, 4, 15, 16];
        for number in (0..=0x27).flat_map(|register| queues.map(|queue| register | queue << 8)) {
            let ours = match Register::from_raw(number) {
                Some(register) => {
                    assert_eq!(register.raw(), number);
                    self.transport.get(register)
                }
                None => Err(Refused::Register),
            };
            assert_eq!(ours, self.model.get(number), "register {number:#x} after {step:x?}");
        }
        for offset in (0..0x108).step_by(4) {
            let ours = self.transport.load(offset, Width::B4, config);
            let model = self.model.load(offset, Width::B4, config);
            assert_eq!(ours, model, "{offset:#x} after {step:x?}");
        }
        for before in 0..40 {
            let seq = self.seq(before);
            let ours = self.transport.is_outstanding(seq);
            assert_eq!(ours, self.model.is_open(seq), "event {seq} after {step:x?}");
        }
    }
}
