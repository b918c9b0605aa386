// SPDX-License-Identifier: MIT OR Apache-2.0
//! The longest sections of EL2 with interrupts masked, which a plugin of QEMU measures (`xtask/plugin/sections.c`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::figure::{Figure, Figures};
use crate::build::Artifacts;
use crate::{paths, qemu};
use anyhow::{Context, Result, bail};

/// Builds the plugin with the C compiler that links Rust programs.
///
/// # Errors
///
/// There is no `cc`, or it refuses the source.
pub fn build() -> Result<PathBuf> {
    let source = paths::root().join("xtask/plugin/sections.c");
    let plugin = paths::target().join("sections.so");
    let status = Command::new("cc")
        .args([
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-o",
        ])
        .args([&plugin, &source])
        .status()
        .context("cc")?;
    if !status.success() {
        bail!("cc cannot build {}", source.display());
    }
    Ok(plugin)
}

/// Where the plugin of the boot called `name` writes.
pub fn results(name: &str) -> PathBuf {
    paths::target().join(format!("{name}.sections"))
}

/// QEMU's arguments that load the plugin into the boot called `name`.
///
/// # Errors
///
/// The image is missing.
pub fn arguments(plugin: &Path, images: &Artifacts, name: &str) -> Result<Vec<String>> {
    let image = &images.hypervisor;
    let size = fs::metadata(image).with_context(|| image.display().to_string())?.len();
    let out = results(name);
    // Results of an earlier run are none of this one.
    let _ = fs::remove_file(&out);
    let mut plugin: OsString = plugin.into();
    plugin.push(format!(",base={:#x},size={size},out=", qemu::LOADED));
    plugin.push(&out);
    let plugin = plugin.into_string().map_err(|path| anyhow::anyhow!("{}", path.display()))?;
    Ok(vec!["-plugin".into(), plugin])
}

/// The longest section of each kind: its number is in the plugin's results, its name in the lines that the guest wrote.
///
/// # Errors
///
/// A kind without result, or a result without kind.
pub fn figures(name: &str, lines: &[String]) -> Result<Figures> {
    let path = results(name);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: the plugin has written nothing", path.display()))?;
    read(&text, lines)
}

fn read(text: &str, lines: &[String]) -> Result<Figures> {
    let mut figures = Figures::new();
    for line in lines {
        let Some((_, rest)) = line.split_once("section;") else { continue };
        let (number, name) = rest.trim_end().split_once(';').with_context(|| line.clone())?;
        let longest = text.lines().find_map(|line| {
            let mut fields = line.split(' ');
            (fields.next()? == number).then(|| fields.next()?.parse().ok())?
        });
        let longest = longest.with_context(|| format!("no section of kind {number}, {name}"))?;
        figures.insert(format!("masked: {name}"), Figure::exact(longest));
    }
    if figures.is_empty() {
        bail!("the guest has named no kind of section");
    }
    Ok(figures)
}

/// EL2's instructions on the CPU that executes most of them before its first guest.
///
/// # Errors
///
/// Not all of `cpus` have entered a guest.
pub fn boot(name: &str, cpus: usize) -> Result<u64> {
    let path = results(name);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: the plugin has written nothing", path.display()))?;
    most(&text, cpus)
}

fn most(text: &str, cpus: usize) -> Result<u64> {
    let counts = text.lines().filter_map(|line| line.strip_prefix("cpu "));
    let counts: Vec<u64> = counts.filter_map(|line| line.split_once(' ')?.1.parse().ok()).collect();
    match counts.iter().max() {
        Some(most) if counts.len() == cpus => Ok(*most),
        _ => bail!("{} CPUs have entered a guest, of {cpus}", counts.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_longest_section_of_their_number() {
        let lines = ["[hyp] up", "[a] section;1;erase", "section;20;a reset"].map(str::to_owned);
        let figures = read("1 9000 7 0x40200000 0x40200004\n20 12 1\n", &lines).unwrap();
        assert_eq!(figures["masked: erase"], Figure::exact(9000));
        assert_eq!(figures["masked: a reset"], Figure::exact(12));
        assert_eq!(figures.len(), 2);
    }

    #[test]
    fn the_cpu_with_the_longest_boot_counts() {
        let text = "1 9000 7 0x40200000\ncpu 0 500\ncpu 1 700\ncpu 2 600\n";
        assert_eq!(most(text, 3).unwrap(), 700);
        let error = most(text, 4).unwrap_err().to_string();
        assert_eq!(error, "3 CPUs have entered a guest, of 4");
    }

    #[test]
    fn a_kind_that_was_not_measured_is_an_error() {
        let lines = ["section;2;erase".to_owned()];
        let error = format!("{:#}", read("1 9000 7\n", &lines).unwrap_err());
        assert!(error.contains("no section of kind 2, erase"), "{error}");
        assert!(read("1 9000 7\n", &[]).is_err());
    }
}
