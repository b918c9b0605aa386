// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line of the VM that has the keyboard: shown as it is written, so that its prompt and what is typed can be
//! seen, while the lines of others go out whole.

use arrayvec::ArrayVec;

/// What a guest may write in one line before it is broken, as in [`crate::line_mux`].
const LINE: usize = 120;
const ESC: u8 = 0x1b;

/// A line that is still being written.
///
/// A shell's line editor moves back within the line and clears its rest: that is let through. Every other control
/// sequence is dropped, so that a guest cannot write over what others have said.
#[derive(Debug, Default)]
pub struct LiveLine {
    line: ArrayVec<u8, LINE>,
    /// The last byte was a carriage return: a line feed after it ends the same line.
    cr: bool,
    escape: Escape,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// ESC has come.
    Begun,
    /// ESC [ has come; whether nothing but that.
    Control { bare: bool },
}

/// How the console goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Live<'l> {
    /// `new` was written at the end of the line, which is `whole` now.
    More {
        /// The line so far.
        whole: &'l [u8],
        /// What was not there before.
        new: &'l [u8],
    },
    /// The line has ended.
    End {
        /// The line.
        whole: &'l [u8],
    },
}

impl LiveLine {
    /// An empty line.
    pub const fn new() -> Self {
        Self { line: ArrayVec::new_const(), cr: false, escape: Escape::None }
    }

    /// One byte of the guest's.
    pub fn put(&mut self, byte: u8, mut out: impl FnMut(Live<'_>)) {
        let after_cr = core::mem::replace(&mut self.cr, byte == b'\r');
        match (&self.escape, byte) {
            (_, ESC) => self.escape = Escape::Begun,
            (Escape::Begun, b'[') => self.escape = Escape::Control { bare: true },
            (Escape::Begun, _) => self.escape = Escape::None,
            (Escape::Control { bare }, b'@'..=b'~') => {
                let clears = *bare && matches!(byte, b'J' | b'K');
                self.escape = Escape::None;
                if clears {
                    out(Live::More { whole: &self.line, new: &[ESC, b'[', byte] });
                }
            }
            (Escape::Control { .. }, _) => self.escape = Escape::Control { bare: false },
            (Escape::None, b'\n') if after_cr => {}
            (Escape::None, b'\n' | b'\r') => self.end(out),
            (Escape::None, 0x08) => {
                // Not beyond the line's own beginning.
                if self.line.pop().is_some() {
                    out(Live::More { whole: &self.line, new: &[0x08] });
                }
            }
            (Escape::None, b' '..=b'~' | b'\t') => {
                if self.line.is_full() {
                    self.end(&mut out);
                }
                // Tabs have no width that moving back could undo.
                let byte = if byte == b'\t' { b' ' } else { byte };
                if self.line.try_push(byte).is_ok() {
                    out(Live::More { whole: &self.line, new: &[byte] });
                }
            }
            (Escape::None, _) => {}
        }
    }

    /// Ends what has begun, if anything has.
    pub fn flush(&mut self, out: impl FnMut(Live<'_>)) {
        if !self.line.is_empty() {
            self.end(out);
        }
    }

    /// The line so far.
    pub fn so_far(&self) -> &[u8] {
        &self.line
    }

    fn end(&mut self, mut out: impl FnMut(Live<'_>)) {
        out(Live::End { whole: &self.line });
        self.line.clear();
    }
}

/// The source of the unfinished line at the end of the console.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open {
    vm: Option<usize>,
}

impl Open {
    /// None.
    pub const fn new() -> Self {
        Self { vm: None }
    }

    /// Ends the line for another source: returns whether there was one. The caller writes the end of the line.
    #[must_use]
    pub fn end(&mut self) -> bool {
        self.vm.take().is_some()
    }

    /// Shows what VM `vm`, called `name`, has written. A line that was interrupted begins again.
    pub fn show(&mut self, vm: usize, name: &str, live: &Live<'_>, mut out: impl FnMut(&[u8])) {
        let ours = self.vm == Some(vm);
        match live {
            Live::More { new, .. } if ours => out(new),
            Live::End { .. } if ours => {}
            Live::More { whole, .. } | Live::End { whole } => {
                if self.end() {
                    out(b"\r\n");
                }
                out(b"[");
                out(name.as_bytes());
                out(b"] ");
                out(whole);
            }
        }
        if matches!(live, Live::End { .. }) {
            out(b"\r\n");
            self.vm = None;
        } else {
            self.vm = Some(vm);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    /// A console with a line editor at VM 0, and whole lines from elsewhere.
    #[derive(Default)]
    struct Console {
        line: LiveLine,
        open: Open,
        out: Vec<u8>,
    }

    impl Console {
        fn put(&mut self, bytes: &[u8]) {
            let Self { line, open, out } = self;
            for byte in bytes {
                line.put(*byte, |live| {
                    open.show(0, "a", &live, |bytes| out.extend_from_slice(bytes));
                });
            }
        }

        fn other(&mut self, line: &str) {
            let Self { open, out, .. } = self;
            if open.end() {
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }

        /// What a terminal shows.
        fn screen(&self) -> Vec<String> {
            let mut lines: Vec<Vec<u8>> = std::vec![Vec::new()];
            let mut column = 0;
            let mut bytes = self.out.iter().copied();
            while let Some(byte) = bytes.next() {
                let line = lines.last_mut().unwrap();
                match byte {
                    b'\r' => column = 0,
                    b'\n' => {
                        lines.push(Vec::new());
                        column = 0;
                    }
                    0x08 => column -= 1,
                    ESC => {
                        assert_eq!(bytes.next(), Some(b'['));
                        assert!(matches!(bytes.next(), Some(b'J' | b'K')));
                        line.truncate(column);
                    }
                    _ => {
                        if column == line.len() {
                            line.push(byte);
                        } else {
                            line[column] = byte;
                        }
                        column += 1;
                    }
                }
            }
            lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
        }
    }

    #[test]
    fn a_prompt_is_seen_before_its_line_ends() {
        let mut console = Console::default();
        console.put(b"up\r\n$ ");
        assert_eq!(console.screen(), ["[a] up", "[a] $ "]);
        console.put(b"ls\r\n");
        assert_eq!(console.screen(), ["[a] up", "[a] $ ls", ""]);
    }

    #[test]
    fn others_lines_stand_between_and_the_prompt_comes_again() {
        let mut console = Console::default();
        console.put(b"$ l");
        console.other("[b] hello");
        console.other("[hyp] hello");
        assert_eq!(console.screen(), ["[a] $ l", "[b] hello", "[hyp] hello", ""]);
        console.put(b"s");
        assert_eq!(console.screen()[3], "[a] $ ls");
        console.other("[b] bye");
        console.put(b"\n");
        assert_eq!(console.screen()[4..], ["[b] bye", "[a] $ ls", ""]);
    }

    #[test]
    fn a_line_editor_can_take_back_and_clear() {
        let mut console = Console::default();
        console.put(b"\x1b[6n$ lss\x08\x1b[J -l\x08\x08\x08\x1b[K");
        assert_eq!(console.screen(), ["[a] $ ls"]);
    }

    #[test]
    fn what_a_line_says_does_not_depend_on_who_has_shown_it() {
        let mut console = Console::default();
        console.put(b"x");
        console.line.flush(|live| {
            assert_eq!(live, Live::End { whole: b"x" });
        });
        assert!(console.line.so_far().is_empty());
        console.line.flush(|_| panic!("nothing had begun"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_guest_writes_over_anothers_line(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8)
        ) {
            let mut console = Console::default();
            for (n, chunk) in chunks.iter().enumerate() {
                console.put(chunk);
                console.other(&std::format!("[hyp] {n}"));
            }
            let screen = console.screen();
            let hyp: Vec<_> = screen.iter().filter(|line| line.starts_with("[hyp] ")).collect();
            prop_assert_eq!(hyp.len(), chunks.len());
            for line in &screen {
                prop_assert!(line.is_empty() || line.starts_with("[a] ") || line.starts_with("[hyp] "));
            }
        }

        #[test]
        fn it_never_grows_beyond_its_room(bytes in prop::collection::vec(b' '..=b'~', 0..400)) {
            let mut line = LiveLine::new();
            let mut said = Vec::new();
            for byte in &bytes {
                line.put(*byte, |live| if let Live::End { whole } = live { said.extend_from_slice(whole) });
            }
            said.extend_from_slice(line.so_far());
            prop_assert_eq!(said, bytes, "every byte, in order");
        }
    }
}
