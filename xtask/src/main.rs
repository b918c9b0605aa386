// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask COMMAND`: see `cargo xtask help`.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use xtask::build::{self, Options};
use xtask::error::Result;

const HELP: &str = "\
cargo xtask COMMAND

  build [--verbose] [--features F] [--package hyp|guest-stub]   build the images into target/
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    match arguments.split_first().map(|(command, rest)| (command.as_str(), rest)) {
        Some(("build", rest)) => build_images(rest),
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
            "--features" => options.features = rest.next().cloned(),
            "--package" | "-p" => options.package = rest.next().cloned(),
            other => return Err(format!("build: no option `{other}`").into()),
        }
    }
    let images = build::build(&options)?;
    for image in [&images.hypervisor, &images.guest_stub] {
        let size = image.metadata().map_or(0, |metadata| metadata.len());
        println!("{} ({} KiB)", image.display(), size.div_ceil(1024));
    }
    Ok(())
}
