// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console without its hardware: lines of EL2 and of guests on their way to a UART that takes them when it can.

use crate::live_line::{Live, Open};
use crate::ring::{Lost, Ring, Room, Source};
use core::fmt;

/// Room that a VM needs to be asked for more: a line with its name and its end.
pub const LINE: usize = 256;

/// A UART's transmitter.
pub trait Transmitter {
    /// Whether it takes a byte now.
    fn ready(&self) -> bool;
    /// Takes a byte; lost where it is not ready.
    fn put(&self, byte: u8);
}

/// How much is handed to a UART at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// All that there is: the caller waits for the UART.
    All,
    /// So many bytes at most, and no more than the UART takes now.
    Most(usize),
}

/// The console: a ring of `N` bytes, and the source of the unfinished line.
#[derive(Debug)]
pub struct Console<'r, const N: usize> {
    ring: Ring<'r, N>,
    open: Open,
}

impl<'r, const N: usize> Console<'r, N> {
    /// An empty one, for one VM.
    pub const fn new(room: &'r Room<N>) -> Self {
        Self { ring: Ring::new(room), open: Open::new() }
    }

    /// Divides the room among `vms` VMs.
    pub fn divide(&mut self, vms: usize) {
        self.ring.divide(vms);
    }

    /// Bytes that wait.
    pub const fn used(&self) -> usize {
        self.ring.used()
    }

    /// Puts whole lines of EL2's, which `text` ends: all, or none where `source` has no room for them.
    pub fn lines(&mut self, source: Source, text: fmt::Arguments<'_>) -> bool {
        // A guest's unfinished line ends first, out of the same share.
        let open = self.open;
        let end = if self.open.end() { "\n" } else { "" };
        let put = self.ring.format(source, format_args!("{end}{text}"));
        if !put {
            self.open = open;
        }
        put
    }

    /// A line about VM `vm`, with what it has left out: `lines` lines, and what the console lost of the VM.
    pub fn about(&mut self, vm: usize, lines: u64, text: fmt::Arguments<'_>) -> bool {
        let left = LeftOut { lines, lost: self.ring.lost(vm) };
        let put = self.lines(Source::About(vm), format_args!("{text}{left}\n"));
        if put {
            self.ring.forget_lost(vm);
        }
        put
    }

    /// Bytes of VM `vm`, all or none. They are whole lines, where there are several VMs.
    pub fn guest_bytes(&mut self, vm: usize, bytes: &[u8]) -> bool {
        let source = Source::Guest(vm);
        if !self.ring.fits(source, bytes.len().saturating_add(2)) {
            self.ring.lose(source, bytes.len());
            return false;
        }
        if self.open.end() {
            self.ring.write(source, b"\r\n");
        }
        self.ring.write(source, bytes)
    }

    /// Shows how the line of VM `vm`, called `name`, goes on.
    pub fn guest_line(&mut self, vm: usize, name: &str, live: &Live<'_>) {
        let Self { ring, open } = self;
        let source = Source::Guest(vm);
        // It may have to be shown whole again.
        if ring.fits(source, LINE) {
            open.show(vm, name, live, |bytes| {
                ring.write(source, bytes);
            });
        } else {
            let count = match live {
                Live::More { new, .. } => new.len(),
                Live::End { .. } => 1,
            };
            ring.lose(source, count);
        }
    }

    /// Hands bytes to `uart` while it takes them, as far as `drain` goes. EL2's own loss is told when there is room.
    pub fn drain(&mut self, uart: &impl Transmitter, drain: Drain) {
        let wait = drain == Drain::All;
        let mut left = match drain {
            Drain::All => usize::MAX,
            Drain::Most(bytes) => bytes,
        };
        loop {
            while self.ring.used() != 0 && left != 0 {
                left = if wait { left } else { left.wrapping_sub(1) };
                if !uart.ready() {
                    if wait {
                        core::hint::spin_loop();
                        continue;
                    }
                    break;
                }
                if let Some(byte) = self.ring.pop() {
                    uart.put(byte);
                }
            }
            let lost = self.ring.own_lost();
            if lost == 0 || !self.ring.fits(Source::Hypervisor, LINE) {
                return;
            }
            self.ring.forget_own_lost();
            self.lines(
                Source::Hypervisor,
                format_args!(
                    "[hyp] warning: {lost} bytes of the hypervisor's own lines lost: the console was full\n"
                ),
            );
            if !wait {
                return;
            }
        }
    }

    /// Drops the oldest bytes until every source has room for a line: for a machine without a UART.
    pub fn drop_oldest(&mut self) {
        let roomy = |ring: &Ring<'_, N>| {
            ring.fits(Source::Hypervisor, LINE.wrapping_mul(4))
                && (0..ring.vms()).all(|vm| {
                    ring.fits(Source::Guest(vm), LINE) && ring.fits(Source::About(vm), LINE)
                })
        };
        while !roomy(&self.ring) && self.ring.pop().is_some() {}
    }

    /// A bit for each VM that has no room for a line.
    #[inline(never)]
    pub fn full(&self) -> u32 {
        let full = |vm: &usize| !self.ring.fits(Source::Guest(*vm), LINE);
        match self.ring.used() {
            0 => 0,
            _ => (0..self.ring.vms()).filter(full).fold(0, |set, vm| set | 1 << vm),
        }
    }

    /// A bit for each VM of which something was lost that no line has told yet.
    pub fn untold(&self) -> u32 {
        let lost = |vm: &usize| !self.ring.lost(*vm).is_empty();
        (0..self.ring.vms()).filter(lost).fold(0, |set, vm| set | 1 << vm)
    }
}

/// The end of a line about a VM.
struct LeftOut {
    lines: u64,
    lost: Lost,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, lost } = *self;
        let mut sign = " (";
        let mut part = |count: u64, what: &str| match count {
            0 => Ok(()),
            _ => write!(f, "{}{count} {what}", core::mem::replace(&mut sign, ", ")),
        };
        part(lines, "more lines left out")?;
        part(lost.output as u64, "bytes of its console output lost")?;
        part(lost.lines as u64, "bytes of lines about it lost")?;
        if sign == ", " { f.write_str(")") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::cell::{Cell, RefCell};
    use std::string::String;
    use std::vec::Vec;

    type Small = Console<'static, 4096>;

    /// A UART that takes so many bytes until it is given more time.
    #[derive(Default)]
    struct Slow {
        room: Cell<usize>,
        out: RefCell<Vec<u8>>,
    }

    impl Transmitter for Slow {
        fn ready(&self) -> bool {
            self.room.get() != 0
        }
        fn put(&self, byte: u8) {
            self.room.set(self.room.get().checked_sub(1).unwrap());
            self.out.borrow_mut().push(byte);
        }
    }

    impl Slow {
        fn tick(&self, bytes: usize) {
            self.room.set(bytes);
        }
        fn text(&self) -> String {
            String::from_utf8(self.out.borrow().clone()).unwrap()
        }
    }

    fn console(vms: usize) -> Small {
        let mut console = Small::new(Box::leak(Box::new(Room::new())));
        console.divide(vms);
        console
    }

    fn has_room(console: &Small, vm: usize) -> bool {
        console.full() >> vm & 1 == 0
    }

    // scenario: F8
    #[test]
    fn a_polite_writer_has_its_share_and_loses_nothing_whatever_others_do() {
        let (mut console, uart) = (console(2), Slow::default());
        let line = b"[b] a line of thirty-two bytes\r\n";
        let mut written = 0;
        for tick in 0..20_000 {
            // VM 0 writes without looking, and there is much to say about it.
            for _ in 0..8 {
                console.guest_bytes(0, b"[a] ####################\r\n");
                console.lines(Source::About(0), format_args!("[hyp] a: life {tick} begins\n"));
                console.lines(Source::Hypervisor, format_args!("[hyp] something\n"));
            }
            // VM 1 looks.
            while has_room(&console, 1) {
                assert!(console.guest_bytes(1, line), "TXFF was clear");
                written += 1;
            }
            uart.tick(12);
            console.drain(&uart, Drain::Most(usize::MAX));
        }
        let out = uart.text();
        let theirs = out.lines().filter(|line| line.starts_with("[b] ")).count() * line.len();
        // EL2's own lines, those about VM 0, and each VM: 1024, 512, 1024, and 1024 less the room for a line.
        let share = theirs * 100 / out.len();
        assert!((22..=30).contains(&share), "{share} % of {}", out.len());
        assert!(console.ring.lost(1).is_empty());
        assert!(written * line.len() >= theirs);
        assert!(!console.ring.lost(0).is_empty() && console.untold() == 1);
    }

    #[test]
    fn what_is_lost_is_told_to_the_byte() {
        let (mut console, uart) = (console(2), Slow::default());
        let (mut put, mut lost) = (0, 0);
        for _ in 0..500 {
            put += 10;
            lost += if console.guest_bytes(0, b"123456789\n") { 0 } else { 10 };
        }
        assert!(lost > 0 && lost < put);
        // Room for a line, which tells it.
        assert!(console.about(0, 3, format_args!("[hyp] a: stopped")));
        assert_eq!(console.untold(), 0);
        uart.tick(usize::MAX);
        console.drain(&uart, Drain::All);
        let out = uart.text();
        let told = std::format!(
            "[hyp] a: stopped (3 more lines left out, {lost} bytes of its console output lost)\r\n"
        );
        assert!(out.ends_with(&told), "{out}");
        assert_eq!(out.len() - told.len(), put - lost);
    }

    #[test]
    fn a_line_that_finds_no_room_tells_it_the_next_time() {
        let (mut console, uart) = (console(4), Slow::default());
        let text = "x".repeat(100);
        let put = (0..10).filter(|_| console.about(1, 0, format_args!("{text}"))).count();
        assert_eq!(put, 2);
        uart.tick(usize::MAX);
        console.drain(&uart, Drain::All);
        assert!(console.about(1, 0, format_args!("next")));
        console.drain(&uart, Drain::All);
        // The second knew of nothing, as nothing had been lost yet.
        let last = uart.text().lines().last().map(String::from).unwrap();
        let lost = last.strip_prefix("next (").and_then(|rest| rest.split(' ').next()).unwrap();
        // 8 lines of 100 bytes with their ends, and what they had to tell of those before.
        let lost: usize = lost.parse().unwrap();
        assert!((8 * 102..8 * 102 + 8 * 50).contains(&lost), "{last}");
        assert!(last.ends_with(" bytes of lines about it lost)"), "{last}");
    }

    #[test]
    fn el2s_own_loss_is_told_as_soon_as_there_is_room() {
        let (mut console, uart) = (console(1), Slow::default());
        for n in 0..200 {
            console.lines(Source::Hypervisor, format_args!("[hyp] line {n}\n"));
        }
        let lost = console.ring.own_lost();
        assert!(lost > 0);
        uart.tick(LINE);
        console.drain(&uart, Drain::Most(usize::MAX));
        assert_eq!(console.ring.own_lost(), 0, "there is room for the line now");
        uart.tick(usize::MAX);
        console.drain(&uart, Drain::All);
        let told = std::format!("[hyp] warning: {lost} bytes of the hypervisor's own lines lost");
        assert!(uart.text().contains(&told), "{}", uart.text());
    }

    #[test]
    fn an_open_line_ends_before_a_line_of_el2_and_not_where_that_is_lost() {
        let (mut console, uart) = (console(1), Slow::default());
        console.guest_line(0, "a", &Live::More { whole: b"$", new: b"$" });
        let long = "y".repeat(4096);
        assert!(!console.lines(Source::Hypervisor, format_args!("{long}\n")));
        console.guest_line(0, "a", &Live::More { whole: b"$ ", new: b" " });
        assert!(console.lines(Source::Hypervisor, format_args!("[hyp] z\n")));
        assert!(console.guest_bytes(0, b"q\r\n"));
        uart.tick(usize::MAX);
        console.drain(&uart, Drain::All);
        let out = uart.text();
        assert!(out.starts_with("[a] $ \r\n[hyp] z\r\nq\r\n"), "{out:?}");
    }

    #[test]
    fn without_a_uart_the_newest_stays() {
        let mut console = console(4);
        for n in 0..1000 {
            assert!(console.lines(Source::Hypervisor, format_args!("[hyp] line {n}\n")), "{n}");
            assert!(console.guest_bytes(n % 4, b"[a] something to say\r\n"), "{n}");
            console.drop_oldest();
            assert_eq!(console.full(), 0);
        }
    }

    proptest! {
        #[test]
        fn who_looks_first_never_loses(
            steps in prop::collection::vec((0..5_usize, 0..160_usize, 0..300_usize), 1..300),
            vms in 1..=4_usize,
        ) {
            let (mut console, uart) = (console(vms), Slow::default());
            for (who, count, time) in steps {
                if who == 4 {
                    console.lines(Source::Hypervisor, format_args!("{:count$}\n", 1));
                    console.about(count % vms, 0, format_args!("{:count$}", 1));
                } else if who < vms && has_room(&console, who) {
                    prop_assert!(console.guest_bytes(who, &std::vec![b'x'; count]));
                }
                uart.tick(time);
                console.drain(&uart, Drain::Most(usize::MAX));
            }
            for vm in 0..vms {
                prop_assert_eq!(console.ring.lost(vm).output, 0);
            }
        }
    }
}
