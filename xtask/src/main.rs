// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask COMMAND`: see `cargo xtask help`.
#![forbid(unsafe_code)]

mod command;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match command::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
