// SPDX-License-Identifier: MIT OR Apache-2.0
//! One error type for all host tools: a sentence for the person at the shell.

use std::fmt;

/// What went wrong, as a sentence that says which file, command or word, and where possible what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub String);

/// Result of the host tools.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Error {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Adds to an error what was being done when it happened.
pub trait Context<T> {
    /// Puts `what()` and a colon in front of the error's own text.
    ///
    /// # Errors
    ///
    /// The error that was there, with its context.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error(format!("{}: {error}", what())))
    }
}
