// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was read, of whom, and whether it is as promised.

use std::fmt;

/// The checks so far.
pub struct Report<'s> {
    title: &'static str,
    say: &'s mut dyn FnMut(&str),
    kept: usize,
    all: usize,
    /// What each party could see: the party, whose, and what.
    seen: Vec<[String; 3]>,
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.closing())
    }
}

impl<'s> Report<'s> {
    /// None yet of the run called `title`; `say` gets each line.
    pub fn new(title: &'static str, say: &'s mut dyn FnMut(&str)) -> Self {
        Self { title, say, kept: 0, all: 0, seen: Vec::new() }
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

    /// A row of the table: `party` sees `what` of `whom`.
    pub fn sees(&mut self, party: &str, whom: &str, what: &str) {
        self.seen.push([party.to_owned(), whom.to_owned(), what.to_owned()]);
    }

    /// Says the table.
    pub fn table(&mut self) {
        let head = ["party", "of", "sees"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(&head).chain(&self.seen).collect();
        let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(String::len).max();
        let (party, whom) = (width(0).unwrap_or(0), width(1).unwrap_or(0));
        let line = |[a, b, c]: &[String; 3]| format!("{a:party$}  {b:whom$}  {c}");
        let lines: Vec<_> = rows.into_iter().map(line).collect();
        for line in lines {
            (self.say)(&line);
        }
    }

    /// Whether all that was promised was kept, and anything was.
    #[must_use]
    pub fn all_kept(&self) -> bool {
        self.kept == self.all && self.all > 0
    }

    /// The closing line.
    #[must_use]
    pub fn closing(&self) -> String {
        format!("{}: {} of {} as promised", self.title, self.kept, self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_fails_fails_all() {
        let mut lines = Vec::new();
        let mut say = |line: &str| lines.push(line.to_owned());
        let mut report = Report::new("devices", &mut say);
        assert!(!report.all_kept());
        report.check("a", "web", "1", true);
        assert!(report.all_kept());
        report.check("b", "store", "", false);
        assert!(!report.all_kept());
        assert_eq!(report.closing(), "devices: 1 of 2 as promised");
        report.sees("store", "web", "its pool");
        report.table();
        let table = lines.split_off(2);
        assert_eq!(table, ["party  of   sees", "store  web  its pool"]);
        assert_eq!(lines, ["ok    1 a\n        web: 1", "FAIL  2 b\n        store: nothing"]);
    }
}
