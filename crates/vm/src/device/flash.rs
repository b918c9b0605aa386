// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bank of NOR flash: two 16-bit chips of Intel's command set side by side, as QEMU's virt machine has them. What they
//! hold is elsewhere; here is what they are doing. docs/vm.md has the commands.
//!
//! Sources: JEDEC JESD68 (CFI); Intel's Basic Command Set; what EDK2's, Linux' and U-Boot's drivers ask for.

use arch::Width;

/// Bytes of a block, in both chips together.
pub(crate) const BLOCK: u64 = arch::guest_map::MIN_FLASH_BYTES;
/// Bytes that are erased at once: interrupts wait for less than 10 us.
pub(crate) const ERASE_BYTES: u64 = 16 << 10;
/// Words of 32 bits that a buffered program writes at most.
pub(crate) const BUFFER: usize = 32;

// Status register.
const READY: u8 = 1 << 7;
const ERASE_ERROR: u8 = 1 << 5;
const PROGRAM_ERROR: u8 = 1 << 4;
const LOCKED: u8 = 1 << 1;

/// The answers to a CFI query, by word, from word 0x10 on, for what does not depend on the bank.
const QUERY: [u8; 0x30] = [
    b'Q', b'R', b'Y', // 0x10
    0x01, 0x00, // command set: Intel, extended
    0x31, 0x00, // where its own table is
    0x00, 0x00, 0x00, 0x00, // no other command set
    0x45, 0x55, 0x00, 0x00, // 0x1b: volts
    0x07, 0x07, 0x0a,
    0x00, // 0x1f: typical times of a word, a buffer, a block; log2 of us, us, ms
    0x04, 0x04, 0x04, 0x00, // 0x23: longest times, log2 of how many typical ones
    0x00, // 0x27: log2 of a chip's bytes
    0x01, 0x00, // 16 bits
    0x06, 0x00, // 0x2a: log2 of a chip's write buffer
    0x01, // one region of
    0x00, 0x00, // 0x2d: blocks less one
    0x00, 0x02, // of 512 times 256 bytes of a chip
    b'P', b'R', b'I', b'1', b'0', // 0x31
    0x20, 0x00, 0x00, 0x00, // 0x36: blocks can be locked one by one
    0x00, 0x01, 0x00, // nothing while suspended; a lock bit is shown
    0x33, 0x00, // 0x3d: volts
    0x00, // 0x3f: no protection registers
];

/// What the chips do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Array,
    Status,
    Id,
    Query,
    /// A word's data comes.
    Program,
    /// The number of words of a buffer comes.
    Count,
    /// So many words of a buffer come.
    Fill(u8),
    /// The buffer's confirmation comes.
    Confirm,
    /// An erasure's confirmation comes.
    Erase,
    /// What to do with a block's lock comes.
    Lock,
}

/// What a load finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// What the bank holds.
    Array,
    /// This word, over and over.
    Word(u32),
}

/// What a store does to what the bank holds. Programming only clears bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// The data is programmed where it was stored.
    Program,
    /// So many words of the [`Chips::buffer`] are programmed at this offset.
    Buffer(u64, usize),
    /// So many bytes at this offset are erased; the rest of the block follows by [`Chips::work`].
    Erase(u64, u64),
}

/// The chips of a bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chips {
    mode: Mode,
    status: u8,
    /// A bit per block that is locked.
    locked: u64,
    /// What is left of the block that is being erased: offset and bytes.
    erasing: (u64, u64),
    /// Where the buffer's words go, and how many they are.
    start: u64,
    count: u8,
    buffer: [u32; BUFFER],
}

impl Chips {
    pub(crate) const fn new() -> Self {
        Self {
            mode: Mode::Array,
            status: 0,
            locked: 0,
            erasing: (0, 0),
            start: 0,
            count: 0,
            buffer: [0; BUFFER],
        }
    }

    /// Whether loads find what the bank holds.
    pub(crate) const fn is_array(&self) -> bool {
        matches!(self.mode, Mode::Array)
    }

    /// Whether a block is being erased: the status says so, and no command is taken.
    pub(crate) const fn is_busy(&self) -> bool {
        self.erasing.1 != 0
    }

    /// The next piece of an erasure: its offset and its bytes, 0 where there is none.
    pub(crate) fn work(&mut self) -> (u64, u64) {
        let (at, left) = self.erasing;
        let bytes = left.min(ERASE_BYTES);
        self.erasing = (at.wrapping_add(bytes), left.wrapping_sub(bytes));
        (at, bytes)
    }

    /// The words of [`Effect::Buffer`].
    pub(crate) const fn buffer(&self) -> &[u32; BUFFER] {
        &self.buffer
    }

    /// The lock bit of the block at `offset`.
    const fn lock_bit(offset: u64) -> u64 {
        1_u64.wrapping_shl((offset / BLOCK) as u32)
    }

    const fn is_locked(&self, offset: u64) -> bool {
        self.locked & Self::lock_bit(offset) != 0
    }

    /// A load at `offset` of a bank of `size` bytes.
    pub(crate) fn load(&self, offset: u64, size: u64) -> Load {
        let word = (offset >> 2) as usize & 0xff;
        let value = match self.mode {
            Mode::Array => return Load::Array,
            Mode::Id => match word {
                0 => 0x89,
                1 => 0x18,
                2 => u8::from(self.is_locked(offset)),
                _ => 0,
            },
            Mode::Query => match word {
                0x27 => (size.trailing_zeros() as u8).wrapping_sub(1),
                0x2d => (size / BLOCK).wrapping_sub(1) as u8,
                _ => QUERY.get(word.wrapping_sub(0x10)).copied().unwrap_or(0),
            },
            _ if self.is_busy() => self.status,
            _ => self.status | READY,
        };
        Load::Word(u32::from(value) << 16 | u32::from(value))
    }

    /// A store of `value` at `offset`.
    pub(crate) fn store(&mut self, offset: u64, value: u32) -> Effect {
        let command = value as u8;
        match self.mode {
            Mode::Array | Mode::Status | Mode::Id | Mode::Query => {
                self.mode = match command {
                    0xff => Mode::Array,
                    0x70 | 0xb0 | 0xd0 => Mode::Status,
                    0x90 => Mode::Id,
                    0x98 => Mode::Query,
                    0x10 | 0x40 => Mode::Program,
                    0xe8 => Mode::Count,
                    0x20 => Mode::Erase,
                    0x60 => Mode::Lock,
                    0x50 => {
                        self.status = 0;
                        self.mode
                    }
                    // Not a command.
                    _ => self.mode,
                };
                Effect::None
            }
            Mode::Program => self.done(offset, PROGRAM_ERROR, Effect::Program),
            Mode::Count => {
                self.mode = if usize::from(command) < BUFFER {
                    self.count = command.wrapping_add(1);
                    // What the guest does not fill stays as it is.
                    self.buffer = [u32::MAX; BUFFER];
                    self.start = u64::MAX;
                    Mode::Fill(self.count)
                } else {
                    self.status |= ERASE_ERROR | PROGRAM_ERROR;
                    Mode::Status
                };
                Effect::None
            }
            Mode::Fill(left) => {
                let offset = offset & !3;
                self.start = if self.start == u64::MAX { offset } else { self.start };
                let word = (offset.wrapping_sub(self.start) >> 2) as usize;
                let all = usize::from(self.count);
                match self.buffer.get_mut(word).filter(|_| word < all) {
                    Some(slot) => {
                        *slot = value;
                        let left = left.wrapping_sub(1);
                        self.mode = if left == 0 { Mode::Confirm } else { Mode::Fill(left) };
                    }
                    None => {
                        self.status |= ERASE_ERROR | PROGRAM_ERROR;
                        self.mode = Mode::Status;
                    }
                }
                Effect::None
            }
            Mode::Confirm | Mode::Erase if command != 0xd0 => {
                self.status |= ERASE_ERROR | PROGRAM_ERROR;
                self.mode = Mode::Status;
                Effect::None
            }
            Mode::Confirm => {
                let (start, count) = (self.start, usize::from(self.count));
                let last = start.wrapping_add((count as u64).wrapping_mul(4)).wrapping_sub(1);
                if start / BLOCK != last / BLOCK {
                    // A buffer does not reach into the next block.
                    self.status |= ERASE_ERROR | PROGRAM_ERROR;
                    self.mode = Mode::Status;
                    return Effect::None;
                }
                self.done(start, PROGRAM_ERROR, Effect::Buffer(start, count))
            }
            Mode::Erase => {
                let block = offset & !BLOCK.wrapping_sub(1);
                match self.done(block, ERASE_ERROR, Effect::Erase(block, ERASE_BYTES)) {
                    Effect::Erase(..) => {
                        self.erasing = (block, BLOCK);
                        let (at, bytes) = self.work();
                        Effect::Erase(at, bytes)
                    }
                    refused => refused,
                }
            }
            Mode::Lock => {
                let bit = Self::lock_bit(offset);
                match command {
                    0x01 | 0x2f => self.locked |= bit,
                    0xd0 => self.locked &= !bit,
                    _ => self.status |= ERASE_ERROR | PROGRAM_ERROR,
                }
                self.mode = Mode::Status;
                Effect::None
            }
        }
    }

    /// A program or erasure at `offset` begins, or does not where the block is locked.
    fn done(&mut self, offset: u64, error: u8, effect: Effect) -> Effect {
        self.mode = Mode::Status;
        if self.is_locked(offset) {
            self.status |= error | LOCKED;
            return Effect::None;
        }
        effect
    }
}

/// The part of `word`, repeated, that a load of `width` at `offset` finds.
pub(crate) const fn part(word: u32, offset: u64, width: Width) -> u64 {
    let twice = (word as u64) << 32 | word as u64;
    twice.rotate_right((offset as u32 & 7).wrapping_mul(8)) & width.mask()
}
