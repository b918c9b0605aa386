// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has changed in `crates/` since the branch's base.

use std::path::PathBuf;
use std::process::Command;

use super::folder::folder;
use crate::assure::tool::said;
use crate::paths;
use anyhow::{Context, Result};

/// Where branches begin. In a clone of the main branch itself, as CI has it, none of them is before HEAD: there the
/// commit before counts.
const BASES: [&str; 4] = ["origin/main", "team/main", "main", "HEAD~1"];

/// What differs.
pub enum Changes {
    /// A file with the difference.
    Diff(PathBuf),
    /// Nothing.
    None,
    /// There is nothing to compare with, as in a clone of one commit.
    NoBase,
}

/// The difference between the base and what lies in the working tree.
pub fn find() -> Result<Changes> {
    let head = git(&["rev-parse", "HEAD"])?;
    let mut base = None;
    for name in BASES {
        if let Some(found) = git(&["merge-base", "HEAD", name])?
            && Some(&found) != head.as_ref()
        {
            base = Some(found);
            break;
        }
    }
    let Some(base) = base else { return Ok(Changes::NoBase) };
    let diff = git(&["diff", base.trim(), "--", "crates"])?.unwrap_or_default();
    if diff.is_empty() {
        return Ok(Changes::None);
    }
    let file = folder()?.join("changes.diff");
    std::fs::write(&file, diff).with_context(|| file.display().to_string())?;
    Ok(Changes::Diff(file))
}

/// What git says, unless it fails.
fn git(words: &[&str]) -> Result<Option<String>> {
    let (fine, text) = said(Command::new("git").current_dir(paths::root()).args(words))?;
    Ok(fine.then_some(text))
}
