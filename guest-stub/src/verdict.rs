// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a test returns, and the checks that make it.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayString;

use crate::scratch::Shared;

/// Why a test did not pass.
pub enum Why {
    /// What was seen instead.
    Failed(&'static str),
    /// What it needs and did not find.
    Skipped(&'static str),
}

/// What a test returns.
pub type Verdict = Result<(), Why>;

/// Reasons, each for as long as it takes to tell it: there is no heap to put them on.
static REASONS: [Shared<ArrayString<240>>; 8] =
    [const { Shared::new(ArrayString::new_const()) }; 8];
static NEXT_REASON: AtomicUsize = AtomicUsize::new(0);

/// A failure in these words.
pub fn failed(arguments: fmt::Arguments<'_>) -> Why {
    let slot = NEXT_REASON.fetch_add(1, Ordering::Relaxed) % REASONS.len();
    let Some(reason) = REASONS.get(slot) else { return Why::Failed("") };
    // SAFETY: a reason is told, or becomes part of another, long before its slot comes again.
    let text = unsafe { &mut *reason.get() };
    text.clear();
    // A reason that is too long is cut.
    let _ = Cut(text).write_fmt(arguments);
    Why::Failed(text)
}

struct Cut<'a>(&'a mut ArrayString<240>);

impl Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if self.0.try_push(letter).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Fails the test unless the condition holds.
macro_rules! check {
    ($condition:expr, $($arguments:tt)+) => {
        if !$condition {
            return Err($crate::verdict::failed(format_args!($($arguments)+)));
        }
    };
}

/// Fails the test unless the two are equal. Numbers are hexadecimal.
macro_rules! equal {
    ($left:expr, $right:expr, $($arguments:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if *left != *right {
                    return Err($crate::verdict::failed(format_args!(
                        "{}: {:x?}, expected {:x?}",
                        format_args!($($arguments)+), left, right
                    )));
                }
            }
        }
    };
}

/// Skips the test unless the condition holds.
macro_rules! need {
    ($condition:expr, $what:literal) => {
        if !$condition {
            return Err($crate::verdict::Why::Skipped($what));
        }
    };
}
