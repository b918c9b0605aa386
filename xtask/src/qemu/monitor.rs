// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's monitor, for what no console says: memory and registers of a machine that is mute or hung.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// A connection to the human monitor of one QEMU.
#[derive(Debug)]
pub struct Monitor {
    stream: UnixStream,
}

/// QEMU's prompt: an answer is complete when it lies at the end.
const PROMPT: &str = "(qemu) ";

/// How long QEMU may take to answer, however busy the host is.
const PATIENCE: Duration = Duration::from_secs(60);

impl Monitor {
    /// The QEMU arguments that open a monitor at `socket`.
    #[must_use]
    pub fn arguments(socket: &Path) -> Vec<String> {
        vec!["-monitor".into(), format!("unix:{},server=on,wait=off", socket.display())]
    }

    /// A socket's path for the run called `name`; short, as the system limits it to 107 bytes.
    #[must_use]
    pub fn socket(name: &str) -> PathBuf {
        let short: String = name.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
        std::env::temp_dir().join(format!("pc-{}-{short}.mon", std::process::id()))
    }

    /// Connects to a QEMU that was started with [`Self::arguments`].
    ///
    /// # Errors
    ///
    /// QEMU does not open the socket, or does not greet.
    pub fn connect(socket: &Path) -> Result<Self> {
        let until = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => {
                    return Err(error).with_context(|| socket.display().to_string());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let _ = std::fs::remove_file(socket);
        stream.set_read_timeout(Some(PATIENCE)).context("monitor")?;
        let mut monitor = Self { stream };
        monitor.answer()?;
        Ok(monitor)
    }

    /// The answer to one command.
    ///
    /// # Errors
    ///
    /// QEMU is gone or does not answer.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        writeln!(self.stream, "{command}").context("monitor")?;
        let answer = self.answer()?;
        // The monitor echoes the command, with the editing of its line; the answer begins below.
        Ok(answer.split_once('\n').map_or(String::new(), |(_, rest)| rest.replace('\r', "")))
    }

    /// `count` 64-bit words of physical memory.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`], or an answer in another form.
    pub fn words(&mut self, physical: u64, count: usize) -> Result<Vec<u64>> {
        let answer = self.ask(&format!("xp /{count}gx {physical:#x}"))?;
        let words: Vec<u64> = answer
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("0x"))
            .filter_map(|digits| u64::from_str_radix(digits, 16).ok())
            .collect();
        if words.len() == count { Ok(words) } else { Err(anyhow!("monitor: {answer}")) }
    }

    fn answer(&mut self) -> Result<String> {
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while !text.ends_with(PROMPT.as_bytes()) {
            let count = self.stream.read(&mut buffer).context("monitor")?;
            if count == 0 {
                bail!("QEMU closed its monitor");
            }
            text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        text.truncate(text.len() - PROMPT.len());
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
