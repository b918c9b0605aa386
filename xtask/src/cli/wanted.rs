// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guests on the command line of `run`, each with the options that follow it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};
use xtask::guests::boot::{self, BOOTS, Boot};

/// What a guest is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Image {
    /// The test guest, which shows what the guard does.
    #[default]
    Demo,
    /// VMs that show something together, and are all VMs then.
    Show(Show),
    /// A guest that is fetched or built.
    Named(Boot),
    /// The user's own file.
    File(PathBuf),
}

/// Several VMs that are booted, and judged, by one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// A device VM and those that it serves.
    Devices,
    /// A VM that must be in time, beside a busy one.
    Realtime,
}

impl Show {
    const ALL: [Self; 2] = [Self::Devices, Self::Realtime];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Realtime => "realtime",
        }
    }

    fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|show| show.name() == name)
    }
}

/// A guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What it is.
    pub image: Image,
    /// Boot arguments beyond its own, each behind a space.
    pub words: String,
    /// Its initial ramdisk.
    pub initrd: Option<PathBuf>,
}

/// All guests, in the order of the command line.
#[derive(Debug)]
pub struct Guests(pub Vec<Wanted>);

/// Names of guests are offered as completions; other words are files.
#[derive(Clone)]
struct ImageParser;

impl TypedValueParser for ImageParser {
    type Value = Image;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, word: &OsStr) -> Result<Image, Error> {
        let name = word.to_string_lossy();
        if name == "demo" || name == "stub" {
            return Ok(Image::Demo);
        }
        if let Some(show) = Show::called(&name) {
            return Ok(Image::Show(show));
        }
        if let Some(boot) = Boot::called(&name) {
            return Ok(Image::Named(boot));
        }
        if Path::new(word).is_file() {
            return Ok(Image::File(word.into()));
        }
        if Path::new(word).is_dir() {
            let why = format!("'{name}' is a folder: name an image, a bundle or a .dts in it");
            return Err(command.clone().error(ErrorKind::InvalidValue, why));
        }
        let why = format!(
            "there is no file '{name}', and no guest of that name; guests: demo, devices, realtime, {}",
            boot::names()
        );
        Err(command.clone().error(ErrorKind::InvalidValue, why))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let shows = Show::ALL.into_iter().map(Show::name);
        let names = ["demo"].into_iter().chain(shows).chain(BOOTS.iter().map(|boot| boot.name));
        Some(Box::new(names.map(PossibleValue::new)))
    }
}

impl Args for Guests {
    fn augment_args(command: Command) -> Command {
        let names = format!(
            "demo, which is judged and the default; devices, a VM that serves others, and realtime, a VM that must be in time beside a busy one, which take no other guest; {}",
            boot::names()
        );
        let guest = Arg::new("guest").value_name("GUEST").action(ArgAction::Append).num_args(1..);
        let vm = Arg::new("vm").long("vm").value_name("WORDS").action(ArgAction::Append);
        let initrd = Arg::new("initrd").long("initrd").value_name("FILE").action(ArgAction::Append);
        command
            .arg(guest.value_parser(ImageParser).hide_possible_values(true).help(format!(
                "A VM each, by name or by file. Names: {names}. Files: an arm64 Image, an ELF file or a flat \
                 binary; or one bundle or .dts, which describes all VMs. Ctrl-A x ends QEMU. With several VMs, \
                 Ctrl-] and a number gives one the keyboard"
            )))
            .arg(vm.allow_hyphen_values(true).help(
                "Boot arguments for the guest before it, such as \"vm.mem=256M vm.guard=enforce quiet\"",
            ))
            .arg(
                initrd
                    .value_parser(value_parser!(PathBuf))
                    .help("Initial ramdisk for the guest before it"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Values of the argument `id`, each with its place on the command line.
fn placed<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> Vec<(usize, T)> {
    let places = matches.indices_of(id).into_iter().flatten();
    places.zip(matches.get_many::<T>(id).into_iter().flatten().cloned()).collect()
}

/// The last guest before `place`.
fn before(guests: &mut [(usize, Wanted)], place: usize) -> Option<&mut Wanted> {
    guests.iter_mut().rev().find(|(at, _)| *at < place).map(|(_, guest)| guest)
}

impl FromArgMatches for Guests {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let images = placed::<Image>(matches, "guest");
        let words = placed::<String>(matches, "vm");
        let initrds = placed::<PathBuf>(matches, "initrd");
        let mut guests: Vec<(usize, Wanted)> = images
            .into_iter()
            .map(|(place, image)| (place, Wanted { image, ..Wanted::default() }))
            .collect();
        let options = words.iter().map(|(place, _)| place).chain(initrds.iter().map(|(at, _)| at));
        let first_option = options.min().copied();
        // Options in front of every name are for the demonstration.
        if guests.first().is_none_or(|(place, _)| first_option.is_some_and(|at| at < *place)) {
            guests.insert(0, (0, Wanted::default()));
        }
        for (place, words) in words {
            if let Some(guest) = before(&mut guests, place) {
                guest.words.push(' ');
                guest.words.push_str(&words);
            }
        }
        for (place, file) in initrds {
            if let Some(guest) = before(&mut guests, place) {
                guest.initrd = Some(file);
            }
        }
        Ok(Self(guests.into_iter().map(|(_, guest)| guest).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Vec<(Image, String, Option<PathBuf>)> {
        let command = Guests::augment_args(Command::new("run").no_binary_name(true));
        let matches = command.try_get_matches_from(words).unwrap();
        let all = Guests::from_arg_matches(&matches).unwrap().0;
        all.into_iter().map(|guest| (guest.image, guest.words, guest.initrd)).collect()
    }

    fn named(name: &str) -> Image {
        Image::Named(Boot::called(name).unwrap())
    }

    #[test]
    fn options_are_for_the_guest_before_them() {
        let none = String::new;
        assert_eq!(parse(&[]), [(Image::Demo, none(), None)]);
        assert_eq!(parse(&["--vm", "a"]), [(Image::Demo, " a".into(), None)]);
        assert_eq!(
            parse(&["--vm", "-a", "linux", "u-boot", "--initrd", "x", "--vm", "b", "--vm", "c d"]),
            [
                (Image::Demo, " -a".into(), None),
                (named("linux"), none(), None),
                (named("u-boot"), " b c d".into(), Some("x".into())),
            ]
        );
        assert_eq!(
            parse(&["linux", "--vm", "a", "linux"]),
            [(named("linux"), " a".into(), None), (named("linux"), none(), None)]
        );
    }

    #[test]
    fn a_word_that_is_no_name_is_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = file.path().to_str().unwrap();
        assert_eq!(parse(&[name, "stub"])[0].0, Image::File(file.path().into()));
    }
}
