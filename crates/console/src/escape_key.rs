// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keys with which a person at the machine's console says which VM the keyboard belongs to, and manages VMs.
//!
//! After Ctrl-]: a number gives the keyboard to the VM with that number; `r`, `s` or `p` and a number restart, stop or start,
//! pause or resume that VM; `n` goes to the next VM; `?` lists them; Ctrl-] again is one Ctrl-] for the VM. Any other key
//! after Ctrl-] goes to the VM with it, so that nothing that was typed is lost. (Ctrl-A, Xen's choice, is what QEMU, screen and
//! tmux listen to.)
//!
//! A number ends with the digit after which no further one could follow: with at most ten VMs that is the first. With
//! more, a digit that may be the first of two waits for the next key: Enter ends the number, and any other key that is no
//! digit ends it too and then counts by itself.

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// What to do with the VM whose number follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Give it the keyboard.
    Select,
    /// Restart it.
    Restart,
    /// Stop it if it runs, else start it.
    Stop,
    /// Pause it if it runs, else let it go on.
    Pause,
}

/// What a byte of input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Nothing yet: the next byte decides.
    Pending,
    /// A byte for the VM.
    Byte(u8),
    /// The escape was none: both bytes are for the VM.
    Bytes([u8; 2]),
    /// Something is to be done with the VM that has this number, if there is one.
    Do(Command, usize),
    /// The keyboard goes to the next VM that has not stopped.
    Next,
    /// Which VMs there are; also after a command without a number.
    Who,
}

/// What has come of an escape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    None,
    /// Ctrl-].
    Escaped,
    /// A command whose number is to come.
    Command(Command),
    /// Its first digit, after which a second may follow.
    Digit(Command, u8),
}

/// How far the input is in an escape.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    state: State,
}

impl Keys {
    /// Out of any escape.
    pub const fn new() -> Self {
        Self { state: State::None }
    }

    /// Takes one byte of input, where there are `vms` VMs. `true`: the same byte is to be taken once more, as it ended a
    /// number that it does not belong to.
    pub fn take(&mut self, byte: u8, vms: usize) -> (Key, bool) {
        let digit = byte.is_ascii_digit().then_some(byte & 0xf);
        let (state, key) = match (core::mem::take(&mut self.state), digit) {
            (State::None, _) if byte == ESCAPE => (State::Escaped, Key::Pending),
            (State::None, _) => (State::None, Key::Byte(byte)),
            (State::Escaped, Some(digit)) => Self::first(Command::Select, digit, vms),
            (State::Escaped, None) => match byte {
                b'r' => (State::Command(Command::Restart), Key::Pending),
                b's' => (State::Command(Command::Stop), Key::Pending),
                b'p' => (State::Command(Command::Pause), Key::Pending),
                b'n' => (State::None, Key::Next),
                b'?' => (State::None, Key::Who),
                ESCAPE => (State::None, Key::Byte(ESCAPE)),
                _ => (State::None, Key::Bytes([ESCAPE, byte])),
            },
            (State::Command(command), Some(digit)) => Self::first(command, digit, vms),
            (State::Command(_), None) => (State::None, Key::Who),
            (State::Digit(command, first), Some(second)) => {
                let number = usize::from(first).wrapping_mul(10).wrapping_add(second.into());
                (State::None, Key::Do(command, number))
            }
            (State::Digit(command, first), None) => {
                let enter = matches!(byte, b'\r' | b'\n');
                return (Key::Do(command, first.into()), !enter);
            }
        };
        self.state = state;
        (key, false)
    }

    /// The first digit of a number: all of it where no VM's number has another digit behind this one.
    fn first(command: Command, digit: u8, vms: usize) -> (State, Key) {
        let number = usize::from(digit);
        if number != 0 && number.wrapping_mul(10) < vms {
            (State::Digit(command, digit), Key::Pending)
        } else {
            (State::None, Key::Do(command, number))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Command::{Pause, Restart, Select, Stop};
    use Key::{Byte, Bytes, Do, Next, Pending, Who};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn keys(vms: usize, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::new();
        let mut all = Vec::new();
        for byte in bytes {
            let (key, again) = keys.take(*byte, vms);
            all.push(key);
            if again {
                let (key, again) = keys.take(*byte, vms);
                assert!(!again, "once");
                all.push(key);
            }
        }
        all
    }

    #[test]
    fn everything_but_the_escape_is_the_vms() {
        for byte in (0..=255_u8).filter(|byte| *byte != ESCAPE) {
            assert_eq!(keys(8, &[byte]), [Byte(byte)]);
        }
    }

    #[test]
    fn after_the_escape_one_key_means_something_else_once() {
        assert_eq!(keys(8, b"\x1d1"), [Pending, Do(Select, 1)]);
        assert_eq!(keys(8, b"\x1dnn"), [Pending, Next, Byte(b'n')]);
        assert_eq!(keys(8, b"\x1d??"), [Pending, Who, Byte(b'?')]);
        assert_eq!(keys(8, b"\x1d\x1d7"), [Pending, Byte(0x1d), Byte(b'7')]);
    }

    #[test]
    fn a_command_and_a_number() {
        for (letter, command) in [(b'r', Restart), (b's', Stop), (b'p', Pause)] {
            let typed = [ESCAPE, letter, b'7', letter, b'7'];
            let seen = [Pending, Pending, Do(command, 7), Byte(letter), Byte(b'7')];
            assert_eq!(keys(8, &typed), seen);
            // Without a number it is explained, and nothing is done.
            assert_eq!(keys(8, &[ESCAPE, letter, b'x', b'x']), [Pending, Pending, Who, Byte(b'x')]);
        }
    }

    #[test]
    fn numbers_of_two_digits_where_there_are_so_many_vms() {
        // At most ten: the first digit is all.
        assert_eq!(keys(10, b"\x1d12"), [Pending, Do(Select, 1), Byte(b'2')]);
        // 12: only 1 may be followed by another digit.
        assert_eq!(keys(12, b"\x1d21"), [Pending, Do(Select, 2), Byte(b'1')]);
        assert_eq!(keys(12, b"\x1d01"), [Pending, Do(Select, 0), Byte(b'1')]);
        assert_eq!(keys(12, b"\x1d11x"), [Pending, Pending, Do(Select, 11), Byte(b'x')]);
        assert_eq!(keys(12, b"\x1d19"), [Pending, Pending, Do(Select, 19)], "there is none");
        // Enter ends the number, and is no key of the VM's.
        for enter in *b"\r\n" {
            let typed = [ESCAPE, b'p', b'1', enter, b'x'];
            assert_eq!(keys(12, &typed), [Pending, Pending, Pending, Do(Pause, 1), Byte(b'x')]);
        }
        // Any other key does so too, and counts.
        assert_eq!(keys(12, b"\x1d1x"), [Pending, Pending, Do(Select, 1), Byte(b'x')]);
        assert_eq!(
            keys(12, b"\x1d1\x1dn"),
            [Pending, Pending, Do(Select, 1), Pending, Next],
            "another escape, too"
        );
        assert_eq!(keys(32, b"\x1dr31\x1ds3\r"), {
            let (restart, stop) = (Do(Restart, 31), Do(Stop, 3));
            [Pending, Pending, Pending, restart, Pending, Pending, Pending, stop]
        });
    }

    #[test]
    fn nothing_typed_is_lost() {
        assert_eq!(keys(8, b"\x1dx\x1d0"), [Pending, Bytes(*b"\x1dx"), Pending, Do(Select, 0)]);
    }

    proptest! {
        #[test]
        fn every_vm_can_be_named(vms in 1..=99_usize, number in 0..99_usize, which in 0..4_usize) {
            prop_assume!(number < vms);
            let (letter, command) = [("", Select), ("r", Restart), ("s", Stop), ("p", Pause)][which];
            let typed = std::format!("\x1d{letter}{number}\r");
            let seen = keys(vms, typed.as_bytes());
            let done: Vec<_> = seen.iter().filter(|key| **key != Pending).collect();
            // Enter is the VM's where the number had ended before.
            let first = done.first().copied().copied();
            prop_assert_eq!(first, Some(Do(command, number)));
            prop_assert!(done.len() == 1 || done[1..] == [&Byte(b'\r')]);
        }
    }
}
