// SPDX-License-Identifier: MIT OR Apache-2.0
//! What checks of several kinds use.

use std::fs;
use std::io::Read;

use crate::show::dialogue::Answer;
use anyhow::{Context, Result};
use duct::cmd;

/// In web: the whole disk is read, and a file written, again and again.
pub const LOAD: &str = "while :; do cat /dev/vda >/dev/null; cp /data/secret /data/copy; sync; \
                               echo 3 >/proc/sys/vm/drop_caches; done & echo $! >/tmp/load";

/// Two texts that nothing else in the machine holds.
pub struct Secrets {
    /// Web writes it to its disk.
    pub disk: String,
    /// Web keeps it in its RAM.
    pub ram: String,
}

impl Secrets {
    /// Two that no other run has.
    ///
    /// # Errors
    ///
    /// This machine has no /dev/urandom.
    pub fn new() -> Result<Self> {
        let mut bytes = [0; 16];
        fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes))?;
        let number = u128::from_le_bytes(bytes);
        Ok(Self { disk: format!("disk-{number:032x}"), ram: format!("ram-{number:032x}") })
    }
}

/// The sum in what sha256sum said.
pub fn sum(answer: &Answer) -> String {
    answer.text().split_whitespace().find(|word| word.len() == 64).unwrap_or_default().to_owned()
}

/// SHA-256 of `bytes`, as sha256sum says it.
///
/// # Errors
///
/// sha256sum is not there.
pub fn sha256(bytes: &[u8]) -> Result<String> {
    let sum = cmd!("sha256sum").stdin_bytes(bytes).stdout_capture().run().context("sha256sum")?;
    Ok(String::from_utf8_lossy(&sum.stdout).chars().take(64).collect())
}
