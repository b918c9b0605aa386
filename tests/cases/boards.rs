// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vendors' own trees: what Portcullis makes of every arm64 board that Debian's kernel knows. The boards that QEMU
//! models are machines of the matrix.

use std::fs;

use platform::{Board, Survey, SurveyedRam};
use xtask::boards;
use xtask::boards::check::{Counts, Report, Verdict};

use crate::lab::{Checked, Lab};

cases_with![
    vendors_trees: &[], true;
];

// scenario: J1
fn vendors_trees(_: &Lab) -> Checked {
    let mut counts = Counts::default();
    // Boards whose tree names no console, and whose first UART is driven.
    let mut by_alias = 0;
    for file in boards::all_trees().map_err(|error| error.to_string())? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let blob = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let report = Report::of(&blob);
        agrees_with_the_image(&blob, &report).map_err(|error| format!("{name}: {error}"))?;
        // Cut, and with a byte gone wrong here and there: whatever comes of it, it comes.
        for part in [3, 7] {
            let at = blob.len() * part / 8 + part;
            let _ = Report::of(blob.get(..at).unwrap_or_default());
            let mut other = blob.clone();
            other.get_mut(at % blob.len()).map(|byte| *byte ^= 1 << part).ok_or("an empty tree")?;
            let _ = Report::of(&other);
        }
        if matches!(report.verdict, Verdict::Bootable { console: true, .. }) {
            let is_named = blob.windows(12).any(|window| window == b"stdout-path\0");
            by_alias += usize::from(!is_named);
        }
        counts.add(&name, &report);
    }
    // Below the name of this case, which the runner has begun to say.
    println!();
    for line in counts.table().lines() {
        println!("boards: {line}");
    }
    if counts.trees < 400 || counts.parsed != counts.trees {
        return Err(format!("{} of {} trees parsed", counts.parsed, counts.trees));
    }
    if counts.bootable * 100 < counts.with_el2_gic * 95 {
        return Err(format!(
            "only {} of {} boards with a GIC for EL2 are bootable",
            counts.bootable, counts.with_el2_gic
        ));
    }
    println!("boards: {by_alias} with the console of the alias serial0");
    // 15 in Linux 6.12's trees.
    if by_alias < 10 {
        return Err(format!("only {by_alias} boards without stdout-path have a console"));
    }
    if counts.with_console * 100 < counts.bootable * 60 || counts.refused.contains_key("") {
        return Err(format!("too few consoles, or a refusal without a reason: {counts:?}"));
    }
    Ok(())
}

/// Where a tree has its RAM, the image itself says of it what the report says.
fn agrees_with_the_image(blob: &[u8], report: &Report) -> Checked {
    let filled = Survey::of(blob).is_ok_and(|it| it.ram == Ok(SurveyedRam::FilledByFirmware));
    match (Board::from_tree(blob), report.verdict) {
        (Ok(_), Verdict::Bootable { firmware_fills_ram: false, .. })
        | (Err(_), Verdict::Refused | Verdict::Unreadable) => Ok(()),
        (Err(error), Verdict::Bootable { firmware_fills_ram: true, .. })
            if filled && error.message().contains("the firmware must fill in /memory") =>
        {
            Ok(())
        }
        (Ok(_), verdict) => Err(format!("it boots, and the report says {verdict:?}")),
        (Err(error), verdict) => Err(format!("the image says `{error}`, the report {verdict:?}")),
    }
}
