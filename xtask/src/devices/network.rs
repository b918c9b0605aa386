// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of the network between two protected guests, by a bridge in the device VM, and of web's entropy.

use anyhow::{Context, Result};

use super::common::sum;
use super::setup::{MAIL, STORE, WEB};
use crate::show::dialogue::Dialogue;
use crate::show::report::Report;

/// All of them.
///
/// # Errors
///
/// A VM does not answer.
pub fn all(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    dialogue.said("[mail] guest: shell")?;
    let ports = dialogue.ask(STORE, "ls /sys/class/net/br0/brif")?.text();
    let kept = ports.contains("tap-web") && ports.contains("tap-mail");
    report.check("web's and mail's cards are in one bridge", "store, br0", &ports, kept);

    for (vm, address, whom) in [(WEB, "10.77.0.3", "mail"), (WEB, "10.77.0.1", "store")] {
        let pings = dialogue.ask(vm, &format!("ping -c 3 -W 5 {address} | grep received"))?.text();
        let kept = pings.contains("3 packets received");
        report.check(&format!("web reaches {whom}"), "web, ping", &pings, kept);
    }

    let before = sent_to_web(dialogue)?;
    dialogue.ask(MAIL, "dd if=/dev/urandom of=/tmp/m bs=64k count=16 2>/dev/null")?;
    let wanted = sum(&dialogue.ask(MAIL, "sha256sum /tmp/m; httpd -h /tmp")?);
    let got = sum(&dialogue.ask(WEB, "wget -q -O - http://10.77.0.3/m | sha256sum")?);
    let kept = got == wanted && wanted.len() == 64;
    report.check("1 MiB goes from mail to web unchanged", "web and mail, SHA-256", &got, kept);
    let after = sent_to_web(dialogue)?;
    let value = format!("{before} bytes, then {after}");
    let kept = after >= before.saturating_add(1 << 20);
    report.check("it went through store", "store, what tap-web has sent", &value, kept);

    let source = dialogue.ask(WEB, "cat /sys/class/misc/hw_random/rng_current")?.text();
    let kept = source.starts_with("virtio_rng");
    report.check("web has a source of entropy", "web, hw_random", &source, kept);
    let read = "dd if=/dev/hwrng bs=32 count=1 2>/dev/null | sha256sum";
    let first = sum(&dialogue.ask(WEB, read)?);
    let second = sum(&dialogue.ask(WEB, read)?);
    // SHA-256 of nothing (FIPS 180-4): nothing was read.
    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let kept = first != second && ![&first, &second].iter().any(|sum| *sum == NOTHING);
    let value = format!("{first}, then {second}");
    report.check("two reads of it differ", "web, SHA-256 of /dev/hwrng", &value, kept);
    Ok(())
}

/// Bytes that store has sent to web's card.
fn sent_to_web(dialogue: &mut Dialogue) -> Result<u64> {
    let answer = dialogue.ask(STORE, "cat /sys/class/net/tap-web/statistics/tx_bytes")?;
    answer.text().parse().with_context(|| format!("tap-web: {}", answer.text()))
}
