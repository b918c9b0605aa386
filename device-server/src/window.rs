// SPDX-License-Identifier: MIT OR Apache-2.0
//! `portcullis-window`: what a device VM can read of a peer's RAM. It maps the window of a server that runs, by a copy of the
//! server's own descriptor, as a node is opened once. So it sees what the server sees, while it serves.

use std::fs::File;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Parser;
use device_server::{module, sys, uapi};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use vm_memory::{Bytes, GuestAddress};

/// Bytes of a granule: what a peer shares is a multiple of it.
const GRANULE: usize = 4096;

/// Reads the whole window to a peer's RAM, as its server maps it
#[derive(Debug, Parser)]
#[command(name = "portcullis-window", version)]
struct Options {
    /// The process of the server
    #[arg(long)]
    pid: i32,
    /// A text to look for; may be given several times
    #[arg(long, value_name = "TEXT")]
    find: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-window: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The descriptor by which the process `pid` has its peer.
fn node_of(pid: i32) -> Result<File> {
    let folder = format!("/proc/{pid}/fd");
    for entry in std::fs::read_dir(&folder).with_context(|| folder.clone())? {
        let entry = entry.with_context(|| folder.clone())?;
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if !target.starts_with("/dev/portcullis") {
            continue;
        }
        let number =
            entry.file_name().to_string_lossy().parse().context("a descriptor's number")?;
        let pid = Pid::from_raw(pid).context("a process has a number above 0")?;
        let process = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
        let node = pidfd_getfd(process, number, PidfdGetfdFlags::empty());
        return Ok(File::from(node.context("pidfd_getfd")?));
    }
    bail!("process {pid} has no node of /dev/portcullis open");
}

fn run(options: &Options) -> Result<()> {
    let node = Arc::new(node_of(options.pid)?);
    let mut info = uapi::Info::default();
    sys::request(&node, uapi::INFO, &mut info).context("INFO")?;
    let memory = module::window(&node, &info).context("the window")?;
    let mut seen = Seen::new(&options.find);
    let mut granule = vec![0; GRANULE];
    for offset in (0..info.ram_size).step_by(GRANULE) {
        let address = info.ram_base.saturating_add(offset);
        memory.read_slice(&mut granule, GuestAddress(address)).context("the window")?;
        seen.granule(address, &granule);
    }
    println!("{}", seen.summary());
    for (text, count) in seen.texts {
        println!("text {text}: {count}");
    }
    Ok(())
}

/// What was seen so far.
struct Seen {
    /// All granules.
    all: u64,
    /// Those that hold anything but zeros, the first of them and the last.
    granules: u64,
    first: u64,
    last: u64,
    /// How often each text was found.
    texts: Vec<(String, u64)>,
    /// The end of the granule before, where a text may begin.
    before: Vec<u8>,
}

impl Seen {
    fn new(texts: &[String]) -> Self {
        let texts = texts.iter().map(|text| (text.clone(), 0)).collect();
        Self { all: 0, granules: 0, first: 0, last: 0, texts, before: Vec::new() }
    }

    fn granule(&mut self, address: u64, bytes: &[u8]) {
        self.all = self.all.saturating_add(1);
        if bytes.iter().all(|byte| *byte == 0) {
            // A text has no zero: it neither begins before this granule and ends in it, nor the other way round.
            self.before.clear();
            return;
        }
        if self.granules == 0 {
            self.first = address;
        }
        self.granules = self.granules.saturating_add(1);
        self.last = address;
        for (text, count) in &mut self.texts {
            let text = text.as_bytes();
            // Only what did not fit into the granule before.
            let longer = self.before.len().saturating_sub(text.len().saturating_sub(1));
            let mut joined = self.before.get(longer..).unwrap_or_default().to_vec();
            joined.extend_from_slice(bytes);
            let found = joined.windows(text.len().max(1)).filter(|window| *window == text).count();
            *count = count.saturating_add(found as u64);
        }
        self.before = bytes.to_vec();
    }

    fn summary(&self) -> String {
        let Self { all, granules, first, last, .. } = self;
        format!("granules {granules} of {all}, first {first:#x}, last {last:#x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_once_also_across_two_granules() {
        let mut seen = Seen::new(&["secret".to_owned(), "absent".to_owned()]);
        let mut memory = vec![0; 4 * GRANULE];
        memory[GRANULE - 3..GRANULE + 3].copy_from_slice(b"secret");
        memory[3 * GRANULE..3 * GRANULE + 6].copy_from_slice(b"secret");
        for (number, granule) in memory.chunks(GRANULE).enumerate() {
            seen.granule(0x4000_0000 + (number * GRANULE) as u64, granule);
        }
        assert_eq!(seen.summary(), "granules 3 of 4, first 0x40000000, last 0x40003000");
        assert_eq!(seen.texts, [("secret".to_owned(), 2), ("absent".to_owned(), 0)]);
    }
}
