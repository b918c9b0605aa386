// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{ArgAction, Parser, ValueEnum};
use serde::Deserialize;

use crate::backend::Device;
use crate::backend::block::Disk;
use crate::backend::console::Console;
use crate::backend::net::Card;
use crate::backend::rng::Entropy;
use crate::backend::vhost_user::Remote;
use crate::module::Module;

/// Serves the virtio devices of one VM, as the VM's vm.devices= names them
///
/// Options of one kind go to the VM's transports of that kind in order.
#[derive(Debug, Default, Parser, Deserialize)]
#[command(name = "portcullis-devices", version)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// A TOML file with the other options, by the same names: vm = "web", blk = ["disk.img", "cd.iso:ro"], rng = 1
    #[arg(long, value_name = "FILE", exclusive = true)]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// The VM to serve
    #[arg(long, value_name = "NAME", required_unless_present = "config", default_value = "")]
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
    /// A device that a daemon serves, such as vsock=/run/vsock.sock; of a filesystem with its tag, fs=/run/fs.sock:share
    #[arg(long, value_name = "KIND=SOCKET")]
    vhost_user: Vec<String>,
    /// A socket that answers each connection with the counters, as one line of JSON
    #[arg(long, value_name = "SOCKET")]
    stats: Option<PathBuf>,
    /// Do without the filter of system calls
    #[arg(long)]
    no_seccomp: bool,
}

/// Where a console is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// A new terminal
    Pty,
    /// Standard input and output
    Stdio,
}

impl Options {
    /// The options of a file, if one is named, else these.
    ///
    /// # Errors
    ///
    /// It cannot be read, or holds what is no option.
    pub fn resolve(self) -> Result<Self> {
        let Some(file) = &self.config else { return Ok(self) };
        let shown = file.display();
        let text = std::fs::read_to_string(file).with_context(|| shown.to_string())?;
        let options: Self = toml::from_str(&text).with_context(|| shown.to_string())?;
        if options.vm.is_empty() {
            bail!("{shown} says for no VM: add vm = \"NAME\"");
        }
        Ok(options)
    }

    /// Where counters are asked for.
    #[must_use]
    pub fn stats(&self) -> Option<&Path> {
        self.stats.as_deref()
    }

    /// Whether system calls are filtered.
    #[must_use]
    pub fn confined(&self) -> bool {
        !self.no_seccomp
    }

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
        for word in &self.vhost_user {
            let (kind, socket) = word.split_once('=').with_context(|| {
                format!("--vhost-user {word}: KIND=SOCKET is wanted, such as vsock=/run/vsock.sock")
            })?;
            let (socket, tag) = match socket.rsplit_once(':') {
                Some((socket, tag)) if kind == "fs" => (socket, Some(tag)),
                _ => (socket, None),
            };
            devices.push(Arc::new(Remote::connect(kind, Path::new(socket), tag)?));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> Result<Options, String> {
        let words = words.split_whitespace();
        let program = std::iter::once("portcullis-devices");
        Options::try_parse_from(program.chain(words)).map_err(|error| error.to_string())
    }

    fn file(text: &str) -> Result<Options, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let options = line(&format!("--config {}", file.path().display())).unwrap();
        options.resolve().map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_file_says_what_the_line_says() {
        let words = "--vm web --device /x --blk a.img --blk b.img:ro --net tap0 --console pty --console stdio \
                     --rng --rng --stats /run/s --no-seccomp";
        let text = "vm = 'web'\ndevice = '/x'\nblk = ['a.img', 'b.img:ro']\nnet = ['tap0']\n\
                    console = ['pty', 'stdio']\nrng = 2\nstats = '/run/s'\nno-seccomp = true\n";
        let line = line(words).unwrap().resolve().unwrap();
        assert_eq!(format!("{:?}", file(text).unwrap()), format!("{line:?}"));
        assert_eq!((line.rng, line.blk.len(), line.node()), (2, 2, "/x".into()));
    }

    #[test]
    fn what_is_no_option_is_refused() {
        assert!(file("vm = 'web'\ndisk = 'a'").unwrap_err().contains("unknown field `disk`"));
        assert!(file("rng = 1").unwrap_err().contains("add vm = \"NAME\""));
        assert!(line("--rng").unwrap_err().contains("--vm <NAME>"));
        assert!(line("--config a --rng").is_err());
        assert!(
            line("--vm web --console tty").unwrap_err().contains("possible values: pty, stdio")
        );
    }

    #[test]
    fn a_disk_is_read_only_if_it_says_so() {
        assert_eq!(disk_of("a:b.img"), ("a:b.img".into(), false));
        assert_eq!(disk_of("a.img:ro"), ("a.img".into(), true));
    }
}
