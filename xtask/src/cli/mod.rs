// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of `cargo xtask` and of the scripts that call it.
//!
//! # Key types
//!
//! - [`Cli`]: a parsed command line; [`Cli::run`] does what it says.
//!
//! # Invariants
//!
//! - A command line that is refused changes nothing: it is parsed before anything is built or fetched.

mod prepare;
mod run;
#[cfg(test)]
mod tests;
mod wanted;

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use xtask::boards::check::{Report, Verdict};
use xtask::boards::{self, Part};
use xtask::build::{self, Artifacts};
use xtask::catalogue::{self, Registry};
use xtask::guests::{self, Guest};
use xtask::symbolize::Symbolizer;
use xtask::{assure, bench, bundle, commits, doc, esr, layout, paths, stub, testing};

/// Builds Portcullis's images and drives them in QEMU
#[derive(Debug, Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    max_term_width = 110,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Set up what is missing and build first, as the scripts do
    #[arg(long)]
    prepare: bool,
    #[command(subcommand)]
    command: Command,
}

/// Commands that have a script of the same name in `scripts/`.
const SCRIPTS: [&str; 9] =
    ["assure", "bench", "board-check", "boards", "build", "bundle", "guests", "run", "test"];

const BENCH_NOTE: &str = "\
QEMU runs with `-icount shift=0`, where every instruction takes one nanosecond. Limits are in bench/operations.json, the
committed result is bench/reference.json. New results are in target/bench.json and target/bench-growth.svg.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Build target/portcullis.{bin,elf}, target/guest-stub.{bin,elf} and target/hello-guest.{bin,elf}
    Build(BuildArgs),
    /// Boot guests in QEMU: the demonstration, which is judged, or others to sit at
    Run(run::RunArgs),
    /// Run all tests: on the host, lints, then in QEMU
    #[command(after_help = "The last line is `N passed, N failed, N skipped`.")]
    Test(TestArgs),
    /// Put VMs and their images into one file, as docs/bundle.md describes
    Bundle(BundleArgs),
    /// Count executed instructions per operation, beside two floors and other hypervisors
    #[command(after_help = BENCH_NOTE)]
    Bench(BenchArgs),
    /// Fetch or build the real guests into target/guests, as docs/guests.md describes
    Guests(GuestsArgs),
    /// Fetch what the boards' tests need into target/boards, as docs/boards.md describes
    Boards(BoardsArgs),
    /// Show what Portcullis uses of a board, or why it refuses it, from the board's device tree
    BoardCheck(BoardCheckArgs),
    /// Run the checks beyond the tests, and print a table of figures, as docs/testing.md describes
    Assure(AssureArgs),
    /// Resolve the `image+0xOFFSET` of a backtrace
    Symbolize(SymbolizeArgs),
    /// Explain the fields of an exception syndrome, such as 0x96000010
    Esr {
        /// The syndrome
        value: String,
    },
    /// Run one fuzz target until it has tried enough
    Fuzz {
        /// Name of the target
        target: String,
        /// How much it tries; as much as a long run wants, if not given
        number: Option<u64>,
    },
    /// Write docs/assurance.md: which bugs and scenarios have a test, and which tests those are
    Catalogue,
    /// Check the messages of the commits after the one in .ci/checked-since
    Commits,
    /// Build the documentation of all crates, the images' with their private items
    Doc,
    /// Check the structure of the code: import cycles, the order of folders and crates, files that are too long
    Layout,
    /// List the tests of guest-stub
    List,
    /// Print completions of a shell for the scripts and for xtask
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
struct BuildArgs {
    /// Show cargo's own messages
    #[arg(short, long)]
    verbose: bool,
    /// Build this package only
    #[arg(short, long, value_parser = build::PACKAGES)]
    package: Option<String>,
    /// Cargo features of hyp, comma-separated
    #[arg(long, value_name = "LIST")]
    features: Option<String>,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Only what takes under two minutes once built
    #[arg(long)]
    quick: bool,
    /// Only the QEMU cases whose names contain this
    filter: Option<String>,
}

#[derive(Debug, Args)]
struct BundleArgs {
    /// VMs as a device-tree source; examples/ has some
    #[arg(value_name = "FILE.dts")]
    source: PathBuf,
    /// File to make: an initrd for Portcullis
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Make one arm64 Image instead: Portcullis with the bundle behind it
    #[arg(long)]
    with_hyp: bool,
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// Fail on an operation beyond its limit, or more than 2 % above the committed result
    #[arg(long, conflicts_with = "save")]
    check: bool,
    /// Make these results the committed ones, with the plot of docs/performance.md
    #[arg(long)]
    save: bool,
}

#[derive(Debug, Args)]
struct GuestsArgs {
    /// Make from the newest packages, even what is there
    #[arg(long)]
    update: bool,
    /// Show what is there, and from which package
    #[arg(long)]
    list: bool,
    /// Guests to make; without a name all but those with larger pages
    #[arg(value_name = "NAME", value_parser = named(Guest::ALL.map(Guest::name), Guest::called))]
    names: Vec<Guest>,
}

#[derive(Debug, Args)]
struct BoardsArgs {
    /// Fetch from the newest packages, even what is there
    #[arg(long)]
    update: bool,
    /// The vendors' device trees, or a QEMU that models more boards; both without a name
    #[arg(value_name = "PART", value_parser = named(Part::ALL.map(Part::name), Part::called))]
    parts: Vec<Part>,
}

#[derive(Debug, Args)]
struct BoardCheckArgs {
    /// Device trees; without one, the counts over all trees that ./scripts/boards fetched
    #[arg(value_name = "FILE.dtb")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct AssureArgs {
    /// The long form, which takes hours
    #[arg(long)]
    long: bool,
    /// Show the steps
    #[arg(long)]
    list: bool,
    /// Steps to run; without one, those of the form
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
}

#[derive(Debug, Args)]
struct SymbolizeArgs {
    /// The image with symbols; without it the one in target/
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
    /// The console's log; without one, standard input
    log: Option<PathBuf>,
}

/// A parser of the values called `names`, which `called` finds again.
fn named<const N: usize, T: Clone + Send + Sync + 'static>(
    names: [&'static str; N],
    called: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names)
        .try_map(move |name| called(&name).ok_or("it is not one of the names"))
}

/// The description of all commands. A command with a script shows the script's name.
fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    for name in SCRIPTS {
        command = command.mut_subcommand(name, |mut command| {
            let usage = command.render_usage().to_string();
            let words = usage.split_once(name).map_or("", |(_, words)| words);
            command.override_usage(format!("./scripts/{name}{words}"))
        });
    }
    command
}

/// Parses a command line, the program's name first.
///
/// # Errors
///
/// The command line is wrong, or asks for help.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    ///
    /// What went wrong, as a sentence for the person at the shell.
    pub fn run(self) -> Result<()> {
        if self.prepare {
            self.prepare()?;
        }
        match self.command {
            Command::Build(BuildArgs { verbose, package, features }) => {
                build::build(&build::Options { features, package, verbose }).map(drop)
            }
            Command::Run(arguments) => arguments.run(),
            Command::Test(TestArgs { quick, filter }) => {
                testing::run(&testing::Options { quick, filter })
            }
            Command::Bundle(arguments) => make_bundle(&arguments),
            Command::Bench(BenchArgs { check, save }) => bench::run(match (check, save) {
                (true, _) => bench::Purpose::Check,
                (_, true) => bench::Purpose::Save,
                _ => bench::Purpose::Show,
            }),
            Command::Guests(arguments) => make_guests(&arguments),
            Command::Boards(BoardsArgs { update, parts }) => {
                boards::make(if parts.is_empty() { &Part::ALL } else { &parts }, update)
            }
            Command::BoardCheck(arguments) => check_boards(&arguments.files),
            Command::Assure(arguments) => run_assurance(arguments),
            Command::Symbolize(arguments) => symbolize(&arguments),
            Command::Esr { value } => {
                print!("{}", esr::explain(&value)?);
                Ok(())
            }
            Command::Fuzz { target, number } => assure::fuzz::until_enough(&target, number),
            Command::Catalogue => write_catalogue(),
            Command::Layout => layout::run(&paths::root()),
            Command::Commits => commits::run(),
            Command::Doc => {
                for page in doc::build()? {
                    println!("{}", page.display());
                }
                Ok(())
            }
            Command::List => {
                for test in stub::list(&Artifacts::expected().guest_stub)? {
                    println!("{} [{}] {}", test.name, test.ids.join(" "), test.options);
                }
                Ok(())
            }
            Command::Completions { shell } => {
                completions(shell, &mut io::stdout());
                Ok(())
            }
        }
    }
}

/// Writes completions for xtask and for each script that is a command of it.
fn completions(shell: Shell, output: &mut impl io::Write) {
    clap_complete::generate(shell, &mut Cli::command(), "xtask", output);
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        if SCRIPTS.contains(&name) {
            clap_complete::generate(
                shell,
                &mut command.clone(),
                format!("./scripts/{name}"),
                output,
            );
        }
    }
}

impl GuestsArgs {
    fn wanted(&self) -> Vec<Guest> {
        match self.names.as_slice() {
            [] => Guest::ALL.into_iter().filter(|guest| !guest.on_request()).collect(),
            names => names.to_vec(),
        }
    }
}

fn make_guests(arguments: &GuestsArgs) -> Result<()> {
    if arguments.list {
        print!("{}", guests::table());
        return Ok(());
    }
    guests::make(&arguments.wanted(), arguments.update)
}

fn run_assurance(arguments: AssureArgs) -> Result<()> {
    if arguments.list {
        for step in assure::STEPS {
            let form = if step.long_only { " (long form only)" } else { "" };
            println!("{:<12} {}{form}", step.name, step.about);
        }
        return Ok(());
    }
    assure::run(&assure::Options { long: arguments.long, only: arguments.steps })
}

fn write_catalogue() -> Result<()> {
    let root = paths::root();
    let registry = Registry::collect(&root)?;
    let path = root.join(catalogue::PATH);
    std::fs::write(&path, catalogue::page(&registry))
        .with_context(|| path.display().to_string())?;
    let (bugs, scenarios) = registry.covered();
    println!("{}: {bugs} bugs and {scenarios} scenarios have a test", catalogue::PATH);
    Ok(())
}

fn make_bundle(BundleArgs { source, output, with_hyp }: &BundleArgs) -> Result<()> {
    let image = with_hyp.then(|| Artifacts::expected().hypervisor);
    let vms = bundle::make(source, output, image.as_deref())?;
    let plural = if vms.len() == 1 { "" } else { "s" };
    print!("{}: {} VM{plural}\n{}", output.display(), vms.len(), bundle::table(&vms));
    Ok(())
}

/// With files a report for each, without one the counts over all trees that were fetched.
fn check_boards(files: &[PathBuf]) -> Result<()> {
    let mut refused = 0;
    for file in files {
        let name = file.display().to_string();
        let blob = std::fs::read(file).with_context(|| name.clone())?;
        let report = Report::of(&blob);
        refused += usize::from(!matches!(report.verdict, Verdict::Bootable { .. }));
        println!("{name}\n{}", report.text);
    }
    if refused > 0 {
        bail!("{refused} of {} would be refused", files.len());
    }
    if files.is_empty() {
        print!("{}", boards::count_all()?.table());
    }
    Ok(())
}

fn symbolize(arguments: &SymbolizeArgs) -> Result<()> {
    let elf = arguments.elf.clone().unwrap_or_else(|| Artifacts::expected().hypervisor_elf);
    let symbolizer = Symbolizer::new(&elf)?;
    let input: Box<dyn BufRead> = match &arguments.log {
        Some(file) => {
            let file = std::fs::File::open(file).with_context(|| file.display().to_string())?;
            Box::new(BufReader::new(file))
        }
        None => Box::new(io::stdin().lock()),
    };
    for line in input.split(b'\n') {
        let line = line.context("cannot read")?;
        println!("{}", symbolizer.line(String::from_utf8_lossy(&line).trim_end()));
    }
    Ok(())
}
