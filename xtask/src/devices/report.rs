// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was read, of whom, and whether it is as promised.

use std::fmt;

/// The checks so far.
pub struct Report<'s> {
    say: &'s mut dyn FnMut(&str),
    kept: usize,
    all: usize,
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.closing())
    }
}

impl<'s> Report<'s> {
    /// None yet; `say` gets each line.
    pub fn new(say: &'s mut dyn FnMut(&str)) -> Self {
        Self { say, kept: 0, all: 0 }
    }

    /// A line that is no check.
    pub fn note(&mut self, line: &str) {
        (self.say)(line);
    }

    /// A check: `what` is promised, `from` says what was read and of whom, and `value` is that.
    pub fn check(&mut self, what: &str, from: &str, value: &str, kept: bool) {
        self.all += 1;
        self.kept += usize::from(kept);
        let word = if kept { "ok  " } else { "FAIL" };
        let value = if value.is_empty() { "nothing" } else { value };
        (self.say)(&format!("{word} {:>2} {what}\n        {from}: {value}", self.all));
    }

    /// Whether all that was promised was kept, and anything was.
    #[must_use]
    pub fn all_kept(&self) -> bool {
        self.kept == self.all && self.all > 0
    }

    /// The closing line.
    #[must_use]
    pub fn closing(&self) -> String {
        format!("devices: {} of {} as promised", self.kept, self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_fails_fails_all() {
        let mut lines = Vec::new();
        let mut say = |line: &str| lines.push(line.to_owned());
        let mut report = Report::new(&mut say);
        assert!(!report.all_kept());
        report.check("a", "web", "1", true);
        assert!(report.all_kept());
        report.check("b", "store", "", false);
        assert!(!report.all_kept());
        assert_eq!(report.closing(), "devices: 1 of 2 as promised");
        assert_eq!(lines, ["ok    1 a\n        web: 1", "FAIL  2 b\n        store: nothing"]);
    }
}
