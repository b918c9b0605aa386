// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes that wait for the console's UART, in order. Each source of bytes has a share of the room.

use arrayvec::ArrayVec;
use core::fmt::{self, Write};
use lock::atomic::{AtomicU8, Ordering::Relaxed};

/// The source of bytes of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// EL2, about itself or the machine.
    Hypervisor,
    /// EL2, about the VM with this number.
    About(usize),
    /// The VM with this number.
    Guest(usize),
}

/// Bytes that found no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Of what the VM wrote.
    pub output: usize,
    /// Of EL2's lines about the VM.
    pub lines: usize,
}

impl Lost {
    /// Whether nothing was lost.
    pub const fn is_empty(&self) -> bool {
        self.output == 0 && self.lines == 0
    }
}

/// Most VMs that a ring has accounts for.
pub const MAX_VMS: usize = 32;
/// EL2's account, and two for each VM.
const ACCOUNTS: usize = 1 + 2 * MAX_VMS;

/// What one source has in the ring, and what it could not put there.
#[derive(Clone, Copy, Debug)]
struct Account {
    held: usize,
    lost: usize,
}

/// The memory of a ring. What is in it before the first use does not matter.
#[derive(Debug)]
pub struct Room<const N: usize> {
    bytes: [AtomicU8; N],
    /// The account of each byte.
    owners: [AtomicU8; N],
}

impl<const N: usize> Room<N> {
    const POWER_OF_TWO: () = assert!(N.is_power_of_two());

    /// Memory for `N` bytes, a power of two.
    #[expect(clippy::new_without_default, reason = "made once, as a static")]
    pub const fn new() -> Self {
        let () = Self::POWER_OF_TWO;
        Self { bytes: [const { AtomicU8::new(0) }; N], owners: [const { AtomicU8::new(0) }; N] }
    }

    /// Puts the bytes of an owner from `at` on, up to the end of the room.
    fn put(&self, at: usize, bytes: &[u8], owner: u8) {
        let (Some(slots), Some(owners)) = (self.bytes.get(at..), self.owners.get(at..)) else {
            return;
        };
        for ((slot, its_owner), byte) in slots.iter().zip(owners).zip(bytes) {
            slot.store(*byte, Relaxed);
            its_owner.store(owner, Relaxed);
        }
    }
}

/// A ring of `N` bytes, which VMs and EL2 write to.
///
/// A quarter of the ring is EL2's, a quarter is divided among EL2's lines about each VM, and half is divided among what
/// the VMs write. No source can have more bytes in the ring than its share, and the shares add up to the ring's size: a
/// source with room in its share has room in the ring. The UART takes bytes in order, so that sources that write as
/// much as they can get equal parts of it.
#[derive(Debug)]
pub struct Ring<'r, const N: usize> {
    room: &'r Room<N>,
    head: usize,
    used: usize,
    /// VMs that share what is not EL2's.
    vms: usize,
    accounts: [Account; ACCOUNTS],
}

impl<'r, const N: usize> Ring<'r, N> {
    /// Empty, for one VM.
    pub const fn new(room: &'r Room<N>) -> Self {
        let empty = Account { held: 0, lost: 0 };
        Self { room, head: 0, used: 0, vms: 1, accounts: [empty; ACCOUNTS] }
    }

    /// Divides the room of guests, and of lines about them, among `vms` VMs.
    pub fn divide(&mut self, vms: usize) {
        self.vms = vms.clamp(1, MAX_VMS);
    }

    /// Bytes in it.
    pub const fn used(&self) -> usize {
        self.used
    }

    /// VMs that share it.
    pub const fn vms(&self) -> usize {
        self.vms
    }

    /// Bytes that `source` may have in it.
    pub fn share(&self, source: Source) -> usize {
        let part = |all: usize| all.checked_div(self.vms).unwrap_or(0);
        match source {
            Source::Hypervisor => N / 4,
            Source::About(vm) if vm < self.vms => part(N / 4),
            Source::Guest(vm) if vm < self.vms => part(N / 2),
            Source::About(_) | Source::Guest(_) => 0,
        }
    }

    /// The place of the source's account.
    const fn place(source: Source) -> usize {
        match source {
            Source::Hypervisor => 0,
            Source::Guest(vm) => vm.saturating_mul(2).saturating_add(1),
            Source::About(vm) => vm.saturating_mul(2).saturating_add(2),
        }
    }

    fn account(&self, source: Source) -> Option<&Account> {
        self.accounts.get(Self::place(source))
    }

    /// Bytes that `source` may put now.
    fn free(&self, source: Source) -> usize {
        self.account(source).map_or(0, |it| self.share(source).saturating_sub(it.held))
    }

    /// Whether `source` may put `count` bytes now.
    pub fn fits(&self, source: Source, count: usize) -> bool {
        count <= self.free(source)
    }

    /// Puts bytes that fit.
    #[inline(never)]
    fn put(&mut self, source: Source, bytes: &[u8]) {
        let place = Self::place(source);
        // Within the ring: the shares add up to `N` at most, so no sum wraps.
        let at = self.head.wrapping_add(self.used) & N.wrapping_sub(1);
        let before_end = N.wrapping_sub(at);
        let (first, rest) = bytes.split_at_checked(before_end).unwrap_or((bytes, &[]));
        self.room.put(at, first, place as u8);
        self.room.put(0, rest, place as u8);
        self.used = self.used.wrapping_add(bytes.len());
        if let Some(account) = self.accounts.get_mut(place) {
            account.held = account.held.wrapping_add(bytes.len());
        }
    }

    /// Puts all of `bytes`, or none, and counts them as lost then.
    pub fn write(&mut self, source: Source, bytes: &[u8]) -> bool {
        let fits = self.fits(source, bytes.len());
        if fits {
            self.put(source, bytes);
        } else {
            self.lose(source, bytes.len());
        }
        fits
    }

    /// Puts a formatted text, with CR before each LF: all of it, or nothing, and counts it as lost then.
    pub fn format(&mut self, source: Source, text: fmt::Arguments<'_>) -> bool {
        let line = ArrayVec::new();
        let mut formatter = Formatter { ring: self, source, line, put: 0, lost: 0 };
        let _ = formatter.write_fmt(text);
        formatter.flush();
        let (put, lost) = (formatter.put, formatter.lost);
        if lost == 0 {
            return true;
        }
        // The last bytes in the ring are this text's.
        self.used = self.used.saturating_sub(put);
        if let Some(account) = self.accounts.get_mut(Self::place(source)) {
            account.held = account.held.saturating_sub(put);
        }
        self.lose(source, put.saturating_add(lost));
        false
    }

    /// Counts `count` bytes of `source` that found no room.
    pub fn lose(&mut self, source: Source, count: usize) {
        if let Some(account) = self.accounts.get_mut(Self::place(source)) {
            account.lost = account.lost.saturating_add(count);
        }
    }

    /// The next byte for the UART.
    #[inline(never)]
    pub fn pop(&mut self) -> Option<u8> {
        self.used = self.used.checked_sub(1)?;
        let byte = self.room.bytes.get(self.head)?.load(Relaxed);
        let owner = self.room.owners.get(self.head)?.load(Relaxed);
        self.head = self.head.wrapping_add(1) & N.wrapping_sub(1);
        if let Some(account) = self.accounts.get_mut(usize::from(owner)) {
            account.held = account.held.saturating_sub(1);
        }
        Some(byte)
    }

    /// Bytes of `source` that were lost since the last call of [`Ring::forget_lost`].
    fn lost_of(&self, source: Source) -> usize {
        self.account(source).map_or(0, |account| account.lost)
    }

    fn forget(&mut self, source: Source) {
        if let Some(account) = self.accounts.get_mut(Self::place(source)) {
            account.lost = 0;
        }
    }

    /// Bytes of VM `vm`, and of lines about it, that were lost since the last call of [`Ring::forget_lost`].
    pub fn lost(&self, vm: usize) -> Lost {
        let (output, lines) = (self.lost_of(Source::Guest(vm)), self.lost_of(Source::About(vm)));
        Lost { output, lines }
    }

    /// They have been reported.
    pub fn forget_lost(&mut self, vm: usize) {
        self.forget(Source::Guest(vm));
        self.forget(Source::About(vm));
    }

    /// Bytes of EL2's own lines that were lost since the last call of [`Ring::forget_own_lost`].
    pub fn own_lost(&self) -> usize {
        self.lost_of(Source::Hypervisor)
    }

    /// They have been reported.
    pub fn forget_own_lost(&mut self) {
        self.forget(Source::Hypervisor);
    }
}

/// Bytes that are handed to the ring at once.
const LINE: usize = 128;

struct Formatter<'a, 'r, const N: usize> {
    ring: &'a mut Ring<'r, N>,
    source: Source,
    /// Bytes on their way to the ring: a text comes in parts of a few bytes.
    line: ArrayVec<u8, LINE>,
    put: usize,
    lost: usize,
}

impl<const N: usize> Formatter<'_, '_, N> {
    /// Hands the bytes to the ring. A text with a hole in it is of no use: after the first part that is lost all others are.
    #[inline(never)]
    fn flush(&mut self) {
        let bytes = self.line.as_slice();
        if self.lost == 0 && self.ring.fits(self.source, bytes.len()) {
            self.ring.put(self.source, bytes);
            self.put = self.put.wrapping_add(bytes.len());
        } else {
            self.lost = self.lost.wrapping_add(bytes.len());
        }
        self.line.clear();
    }

    fn byte(&mut self, byte: u8) {
        if self.line.is_full() {
            self.flush();
        }
        // There is room.
        let _ = self.line.try_push(byte);
    }
}

impl<const N: usize> Write for Formatter<'_, '_, N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let simple = !text.bytes().any(|byte| byte == b'\n');
        if simple && self.line.try_extend_from_slice(text.as_bytes()).is_ok() {
            return Ok(());
        }
        for byte in text.bytes() {
            if byte == b'\n' {
                self.byte(b'\r');
            }
            self.byte(byte);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::{Lost, Ring, Room, Source};
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::collections::VecDeque;
    use std::vec::Vec;

    type Small = Ring<'static, 1024>;

    fn ring(vms: usize) -> Small {
        let mut ring = Small::new(Box::leak(Box::new(Room::new())));
        ring.divide(vms);
        ring
    }

    /// Puts bytes one by one, as a guest does that never looks; how many found room.
    fn flood(ring: &mut Small, source: Source, count: usize) -> usize {
        (0..count).filter(|_| ring.write(source, b"#")).count()
    }

    // scenario: F8
    #[test]
    fn no_source_takes_the_room_of_another() {
        let all = [Source::Hypervisor]
            .into_iter()
            .chain((0..4).map(Source::Guest))
            .chain((0..4).map(Source::About));
        let mut ring = ring(4);
        for round in 0..100 {
            // All of them at once: each finds its share, to the byte.
            for source in all.clone() {
                assert_eq!(flood(&mut ring, source, 5000), ring.share(source), "{source:?}");
            }
            assert_eq!(ring.used(), 1024, "round {round}");
            while ring.pop().is_some() {}
        }
    }

    #[test]
    fn room_comes_back_with_the_bytes_that_leave() {
        let mut ring = ring(2);
        let share = ring.share(Source::Guest(0));
        // A flood of the other's, of EL2's and of lines about the other, before and behind.
        for source in [Source::About(1), Source::Guest(0), Source::Guest(1), Source::Hypervisor] {
            flood(&mut ring, source, 5000);
        }
        for _ in 0..ring.share(Source::About(1)) {
            ring.pop();
        }
        assert!(!ring.fits(Source::Guest(0), 1));
        for free in 1..=share {
            ring.pop();
            assert!(ring.fits(Source::Guest(0), free) && !ring.fits(Source::Guest(0), free + 1));
        }
    }

    #[test]
    fn who_writes_all_the_time_gets_an_equal_part_of_the_uart() {
        let mut ring = ring(4);
        let mut out = [0; 4];
        for _ in 0..10_000 {
            for (vm, digit) in (0..4).zip(b'0'..) {
                while ring.write(Source::Guest(vm), &[digit]) {}
            }
            for _ in 0..40 {
                let byte = ring.pop().unwrap();
                out[usize::from(byte - b'0')] += 1;
            }
        }
        assert!(out.iter().all(|count| (95_000..105_000).contains(count)), "{out:?}");
    }

    #[test]
    fn a_line_is_there_whole_or_not_at_all() {
        let mut ring = ring(1);
        assert!(ring.format(Source::About(0), format_args!("one {}\n", 1)));
        let before = ring.used();
        assert!(!ring.format(Source::About(0), format_args!("{:300}\n", 2)));
        assert_eq!(ring.used(), before);
        assert_eq!(ring.lost(0), Lost { output: 0, lines: 302 });
        assert!(ring.format(Source::About(0), format_args!("three\n")));
        let out: Vec<u8> = core::iter::from_fn(|| ring.pop()).collect();
        assert_eq!(out, b"one 1\r\nthree\r\n");
        ring.forget_lost(0);
        assert!(ring.lost(0).is_empty());
    }

    #[test]
    fn what_el2_loses_is_counted_as_its_own() {
        let mut ring = ring(1);
        assert!(!ring.format(Source::Hypervisor, format_args!("{:257}", 0)));
        assert!(!ring.write(Source::Guest(0), &[0; 513]));
        assert_eq!((ring.own_lost(), ring.lost(0)), (257, Lost { output: 513, lines: 0 }));
        ring.forget_own_lost();
        assert_eq!(ring.own_lost(), 0);
    }

    #[test]
    fn a_vm_that_there_is_not_has_no_room() {
        let mut ring = ring(1);
        for vm in [1, 4, usize::MAX] {
            for source in [Source::Guest(vm), Source::About(vm)] {
                assert!(!ring.fits(source, 1) && !ring.write(source, b"x"), "{source:?}");
            }
        }
        assert_eq!(ring.used(), 0);
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order_and_every_one_is_accounted_for(
            ops in proptest::collection::vec((0..10_usize, 0..60_usize), 0..200),
        ) {
            let room = Room::new();
            let mut ring = Ring::<128>::new(&room);
            ring.divide(4);
            let mut ideal = VecDeque::new();
            let (mut put, mut kept, mut lost, mut next) = (0, 0, 0, 0_u8);
            for (who, count) in ops {
                let source = match who {
                    0 => Source::Hypervisor,
                    1..=4 => Source::Guest(who - 1),
                    5..=8 => Source::About(who - 5),
                    _ => {
                        for _ in 0..count {
                            prop_assert_eq!(ring.pop(), ideal.pop_front());
                        }
                        continue;
                    }
                };
                let bytes: Vec<u8> = (0..count).map(|n| next.wrapping_add(n as u8)).collect();
                next = next.wrapping_add(count as u8);
                put += count;
                let fits = ring.fits(source, count);
                prop_assert_eq!(ring.write(source, &bytes), fits);
                if fits {
                    kept += count;
                    ideal.extend(bytes);
                }
                lost += ring.own_lost();
                ring.forget_own_lost();
                for vm in 0..4 {
                    let Lost { output, lines } = ring.lost(vm);
                    lost += output + lines;
                    ring.forget_lost(vm);
                }
                prop_assert_eq!(ring.used(), ideal.len());
            }
            prop_assert_eq!(put, kept + lost);
        }
    }
}
