// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bench/operations.json`, and results as `bench/reference.json` and `target/bench.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::figure::Figures;
use crate::paths;
use anyhow::{Context, Result};

/// What an operation may cost, and what it costs elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Name of its figure.
    pub name: String,
    /// Most instructions (or bytes); a check fails above it.
    pub limit: Option<f64>,
    /// What it should be, where that has not been reached.
    pub goal: Option<f64>,
    /// What the figure is of, if not instructions.
    pub unit: Option<String>,
    /// Part of its name for which the same was measured on the floors.
    pub floor: Option<String>,
    /// Recorded figures of other hypervisors, by name.
    #[serde(default)]
    pub peers: BTreeMap<String, f64>,
}

/// `bench/operations.json`.
#[derive(Deserialize)]
struct Operations {
    operations: Vec<Operation>,
}

/// A file of results.
#[derive(Serialize, Deserialize)]
struct Results {
    figures: Figures,
    unit: String,
}

/// Reads the operations, in the order of the file.
///
/// # Errors
///
/// The file is missing or no such list.
pub fn operations() -> Result<Vec<Operation>> {
    let path = paths::root().join("bench/operations.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Operation>> {
    Ok(serde_json::from_str::<Operations>(text)?.operations)
}

/// Where the committed results are.
pub fn reference_path() -> PathBuf {
    paths::root().join("bench/reference.json")
}

/// Writes results.
///
/// # Errors
///
/// The file cannot be written.
pub fn write(path: &Path, figures: &Figures) -> Result<()> {
    let unit = "hundredths of an instruction, or of a byte".into();
    let results = Results { figures: figures.clone(), unit };
    let text = serde_json::to_string_pretty(&results).context("results")?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(path, text + "\n").with_context(|| path.display().to_string())
}

/// Reads results.
///
/// # Errors
///
/// The file is missing or not as [`write`] writes it.
pub fn read(path: &Path) -> Result<Figures> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let results: Results =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(results.figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Figure;

    #[test]
    fn operations_are_read_with_their_peers() {
        let text = r#"{"operations": [{"name": "MAP", "limit": 190, "peers": {"Xen": 1.5}}, {"name": "x"}]}"#;
        let all = parse(text).unwrap();
        assert_eq!(all[0].limit, Some(190.0));
        assert_eq!(all[0].peers["Xen"], 1.5);
        assert_eq!(all[1], Operation { name: "x".into(), ..Operation::default() });
        assert!(parse("{}").is_err());
        assert!(parse(r#"{"operations": [{}]}"#).is_err());
    }

    #[test]
    fn the_committed_operations_are_a_list() {
        assert!(operations().unwrap().len() > 10);
    }

    #[test]
    fn results_survive_their_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let figures = Figures::from([("a".into(), Figure { median: 2, min: 1, max: 3 })]);
        write(path, &figures).unwrap();
        assert_eq!(read(path).unwrap(), figures);
        fs::write(path, r#"{"figures": {"a": {"median": 1}}, "unit": "x"}"#).unwrap();
        let error = format!("{:#}", read(path).unwrap_err());
        assert!(error.contains("missing field `max`"), "{error}");
    }

    #[test]
    fn the_committed_results_are_written_as_they_were_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), &read(&reference_path()).unwrap()).unwrap();
        let (new, old) = (fs::read(file.path()).unwrap(), fs::read(reference_path()).unwrap());
        assert_eq!(new, old);
    }
}
