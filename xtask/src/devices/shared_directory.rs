// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of a directory of store that web mounts.

use anyhow::Result;

use super::common::sum;
use super::daemon_checks::runs;
use super::daemons::{self, DIRECTORY, SHARED, TAG};
use super::setup::{STORE, WEB};
use crate::show::dialogue::Dialogue;
use crate::show::report::Report;

/// Where web mounts it.
const PLACE: &str = "/tmp/share";

/// All of them. Web does not have it mounted after that.
///
/// # Errors
///
/// A VM does not answer.
pub fn all(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    if !daemons::present().contains(&DIRECTORY) {
        return Ok(());
    }
    runs(dialogue, report, DIRECTORY)?;
    let make = format!(
        "dd if=/dev/urandom of={SHARED}/store bs=64k count=16 2>/dev/null; sha256sum {SHARED}/store"
    );
    let stores = sum(&dialogue.ask(STORE, &make)?);
    let mount =
        format!("mkdir -p {PLACE}; mount -t virtiofs {TAG} {PLACE}; grep {PLACE} /proc/mounts");
    let mount = dialogue.ask(WEB, &mount)?.text();
    let kept = mount.starts_with(&format!("{TAG} {PLACE} virtiofs rw"));
    report.check("web mounts a directory of store", "web, /proc/mounts", &mount, kept);
    let read = sum(&dialogue.ask(WEB, &format!("sha256sum {PLACE}/store"))?);
    let what = "web reads 1 MiB that store has written there";
    report.check(what, "web and store, SHA-256", &read, read == stores && read.len() == 64);

    let make = format!("dd if=/dev/urandom of={PLACE}/web bs=64k count=16 conv=fsync 2>/dev/null");
    dialogue.ask(WEB, &make)?;
    let webs = sum(&dialogue.ask(WEB, &format!("sha256sum {PLACE}/web"))?);
    let read = sum(&dialogue.ask(STORE, &format!("sha256sum {SHARED}/web"))?);
    let what = "store reads 1 MiB that web has written there";
    let kept = read == webs && read.len() == 64 && read != stores;
    report.check(what, "store and web, SHA-256", &read, kept);
    unmount(dialogue)
}

/// The same with the next server, and the next daemon.
///
/// # Errors
///
/// A VM does not answer.
pub fn again(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    if !daemons::present().contains(&DIRECTORY) {
        return Ok(());
    }
    let wanted = sum(&dialogue.ask(STORE, &format!("sha256sum {SHARED}/web"))?);
    let mount = format!("mount -t virtiofs {TAG} {PLACE}; sha256sum {PLACE}/web");
    let read = sum(&dialogue.ask(WEB, &mount)?);
    let what = "it mounts the directory again, which has what it wrote";
    report.check(what, "web and store, SHA-256", &read, read == wanted && read.len() == 64);
    unmount(dialogue)
}

fn unmount(dialogue: &mut Dialogue) -> Result<()> {
    dialogue.ask(WEB, &format!("umount {PLACE}")).map(drop)
}
