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
