// SPDX-License-Identifier: MIT OR Apache-2.0
//! Consoles of several guests on one line: bytes in, bytes out.

/// What a guest may write in one line before it is broken.
const LINE: usize = 120;

/// One guest's console output on its way out.
///
/// Alone, a guest's bytes pass unchanged. Beside others, whole lines go out, each beginning with
/// `[NAME] `; control characters and bytes beyond ASCII are escaped, so that no guest can write over another's lines.
#[derive(Debug)]
pub struct Mux<'a> {
    name: &'a str,
    line: arrayvec::ArrayVec<u8, LINE>,
    alone: bool,
    /// The last byte was a carriage return: a line feed after it ends the same line.
    cr: bool,
}

impl<'a> Mux<'a> {
    /// The console of the VM `name`; `alone` where it is the only one.
    pub const fn new(name: &'a str, alone: bool) -> Self {
        Self { name, line: arrayvec::ArrayVec::new_const(), alone, cr: false }
    }

    /// One byte of the guest's.
    pub fn put(&mut self, byte: u8, mut out: impl FnMut(&[u8])) {
        if self.alone {
            return out(&[byte]);
        }
        let after_cr = core::mem::replace(&mut self.cr, byte == b'\r');
        match byte {
            b'\n' if after_cr => {}
            b'\n' | b'\r' => self.end(&mut out),
            b' '..=b'~' | b'\t' => self.add(&[byte], &mut out),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'?');
                self.add(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)], &mut out);
            }
        }
    }

    /// Writes out what waits for the end of its line.
    pub fn flush(&mut self, mut out: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            self.end(&mut out);
        }
    }

    fn add(&mut self, bytes: &[u8], out: &mut impl FnMut(&[u8])) {
        if self.line.remaining_capacity() < bytes.len() {
            self.end(out);
        }
        // Fits: the line is far longer than an escape.
        let _ = self.line.try_extend_from_slice(bytes);
    }

    fn end(&mut self, out: &mut impl FnMut(&[u8])) {
        out(b"[");
        out(self.name.as_bytes());
        out(b"] ");
        out(&self.line);
        out(b"\r\n");
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn put(mux: &mut Mux<'_>, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        for byte in bytes {
            mux.put(*byte, |bytes| out.extend_from_slice(bytes));
        }
        String::from_utf8(out).unwrap()
    }

    fn flush(mux: &mut Mux<'_>) -> String {
        let mut out = Vec::new();
        mux.flush(|bytes| out.extend_from_slice(bytes));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn alone_every_byte_passes_at_once() {
        let mut mux = Mux::new("a", true);
        let mut out = Vec::new();
        for byte in 0..=255 {
            mux.put(byte, |bytes| out.extend_from_slice(bytes));
        }
        assert_eq!(out, (0..=255).collect::<Vec<u8>>());
        assert_eq!(flush(&mut mux), "");
    }

    #[test]
    fn beside_others_whole_lines_go_out_with_a_name() {
        let mut mux = Mux::new("linux", false);
        assert_eq!(put(&mut mux, b"Booting"), "");
        assert_eq!(put(&mut mux, b" Linux\n"), "[linux] Booting Linux\r\n");
        assert_eq!(put(&mut mux, b"\n"), "[linux] \r\n");
    }

    #[test]
    fn all_three_ends_of_a_line_end_it_once() {
        let mut mux = Mux::new("x", false);
        assert_eq!(put(&mut mux, b"a\nb\r\nc\rd\n"), "[x] a\r\n[x] b\r\n[x] c\r\n[x] d\r\n");
        assert_eq!(put(&mut mux, b"\r\r\n\n"), "[x] \r\n[x] \r\n[x] \r\n");
    }

    #[test]
    fn controls_and_what_is_not_ascii_are_escaped() {
        let mut mux = Mux::new("evil", false);
        let text = put(&mut mux, b"\x1b[2J\x07\x00\x7f\x9b\xff\tok\x08\n");
        assert_eq!(text, "[evil] \\x1b[2J\\x07\\x00\\x7f\\x9b\\xff\tok\\x08\r\n");
    }

    #[test]
    fn an_endless_line_is_broken() {
        let mut mux = Mux::new("n", false);
        let text = put(&mut mux, &[b'z'; 300]);
        let lines: Vec<_> = text.lines().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.len() == "[n] ".len() + LINE));
        assert_eq!(flush(&mut mux).trim_end().len(), "[n] ".len() + 60);
    }

    #[test]
    fn an_escape_is_never_broken() {
        let mut mux = Mux::new("n", false);
        let text = put(&mut mux, &[b'z'; LINE - 2]) + &put(&mut mux, b"\x1b\n");
        assert!(text.ends_with("\r\n[n] \\x1b\r\n"), "{text:?}");
    }

    #[test]
    fn flush_writes_an_unfinished_line_once() {
        let mut mux = Mux::new("n", false);
        put(&mut mux, b"login: ");
        assert_eq!(flush(&mut mux), "[n] login: \r\n");
        assert_eq!(flush(&mut mux), "");
    }

    proptest! {
        #[test]
        fn no_output_can_be_taken_for_anothers(bytes: Vec<u8>) {
            let mut mux = Mux::new("me", false);
            let text = put(&mut mux, &bytes) + &flush(&mut mux);
            for line in text.split_terminator("\r\n") {
                prop_assert!(line.starts_with("[me] "));
                prop_assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b) || b == b'\t'));
            }
            prop_assert!(text.is_empty() || text.ends_with("\r\n"));
        }

        #[test]
        fn printable_text_is_kept_whole(text in "[ -~]{0,400}") {
            let mut mux = Mux::new("me", false);
            let out = put(&mut mux, text.as_bytes()) + &flush(&mut mux);
            let kept: String = out.split_terminator("\r\n").map(|l| &l["[me] ".len()..]).collect();
            prop_assert_eq!(kept, text);
        }
    }
}
