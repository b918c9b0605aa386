// SPDX-License-Identifier: MIT OR Apache-2.0
//! `portcullis-devices`: serves the devices of one VM. See [`device_server`].

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use device_server::module::Module;
use device_server::options::Options;
use device_server::server::Server;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-devices: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let devices = options.devices()?;
    let port = Arc::new(Module::open(&options.node())?);
    Server::new(port, devices)?.run()
}
