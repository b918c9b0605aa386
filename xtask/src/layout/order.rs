// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stated order of folders and crates: `xtask/layout.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::graph::Import;
use super::module::Tree;

/// Layers from the top down; what lies in one layer does not import another name of it.
type Layers = Vec<Vec<String>>;

/// What `layout.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The workspace's crates.
    crates: Layers,
    /// The folders and files at the top of a crate. A crate without an entry needs none.
    #[serde(default)]
    folders: BTreeMap<String, Layers>,
}

impl Order {
    /// Reads the file.
    ///
    /// # Errors
    /// A file that cannot be read, or says something else.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads its text.
    ///
    /// # Errors
    /// A text that is no such TOML.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// Whether crate `from` may depend on crate `to`.
    pub fn allows_crate(&self, from: &str, to: &str) -> Result<bool> {
        Ok(level(&self.crates, from)? < level(&self.crates, to)?)
    }

    /// The imports of crate `name` that go from a folder to one beside or above it.
    ///
    /// # Errors
    /// A folder that the order leaves out.
    pub fn against(&self, name: &str, tree: &Tree, imports: &[Import]) -> Result<Vec<String>> {
        let Some(layers) = self.folders.get(name) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for import in imports {
            let (from, to) = (tree.folder(import.from), tree.folder(import.to));
            if from != to && level(layers, from)? >= level(layers, to)? {
                found.push(format!("against the order: {}", import.shown(tree)));
            }
        }
        Ok(found)
    }
}

fn level(layers: &Layers, name: &str) -> Result<usize> {
    let found = layers.iter().position(|layer| layer.iter().any(|n| n == name));
    let Some(found) = found else { bail!("xtask/layout.toml does not say where `{name}` belongs") };
    Ok(found)
}
