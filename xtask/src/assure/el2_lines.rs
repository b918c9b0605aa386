// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of the EL2 image that QEMU runs while the guest tests do, from its log of translated blocks.
//!
//! QEMU logs each block of instructions when it is about to run it for the first time (`-d in_asm`). A block counts
//! where all its words are those of the image at that place: guests have the same addresses, and other words.
//! Code of several lines counts for all of them; what the compiler left out is in no count.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use addr2line::Loader;

use super::lines::{Lines, missed, share};
use super::step::{Figure, Options, Outcome, Step};
use super::tool::{self, said, tail};
use crate::build::Artifacts;
use crate::elf;
use crate::paths;
use crate::qemu::{IN_ASM, LOADED};
use anyhow::{Context, Result, anyhow};

/// The step.
pub const STEP: Step = Step {
    name: "el2-lines",
    about: "lines of the EL2 image that run in QEMU",
    long_only: true,
    run,
};

/// Which cases run, of those of a quick run: every test of the stub on one machine, and a few cases for what it does not
/// reach, as far as their guests were made. All cases would take an hour, and run hardly a line more.
const CASES: [&str; 13] = [
    "gicv3::",
    "gicv2::",
    "panics::",
    "entry_el::",
    "console_lines::",
    "trees::",
    "inputs::",
    "bundles::initrd",
    "banks::",
    "boot_chains::edk2",
    "boot_chains::mmu_on",
    "several::",
    "background_load::canar",
];
/// Percent of hyp's lines that are wanted.
const WANTED: u64 = 85;

fn run(_: &Options) -> Result<Outcome> {
    let logs = paths::target().join("in-asm");
    // Blocks of another image would not match, but would be read.
    let _ = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    // For a look at what some cases run.
    let asked = std::env::var("PORTCULLIS_CASES").ok();
    let asked: Option<[&str; 1]> = asked.as_deref().map(|filter| [filter]);
    let mut text = String::new();
    for filter in asked.as_ref().map_or(CASES.as_slice(), <[&str; 1]>::as_slice) {
        let mut command =
            tool::cargo_at_root(&["test", "--package", "e2e", "--test", "qemu", "--", filter]);
        command.env(IN_ASM, &logs).env("PORTCULLIS_QUICK", "1");
        let passed;
        (passed, text) = said(&mut command)?;
        if !passed {
            println!(
                "assure: el2-lines: not every case of `{filter}` passed; what they ran counts\n{}",
                tail(&text, 8)
            );
        }
    }
    let file = Artifacts::expected().hypervisor_elf;
    let lines = covered(&file, &logs)?;
    let report = paths::target().join("el2-lines.txt");
    let rest = missed(&lines);
    fs::write(&report, &rest).with_context(|| report.display().to_string())?;
    println!("assure: el2-lines: what did not run (of crates/ as well in {})", report.display());
    for line in rest.lines().filter(|line| line.starts_with("hyp/")) {
        println!("  {line}");
    }
    let (hyp, all) = share(&lines, "hyp/");
    let (crates, crates_all) = share(&lines, "crates/");
    let figures = vec![
        Figure::percent(format!("of {all} lines of hyp/ in the image"), hyp, all),
        Figure::percent(
            format!("of {crates_all} lines of crates/ in the image"),
            crates,
            crates_all,
        ),
    ];
    if all == 0 || hyp == 0 {
        return Ok(Outcome::Failed(
            format!("nothing of the image ran\n{}", tail(&text, 20)),
            figures,
        ));
    }
    if hyp * 100 < all * WANTED {
        return Ok(Outcome::Failed(format!("less than {WANTED} % of hyp's lines ran"), figures));
    }
    Ok(Outcome::Passed(figures))
}

/// The lines of `image` that the logs in `folder` show.
fn covered(image: &Path, folder: &Path) -> Result<Lines> {
    let name = || image.display().to_string();
    let text = elf::text(&fs::read(image).with_context(name)?).with_context(name)?;
    let mut ran = vec![false; text.len()];
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())?.flatten() {
        let log = fs::read(entry.path()).with_context(|| entry.path().display().to_string())?;
        mark(&String::from_utf8_lossy(&log), &text, &mut ran);
    }
    let loader = Loader::new(image).map_err(|error| anyhow!("{}: {error}", name()))?;
    let mut lines = Lines::new();
    for (place, ran) in (0_u64..).step_by(4).zip(&ran) {
        let Ok(mut frames) = loader.find_frames(place) else { continue };
        let mut seen = BTreeSet::new();
        while let Ok(Some(frame)) = frames.next() {
            let Some(location) = frame.location else { continue };
            if let (Some(file), Some(line)) = (location.file.and_then(ours), location.line)
                && line != 0
                && seen.insert((file.to_owned(), line))
            {
                *lines.entry(file.to_owned()).or_default().entry(line).or_default() |= *ran;
            }
        }
    }
    Ok(lines)
}

/// The part of a path from `hyp/` or `crates/` on.
fn ours(path: &str) -> Option<&str> {
    ["/hyp/src/", "/crates/"]
        .iter()
        .find_map(|part| path.rfind(part))
        .and_then(|at| path.get(at + 1..))
        .or_else(|| (path.starts_with("hyp/") || path.starts_with("crates/")).then_some(path))
}

/// Marks the words of `text` that the blocks of `log` ran.
fn mark(log: &str, text: &[u32], ran: &mut [bool]) {
    let mut block: Vec<usize> = Vec::new();
    let mut whole = true;
    let mut close = |block: &mut Vec<usize>, whole: bool| {
        for place in block.drain(..) {
            if whole && let Some(ran) = ran.get_mut(place) {
                *ran = true;
            }
        }
    };
    for line in log.lines() {
        let Some((address, word)) = instruction(line) else {
            close(&mut block, whole);
            whole = true;
            continue;
        };
        let place = address.checked_sub(LOADED).map(|offset| (offset / 4) as usize);
        match place.filter(|place| text.get(*place) == Some(&word)) {
            Some(place) => block.push(place),
            None => whole = false,
        }
    }
    close(&mut block, whole);
}

/// Address and word of `0x40200044:  d5384254  mrs      x20, currentel`.
fn instruction(line: &str) -> Option<(u64, u32)> {
    let (address, rest) = line.strip_prefix("0x")?.split_once(':')?;
    let word = rest.split_whitespace().next()?;
    Some((u64::from_str_radix(address, 16).ok()?, u32::from_str_radix(word, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: [u32; 4] = [0x1400_0010, 0xaa00_03f3, 0xd538_4254, 0xd69f_03e0];

    fn marked(log: &str) -> [bool; 4] {
        let mut ran = [false; 4];
        mark(log, &TEXT, &mut ran);
        ran
    }

    #[test]
    fn a_block_counts_whole_or_not_at_all() {
        let log = "IN: \n0x40200004:  aa0003f3  mov\n0x40200008:  d5384254  mrs\n\n----\nIN: \n\
                   0x40200000:  14000010  b\n0x40200004:  deadbeef  ?\n";
        assert_eq!(marked(log), [false, true, true, false]);
    }

    #[test]
    fn guests_at_the_same_address_do_not_count() {
        assert_eq!(marked("0x4020000c:  d65f03c0  ret\n"), [false; 4]);
        assert_eq!(marked("0x3fffffff:  14000010  b\n0x40200010:  14000010  b\n"), [false; 4]);
    }

    #[test]
    fn paths_begin_at_our_folders() {
        assert_eq!(
            ours("/a/b/hyp/src/exception/guest_exit.rs"),
            Some("hyp/src/exception/guest_exit.rs")
        );
        assert_eq!(ours("/x/crates/vm/src/vm.rs"), Some("crates/vm/src/vm.rs"));
        assert_eq!(
            ours("hyp/src/exception/guest_exit.rs"),
            Some("hyp/src/exception/guest_exit.rs")
        );
        assert_eq!(ours("/rustc/library/core/src/num.rs"), None);
    }
}
