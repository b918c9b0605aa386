// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options of a module's bootargs that configure its VM: `vm.name=`, `vm.mem=` and so on. The properties of a
//! bundle's node are the same without `vm.`.
//!
//! Each option is described in docs/vm-words.md.

use crate::error::{Error, err};
use crate::fdt::cells::CellReader;
use crate::vm::cpu_share::{self, CpuOptions, MAX_PRIORITY, SLICES};
use crate::vm::memory_map::RAM_PIECE;
use crate::vm::parse_number;
use crate::vm::passthrough::MAX_PASSED;
use crate::vm::role::Role;
use crate::vm::served::{self, MAX_IO_TIMEOUT, ServedOptions};
use crate::vm::share;
use alloc::string::String;
use alloc::vec::Vec;
use arch::guest_map::{MAX_FLASH, MAX_FLASH_BYTES, MIN_FLASH_BYTES};
use arch::{Ipa, MAX_VCPUS, OnCrash, OnLoss, PAGE_SIZE, Range};
use core::fmt::Display;
use dtoolkit::FromPropertyValue;
use mmio_guard::{Dialect, Policy};

/// All options.
pub const OPTIONS: [&str; 27] = [
    "vm.name",
    "vm.mem",
    "vm.cpus",
    "vm.guard",
    "vm.dialect",
    "vm.allow",
    "vm.preset",
    "vm.rom",
    "vm.flash",
    "vm.dev",
    "vm.load",
    "vm.dtb",
    "vm.ipa",
    "vm.pool",
    "vm.testdev",
    "vm.slice",
    "vm.affinity",
    "vm.dedicated",
    "vm.priority",
    "vm.budget",
    "vm.oncrash",
    "vm.role",
    "vm.devices",
    "vm.forward",
    "vm.share",
    "vm.iotimeout",
    "vm.onloss",
];

/// Most ranges in one list.
pub const MAX_RANGES: usize = 16;
/// Largest table pool of a VM, in pages.
pub const MAX_POOL_PAGES: usize = 65_536;
/// Longest name of a VM, in bytes.
pub const MAX_NAME: usize = 31;

/// What the options of one module say; `None` or empty where an option is not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub name: Option<String>,
    pub mem: Option<u64>,
    pub cpus: Option<usize>,
    pub guard: Option<Policy>,
    pub dialect: Option<Dialect>,
    pub allow: Vec<Range<Ipa>>,
    pub preset: Vec<Range<Ipa>>,
    pub rom: Vec<Range<Ipa>>,
    pub flash: Vec<Range<Ipa>>,
    pub dev: Vec<String>,
    pub load: Option<Load>,
    pub dtb: Option<Ipa>,
    pub ipa: Option<u8>,
    pub pool: Option<usize>,
    pub testdev: Option<Ipa>,
    pub share: CpuOptions,
    pub on_crash: Option<OnCrash>,
    pub role: Role,
    pub served: ServedOptions,
}

/// Where the owner wants the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// At this address, a multiple of 4.
    At(Ipa),
    /// At the start of RAM, plus the text_offset of its Image header.
    Ram,
}

/// Splits bootargs into what the `vm.` options say and the words that are left for the guest.
///
/// Words end at white space outside double quotes, as Linux has it; those left are joined by one
/// space. `module` is the path named in errors.
pub(crate) fn parse(module: &str, bootargs: &str) -> Result<(Options, String), Error> {
    let mut options = Options::default();
    let mut rest = String::new();
    let mut seen: Vec<&str> = Vec::new();
    for word in split(bootargs) {
        if !is_ours(word) {
            if !rest.is_empty() {
                rest.push(' ');
            }
            rest.push_str(word);
            continue;
        }
        if word.contains('"') {
            return Err(err!(Option, "{module}: '{word}': write vm. options without quotes"));
        }
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if !OPTIONS.contains(&key) {
            return Err(unknown(module, "option", word, &OPTIONS, "="));
        }
        once(module, &mut seen, key)?;
        options.take(module, key, Value::Text(value), &word)?;
    }
    Ok((options, rest))
}

/// Whether a word of bootargs is, or was meant to be, one for us.
pub(crate) fn is_ours(word: &str) -> bool {
    word.trim_start_matches('"').starts_with("vm.")
}

/// The words of `text`, quotes kept.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character: char| {
        if character == '"' {
            quoted = !quoted;
        }
        !quoted && character.is_ascii_whitespace()
    })
    .filter(|word| !word.is_empty())
}

/// Notes that `key` is given, which it may be once.
pub(crate) fn once<'a>(node: &str, seen: &mut Vec<&'a str>, key: &'a str) -> Result<(), Error> {
    if seen.contains(&key) {
        return Err(err!(Option, "{node}: '{key}' is given twice; keep one"));
    }
    seen.push(key);
    Ok(())
}

/// What to say of a `word` or a `property` that is not among `all`; `sign` is what lies behind one.
pub(crate) fn unknown(node: &str, kind: &str, given: &str, all: &[&str], sign: &str) -> Error {
    let key = given.split('=').next().unwrap_or_default();
    let nearest = all
        .iter()
        .map(|known| (distance(known, key), *known))
        .min()
        .filter(|(distance, known)| *distance <= 2 && *distance <= known.len() / 2);
    match nearest {
        Some((_, known)) => {
            err!(Option, "{node}: unknown {kind} '{given}'; did you mean {known}{sign}?")
        }
        None => {
            err!(Option, "{node}: unknown {kind} '{given}'; there are {}", all.join(" "))
        }
    }
}

/// What a word is given: text of bootargs, or the property of a bundle's node.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    /// A string; or a number in one cell or two; or ranges, two cells each for address and size.
    Property(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Property(value) => <&str>::from_property_value(value).ok(),
        }
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Text(text) => parse_number::number(text),
            Self::Property(value) if matches!(value.len(), 4 | 8) => {
                CellReader::new(value).next(value.len() / 4)
            }
            Self::Property(_) => None,
        }
    }

    fn ranges(self) -> Option<Vec<Range<Ipa>>> {
        let value = match self {
            Self::Text(text) => return parse_number::ranges(text),
            Self::Property(value) => value,
        };
        let mut reader = CellReader::new(value);
        let mut found = Vec::new();
        // One more than may be is enough to refuse them.
        while found.is_empty() || !reader.is_empty() && found.len() <= MAX_RANGES {
            found.push(Range::<Ipa>::new(Ipa::new(reader.next(2)?), reader.next(2)?)?);
        }
        Some(found)
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

impl Options {
    /// Takes what `key`, one of [`OPTIONS`], is given by `node`; `given` is how errors quote it.
    pub(crate) fn take(
        &mut self,
        node: &str,
        key: &str,
        value: Value<'_>,
        given: &dyn Display,
    ) -> Result<(), Error> {
        self.set(key, value).map_err(|expected| match value {
            Value::Text(_) => {
                err!(Option, "{node}: bad value in '{given}': {key} takes {expected}")
            }
            Value::Property(_) => err!(
                Option,
                "{node}: bad value in '{given}': {key} takes {expected}; in a bundle numbers are \
                 cells, of a range two for its address and two for its size"
            ),
        })
    }

    fn set(&mut self, key: &str, value: Value<'_>) -> Result<(), Expected> {
        match key {
            "vm.name" => self.name = Some(name(value.text().unwrap_or_default())?),
            "vm.mem" => self.mem = Some(mem(value)?),
            "vm.cpus" => {
                self.cpus = Some(bounded(value, 1, MAX_VCPUS).ok_or("a number from 1 to 8")?);
            }
            "vm.guard" => {
                let policy = value.text().and_then(Policy::parse);
                self.guard = Some(policy.ok_or("off, enrol or enforce")?);
            }
            "vm.dialect" => {
                let dialect = value.text().and_then(Dialect::parse);
                self.dialect = Some(dialect.ok_or("pkvm or series")?);
            }
            "vm.allow" => self.allow = pages(value)?,
            "vm.preset" => self.preset = pages(value)?,
            "vm.rom" => self.rom = pages(value)?,
            "vm.flash" => self.flash = banks(value)?,
            "vm.dev" => self.dev = paths(value)?,
            "vm.load" => self.load = Some(load(value)?),
            "vm.dtb" => self.dtb = Some(page(value)?),
            "vm.ipa" => {
                let bits = bounded(value, 32, 48).and_then(|bits| u8::try_from(bits).ok());
                self.ipa = Some(bits.ok_or("a number of bits from 32 to 48")?);
            }
            "vm.pool" => {
                let pages = bounded(value, 0, MAX_POOL_PAGES);
                self.pool = Some(pages.ok_or("a number of pages from 0 to 65536")?);
            }
            "vm.slice" => {
                let slice = bounded(value, *SLICES.start(), *SLICES.end());
                self.share.slice = Some(slice.ok_or("microseconds from 500 to 100000")? as u64);
            }
            "vm.affinity" => {
                let cpus = value.text().and_then(cpu_share::cpus);
                self.share.affinity = cpus.ok_or("CPUs, N[-N][:N...], each once, like 0-1:3")?;
            }
            "vm.dedicated" => {
                if !matches!(value, Value::Text("") | Value::Property([])) {
                    return Err("no value");
                }
                self.share.dedicated = true;
            }
            "vm.priority" => {
                let priority = bounded(value, 0, MAX_PRIORITY.into());
                let priority = priority.and_then(|priority| u8::try_from(priority).ok());
                self.share.priority = Some(priority.ok_or("a number from 0 to 31")?);
            }
            "vm.budget" => {
                let budget = value.text().and_then(cpu_share::budget);
                self.share.budget = Some(budget.ok_or(
                    "US/PERIOD in microseconds, like 200/1000: at least 20, a period from 200 to 1000000",
                )?);
            }
            "vm.oncrash" => {
                let what = value.text().and_then(OnCrash::parse);
                self.on_crash = Some(what.ok_or("stop, restart or pause")?);
            }
            "vm.role" => self.role = role(value)?,
            "vm.devices" => {
                let devices = value.text().and_then(served::devices);
                self.served.devices = Some(devices.ok_or(
                    "SERVER:KIND[:KIND...], at most 16 of net, blk, console, rng, scsi, 9p, input, vsock, \
                     sound, fs, i2c, gpio or a DeviceID, like store:blk:net",
                )?);
            }
            "vm.forward" => {
                let forward = value.text().and_then(served::forward);
                self.served.forward = Some(forward.ok_or(
                    "SERVER:IPA+SIZE[:IPA+SIZE...], at most 8 ranges whose address and size are \
                     multiples of 4K, not empty, like store:0xc000000+4K",
                )?);
            }
            "vm.share" => {
                let share = value.text().and_then(share::parse);
                self.served.share = Some(share.ok_or(
                    "guest, all, or pool:SIZE[:auto] with a multiple of 2M, like pool:8M",
                )?);
            }
            "vm.iotimeout" => {
                let seconds = bounded(value, 0, MAX_IO_TIMEOUT as usize);
                let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
                self.served.io_timeout =
                    Some(seconds.ok_or("seconds from 1 to 86400, or 0 for ever")?);
            }
            "vm.onloss" => {
                let what = value.text().and_then(OnLoss::parse);
                self.served.on_loss = Some(what.ok_or("wait or abort")?);
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

fn role(value: Value<'_>) -> Result<Role, Expected> {
    match value.text() {
        Some("device") => Ok(Role::Device),
        Some("control" | "device:control") => Err("device; the control role does not exist yet"),
        _ => Err("device"),
    }
}

fn mem(value: Value<'_>) -> Result<u64, Expected> {
    value
        .number()
        .filter(|size| *size != 0 && size.is_multiple_of(RAM_PIECE))
        .ok_or("a size like 128M: a multiple of 2M, not 0")
}

fn bounded(value: Value<'_>, least: usize, most: usize) -> Option<usize> {
    let number = usize::try_from(value.number()?).ok()?;
    (least..=most).contains(&number).then_some(number)
}

fn page(value: Value<'_>) -> Result<Ipa, Expected> {
    value
        .number()
        .map(Ipa::new)
        .filter(|ipa| ipa.is_aligned(PAGE_SIZE))
        .ok_or("an address like 0x4000000, a multiple of 4K")
}

fn load(value: Value<'_>) -> Result<Load, Expected> {
    // An instruction's size: what image wants more says so in its header.
    let at = value.number().map(Ipa::new).filter(|ipa| ipa.is_aligned(4)).map(Load::At);
    let ram = || value.text().filter(|text| *text == "ram").map(|_| Load::Ram);
    at.or_else(ram).ok_or("an address like 0x4000000, a multiple of 4, or ram")
}

fn pages(value: Value<'_>) -> Result<Vec<Range<Ipa>>, Expected> {
    let ranges = value.ranges().ok_or("IPA+SIZE[:IPA+SIZE...], like 0x9000000+4K")?;
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

fn banks(value: Value<'_>) -> Result<Vec<Range<Ipa>>, Expected> {
    let ranges = pages(value)?;
    let bank = |range: &Range<Ipa>| {
        range.size().is_power_of_two()
            && (MIN_FLASH_BYTES..=MAX_FLASH_BYTES).contains(&range.size())
            && range.start().is_aligned(range.size())
    };
    if ranges.len() > MAX_FLASH || !ranges.iter().all(bank) {
        return Err("at most 4 banks of 256K, 512K, 1M ... 16M, each at a multiple of its size");
    }
    Ok(ranges)
}

fn paths(value: Value<'_>) -> Result<Vec<String>, Expected> {
    let value = value.text().unwrap_or_default();
    let paths: Vec<String> = value.split(':').map(String::from).collect();
    if paths.len() > MAX_PASSED || !paths.iter().all(|path| path.starts_with('/')) {
        return Err("at most 7 paths of the machine's tree, /pl031@9010000[:/...]");
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::vm::cpu_share::BudgetUs;
    use crate::vm::served::{DeviceId, Named};
    use crate::vm::share::ShareOption;
    use alloc::format;
    use alloc::string::ToString;

    fn parsed(bootargs: &str) -> (Options, String) {
        parse("/m", bootargs).unwrap()
    }

    fn refused(bootargs: &str) -> String {
        let error = parse("/m", bootargs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Option);
        error.to_string()
    }

    fn range(start: u64, size: u64) -> Range<Ipa> {
        Range::<Ipa>::new(Ipa::new(start), size).unwrap()
    }

    #[test]
    fn every_word_is_read() {
        let all = "vm.name=guest-1 vm.mem=256M vm.cpus=4 vm.guard=enforce vm.dialect=series \
                   vm.allow=0x8000000+64K:0x9000000+4K vm.preset=0x9000000+4K \
                   vm.rom=0x0+64M:0x4000000+256K vm.load=0x0 vm.dtb=0x48000000 vm.ipa=36 vm.pool=7 \
                   vm.testdev=0xa000000 vm.flash=0x8000000+1M:0xc000000+256K \
                   vm.dev=/pl031@9010000:/soc/serial@1 vm.slice=2000 \
                   vm.oncrash=pause vm.affinity=1-2:0:3 vm.dedicated= vm.priority=30 vm.budget=200/1000 \
                   vm.role=device vm.devices=store:blk:0x1a:net vm.forward=store:0xc000000+8K:0xd000000+4K \
                   vm.share=pool:8M:auto vm.iotimeout=0 vm.onloss=abort";
        let (options, rest) = parsed(all);
        let expected = Options {
            name: Some("guest-1".to_string()),
            mem: Some(256 << 20),
            cpus: Some(4),
            guard: Some(Policy::Enforce),
            dialect: Some(Dialect::Series),
            allow: [range(0x800_0000, 0x1_0000), range(0x900_0000, 0x1000)].to_vec(),
            preset: [range(0x900_0000, 0x1000)].to_vec(),
            rom: [range(0, 64 << 20), range(0x400_0000, 256 << 10)].to_vec(),
            flash: [range(0x800_0000, 1 << 20), range(0xc00_0000, 256 << 10)].to_vec(),
            dev: ["/pl031@9010000".to_string(), "/soc/serial@1".to_string()].to_vec(),
            load: Some(Load::At(Ipa::new(0))),
            dtb: Some(Ipa::new(0x4800_0000)),
            ipa: Some(36),
            pool: Some(7),
            testdev: Some(Ipa::new(0xa00_0000)),
            share: CpuOptions {
                affinity: [1, 2, 0, 3].to_vec(),
                dedicated: true,
                priority: Some(30),
                budget: Some(BudgetUs { us: 200, period: 1000 }),
                slice: Some(2000),
            },
            on_crash: Some(OnCrash::Pause),
            role: Role::Device,
            served: ServedOptions {
                devices: Some(Named {
                    server: "store".to_string(),
                    what: [2, 26, 1].map(|id| DeviceId::new(id).unwrap()).to_vec(),
                }),
                forward: Some(Named {
                    server: "store".to_string(),
                    what: [range(0xc00_0000, 0x2000), range(0xd00_0000, 0x1000)].to_vec(),
                }),
                share: Some(ShareOption::Pool { size: 8 << 20, auto: true }),
                io_timeout: Some(0),
                on_loss: Some(OnLoss::Abort),
            },
        };
        assert_eq!(options, expected);
        assert_eq!(rest, "");
        // The table of the options and what reads them agree.
        for word in OPTIONS {
            assert!(all.contains(&format!("{word}=")), "{word}");
        }
    }

    #[test]
    fn no_words_say_nothing() {
        for text in ["", "  ", "\t\n"] {
            assert_eq!(parsed(text), (Options::default(), String::new()));
        }
    }

    #[test]
    fn only_vm_words_are_taken_out() {
        let (options, rest) = parsed(
            "  console=ttyAMA0\tvm.mem=64M vmalloc=1G  sysctl.vm.swappiness=1 vm=1 -- init\n",
        );
        assert_eq!(options.mem, Some(64 << 20));
        assert_eq!(rest, "console=ttyAMA0 vmalloc=1G sysctl.vm.swappiness=1 vm=1 -- init");
    }

    #[test]
    fn quoted_text_of_the_guest_is_left_alone() {
        let (options, rest) = parsed("dyndbg=\"file vm.c +p; vm.mem=1G\" vm.cpus=2 x=\"a  b\"");
        assert_eq!(options, Options { cpus: Some(2), ..Options::default() });
        assert_eq!(rest, "dyndbg=\"file vm.c +p; vm.mem=1G\" x=\"a  b\"");
        // Not ended: all of the rest is one word.
        assert_eq!(parsed("x=\"a vm.cpus=2").1, "x=\"a vm.cpus=2");
    }

    #[test]
    fn words_in_quotes_are_refused_not_passed_on() {
        for text in ["\"vm.mem=64M\"", "vm.mem=\"64M\"", "\"vm.guard=enforce", "\"\"vm.cpus=2"] {
            assert!(refused(text).contains("without quotes"), "{text}");
        }
    }

    #[test]
    fn unknown_words_are_refused_by_name() {
        let near = [
            ("vm.meme=1G", "vm.mem="),
            ("vm.Mem=1G", "vm.mem="),
            ("vm.gard=off", "vm.guard="),
            ("vm.cpu=2", "vm.cpus="),
            ("vm.dailect=pkvm", "vm.dialect="),
            ("vm.alow=0+4K", "vm.allow="),
            ("vm.roms=0+4K", "vm.rom="),
        ];
        for (word, meant) in near {
            let message = refused(&format!("quiet {word}"));
            assert_eq!(message, format!("/m: unknown option '{word}'; did you mean {meant}?"));
        }
        for word in ["vm.", "vm.=", "vm.console=uart", "vm.memory", "vm..mem=1G", "vm.mem,=1"] {
            let message = refused(word);
            assert!(message.starts_with(&format!("/m: unknown option '{word}'")), "{message}");
        }
        assert!(refused("vm.bandwidth=1").contains("there are vm.name vm.mem "));
        // Long ones are cut, not compared.
        assert!(refused(&format!("vm.{}", "x".repeat(100_000))).len() < 500);
    }

    #[test]
    fn a_word_given_twice_is_refused() {
        for word in OPTIONS {
            let value = match word {
                "vm.name" => "a",
                "vm.mem" => "64M",
                "vm.guard" => "off",
                "vm.dialect" => "pkvm",
                "vm.oncrash" => "stop",
                "vm.role" => "device",
                "vm.devices" => "a:blk",
                "vm.forward" => "a:0+4K",
                "vm.share" => "all",
                "vm.onloss" => "wait",
                "vm.allow" | "vm.preset" | "vm.rom" => "0+4K",
                "vm.flash" => "0+1M",
                "vm.dev" => "/a",
                "vm.ipa" => "40",
                "vm.slice" => "500",
                "vm.dedicated" => "",
                "vm.budget" => "20/1000",
                "vm.load" | "vm.dtb" | "vm.testdev" => "0",
                _ => "1",
            };
            let message = refused(&format!("{word}={value} x {word}={value}"));
            assert_eq!(message, format!("/m: '{word}' is given twice; keep one"));
        }
    }

    #[test]
    fn bad_values_are_refused_with_what_is_possible() {
        let table: [(&str, &[&str], &str); 28] = [
            ("vm.affinity", &["", "1-0", "0:0", "a", "0;1"], "N[-N][:N...]"),
            ("vm.dedicated", &["1", "yes"], "takes no value"),
            ("vm.priority", &["", "32", "high"], "a number from 0 to 31"),
            ("vm.budget", &["", "200", "19/1000", "2000/1000", "50/100"], "like 200/1000"),
            ("vm.slice", &["", "0", "499", "100001", "4ms"], "microseconds from 500 to 100000"),
            (
                "vm.name",
                &["", "a b", "a/b", "[x]", "\u{e9}", "a\u{1b}", "0123456789012345678901234567890x"],
                "",
            ),
            ("vm.name", &["hyp", "HYP", "Hyp"], "hypervisor"),
            (
                "vm.mem",
                &["", "0", "0M", "1M", "3M", "4097K", "-2M", "2MB", "128", "much"],
                "multiple of 2M",
            ),
            ("vm.cpus", &["", "0", "9", "-1", "1.5", "two", "1K"], "1 to 8"),
            ("vm.guard", &["", "on", "Off", "enroll", "enforced", "1"], "off, enrol or enforce"),
            ("vm.oncrash", &["", "halt", "Stop", "1"], "stop, restart or pause"),
            ("vm.role", &["", "guest", "Device", "device:"], "takes device"),
            ("vm.role", &["control", "device:control"], "the control role does not exist yet"),
            (
                "vm.devices",
                &[
                    "",
                    "store",
                    "store:",
                    ":blk",
                    "store:disk",
                    "store:0",
                    "store:blk:",
                    "store:1K",
                    "store:0x100000000",
                    "s:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1",
                ],
                "like store:blk:net",
            ),
            (
                "vm.forward",
                &[
                    "",
                    "store",
                    "0xc000000+4K",
                    ":0xc000000+4K",
                    "store:",
                    "store:0xc000000",
                    "store:0xc000800+4K",
                    "store:0xc000000+0",
                    "s:0+4K:1M+4K:2M+4K:3M+4K:4M+4K:5M+4K:6M+4K:7M+4K:8M+4K",
                ],
                "at most 8 ranges",
            ),
            ("vm.share", &["", "pool", "pool:1M", "pool:0", "none", "all:auto"], "like pool:8M"),
            ("vm.iotimeout", &["", "-1", "86401", "1s"], "1 to 86400, or 0 for ever"),
            ("vm.onloss", &["", "stop", "Wait"], "wait or abort"),
            ("vm.dialect", &["", "pKVM", "linux", "serie"], "pkvm or series"),
            ("vm.allow", &["", "0x9000000", "0x9000000+", "+4K", "0+4K:", "0+4K,0+4K"], "IPA+SIZE"),
            (
                "vm.preset",
                &["0x9000001+4K", "0x9000000+1", "0x9000000+0", "0+4K:1+4K"],
                "multiples of 4K",
            ),
            ("vm.rom", &["0xffffffffffffffff+1", "0+18446744073709551616"], "IPA+SIZE"),
            (
                "vm.flash",
                &["0+128K", "0+768K", "0x40000+1M", "0+32M", "0+1M:1M+1M:2M+1M:3M+1M:4M+1M"],
                "multiple of its size",
            ),
            (
                "vm.dev",
                &["", "pl031@9010000", "/a:", "/a:b", "/:/:/:/:/:/:/:/"],
                "paths of the machine's tree",
            ),
            ("vm.load", &["", "0x40000001", "0x802", "here", "RAM"], "multiple of 4, or ram"),
            ("vm.dtb", &["", "0x40000008", "ram"], "multiple of 4K"),
            ("vm.ipa", &["", "31", "49", "0", "255", "256", "288", "0x"], "32 to 48"),
            ("vm.pool", &["", "65537", "-1", "all"], "0 to 65536"),
        ];
        for (word, values, possible) in table {
            for value in values {
                if value.contains(' ') {
                    continue;
                }
                let message = refused(&format!("{word}={value}"));
                let start = Error::new(
                    ErrorKind::Option,
                    format_args!("/m: bad value in '{word}={value}': {word} takes "),
                );
                assert!(message.starts_with(start.message()), "{message}");
                assert!(message.contains(possible), "{message}");
            }
        }
        let many = ["0+4K"; MAX_RANGES + 1].join(":");
        assert!(refused(&format!("vm.allow={many}")).contains("at most 16 ranges"));
        assert!(refused("vm.testdev=0xa000800").contains("multiple of 4K"));
    }

    #[test]
    fn a_word_without_a_value_is_refused() {
        for word in OPTIONS.into_iter().filter(|word| *word != "vm.dedicated") {
            assert!(refused(word).contains("bad value"), "{word}");
        }
    }

    #[test]
    fn extremes_that_are_possible_are_taken() {
        assert_eq!(parsed("vm.mem=2M").0.mem, Some(2 << 20));
        assert_eq!(parsed("vm.cpus=1").0.cpus, Some(1));
        assert_eq!(parsed("vm.cpus=8").0.cpus, Some(8));
        assert_eq!(parsed("vm.ipa=32").0.ipa, Some(32));
        assert_eq!(parsed("vm.ipa=48").0.ipa, Some(48));
        assert_eq!(parsed("vm.pool=0").0.pool, Some(0));
        assert_eq!(parsed("vm.pool=65536").0.pool, Some(65_536));
        assert_eq!(parsed("vm.name=hyper").0.name.unwrap(), "hyper");
        let name = "x".repeat(MAX_NAME);
        assert_eq!(parsed(&format!("vm.name={name}")).0.name.unwrap(), name);
        let many = ["0+4K"; MAX_RANGES].join(":");
        assert_eq!(parsed(&format!("vm.allow={many}")).0.allow.len(), MAX_RANGES);
        assert_eq!(parsed("vm.load=0xfffffffffffffffc").0.load, Some(Load::At(Ipa::new(!3))));
        assert_eq!(parsed("vm.load=ram").0.load, Some(Load::Ram));
        assert_eq!(parsed("vm.dtb=0xfffffffffffff000").0.dtb, Some(Ipa::new(!0xfff)));
    }

    #[test]
    fn distances_between_words() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("vm.mem", "vm.meme"), 1);
        // Up to 64 bytes are looked at, on either side.
        let (most, more) = ("x".repeat(64), "x".repeat(65));
        assert_eq!((distance(&most, ""), distance("", &most)), (64, 64));
        assert_eq!((distance(&more, ""), distance("", &more)), (255, 255));
    }
}
