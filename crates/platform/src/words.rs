// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of a module's bootargs that configure its VM: `vm.name=`, `vm.mem=` and so on.
//!
//! Every word is described in docs/vm-words.md.

use crate::error::{Error, err};
use crate::number;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Ipa, PAGE_SIZE, Range};
use mmio_guard::{Dialect, Policy};

/// The words there are.
pub const WORDS: [&str; 12] = [
    "vm.name",
    "vm.mem",
    "vm.cpus",
    "vm.guard",
    "vm.dialect",
    "vm.allow",
    "vm.preset",
    "vm.rom",
    "vm.load",
    "vm.ipa",
    "vm.pool",
    "vm.testdev",
];

/// Most vCPUs of a VM.
pub const MAX_VCPUS: usize = 8;
/// Most ranges in one list.
pub const MAX_RANGES: usize = 16;
/// Largest table pool of a VM, in pages.
pub const MAX_POOL_PAGES: usize = 65_536;
/// Longest name of a VM, in bytes.
pub const MAX_NAME: usize = 31;
/// RAM comes in pieces of this size.
pub(crate) const RAM_PIECE: u64 = 2 << 20;

/// What the words of one module say; `None` or empty where a word is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub name: Option<String>,
    pub mem: Option<u64>,
    pub cpus: Option<usize>,
    pub guard: Option<Policy>,
    pub dialect: Option<Dialect>,
    pub allow: Vec<Range<Ipa>>,
    pub preset: Vec<Range<Ipa>>,
    pub rom: Vec<Range<Ipa>>,
    pub load: Option<Ipa>,
    pub ipa: Option<u8>,
    pub pool: Option<usize>,
    pub testdev: Option<Ipa>,
}

/// Splits bootargs into what the `vm.` words say and the words that are left for the guest.
///
/// Words end at white space outside double quotes, as Linux has it; those left are joined by one
/// space. `module` is the path named in errors.
pub(crate) fn parse(module: &str, bootargs: &str) -> Result<(Words, String), Error> {
    let mut words = Words::default();
    let mut rest = String::new();
    let mut seen: Vec<&str> = Vec::new();
    for word in split(bootargs) {
        let bare = word.trim_start_matches('"');
        if !bare.starts_with("vm.") {
            if !rest.is_empty() {
                rest.push(' ');
            }
            rest.push_str(word);
            continue;
        }
        if word.contains('"') {
            return Err(err!(Word, "{module}: '{word}': write vm. words without quotes"));
        }
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if !WORDS.contains(&key) {
            return Err(unknown(module, word, key));
        }
        if seen.contains(&key) {
            return Err(err!(Word, "{module}: '{key}' is given twice; keep one"));
        }
        seen.push(key);
        words.set(key, value).map_err(|expected| {
            err!(Word, "{module}: bad value in '{word}': {key} takes {expected}")
        })?;
    }
    Ok((words, rest))
}

/// The words of `text`, quotes kept.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character: char| {
        if character == '"' {
            quoted = !quoted;
        }
        !quoted && character.is_ascii_whitespace()
    })
    .filter(|word| !word.is_empty())
}

fn unknown(module: &str, word: &str, key: &str) -> Error {
    let nearest = WORDS
        .iter()
        .map(|known| (distance(known, key), *known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match nearest {
        Some((_, known)) => {
            err!(Word, "{module}: unknown word '{word}'; did you mean {known}=?")
        }
        None => {
            err!(Word, "{module}: unknown word '{word}'; there are {}", WORDS.join(" "))
        }
    }
}

/// Edits (insert, delete, replace) from one text to the other; 255 where one is absurdly long.
fn distance(from: &str, to: &str) -> usize {
    if from.len() > 64 || to.len() > 64 {
        return 255;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, left) in from.bytes().enumerate() {
        let mut diagonal = line;
        let mut before = line.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, right) in row.iter_mut().skip(1).zip(to.bytes()) {
            let replaced = diagonal.saturating_add(usize::from(left != right));
            diagonal = *cell;
            *cell = replaced.min(cell.saturating_add(1)).min(before.saturating_add(1));
            before = *cell;
        }
    }
    row.last().copied().unwrap_or(255)
}

/// What a word takes, for the message about a bad value.
type Expected = &'static str;

impl Words {
    fn set(&mut self, key: &str, value: &str) -> Result<(), Expected> {
        match key {
            "vm.name" => self.name = Some(name(value)?),
            "vm.mem" => self.mem = Some(mem(value)?),
            "vm.cpus" => {
                self.cpus = Some(bounded(value, 1, MAX_VCPUS).ok_or("a number from 1 to 8")?);
            }
            "vm.guard" => {
                self.guard = Some(Policy::parse(value).ok_or("off, enrol or enforce")?);
            }
            "vm.dialect" => {
                self.dialect = Some(Dialect::parse(value).ok_or("pkvm or series")?);
            }
            "vm.allow" => self.allow = pages(value)?,
            "vm.preset" => self.preset = pages(value)?,
            "vm.rom" => self.rom = pages(value)?,
            "vm.load" => self.load = Some(page(value)?),
            "vm.ipa" => {
                let bits = bounded(value, 32, 48).and_then(|bits| u8::try_from(bits).ok());
                self.ipa = Some(bits.ok_or("a number of bits from 32 to 48")?);
            }
            "vm.pool" => {
                let pages = bounded(value, 0, MAX_POOL_PAGES);
                self.pool = Some(pages.ok_or("a number of pages from 0 to 65536")?);
            }
            _ => self.testdev = Some(page(value)?),
        }
        Ok(())
    }
}

fn name(value: &str) -> Result<String, Expected> {
    if value.eq_ignore_ascii_case("hyp") {
        return Err("any name but hyp, which is the hypervisor's own");
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if value.is_empty() || value.len() > MAX_NAME || !value.bytes().all(fits) {
        return Err("1 to 31 letters, digits, '-', '_' or '.'");
    }
    Ok(String::from(value))
}

fn mem(value: &str) -> Result<u64, Expected> {
    number::number(value)
        .filter(|size| *size != 0 && size.is_multiple_of(RAM_PIECE))
        .ok_or("a size like 128M: a multiple of 2M, not 0")
}

fn bounded(value: &str, least: usize, most: usize) -> Option<usize> {
    let number = usize::try_from(number::number(value)?).ok()?;
    (least..=most).contains(&number).then_some(number)
}

fn page(value: &str) -> Result<Ipa, Expected> {
    number::number(value)
        .map(Ipa::new)
        .filter(|ipa| ipa.is_aligned(PAGE_SIZE))
        .ok_or("an address like 0x4000000, a multiple of 4K")
}

fn pages(value: &str) -> Result<Vec<Range<Ipa>>, Expected> {
    let ranges = number::ranges(value).ok_or("IPA+SIZE[:IPA+SIZE...], like 0x9000000+4K")?;
    if ranges.len() > MAX_RANGES {
        return Err("at most 16 ranges; join some");
    }
    let whole = |range: &Range<Ipa>| {
        range.size() != 0
            && range.start().is_aligned(PAGE_SIZE)
            && range.size().is_multiple_of(PAGE_SIZE)
    };
    if !ranges.iter().all(whole) {
        return Err("ranges whose address and size are multiples of 4K, not empty");
    }
    Ok(ranges)
}
