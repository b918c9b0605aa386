// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a script does before its command: sets up what is missing on this machine, builds the images, makes guests.

use std::process::Command as Process;

use anyhow::{Context, Result, bail};
use xtask::build::{self, Options};
use xtask::guests::{self, Guest};
use xtask::paths;

use super::{Cli, Command};

impl Cli {
    /// Does what the command needs done before.
    ///
    /// # Errors
    ///
    /// Something cannot be installed, fetched or built.
    pub(super) fn prepare(&self) -> Result<()> {
        match &self.command {
            Command::Run(arguments) => {
                set_up(&[])?;
                build::build(&Options::default())?;
                make(&arguments.files())?;
                // The run goes on without these, and says so.
                if let Err(error) = make(&arguments.optional_files()) {
                    eprintln!("run: {error:#}");
                }
                Ok(())
            }
            Command::Test(_) => {
                set_up(&["--lints"])?;
                build::build(&Options::default()).map(drop)
            }
            Command::Bench(_) => {
                set_up(&[])?;
                build::build(&Options::default()).map(drop)
            }
            Command::Bundle(_) => set_up(&["--bundle"]),
            Command::Assure(arguments) if !arguments.list => set_up(&["--assurance"]),
            Command::Guests(arguments) if !arguments.list => {
                guests::install_tools(&arguments.wanted())
            }
            _ => Ok(()),
        }
    }
}

/// Runs scripts/setup, which says itself what it does.
fn set_up(words: &[&str]) -> Result<()> {
    let setup = paths::root().join("scripts/setup");
    let status = Process::new(setup).args(words).status().context("scripts/setup")?;
    if !status.success() {
        bail!("scripts/setup failed");
    }
    Ok(())
}

fn make(wanted: &[Guest]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    guests::install_tools(wanted)?;
    guests::make(wanted, false)
}
