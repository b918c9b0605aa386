// SPDX-License-Identifier: MIT OR Apache-2.0
//! `portcullis-devices`: serves the devices of one VM. See [`device_server`].

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use device_server::module::Module;
use device_server::options::Options;
use device_server::server::Server;
use device_server::{seccomp, stats};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-devices: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    let options = options.resolve()?;
    let devices = options.devices()?;
    let port = Arc::new(Module::open(&options.node())?);
    let server = Arc::new(Server::new(port, devices)?);
    if let Some(path) = options.stats() {
        stats::answer(stats::listen(path)?, Arc::clone(&server))?;
    }
    // From here on nothing is opened.
    if options.confined() {
        seccomp::confine()?;
    }
    server.run()
}
