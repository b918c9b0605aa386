// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the documentation of all crates: those that run on the host, and the images with their private items.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build::IMAGES;
use crate::paths;
use crate::toolchain::{TARGET, Toolchain, cargo};

/// Builds it; returns the first pages. Warnings of rustdoc, such as a link that leads nowhere, are errors.
///
/// # Errors
///
/// rustdoc refuses something (it has said what), or the target of the images is not there.
pub fn build() -> Result<Vec<PathBuf>> {
    let mut host = rustdoc(&["--workspace"]);
    for package in IMAGES {
        host.args(["--exclude", package]);
    }
    run(host, "the crates")?;
    if Toolchain::find()? != Toolchain::Rustup {
        bail!(
            "the documentation of the images needs rustup's target {TARGET}: run ./scripts/setup"
        );
    }
    for package in IMAGES {
        // One by one, as they are built: none gets the features that another asks of a crate.
        let private = ["--package", package, "--target", TARGET, "--document-private-items"];
        run(rustdoc(&private), package)?;
    }
    let target = paths::target();
    Ok(vec![target.join("doc/vm/index.html"), target.join(TARGET).join("doc/hyp/index.html")])
}

fn rustdoc(words: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(paths::root()).args(["doc", "--quiet", "--no-deps"]).args(words);
    command.env("CARGO_TARGET_DIR", paths::target()).env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn run(mut command: Command, what: &str) -> Result<()> {
    eprintln!("doc: {what} ...");
    if !command.status().context("cannot run cargo")?.success() {
        bail!("the documentation of {what} cannot be built");
    }
    Ok(())
}
