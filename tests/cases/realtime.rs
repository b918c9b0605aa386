// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM that must be in time beside a busy Linux on its CPU: what `./scripts/run realtime` shows.

use anyhow::anyhow;
use xtask::realtime;

use crate::fixture::{Checked, Fixture};

cases_with![
    all_as_promised: &realtime::FILES, true;
];

fn all_as_promised(fixture: &Fixture) -> Checked {
    let mut failed = Vec::new();
    let mut say = |line: &str| {
        if line.starts_with("FAIL") {
            failed.push(line.to_owned());
        }
    };
    let report = realtime::judge(&fixture.images, &fixture.name, &mut say)?;
    let (kept, closing) = (report.all_kept(), report.closing());
    if kept { Ok(()) } else { Err(anyhow!("{closing}:\n{}", failed.join("\n"))) }
}
