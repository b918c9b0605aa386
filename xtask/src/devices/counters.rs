// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of the counters that web's server tells at its socket (device-server/README.md).

use anyhow::{Context, Result};
use serde_json::Value;

use super::common::{sha256, sum};
use super::daemons;
use super::setup::{STATS, STORE, WEB};
use crate::guests::client_root::{self, KNOWN_PATH};
use crate::show::dialogue::Dialogue;
use crate::show::report::Report;

/// Where what [`read`] says comes from.
const FROM: &str = "store, JSON of web's server at its socket";

/// What the server of web has counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Counters(Value);

impl Counters {
    /// The transports of a kind.
    fn transports(&self) -> impl Iterator<Item = &Value> {
        self.0.get("transports").and_then(Value::as_array).into_iter().flatten()
    }

    fn transport(&self, kind: &str) -> Option<&Value> {
        self.transports().find(|transport| transport.get("kind").is_some_and(|is| is == kind))
    }

    /// The sum of a counter over the queues of a device that the server serves itself.
    #[must_use]
    pub fn of(&self, kind: &str, counter: &str) -> Option<u64> {
        let queues = self.transport(kind)?.get("queues")?.as_array()?;
        queues.iter().map(|queue| queue.get(counter)?.as_u64()).sum()
    }

    /// How the daemon of a device is.
    #[must_use]
    pub fn daemon(&self, kind: &str) -> Option<&str> {
        self.transport(kind)?.get("daemon")?.as_str()
    }
}

/// Reads them.
///
/// # Errors
///
/// Store does not answer, or not with JSON.
pub fn read(dialogue: &mut Dialogue) -> Result<Counters> {
    // In short lines.
    let command = format!("portcullis-stream receive unix:{STATS} | sed 's/{{/\\n{{/g'");
    let text = dialogue.ask(STORE, &command)?.lines.concat();
    let value = serde_json::from_str(&text).with_context(|| format!("the counters: {text}"))?;
    Ok(Counters(value))
}

/// Web reads 1 MiB of its disk, around its page cache. Answers whether it is what it should be.
///
/// # Errors
///
/// Web does not answer.
pub fn read_the_disk(dialogue: &mut Dialogue) -> Result<bool> {
    let command = format!("dd if={KNOWN_PATH} bs=64k iflag=direct 2>/dev/null | sha256sum");
    let read = sum(&dialogue.ask(WEB, &command)?);
    Ok(read == sha256(&client_root::known())?)
}

/// The counters tell what web does, and no more.
///
/// # Errors
///
/// A VM does not answer.
pub fn all(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    let before = read(dialogue)?;
    let whole = read_the_disk(dialogue)?;
    let after = read(dialogue)?;
    let grown = |counter: &str| after.of("blk", counter)?.checked_sub(before.of("blk", counter)?);
    let (requests, bytes) = (grown("requests"), grown("bytes_out"));
    let value = format!("{requests:?} requests, {bytes:?} bytes")
        .replace("Some", "")
        .replace(['(', ')'], "");
    // Linux may read a little beside the file.
    let kept = whole
        && bytes.is_some_and(|bytes| (1 << 20..2 << 20).contains(&bytes))
        && requests.is_some_and(|requests| requests >= 1);
    let what = "web reads 1 MiB of its disk, and its server has counted that";
    report.check(what, FROM, &value, kept);

    let all = |counter: &str| -> Option<u64> {
        ["blk", "net", "rng"].iter().map(|kind| after.of(kind, counter)).sum()
    };
    let (errors, malformed, broken) = (all("errors"), all("malformed"), all("broken"));
    let value = format!("{errors:?} errors, {malformed:?} chains, {broken:?} rings")
        .replace("Some", "")
        .replace(['(', ')'], "");
    let kept = [errors, malformed, broken].iter().all(|count| *count == Some(0));
    let what = "no request of web has failed, and no chain or ring was rejected";
    report.check(what, FROM, &value, kept);

    for served in daemons::present() {
        let state = after.daemon(served.kind).unwrap_or_default();
        let what = format!("the daemon of web's {} serves", served.kind);
        report.check(&what, FROM, state, state == "serves");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_counted_is_not_zero() {
        let text = r#"{"transports": [{"kind": "blk", "queues": [{"requests": 3}, {"requests": 4}]},
                                      {"kind": "fs", "daemon": "serves"}]}"#;
        let counters = Counters(serde_json::from_str(text).unwrap());
        assert_eq!(counters.of("blk", "requests"), Some(7));
        assert_eq!(counters.of("blk", "errors"), None);
        assert_eq!(counters.of("net", "requests"), None);
        assert_eq!(counters.of("fs", "requests"), None);
        assert_eq!((counters.daemon("fs"), counters.daemon("blk")), (Some("serves"), None));
    }
}
