// SPDX-License-Identifier: MIT OR Apache-2.0
//! A step, what it found, and its figures.

use anyhow::Result;

/// How much is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The long form: hours instead of minutes.
    pub long: bool,
    /// Only the steps of these names; all where there is none.
    pub only: Vec<String>,
}

/// A number that a step found, and what it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// What is counted, with its unit.
    pub what: String,
    /// How many.
    pub value: String,
}

impl Figure {
    /// A count of something, its digits in groups of three.
    #[must_use]
    pub fn count(what: impl Into<String>, value: u64) -> Self {
        Self { what: what.into(), value: grouped(value) }
    }

    /// `part` of `whole` in percent.
    #[must_use]
    pub fn percent(what: impl Into<String>, part: u64, whole: u64) -> Self {
        let tenths = u128::from(part).saturating_mul(1000).checked_div(whole.into()).unwrap_or(0);
        let value = format!("{}.{} %", tenths / 10, tenths % 10);
        Self { what: what.into(), value }
    }
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything held.
    Passed(Vec<Figure>),
    /// Something did not hold; what, and how to repeat it.
    Failed(String, Vec<Figure>),
    /// It could not be tried here; why, and what to do.
    NotRun(String),
}

/// One check.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// A word.
    pub name: &'static str,
    /// What it checks, in a few words.
    pub about: &'static str,
    /// Left out of the short form.
    pub long_only: bool,
    /// Does it. An error counts as a failure.
    pub run: fn(&Options) -> Result<Outcome>,
}

/// `1,234,567`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_down() {
        assert_eq!(Figure::percent("x", 999, 1000).value, "99.9 %");
        assert_eq!(Figure::percent("x", 9999, 10_000).value, "99.9 %");
        assert_eq!(Figure::percent("x", 0, 0).value, "0.0 %");
    }

    #[test]
    fn digits_stand_in_groups() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(value), text);
        }
    }
}
