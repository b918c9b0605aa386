// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of byte streams between web and store, by a vsock device.

use anyhow::Result;

use super::common::sum;
use super::daemon_checks::runs;
use super::daemons::{self, CID, STREAMS, VSOCK};
use super::setup::{STORE, WEB};
use crate::guests::client_root::STREAM_PATH;
use crate::show::dialogue::Dialogue;
use crate::show::report::Report;

/// CID of the host: virtio 1.2, 5.10.4.
const HOST: u32 = 2;
/// Port of a program in store.
const TO_STORE: u32 = 1024;
/// Port of a program in web.
const TO_WEB: u32 = 1025;

/// All of them.
///
/// # Errors
///
/// A VM does not answer.
pub fn all(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    if !daemons::present().contains(&VSOCK) {
        return Ok(());
    }
    runs(dialogue, report, VSOCK)?;
    let cid = dialogue.ask(WEB, &format!("{STREAM_PATH} cid"))?.text();
    report.check(
        "web has the CID that store gives it",
        "web, /dev/vsock",
        &cid,
        cid == CID.to_string(),
    );

    let make = "dd if=/dev/urandom of=/tmp/out bs=64k count=16 2>/dev/null; sha256sum /tmp/out";
    let receive = format!(
        "portcullis-stream receive --listen unix:{STREAMS}_{TO_STORE} >/tmp/in & echo $! >/tmp/receiver"
    );
    dialogue.ask(STORE, &receive)?;
    let sent = sum(&dialogue.ask(WEB, make)?);
    let send =
        dialogue.ask(WEB, &format!("{STREAM_PATH} send vsock:{HOST}:{TO_STORE} </tmp/out"))?;
    let what = format!("a stream of 1 MiB from web to CID {HOST}, port {TO_STORE}");
    arrived(dialogue, report, STORE, &what, &sent, send.status)?;

    let receive = format!(
        "{STREAM_PATH} receive --listen vsock:{CID}:{TO_WEB} >/tmp/in & echo $! >/tmp/receiver"
    );
    dialogue.ask(WEB, &receive)?;
    let sent = sum(&dialogue.ask(STORE, make)?);
    let send = format!("portcullis-stream send --connect {TO_WEB} unix:{STREAMS} </tmp/out");
    let send = dialogue.ask(STORE, &send)?;
    let what = format!("a stream of 1 MiB from store to CID {CID}, port {TO_WEB}");
    arrived(dialogue, report, WEB, &what, &sent, send.status)
}

/// What `vm` received is what was sent.
fn arrived(
    dialogue: &mut Dialogue,
    report: &mut Report<'_>,
    vm: super::setup::Vm,
    what: &str,
    sent: &str,
    status: i32,
) -> Result<()> {
    // The receiver ends when the stream does; what failed has no end.
    let wait = if status == 0 { "wait $(cat /tmp/receiver)" } else { "kill $(cat /tmp/receiver)" };
    let got = sum(&dialogue.ask(vm, &format!("{wait}; sha256sum /tmp/in"))?);
    let kept = status == 0 && got == sent && got.len() == 64;
    report.check(what, "web and store, SHA-256", &got, kept);
    Ok(())
}
