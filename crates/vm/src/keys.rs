// SPDX-License-Identifier: MIT OR Apache-2.0
//! The key with which a person at the machine's console says which VM the keyboard belongs to.
//!
//! Ctrl-] and then a digit: the VM of that number; Ctrl-] and `n`: the next one; Ctrl-] and `?`: which there are;
//! Ctrl-] twice: one Ctrl-] for the VM. Any other key after Ctrl-] goes to the VM with it, so that nothing that was
//! typed is lost. (Ctrl-A, Xen's choice, is what QEMU, screen and tmux listen to.)

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// What a byte of input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Nothing yet: the next byte decides.
    Pending,
    /// A byte for the VM.
    Byte(u8),
    /// The escape was none: both bytes are for the VM.
    Bytes([u8; 2]),
    /// The keyboard goes to the VM with this number.
    Select(usize),
    /// The keyboard goes to the next VM that has not stopped.
    Next,
    /// Which VMs there are, and which has the keyboard.
    Who,
}

/// Where in an escape the input stands.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    escaped: bool,
}

impl Keys {
    /// Out of any escape.
    pub const fn new() -> Self {
        Self { escaped: false }
    }

    /// Takes one byte of input.
    pub fn take(&mut self, byte: u8) -> Key {
        if !core::mem::replace(&mut self.escaped, false) {
            if byte == ESCAPE {
                self.escaped = true;
                return Key::Pending;
            }
            return Key::Byte(byte);
        }
        match byte {
            b'0'..=b'9' => Key::Select(usize::from(byte & 0xf)),
            b'n' => Key::Next,
            b'?' => Key::Who,
            ESCAPE => Key::Byte(ESCAPE),
            _ => Key::Bytes([ESCAPE, byte]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::new();
        bytes.iter().map(|byte| keys.take(*byte)).collect()
    }

    #[test]
    fn everything_but_the_escape_is_the_vms() {
        for byte in (0..=255_u8).filter(|byte| *byte != ESCAPE) {
            assert_eq!(keys(&[byte]), [Key::Byte(byte)]);
        }
    }

    #[test]
    fn after_the_escape_one_key_means_something_else_once() {
        use Key::{Byte, Next, Pending, Select, Who};
        assert_eq!(keys(b"\x1d1"), [Pending, Select(1)]);
        assert_eq!(keys(b"\x1dnn"), [Pending, Next, Byte(b'n')]);
        assert_eq!(keys(b"\x1d??"), [Pending, Who, Byte(b'?')]);
        assert_eq!(keys(b"\x1d\x1d7"), [Pending, Byte(0x1d), Byte(b'7')]);
    }

    #[test]
    fn nothing_typed_is_lost() {
        assert_eq!(
            keys(b"\x1dx\x1d0"),
            [Key::Pending, Key::Bytes(*b"\x1dx"), Key::Pending, Key::Select(0)]
        );
    }
}
