// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands and their options.

use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use xtask::assure;
use xtask::bench;
use xtask::boards::check::{Report, Verdict};
use xtask::boards::{self, Part};
use xtask::build::{self, Artifacts, Options};
use xtask::catalogue::{self, Registry};
use xtask::error::{Context, Error, Result};
use xtask::guests::boot::{self, Boot};
use xtask::guests::{self, Guest};
use xtask::qemu::{Gic, Limits, Machine, Module, Session, Start};
use xtask::symbolize::Symbolizer;
use xtask::{bundle, demo, esr, paths, stub, testing};

const HELP: &str = "\
cargo xtask COMMAND

  build [--verbose] [--package hyp|guest-stub] [--features LIST]
      build target/portcullis.{bin,elf} and target/guest-stub.{bin,elf}
  run [GUEST..] [MACHINE OPTIONS]
      boot the demonstration guest in QEMU and judge what it says, or other guests; --help shows the options
  test [--quick] [FILTER]
      run all tests (with FILTER, only the QEMU cases whose names contain it); see ./scripts/test
  bundle FILE.dts -o FILE [--with-hyp]
      VMs and their images in one file; --help shows the options
  bench [--check | --save]
      count executed instructions per operation, beside floors and peers; see ./scripts/bench
  guests [--update | --list | --tools] [NAME..]
      fetch or build the real guests (those of every run, or those named) into target/guests; see docs/guests.md
  boards [--update] [trees|qemu]
      fetch the vendors' device trees, and a QEMU that models more boards, into target/boards; see docs/boards.md
  board-check [FILE.dtb..]
      what Portcullis would use or refuse of a board, from its device tree; without a file, of all that boards fetched
  symbolize [--elf FILE] [LOG]
      resolve the `image+0xOFFSET` of a backtrace, from LOG or standard input
  esr VALUE
      the fields of an exception syndrome
  assure [--long] [STEP..]
      what is checked beyond the tests, and a table of figures; see ./scripts/assure
  fuzz TARGET [NUMBER]
      one fuzz target until it has tried so many things, or as many as a long run wants
  catalogue
      write docs/assurance.md: which bugs and scenarios have a test, and which tests those are
  list
      the tests of guest-stub
";

const RUN_HELP: &str = "\
cargo xtask run [GUEST..] [OPTIONS]        (or ./scripts/run, which sets up and builds before)

  GUEST            demo, which is judged and the default, or guests to sit at: linux, linux-guarded, linux-enrolled,
                   linux-enrolled-16k, linux-enrolled-64k, u-boot, edk2; each is a VM. Ctrl-A x ends QEMU; with several
                   VMs, Ctrl-] and a number gives one the keyboard

  --gic 2|3        interrupt controller (3)
  --cpu NAME       CPU model as QEMU calls it (cortex-a57, or one that a guest needs)
  --smp N          CPUs (2)
  --mem SIZE       RAM, in MiB or with M or G (1G)
  --secure         a machine that has EL3 too
  --append WORDS   the hypervisor's own boot arguments
  --vm WORDS       more boot arguments for the guest named before it, such as \"vm.guard=enforce\"
  --gdb            wait for a debugger on port 1234; see ./scripts/gdb
  -- ...           further arguments for QEMU
";

const GUESTS_HELP: &str = "\
cargo xtask guests [OPTIONS] [NAME..]        (or ./scripts/guests, which installs what a build needs)

  NAME             linux, initramfs, linux-guarded, linux-enrolled, u-boot or edk2; all of these without one. Only by
                   name: linux-enrolled-16k, linux-enrolled-64k, with larger pages
  --update         from the newest packages, even what is there
  --list           what is there, and from which package
  --tools          the Debian packages that a build needs and that are not installed
";

const BUNDLE_HELP: &str = "\
cargo xtask bundle FILE.dts -o FILE [OPTIONS]      (or ./scripts/bundle, which installs dtc where it is missing)

  FILE.dts         VMs as a device-tree source; docs/bundle.md says what stands in it, examples/ has some
  -o FILE          what is made: an initrd for Portcullis
  --with-hyp       make one arm64 Image instead, Portcullis with the bundle behind it (after ./scripts/build)
";

const BENCH_HELP: &str = "\
cargo xtask bench [--check | --save]        (or ./scripts/bench, which sets up and builds before)

  Boots guest-stub's benchmarks in QEMU with -icount shift=0, where every instruction takes one nanosecond, on Portcullis
  and on two floors, and prints a table; results are in target/bench.json and target/bench-growth.svg.

  --check          fail where an operation exceeds its limit (bench/operations.json), or has grown by more than 2 % over
                   the committed result (bench/reference.json)
  --save           make these results the committed ones, with the plot of docs/performance.md
";

/// Runs the command in `arguments`.
pub fn run(arguments: &[String]) -> Result<()> {
    match arguments.split_first().map(|(command, rest)| (command.as_str(), rest)) {
        Some(("build", rest)) => build_images(rest),
        Some(("run", rest)) => run_guests(rest),
        Some(("test", rest)) => run_tests(rest),
        Some(("bench", rest)) => run_benchmarks(rest),
        Some(("symbolize", rest)) => symbolize(rest),
        Some(("guests", rest)) => make_guests(rest),
        Some(("bundle", rest)) => make_bundle(rest),
        Some(("boards", rest)) => make_boards(rest),
        Some(("board-check", rest)) => check_boards(rest),
        Some(("esr", [value])) => {
            print!("{}", esr::explain(value)?);
            Ok(())
        }
        Some(("esr", _)) => Err("esr takes one value, as in `cargo xtask esr 0x96000010`".into()),
        Some(("assure", rest)) => run_assurance(rest),
        Some(("fuzz", rest)) => fuzz(rest),
        Some(("catalogue", [])) => write_catalogue(),
        Some(("list", [])) => {
            for test in stub::list(&Artifacts::expected().guest_stub)? {
                println!("{} [{}] {}", test.name, test.ids.join(" "), test.options);
            }
            Ok(())
        }
        None | Some(("help" | "--help" | "-h", _)) => {
            print!("{HELP}");
            Ok(())
        }
        Some((other, _)) => Err(format!("no command `{other}`; see cargo xtask help").into()),
    }
}

fn build_images(arguments: &[String]) -> Result<()> {
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--verbose" | "-v" => options.verbose = true,
            "--features" => options.features = Some(value("--features", &mut rest)?),
            "--package" | "-p" => options.package = Some(value("--package", &mut rest)?),
            other => return Err(format!("build: no option `{other}`").into()),
        }
    }
    build::build(&options).map(drop)
}

fn run_guests(arguments: &[String]) -> Result<()> {
    let mut machine = Machine::default();
    // (demonstration or another guest, more words for it)
    let mut wanted: Vec<(Option<Boot>, String)> = Vec::new();
    let (mut memory, mut cpu) = (None, None);
    let mut debugged = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "demo" | "stub" => wanted.push((None, String::new())),
            "--gic" => {
                machine.gic = match value("--gic", &mut rest)?.as_str() {
                    "2" => Gic::V2,
                    "3" => Gic::V3,
                    other => return Err(format!("--gic {other}: it may be 2 or 3").into()),
                }
            }
            "--cpu" => cpu = Some(value("--cpu", &mut rest)?),
            "--smp" => {
                let count = value("--smp", &mut rest)?;
                machine.cpus = count.parse().context(|| format!("--smp {count}"))?;
            }
            "--mem" => memory = Some(mebibytes(&value("--mem", &mut rest)?)?),
            "--secure" => machine.start = Start::El2Secure,
            "--append" => machine.append = Some(value("--append", &mut rest)?),
            "--vm" => {
                if wanted.is_empty() {
                    wanted.push((None, String::new()));
                }
                let words = value("--vm", &mut rest)?;
                if let Some((_, given)) = wanted.last_mut() {
                    given.push(' ');
                    given.push_str(&words);
                }
            }
            "--gdb" => {
                machine.extra.extend(["-s".to_owned(), "-S".to_owned()]);
                debugged = true;
            }
            "--" => machine.extra.extend(rest.by_ref().cloned()),
            "--help" | "-h" => {
                print!("{RUN_HELP}");
                return Ok(());
            }
            option if option.starts_with('-') => {
                return Err(format!("run: no option `{option}`; see run --help").into());
            }
            name => {
                let boot = Boot::called(name).ok_or_else(|| {
                    Error(format!("run: no guest `{name}`; there are demo, {}", boot::names()))
                })?;
                wanted.push((Some(boot), String::new()));
            }
        }
    }
    if wanted.is_empty() {
        wanted.push((None, String::new()));
    }
    let images = Artifacts::existing()?;
    let others: Vec<Boot> = wanted.iter().filter_map(|(boot, _)| *boot).collect();
    let needed = || others.iter().find_map(|boot| boot.cpu).map(str::to_owned);
    machine.cpu = cpu.or_else(needed).unwrap_or(machine.cpu);
    machine.memory_mib = memory.unwrap_or_else(|| boot::memory_mib(&others));
    machine.kernel = Some(images.hypervisor);
    for (boot, words) in &wanted {
        machine.modules.push(match boot {
            Some(boot) => boot.module(words.trim())?,
            None => Module {
                kernel: images.guest_stub.clone(),
                bootargs: format!("demo{words}"),
                ..Module::default()
            },
        });
    }
    if debugged {
        println!("run: waiting for a debugger; in another shell: ./scripts/gdb, then `continue`");
    }
    let seconds = |total, silence| Limits {
        total: Duration::from_secs(total),
        silence: Duration::from_secs(silence),
    };
    // A person thinks for as long as he likes.
    let endless = Limits { total: Duration::MAX, silence: Duration::MAX };
    if others.is_empty() {
        let limits = if debugged { endless } else { seconds(120, 60) };
        let run = Session::start(&machine, "run-demo", limits, true)?.finish();
        demo::judge(&run)?;
        println!(
            "run: all as promised, {:.1} s; the console is in {}",
            run.took.as_secs_f32(),
            run.log.display()
        );
        return Ok(());
    }
    machine.attended = io::stdin().is_terminal();
    let limits = if machine.attended || debugged { endless } else { seconds(3600, 300) };
    let run = Session::start(&machine, "run-guests", limits, true)?.finish();
    boot::judge(&run, wanted.len(), machine.attended)
}

fn run_tests(arguments: &[String]) -> Result<()> {
    let mut options = testing::Options::default();
    for argument in arguments {
        match argument.as_str() {
            "--quick" => options.quick = true,
            other if other.starts_with('-') => {
                return Err(format!("test: no option `{other}`").into());
            }
            filter => options.filter = Some(filter.to_owned()),
        }
    }
    testing::run(&options)
}

fn run_benchmarks(arguments: &[String]) -> Result<()> {
    let purpose = match arguments {
        [] => bench::Purpose::Show,
        [word] if word == "--check" => bench::Purpose::Check,
        [word] if word == "--save" => bench::Purpose::Save,
        [word] if word == "--help" || word == "-h" => {
            print!("{BENCH_HELP}");
            return Ok(());
        }
        _ => return Err("bench: it takes --check, or --save, or nothing".into()),
    };
    bench::run(purpose)
}

fn make_guests(arguments: &[String]) -> Result<()> {
    let mut wanted = Vec::new();
    let (mut update, mut list, mut tools) = (false, false, false);
    for argument in arguments {
        match argument.as_str() {
            "--update" => update = true,
            "--list" => list = true,
            "--tools" => tools = true,
            "--help" | "-h" => {
                print!("{GUESTS_HELP}");
                return Ok(());
            }
            name => wanted.push(Guest::called(name).ok_or_else(|| {
                let names = Guest::ALL.map(Guest::name).join(", ");
                Error(format!("no guest `{name}`; there are {names}"))
            })?),
        }
    }
    if wanted.is_empty() {
        wanted.extend(Guest::ALL.into_iter().filter(|guest| !guest.on_request()));
    }
    if list {
        print!("{}", guests::table());
        return Ok(());
    }
    if tools {
        println!("{}", guests::missing_tools(&wanted).join(" "));
        return Ok(());
    }
    guests::make(&wanted, update)
}

fn run_assurance(arguments: &[String]) -> Result<()> {
    let mut options = assure::Options::default();
    for argument in arguments {
        match argument.as_str() {
            "--long" => options.long = true,
            "--list" => {
                for step in assure::STEPS {
                    let form = if step.long_only { " (long form only)" } else { "" };
                    println!("{:<12} {}{form}", step.name, step.about);
                }
                return Ok(());
            }
            other if other.starts_with('-') => {
                return Err(format!("assure: no option `{other}`").into());
            }
            step => options.only.push(step.to_owned()),
        }
    }
    assure::run(&options)
}

fn fuzz(arguments: &[String]) -> Result<()> {
    let (target, number) = match arguments {
        [target] => (target, None),
        [target, number] => {
            (target, Some(number.parse().context(|| format!("fuzz {target} {number}"))?))
        }
        _ => return Err("fuzz takes a target, and perhaps how much it is to try".into()),
    };
    assure::fuzz::until_enough(target, number)
}

fn write_catalogue() -> Result<()> {
    let root = paths::root();
    let registry = Registry::collect(&root)?;
    let path = root.join(catalogue::PATH);
    std::fs::write(&path, catalogue::page(&registry)).context(|| path.display().to_string())?;
    let (bugs, scenarios) = registry.covered();
    println!("{}: {bugs} bugs and {scenarios} scenarios have a test", catalogue::PATH);
    Ok(())
}

fn make_bundle(arguments: &[String]) -> Result<()> {
    let (mut source, mut output, mut with_hyp) = (None, None, false);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-o" | "--output" => output = Some(PathBuf::from(value("-o", &mut rest)?)),
            "--with-hyp" => with_hyp = true,
            "--help" | "-h" => {
                print!("{BUNDLE_HELP}");
                return Ok(());
            }
            other if other.starts_with('-') => {
                return Err(format!("bundle: no option `{other}`; see bundle --help").into());
            }
            file if source.is_none() => source = Some(PathBuf::from(file)),
            other => return Err(format!("bundle: `{other}` is a second source").into()),
        }
    }
    let (Some(source), Some(output)) = (source, output) else {
        return Err("bundle: it needs a FILE.dts and -o FILE; see bundle --help".into());
    };
    let image = with_hyp.then(|| Artifacts::expected().hypervisor);
    let vms = bundle::make(&source, &output, image.as_deref())?;
    print!(
        "{}: {} VM{}\n{}",
        output.display(),
        vms.len(),
        if vms.len() == 1 { "" } else { "s" },
        bundle::table(&vms)
    );
    Ok(())
}

fn make_boards(arguments: &[String]) -> Result<()> {
    let mut wanted = Vec::new();
    let mut update = false;
    for argument in arguments {
        match (argument.as_str(), Part::called(argument)) {
            ("--update", _) => update = true,
            (_, Some(part)) => wanted.push(part),
            (other, None) => {
                return Err(format!("boards: no `{other}`; there are trees and qemu").into());
            }
        }
    }
    if wanted.is_empty() {
        wanted.extend(Part::ALL);
    }
    boards::make(&wanted, update)
}

/// With files each report, without one the counts over all trees that were fetched.
fn check_boards(arguments: &[String]) -> Result<()> {
    if let Some(option) = arguments.iter().find(|argument| argument.starts_with('-')) {
        return Err(format!("board-check: no option `{option}`; it takes files").into());
    }
    let mut refused = 0;
    for file in arguments {
        let blob = std::fs::read(file).context(|| file.clone())?;
        let report = Report::of(&blob);
        refused += usize::from(!matches!(report.verdict, Verdict::Bootable { .. }));
        println!("{file}\n{}", report.text);
    }
    if refused > 0 {
        return Err(format!("{refused} of {} would be refused", arguments.len()).into());
    }
    if arguments.is_empty() {
        print!("{}", boards::count_all()?.table());
    }
    Ok(())
}

fn symbolize(arguments: &[String]) -> Result<()> {
    let mut elf = Artifacts::expected().hypervisor_elf;
    let mut log = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--elf" => elf = value("--elf", &mut rest)?.into(),
            other if other.starts_with("--") => {
                return Err(format!("symbolize: no option `{other}`").into());
            }
            file => log = Some(PathBuf::from(file)),
        }
    }
    let symbolizer = Symbolizer::new(&elf)?;
    let input: Box<dyn BufRead> = match &log {
        Some(file) => {
            let file = std::fs::File::open(file).context(|| file.display().to_string())?;
            Box::new(BufReader::new(file))
        }
        None => Box::new(io::stdin().lock()),
    };
    for line in input.split(b'\n') {
        let line = line.context(|| "cannot read".into())?;
        println!("{}", symbolizer.line(String::from_utf8_lossy(&line).trim_end()));
    }
    Ok(())
}

/// The word behind an option.
fn value<'a>(option: &str, rest: &mut impl Iterator<Item = &'a String>) -> Result<String> {
    rest.next().cloned().ok_or_else(|| Error(format!("{option} needs a value")))
}

/// `512`, `512M` or `2G` as MiB.
fn mebibytes(text: &str) -> Result<u64> {
    let (digits, unit) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (text.trim_end_matches(['M', 'm']), 1),
    };
    let count: Option<u64> = digits.parse().ok();
    count.and_then(|count| count.checked_mul(unit)).ok_or_else(|| {
        Error(format!("--mem {text}: a number of MiB, or one with M or G behind it"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(mebibytes("512"), Ok(512));
        assert_eq!(mebibytes("512M"), Ok(512));
        assert_eq!(mebibytes("2G"), Ok(2048));
        assert!(mebibytes("2T").is_err());
        assert!(mebibytes("18446744073709551615G").is_err());
    }

    #[test]
    fn what_is_misspelt_is_named() {
        for (words, name) in [
            (vec!["rnu"], "rnu"),
            (vec!["run", "--gci"], "--gci"),
            (vec!["run", "--gic", "4"], "4"),
            (vec!["run", "--smp"], "--smp"),
            (vec!["run", "windows"], "linux-guarded"),
            (vec!["build", "--fast"], "--fast"),
            (vec!["symbolize", "--elv"], "--elv"),
            (vec!["test", "--slow"], "--slow"),
            (vec!["guests", "windows"], "linux-guarded"),
            (vec!["bundle", "--with"], "--with"),
            (vec!["bundle", "a.dts"], "-o FILE"),
            (vec!["assure", "--short"], "--short"),
            (vec!["fuzz", "windows"], "windows"),
            (vec!["esr"], "0x96000010"),
            (vec!["boards", "toasters"], "toasters"),
            (vec!["board-check", "--all"], "--all"),
        ] {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            assert!(run(&words).unwrap_err().0.contains(name), "{words:?}");
        }
    }
}
