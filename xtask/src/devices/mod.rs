// SPDX-License-Identifier: MIT OR Apache-2.0
//! `./scripts/run devices`: a device VM serves two protected Linux, and all are asked whether what docs/devices.md promises
//! holds.
//!
//! # Key types
//!
//! - [`setup::machine`]: the VMs.
//! - [`Dialogue`]: questions at their consoles.
//! - [`Report`]: what was read, of whom, and whether it is as promised.
//!
//! # Invariants
//!
//! - A check compares what it has read in this run. None holds because something could not be read.
//! - A party that cannot be had makes the number of checks smaller, and is named.

mod boot_disk;
mod checks;
mod common;
mod counters;
mod daemon_checks;
mod daemons;
mod file;
pub mod firmware;
mod network;
mod recovery;
pub mod setup;
mod shared_directory;
mod stock;
mod vsock;
mod window;

use std::time::Duration;

use anyhow::Result;

use crate::build::Artifacts;
use crate::qemu::{Limits, Session};
use crate::show::dialogue::Dialogue;
use crate::show::report::Report;

/// Boots the VMs as `name`, runs all checks, and says each with `say` as it comes.
///
/// # Errors
///
/// A VM did not get so far that it could be asked, or a check does not hold.
pub fn judge<'s>(
    images: &Artifacts,
    name: &str,
    say: &'s mut dyn FnMut(&str),
) -> Result<Report<'s>> {
    let machine = setup::machine(images)?;
    let limits = Limits { total: Duration::from_secs(540), silence: Duration::from_secs(150) };
    let session = Session::start(&machine, name, limits, false)?;
    let mut report = Report::new("devices", say);
    checks::all(Dialogue::new(session, &setup::VMS), &mut report)?;
    Ok(report)
}
