// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask layout`: the structure of the code against its rules.
//!
//! It fails on an import cycle between files of a crate, on an import against the order of folders that
//! `xtask/layout.toml` states, on a crate that depends on one beside or above it, and on a file with more than
//! [`MAX_LINES`] lines without its tests.

mod crates;
mod graph;
mod module;
mod order;
mod paths;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context, Result, bail};

use graph::Graph;
use module::Tree;
use order::Order;

/// Lines that a file may have, tests (`#[cfg(test)]`) not counted.
pub const MAX_LINES: usize = 500;

/// What is wrong with one crate's files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Groups of files that import each other.
    pub cycles: Vec<Vec<String>>,
    /// Imports of a folder from one that the order puts below it.
    pub upward: Vec<String>,
    /// Files above [`MAX_LINES`], with their lines.
    pub long: Vec<(String, usize)>,
}

/// Size of one crate's structure.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Source files.
    pub files: usize,
    /// Pairs of files where one imports the other.
    pub imports: usize,
}

/// Looks at the crate whose root file is `root`. Files are named as seen from `top`.
///
/// # Errors
/// A file that cannot be read or parsed.
pub fn look(top: &Path, root: &Path, order: &Order) -> Result<(Findings, Size)> {
    let tree = Tree::read(top, root)?;
    let graph = Graph::of(&tree);
    let findings = Findings {
        cycles: graph.cycles(&tree),
        upward: order.against(&crates::name(root), &tree, graph.imports())?,
        long: tree.longer_than(MAX_LINES),
    };
    Ok((findings, Size { files: tree.files().count(), imports: graph.imports().len() }))
}

/// Checks the whole workspace at `top`, and prints one line per crate and one per fault.
///
/// # Errors
/// Any fault, or a file that cannot be read.
pub fn run(top: &Path) -> Result<()> {
    let order = Order::read(&top.join("xtask/layout.toml"))?;
    let mut faults = crates::against(top, &order)?;
    for root in crates::roots(top)? {
        let shown = root.strip_prefix(top).unwrap_or(&root).display().to_string();
        let (findings, size) = look(top, &root, &order).with_context(|| shown.clone())?;
        println!("{shown}: {} files, {} imports", size.files, size.imports);
        faults.extend(findings.cycles.iter().map(|c| format!("import cycle: {}", c.join(", "))));
        faults.extend(findings.upward);
        faults.extend(findings.long.iter().map(|(file, lines)| {
            format!("{file} has {lines} lines without its tests, {MAX_LINES} are allowed: split it")
        }));
    }
    for fault in &faults {
        println!("error: {fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults in the layout", faults.len());
    }
    println!(
        "layout: no import cycle, no import against the order, no file above {MAX_LINES} lines"
    );
    Ok(())
}
