// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's stock kernel serves devices to a protected Linux: what `./scripts/run devices` shows.

use anyhow::anyhow;
use xtask::devices;

use crate::fixture::{Checked, Fixture};

cases_with![
    all_as_promised: &devices::setup::FILES, true;
];

fn all_as_promised(fixture: &Fixture) -> Checked {
    let mut failed = Vec::new();
    let mut say = |line: &str| {
        if line.starts_with("FAIL") {
            failed.push(line.to_owned());
        }
    };
    let report = devices::judge(&fixture.images, &fixture.name, &mut say)?;
    let (kept, closing) = (report.all_kept(), report.closing());
    if kept { Ok(()) } else { Err(anyhow!("{closing}:\n{}", failed.join("\n"))) }
}
