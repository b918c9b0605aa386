// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which mutants of many.

use std::fmt::Write;
use std::path::PathBuf;

use super::folder::folder;
use anyhow::{Context, Result, anyhow};

/// At most `most` of `names`, evenly far apart, so that every file has its share. The seed says which is first.
pub fn spread(names: &[String], most: usize, seed: u64) -> Vec<String> {
    let every = names.len().div_ceil(most.max(1)).max(1);
    let first = usize::try_from(seed % every as u64).unwrap_or(0);
    names.iter().skip(first).step_by(every).cloned().collect()
}

/// `most` of `names`, each as likely as any other, in their order.
pub fn sample(names: &[String], most: usize, seed: u64) -> Vec<String> {
    let mut state = seed;
    let mut keyed: Vec<(u64, usize)> = (0..names.len()).map(|at| (next(&mut state), at)).collect();
    keyed.sort_unstable();
    let mut chosen: Vec<usize> = keyed.into_iter().take(most).map(|(_, at)| at).collect();
    chosen.sort_unstable();
    chosen.into_iter().filter_map(|at| names.get(at).cloned()).collect()
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A file of settings that lets cargo-mutants try these and no others.
pub fn config(names: &[String]) -> Result<PathBuf> {
    let file = folder()?.join("chosen.toml");
    let mut text = String::from("examine_re = [\n");
    for name in names {
        // A TOML string of this kind takes everything but its own quotes unchanged.
        let _ = writeln!(text, "'''^{}$''',", escaped(name));
    }
    text.push_str("]\n");
    std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// The regular expression that is `name` alone. No other sign may have a backslash: `\<` and `\>` are ends of words.
fn escaped(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// cargo-mutants' words for a part of the mutants: `1/8` to `8/8`.
pub fn part(text: &str) -> Result<Vec<String>> {
    let numbers = text
        .split_once('/')
        .and_then(|(part, of)| Some((part.parse::<u32>().ok()?, of.parse::<u32>().ok()?)));
    match numbers {
        Some((part, of)) if (1..=of).contains(&part) => {
            let shard = format!("{}/{of}", part - 1);
            Ok(["--sharding", "round-robin", "--shard", &shard].map(String::from).into())
        }
        _ => Err(anyhow!("PORTCULLIS_MUTANTS_PART={text}: it may be 1/8, for one of eight parts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("m{n:03}")).collect()
    }

    #[test]
    fn a_sample_is_of_its_size_in_order_and_follows_from_the_seed() {
        let all = names(500);
        let one = sample(&all, 300, 7);
        assert_eq!(one.len(), 300);
        assert!(one.is_sorted() && one.iter().all(|name| all.contains(name)));
        assert_eq!(one, sample(&all, 300, 7));
        assert_ne!(one, sample(&all, 300, 8));
        assert_eq!(sample(&all, 900, 7), all);
    }

    #[test]
    fn every_file_has_its_share_of_a_spread() {
        let all = names(130);
        for seed in 0..3 {
            let some = spread(&all, 60, seed);
            assert!((43..=44).contains(&some.len()), "{}", some.len());
            assert!(some.iter().any(|name| name.starts_with("m12")), "{some:?}");
        }
        assert_eq!(spread(&names(60), 60, 9), names(60));
        assert!(spread(&[], 60, 9).is_empty());
    }

    #[test]
    fn parts_count_from_one() {
        let words = part("8/8").map(|words| words.join(" "));
        assert_eq!(words.unwrap(), "--sharding round-robin --shard 7/8");
        for text in ["0/8", "9/8", "8", "a/b", ""] {
            assert!(part(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_stands_for_itself() {
        let name = "a.rs:1:2: replace <A as B>::c -> (u8, y) with Some(&d | e[1]^2)";
        let regex = r"a\.rs:1:2: replace <A as B>::c -> \(u8, y\) with Some\(&d \| e\[1\]\^2\)";
        assert_eq!(escaped(name), regex);
    }
}
