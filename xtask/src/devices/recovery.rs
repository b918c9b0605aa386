// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of what goes on after the server, its VM or its client has died.

use anyhow::Result;

use super::common::{LOAD, Secrets, sha256, sum};
use super::setup::{MAIL, STORE, WEB};
use crate::guests::client_root::{self, KNOWN_PATH};
use crate::show::dialogue::Dialogue;
use crate::show::report::Report;

/// The server is killed while web reads and writes, and started again.
///
/// # Errors
///
/// A VM does not answer.
pub fn server(dialogue: &mut Dialogue, report: &mut Report<'_>, secrets: &Secrets) -> Result<()> {
    dialogue.ask(WEB, LOAD)?;
    dialogue.ask(STORE, "kill -9 $(cat /run/web.pid)")?;
    let starts = "until [ $(cat /run/web.starts) -ge 2 ]; do sleep 1; done; cat /run/web.starts";
    let starts = dialogue.ask(STORE, starts)?.text();
    let ended = dialogue.ask(STORE, "grep 'ended with' /run/web.log")?.text();
    let value = format!("{ended}; {starts} starts");
    // 128 and the number of SIGKILL.
    let kept = starts == "2" && ended.ends_with("status 137");
    report.check("the server is killed under load", "store, /run", &value, kept);

    dialogue.ask(WEB, "kill $(cat /tmp/load); sync")?;
    dialogue.ask(WEB, "echo 3 >/proc/sys/vm/drop_caches")?;
    let text = dialogue.ask(WEB, "cat /data/secret /data/copy")?;
    let kept = text.lines.len() == 2 && text.lines.iter().all(|line| *line == secrets.disk);
    report.check("web goes on with the next one", "web, two files", &text.text(), kept);
    let errors = dialogue.ask(WEB, "dmesg | grep -c -i -E 'I/O error|EXT4-fs (error|warning)'")?;
    let value = format!("{} lines of errors", errors.text());
    report.check("it saw no error", "web, dmesg", &value, errors.text() == "0");
    Ok(())
}

/// Web is reset in the middle of I/O, by the operator: it is not asked.
///
/// # Errors
///
/// A VM does not answer.
pub fn client(dialogue: &mut Dialogue, report: &mut Report<'_>, secrets: &Secrets) -> Result<()> {
    dialogue.ask(WEB, LOAD)?;
    let passed = dialogue.lines().len();
    dialogue.operate('r', WEB)?;
    let begins = dialogue.said_after(passed, "[hyp] web: incarnation 2 begins")?;
    report.check("web is reset in the middle of I/O", "EL2's log", &begins, true);
    dialogue.said_after(passed, "[web] guest: shell")?;
    let kept = dialogue.ask(WEB, "cat /data/secret")?.text();
    let what = "then it boots from its disk and finds what it wrote";
    report.check(what, "web, /data/secret", &kept, kept == secrets.disk);
    Ok(())
}

/// The device VM is reset: all that it had is gone, and mail, which goes on, is served by the next one.
///
/// # Errors
///
/// A VM does not answer.
pub fn device_vm(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    let passed = dialogue.lines().len();
    dialogue.operate('r', STORE)?;
    dialogue.said_after(passed, "[store] guest: shell")?;
    dialogue.ask(MAIL, "echo 3 >/proc/sys/vm/drop_caches")?;
    let direct = format!("dd if={KNOWN_PATH} bs=64k iflag=direct 2>/dev/null | sha256sum");
    let read = sum(&dialogue.ask(MAIL, &direct)?);
    let what = "after a reset of store, mail reads its disk without a reboot";
    let kept = read == sha256(&client_root::known())?;
    report.check(what, "mail, SHA-256 by O_DIRECT", &read, kept);
    let pings = dialogue.ask(MAIL, "ping -c 3 -W 5 10.77.0.1 | grep received")?.text();
    let kept = pings.contains("3 packets received");
    report.check("and reaches store", "mail, ping", &pings, kept);
    let again = dialogue.lines().iter().filter(|line| line.contains("mail: incarnation"));
    let again = again.count();
    let value = format!("{again} lines about another incarnation of mail");
    report.check("mail was not reset for that", "EL2's log", &value, again == 0);
    Ok(())
}
