// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of the daemons of others that serve web: which they are, and what goes on when one dies.

use std::path::Path;

use anyhow::{Context, Result};

use super::common::{sha256, sum};
use super::counters;
use super::daemons::{self, ALL, DIRECTORY, Served, VSOCK};
use super::file::read;
use super::setup::STORE;
use crate::guests;
use crate::show::dialogue::Dialogue;
use crate::show::report::Report;

/// Says which daemons could not be got: there are no checks of their devices.
pub fn missing(report: &mut Report<'_>) {
    for served in ALL {
        if let Err(error) = served.guest.existing() {
            report.note(&format!(
                "missing: no {} for web, and none of its checks: {error:#}",
                served.kind
            ));
        }
    }
}

/// The daemon that runs is the one that was got.
///
/// # Errors
///
/// Store does not answer.
pub fn runs(dialogue: &mut Dialogue, report: &mut Report<'_>, served: Served) -> Result<()> {
    let (origin, program) = if served == VSOCK {
        (served.guest.origin().unwrap_or_default(), read(served.guest.existing()?)?)
    } else {
        guests::directory_daemon()?
    };
    let name = Path::new(served.path).file_name().unwrap_or_default().to_string_lossy();
    // By its program: a name of a process has 15 letters.
    let find = format!(
        "for p in /proc/[0-9]*; do [ \"$(readlink $p/exe)\" = {} ] && sha256sum $p/exe; done",
        served.path
    );
    let running = sum(&dialogue.ask(STORE, &find)?);
    let what = format!("web's {} is served by the published {name}", served.kind);
    let from = format!("store, SHA-256 of the program that runs, of {origin}");
    report.check(&what, &from, &running, running == sha256(&program)?);
    Ok(())
}

/// The daemon of the shared directory is killed: the server says so, and web's disk goes on. Its server does not serve it again;
/// the next one does.
///
/// # Errors
///
/// A VM does not answer.
pub fn killed(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    if !daemons::present().contains(&DIRECTORY) {
        return Ok(());
    }
    let kill = "killall -9 virtiofsd; until grep -o 'the daemon for.*any more' /run/web.log; do sleep 1; done";
    let said = dialogue.ask(STORE, kill)?.text();
    let wanted =
        format!("the daemon for fs at {} has ended: fs is not served any more", DIRECTORY.socket);
    let what = "a daemon is killed, and web's server says which";
    report.check(what, "store, what the server says", &said, said.contains(&wanted));
    let counters = counters::read(dialogue)?;
    let state = counters.daemon(DIRECTORY.kind).context("the counters have no fs")?;
    let before = counters.of("blk", "bytes_out").context("the counters have no blk")?;
    counters::read_the_disk(dialogue)?;
    let counters = counters::read(dialogue)?;
    let after = counters.of("blk", "bytes_out").context("the counters have no blk")?;
    let value = format!("fs: {state}; blk: {before} bytes read, then {after}");
    let kept = state == "ended" && after >= before.saturating_add(1 << 20);
    report.check("web's disk goes on without it", "store, counters of the server", &value, kept);
    Ok(())
}
