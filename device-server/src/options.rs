// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{ArgAction, Parser, ValueEnum};

use crate::backend::Device;
use crate::backend::block::Disk;
use crate::backend::console::Console;
use crate::backend::net::Card;
use crate::backend::rng::Entropy;
use crate::module::Module;

/// Serves the virtio devices of one VM, as the VM's vm.devices= names them
///
/// Options of one kind go to the VM's transports of that kind in order.
#[derive(Debug, Parser)]
#[command(name = "portcullis-devices", version)]
pub struct Options {
    /// The VM to serve
    #[arg(long, value_name = "NAME")]
    vm: String,
    /// Its node, if it is not /dev/portcullis/NAME
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,
    /// A disk: a raw file or a block device; with :ro behind it, the VM cannot write
    #[arg(long, value_name = "FILE[:ro]")]
    blk: Vec<String>,
    /// A network card, at a tap device
    #[arg(long, value_name = "TAP")]
    net: Vec<String>,
    /// A console: at a terminal that is made and named, or at standard input and output
    #[arg(long, value_name = "PLACE")]
    console: Vec<Place>,
    /// A source of entropy; once for each
    #[arg(long, action = ArgAction::Count)]
    rng: u8,
}

/// Where a console is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Place {
    /// A new terminal
    Pty,
    /// Standard input and output
    Stdio,
}

impl Options {
    /// The VM's node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        self.device.clone().unwrap_or_else(|| Module::path(&self.vm))
    }

    /// Opens what is served.
    ///
    /// # Errors
    ///
    /// The first that cannot be opened, and why.
    pub fn devices(&self) -> Result<Vec<Arc<dyn Device>>> {
        let mut devices: Vec<Arc<dyn Device>> = Vec::new();
        for disk in &self.blk {
            let (path, read_only) = disk_of(disk);
            devices.push(Arc::new(Disk::open(&path, read_only)?));
        }
        for tap in &self.net {
            devices.push(Arc::new(Card::open(tap, &self.vm)?));
        }
        for place in &self.console {
            devices.push(Arc::new(match place {
                Place::Stdio => Console::stdio()?,
                Place::Pty => {
                    let (console, name) = Console::pty()?;
                    eprintln!(
                        "portcullis-devices: the console of {} is {}",
                        self.vm,
                        name.display()
                    );
                    console
                }
            }));
        }
        for _ in 0..self.rng {
            devices.push(Arc::new(Entropy::open()?));
        }
        Ok(devices)
    }
}

/// `FILE[:ro]`.
fn disk_of(word: &str) -> (PathBuf, bool) {
    match word.strip_suffix(":ro") {
        Some(path) => (path.into(), true),
        None => (word.into(), false),
    }
}
