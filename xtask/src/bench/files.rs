// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bench/operations.json`, and results as `bench/reference.json` and `target/bench.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Figure, Figures};
use crate::paths;
use anyhow::{Context, Result};

/// What an operation may cost, and what it costs elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
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
    pub peers: BTreeMap<String, f64>,
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
    let value: Value = serde_json::from_str(text).context("not JSON")?;
    let list = value.get("operations").and_then(Value::as_array).context("no list `operations`")?;
    list.iter()
        .map(|entry| {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            let peers = entry.get("peers").and_then(Value::as_object);
            Ok(Operation {
                name: text("name").context("an operation without a name")?,
                limit: entry.get("limit").and_then(Value::as_f64),
                goal: entry.get("goal").and_then(Value::as_f64),
                unit: text("unit"),
                floor: text("floor"),
                peers: peers
                    .into_iter()
                    .flatten()
                    .filter_map(|(name, figure)| Some((name.clone(), figure.as_f64()?)))
                    .collect(),
            })
        })
        .collect()
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
    let figures: serde_json::Map<String, Value> = figures
        .iter()
        .map(|(name, figure)| {
            let Figure { median, min, max } = figure;
            (name.clone(), json!({ "median": median, "min": min, "max": max }))
        })
        .collect();
    let whole = json!({ "unit": "hundredths of an instruction, or of a byte", "figures": figures });
    let text = serde_json::to_string_pretty(&whole).context("results")?;
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
    let value: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let figures = value.get("figures").and_then(Value::as_object);
    let figures = figures.with_context(|| format!("{}: no `figures`", path.display()))?;
    figures
        .iter()
        .map(|(name, figure)| {
            let number = |key: &str| {
                figure
                    .get(key)
                    .and_then(Value::as_u64)
                    .with_context(|| format!("{}: {name} has no {key}", path.display()))
            };
            let figure =
                Figure { median: number("median")?, min: number("min")?, max: number("max")? };
            Ok((name.clone(), figure))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let path = std::env::temp_dir().join(format!("xtask-bench-{}.json", std::process::id()));
        let figures = Figures::from([("a".into(), Figure { median: 2, min: 1, max: 3 })]);
        write(&path, &figures).unwrap();
        assert_eq!(read(&path).unwrap(), figures);
        fs::write(&path, r#"{"figures": {"a": {"median": 1}}}"#).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("a has no min"));
    }
}
