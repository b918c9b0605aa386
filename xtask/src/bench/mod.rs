// SPDX-License-Identifier: MIT OR Apache-2.0
//! Benchmarks in executed instructions.
//!
//! Under `-icount shift=0` QEMU's clock counts instructions, of all CPUs and exception levels: figures repeat to the digit on any
//! host, and say nothing of caches, barriers or the latency of system registers (docs/performance.md).
//!
//! # Key types
//!
//! - [`Figure`]: an operation's median, minimum and maximum, in hundredths of an instruction.
//! - [`Operation`]: what an operation may cost, and what it costs elsewhere: `bench/operations.json`.
//!
//! # Invariants
//!
//! - A figure that is missing fails a check, as one that is too high does.

mod boots;
mod check;
mod figure;
mod files;
mod image;
mod plot;
mod sections;
mod table;

use std::fs;

use crate::build::Artifacts;
use crate::paths;
use anyhow::{Context, Result, anyhow};

pub use figure::{Figure, Figures};
pub use files::Operation;

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To look at.
    Show,
    /// To fail where something has become worse.
    Check,
    /// To be compared with later.
    Save,
}

/// Measures, prints the table, and does what the run is for.
///
/// # Errors
///
/// QEMU or a benchmark does not run; with [`Purpose::Check`], what exceeds its limit or has grown.
pub fn run(purpose: Purpose) -> Result<()> {
    let images = Artifacts::existing()?;
    let operations = files::operations()?;
    let mut figures = boots::all(&images)?;
    figures.extend(image::sizes(&images)?);
    if let Some(bytes) = image::table_bytes_per_page(&figures) {
        figures.insert("table bytes per declared page".into(), bytes);
    }
    if let Some(bytes) = image::heap_per_vcpu(&figures) {
        figures.insert("memory: heap per further vCPU".into(), bytes);
    }

    let reference = files::read(&files::reference_path())?;
    println!("{}", table::operations(&operations, &figures, &reference));
    println!("{}", table::peers(&operations, &figures));
    println!("{}", table::others(&operations, &figures, &reference));
    let results = paths::target().join("bench.json");
    files::write(&results, &figures)?;
    let plot = paths::target().join("bench-growth.svg");
    plot::growth(&figures, &plot)?;

    if purpose == Purpose::Save {
        files::write(&files::reference_path(), &figures)?;
        let committed = paths::root().join("docs/performance-growth.svg");
        fs::copy(&plot, &committed).with_context(|| committed.display().to_string())?;
    }
    let mut wrong = check::limits(&operations, &figures);
    wrong.extend(check::clock(&figures));
    wrong.extend(check::growth(&figures));
    if purpose == Purpose::Check {
        wrong.extend(check::regressions(&reference, &figures));
    }
    for line in &wrong {
        println!("bench: {line}");
    }
    if wrong.is_empty() || purpose != Purpose::Check {
        println!("bench: {} figures; results are in {}", figures.len(), results.display());
        return Ok(());
    }
    Err(anyhow!(
        "{} of {} benchmarks exceed their limit or have grown; if that is meant, change bench/operations.json or run \
         ./scripts/bench --save, and say why",
        wrong.len(),
        figures.len()
    ))
}
