// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with a board, a VM or a module, in one line that a person can act on.

use alloc::format;
use alloc::string::String;
use core::fmt;

/// Which part of the description is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The device tree is no device tree, or not a whole one.
    Tree,
    /// The device tree describes a machine that cannot be, or that Portcullis cannot use.
    Board,
    /// A module of /chosen lies where it must not, or is of no known kind.
    Module,
    /// A `vm.` option of a module, or a `hyp.` option, is unknown, repeated or has a bad value.
    Option,
    /// A VM asks for what it cannot have: memory, CPUs, addresses.
    Vm,
    /// The header of a kernel image does not hold.
    Image,
}

/// Longest message, in bytes: what follows is cut, so that a lying tree cannot flood the console.
const LONGEST: usize = 400;

/// Why the machine or its VMs are refused.
///
/// `Display` gives what follows `[hyp] error: `: one line that names the thing and what to do. What
/// came out of a tree or an image is escaped in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of this kind; control characters of `message` are escaped, its length is bounded.
    pub(crate) fn new(kind: ErrorKind, message: fmt::Arguments<'_>) -> Self {
        let raw = format!("{message}");
        let mut clean = String::new();
        for character in raw.chars() {
            if clean.len() >= LONGEST {
                clean.push_str("...");
                break;
            }
            if character.is_control() {
                clean.extend(character.escape_default());
            } else {
                clean.push(character);
            }
        }
        Self { kind, message: clean }
    }

    /// Which part of the description is wrong.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The line, as `Display` gives it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl core::error::Error for Error {}

/// `err!(Kind, "text {}", x)`: an [`Error`] of that kind.
macro_rules! err {
    ($kind:ident, $($text:tt)+) => {
        $crate::error::Error::new(
            $crate::error::ErrorKind::$kind,
            core::format_args!($($text)+),
        )
    };
}
pub(crate) use err;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn control_characters_are_escaped_and_the_line_stays_one() {
        let error = err!(Option, "unknown option '{}'", "vm.\n[hyp] all is well\u{1b}[2J");
        assert_eq!(error.to_string(), "unknown option 'vm.\\n[hyp] all is well\\u{1b}[2J'");
        assert_eq!(error.kind(), ErrorKind::Option);
    }

    #[test]
    fn a_long_message_is_cut() {
        let error = err!(Tree, "{}", "x".repeat(100_000));
        assert!(error.message().len() < LONGEST + 8);
        assert!(error.message().ends_with("..."));
    }
}
