// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which lines of which files ran.

use std::collections::BTreeMap;

/// Files, and of each the lines with code, with whether they ran.
pub type Lines = BTreeMap<String, BTreeMap<u32, bool>>;

/// Of the files in `folder`: how many lines ran, and how many there are.
pub fn share(lines: &Lines, folder: &str) -> (u64, u64) {
    let of = lines.iter().filter(|(file, _)| file.starts_with(folder));
    let all: Vec<bool> = of.flat_map(|(_, lines)| lines.values().copied()).collect();
    (all.iter().filter(|ran| **ran).count() as u64, all.len() as u64)
}

/// For people: each file of which not everything ran, the worst first, with the lines that did not.
pub fn missed(lines: &Lines) -> String {
    let mut out: Vec<(usize, String)> = Vec::new();
    for (file, lines) in lines {
        let missing = lines.values().filter(|ran| !**ran).count();
        if missing > 0 {
            let (hit, all) = (lines.len() - missing, lines.len());
            let rest = ranges(lines.iter().map(|(line, ran)| (*line, *ran)));
            out.push((missing, format!("{file}: {hit} of {all}; not {rest}\n")));
        }
    }
    out.sort_by(|one, two| two.cmp(one));
    out.into_iter().map(|(_, line)| line).collect()
}

/// The lines that did not run of lines in order, those next to each other as one: `3 7-9`.
fn ranges(lines: impl IntoIterator<Item = (u32, bool)>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    let mut follows = false;
    for (line, ran) in lines {
        if !ran {
            match runs.last_mut().filter(|_| follows) {
                Some((_, last)) => *last = line,
                None => runs.push((line, line)),
            }
        }
        follows = !ran;
    }
    let words = runs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    words.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_code_do_not_part_those_around_them() {
        let lines = [(3, false), (4, true), (7, false), (9, false), (10, true), (12, false)];
        assert_eq!(ranges(lines), "3 7-9 12");
        assert_eq!(ranges([(1, true)]), "");
    }
}
