// SPDX-License-Identifier: MIT OR Apache-2.0
//! The workspace's crates, as their manifests say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::order::Order;

/// Folders with crates whose files are checked.
const PLACES: [&str; 5] = ["crates", "hyp", "guest-stub", "xtask", "device-server"];

/// Root files of the crates that are checked, in order.
///
/// # Errors
/// A folder that cannot be read.
pub fn roots(top: &Path) -> Result<Vec<PathBuf>> {
    let mut roots = Vec::new();
    for place in PLACES {
        let place = top.join(place);
        let mut folders = vec![place.clone()];
        if !place.join("Cargo.toml").exists() {
            folders = std::fs::read_dir(&place)
                .with_context(|| place.display().to_string())?
                .map(|entry| entry.map(|e| e.path()))
                .collect::<Result<_, _>>()?;
        }
        for folder in folders {
            let choices = ["src/lib.rs", "src/main.rs"].map(|f| folder.join(f));
            roots.extend(choices.into_iter().find(|c| c.exists()));
        }
    }
    roots.sort();
    Ok(roots)
}

/// Name of the package with this root file: its folder's, but for what the manifest calls otherwise.
pub fn name(root: &Path) -> String {
    let folder = root.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    let declared = std::fs::read_to_string(folder.join("Cargo.toml")).ok().and_then(|text| {
        let manifest: toml::Table = toml::from_str(&text).ok()?;
        manifest.get("package")?.get("name")?.as_str().map(str::to_owned)
    });
    declared.unwrap_or_else(|| {
        folder.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default()
    })
}

/// Dependencies of a crate on one that the order puts beside or above it; those of tests and build scripts do not
/// count, nor optional ones.
///
/// # Errors
/// A manifest that cannot be read, a crate that the order leaves out.
pub fn against(top: &Path, order: &Order) -> Result<Vec<String>> {
    let roots = roots(top)?;
    let names: BTreeSet<String> = roots.iter().map(|r| name(r)).collect();
    let mut found = Vec::new();
    for root in &roots {
        let from = name(root);
        let folder = root.parent().and_then(Path::parent).unwrap_or(top);
        let manifest = folder.join("Cargo.toml");
        let text =
            std::fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        let manifest: toml::Table =
            toml::from_str(&text).with_context(|| manifest.display().to_string())?;
        let Some(dependencies) = manifest.get("dependencies").and_then(|d| d.as_table()) else {
            continue;
        };
        for (to, what) in dependencies {
            let optional = what.get("optional").and_then(toml::Value::as_bool) == Some(true);
            if names.contains(to) && !optional && !order.allows_crate(&from, to)? {
                found.push(format!("against the order: crate {from} depends on crate {to}"));
            }
        }
    }
    Ok(found)
}
