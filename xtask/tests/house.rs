// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules of the house that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

use xtask::paths;

/// All Rust sources below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != ".git" {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_source_names_its_licence() {
    let all = sources(&paths::root());
    assert!(all.len() > 50, "only {} sources", all.len());
    for path in all {
        let text = read(&path);
        let first = text.lines().next().unwrap_or_default();
        assert_eq!(first, "// SPDX-License-Identifier: MIT OR Apache-2.0", "{}", path.display());
    }
}

/// Crate roots outside hyp/ and guest-stub/ forbid unsafe code: the compiler checks the rest.
#[test]
fn only_the_images_may_be_unsafe() {
    let root = paths::root();
    let mut roots = vec![
        root.join("xtask/src/lib.rs"),
        root.join("xtask/src/main.rs"),
        root.join("tests/lib.rs"),
    ];
    for entry in fs::read_dir(root.join("crates")).unwrap().flatten() {
        if entry.path().is_dir() {
            roots.push(entry.path().join("src/lib.rs"));
        }
    }
    assert!(roots.len() >= 10, "{roots:?}");
    for path in roots {
        assert!(read(&path).contains("#![forbid(unsafe_code)]"), "{}", path.display());
    }
}

/// Everything that runs on a laptop is tested there: a plain `cargo test` must know each crate.
#[test]
fn every_crate_is_tested_by_default() {
    let manifest = read(&paths::root().join("Cargo.toml"));
    let default = manifest.split("default-members = [").nth(1).unwrap().split(']').next().unwrap();
    for entry in fs::read_dir(paths::root().join("crates")).unwrap().flatten() {
        let name = format!("\"crates/{}\"", entry.file_name().to_string_lossy());
        assert!(default.contains(&name), "{name} is not among the default members");
    }
}

/// TLB maintenance that a vCPU of another CPU must notice is Inner Shareable. QEMU does not show the difference: its TLB
/// instructions reach every CPU.
#[test]
fn tlb_maintenance_of_guests_reaches_every_cpu() {
    let mut found = Vec::new();
    for path in sources(&paths::root().join("hyp/src")) {
        let text = read(&path);
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for after in line.replace("tlbi    ", "tlbi ").split("tlbi ").skip(1) {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
                found.push(after[..end].to_owned());
            }
        }
    }
    let (shared, mut local): (Vec<_>, Vec<_>) = found.into_iter().partition(|t| t.ends_with("is"));
    assert!(shared.len() >= 3, "{shared:?}");
    // One each: at boot for EL2's own regime, at boot before any guest, and at the load of a vCPU for the VM's other
    // vCPUs that ran on this CPU.
    local.sort();
    assert_eq!(local, ["alle1", "alle2", "vmalle1"]);
}
