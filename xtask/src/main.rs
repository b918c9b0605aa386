// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask COMMAND`: see `cargo xtask --help`.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A wrong command line ends here, with status 2.
    match cli::parse(std::env::args_os()).unwrap_or_else(|error| error.exit()).run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
