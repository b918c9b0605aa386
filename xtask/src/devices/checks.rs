// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks: each reads something of a party and compares it with what docs/devices.md promises.

use anyhow::{Context, Result};

use super::common::{LOAD, Secrets, sha256, sum};
use super::setup::{DISK, MAIL, STORE, VMS, WEB, kinds_of_web};
use super::window::{Range, SCANNED, confined, pool_in, scan};
use super::{counters, daemon_checks, network, recovery, shared_directory, stock, vsock};
use crate::guests::{boot, client_root};
use crate::show::dialogue::Dialogue;
use crate::show::report::Report;

/// All of them, to the end of the machine.
///
/// # Errors
///
/// A VM does not answer.
pub fn all(mut dialogue: Dialogue, report: &mut Report<'_>) -> Result<()> {
    daemon_checks::missing(report);
    stock::kernels(report)?;
    dialogue.said("[store] guest: shell")?;
    dialogue.said("[web] guest: shell")?;
    device_vm(&mut dialogue, report)?;
    let pool = served(&mut dialogue, report)?;
    let secrets = Secrets::new()?;
    disk(&mut dialogue, report)?;
    network::all(&mut dialogue, report)?;
    shared_directory::all(&mut dialogue, report)?;
    vsock::all(&mut dialogue, report)?;
    counters::all(&mut dialogue, report)?;
    stock::confined(&mut dialogue, report, &secrets)?;
    privacy(&mut dialogue, report, &secrets, pool)?;
    daemon_checks::killed(&mut dialogue, report)?;
    recovery::server(&mut dialogue, report, &secrets)?;
    shared_directory::again(&mut dialogue, report)?;
    recovery::client(&mut dialogue, report, &secrets)?;
    off(dialogue, report)
}

fn device_vm(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    stock::version(dialogue, report, STORE)?;
    let modules = dialogue.ask(STORE, "grep ^portcullis_device /proc/modules")?;
    let what = "its only module that is not Debian's is ours";
    let tainted = dialogue.ask(STORE, "grep -c '(.*O.*)' /proc/modules")?;
    let kept = modules.lines.len() == 1 && tainted.text() == "1";
    report.check(what, "store, /proc/modules", &modules.text(), kept);

    let node =
        dialogue.ask(STORE, "ls -l /proc/$(cat /run/web.pid)/fd | grep -o '/dev/portcullis.*'")?;
    let what = "one process has web's node open: its server";
    report.check(what, "store, /proc/PID/fd", &node.text(), node.text() == "/dev/portcullis/web");
    Ok(())
}

/// Who serves web, and how web sees it. Returns web's pool.
fn served(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<Range> {
    let line = dialogue.said("[hyp] web: served by ")?;
    let pool = pool_in(&line);
    let kinds = kinds_of_web();
    let by_store = format!("web: served by store: {}", kinds.join(" "));
    let kept = line.contains(&format!("{by_store};")) && pool.is_some();
    let what = "web is served by store, which can reach web's pool alone";
    report.check(what, "EL2's log", &line, kept);
    let pool = pool.context("EL2's log names no pool")?;
    for vm in [WEB, MAIL] {
        let line = dialogue.said(&format!("[hyp] {}: served by ", vm.name))?;
        let sees = line.split_once("; store sees ").map_or("nothing", |(_, rest)| rest);
        report.sees("store", &format!("{}, by EL2's log", vm.name), sees);
    }
    let served: Vec<_> =
        dialogue.lines().iter().filter(|line| line.contains(": served by ")).cloned().collect();
    let names: Vec<&str> = served
        .iter()
        .filter_map(|line| line.strip_prefix("[hyp] ")?.split_once(';').map(|(name, _)| name))
        .collect();
    let value = names.join("; ");
    let kept = names == [by_store.as_str(), "mail: served by store: blk net"];
    report.check("store has the only windows", "EL2's log", &value, kept);
    if kept {
        report.sees("web", "store, mail", "no RAM: EL2's log names no VM that web serves");
        report.sees("mail", "store, web", "no RAM: EL2's log names no VM that mail serves");
    }

    let mounts = dialogue.ask(WEB, "grep ' / ' /proc/mounts; cat /proc/partitions")?;
    let root = mounts.lines.first().cloned().unwrap_or_default();
    let kept = root.contains(" / ext4 rw") && mounts.text().contains(" 16384 vda");
    report.check("web's root is ext4 on its virtio disk", "web, /proc/mounts", &root, kept);

    let features = "cat /sys/bus/virtio/devices/*/features | cut -c 33-34";
    // virtio 1.2, 6: bit 32 VERSION_1, bit 33 ACCESS_PLATFORM. sysfs shows bit 0 first.
    let bits = dialogue.ask(WEB, features)?;
    let kept = bits.lines == vec!["11"; kinds.len()];
    let what = format!("its {} drivers work by DMA addresses (features 32 and 33)", kinds.len());
    report.check(&what, "web, /sys/bus/virtio", &bits.text(), kept);
    Ok(pool)
}

fn disk(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    let wanted = sha256(&client_root::known())?;
    let known = client_root::KNOWN_PATH;
    let before = reads(dialogue)?;
    let direct = format!("dd if={known} bs=64k iflag=direct 2>/dev/null | sha256sum");
    let direct = sum(&dialogue.ask(WEB, &direct)?);
    let what = "a file made by the script has its content, read around web's page cache";
    report.check(what, "web, SHA-256 by O_DIRECT", &direct, direct == wanted);
    let after = reads(dialogue)?;
    let what = "the disk was read for that";
    let value = format!("{before} sectors, then {after}");
    // 1 MiB, in sectors of 512 bytes.
    report.check(what, "web, /sys/block/vda/stat", &value, after >= before + 2048);

    let cached = sum(&dialogue.ask(WEB, &format!("sha256sum {known}"))?);
    let what = "the same file through the page cache";
    report.check(what, "web, SHA-256", &cached, cached == wanted);

    let make = "dd if=/dev/urandom of=/data/new bs=64k count=16 conv=fsync 2>/dev/null";
    dialogue.ask(WEB, make)?;
    let written = sum(&dialogue.ask(WEB, "sha256sum /data/new")?);
    dialogue.ask(WEB, "sync; echo 3 >/proc/sys/vm/drop_caches")?;
    let again = sum(&dialogue.ask(WEB, "dd if=/data/new bs=64k iflag=direct | sha256sum")?);
    let what = "1 MiB that web wrote is read back from the disk";
    let kept = written == again && written.len() == 64;
    report.check(what, "web, SHA-256 before and after", &again, kept);
    Ok(())
}

/// Sectors that web has read.
fn reads(dialogue: &mut Dialogue) -> Result<u64> {
    // Documentation/block/stat.rst: the third number.
    let stat = dialogue.ask(WEB, "cat /sys/block/vda/stat")?.text();
    stat.split_whitespace().nth(2).and_then(|text| text.parse().ok()).context("/sys/block/vda/stat")
}

fn privacy(
    dialogue: &mut Dialogue,
    report: &mut Report<'_>,
    secrets: &Secrets,
    pool: Range,
) -> Result<()> {
    dialogue.ask(WEB, &format!("echo {} >/tmp/secret", secrets.ram))?;
    window(dialogue, report, secrets, pool, "before the I/O")?;

    dialogue.ask(WEB, &format!("echo {} >/data/secret; sync", secrets.disk))?;
    let seen = scan(dialogue, WEB, &[&secrets.disk])?;
    let what = "what web has just written to its disk can be seen in the window";
    let kept = seen.count(0).is_some_and(|count| count > 0);
    report.check(what, SCANNED, &format!("{}: {}", secrets.disk, seen.times(0)), kept);

    dialogue.ask(WEB, LOAD)?;
    window(dialogue, report, secrets, pool, "during the I/O")?;
    dialogue.ask(WEB, "kill $(cat /tmp/load); sync")?;
    window(dialogue, report, secrets, pool, "after the I/O")?;
    let held = dialogue.ask(WEB, "cat /tmp/secret")?.text();
    let what = "web held the text in its RAM all the time";
    report.check(what, "web, a file in tmpfs", &held, held == secrets.ram);

    let found = dialogue.ask(STORE, &format!("grep -c {} {DISK}", secrets.disk))?;
    let value = format!("{} lines with {}", found.text(), secrets.disk);
    let what = "what web wrote to its disk is in the file that store serves";
    report.check(what, &format!("store, {DISK}"), &value, found.status == 0);
    let found = dialogue.ask(STORE, &format!("grep -c {} {DISK}", secrets.ram))?;
    let value = format!("{} lines with {}", found.text(), secrets.ram);
    let kept = found.status == 1 && found.text() == "0";
    report.check("what web kept in its RAM is not", &format!("store, {DISK}"), &value, kept);
    Ok(())
}

/// Nothing of web's RAM but its pool can be seen.
fn window(
    dialogue: &mut Dialogue,
    report: &mut Report<'_>,
    secrets: &Secrets,
    pool: Range,
    when: &str,
) -> Result<()> {
    let seen = scan(dialogue, WEB, &[&secrets.disk, &secrets.ram])?;
    let row = format!(
        "{}; the text on its disk {}, the text in its RAM {}",
        seen.summary,
        seen.times(0),
        seen.times(1)
    );
    report.sees("store", &format!("web, {when}"), &row);
    confined(report, WEB, &seen, pool, when);
    let what = format!("{when}, a text in web's RAM is nowhere in the window");
    let value = format!("{}: {}", secrets.ram, seen.times(1));
    report.check(&what, SCANNED, &value, seen.count(1) == Some(0));
    Ok(())
}

/// Web is powered off, and its file system is clean; store is reset; then the others are powered off too.
fn off(mut dialogue: Dialogue, report: &mut Report<'_>) -> Result<()> {
    dialogue.send(WEB, "poweroff\n")?;
    let line = dialogue.said("[hyp] web: stopped (power off)")?;
    let kept = line.ends_with(" 0 refused");
    report.check("not one access of web was refused", "EL2's log", &line, kept);
    dialogue.forget_keyboard();
    let last = dialogue.ask(STORE, &format!("e2fsck -fn {DISK} 2>&1 | tail -n 1"))?.text();
    let clean = dialogue.ask(STORE, &format!("e2fsck -fn {DISK} >/dev/null 2>&1"))?.status == 0;
    report.check("web's file system is clean", "store, e2fsck -fn", &last, clean);
    recovery::device_vm(&mut dialogue, report)?;
    for vm in [MAIL, STORE] {
        let passed = dialogue.lines().len();
        dialogue.send(vm, "poweroff\n")?;
        let line =
            dialogue.said_after(passed, &format!("[hyp] {}: stopped (power off)", vm.name))?;
        dialogue.forget_keyboard();
        if vm == MAIL {
            let kept = line.ends_with(", 1 refused");
            report.check("and no other access of mail", "EL2's log", &line, kept);
        }
    }
    let run = dialogue.finish();
    let ended = boot::judge(&run, VMS.len(), false);
    let value =
        ended.as_ref().map_or_else(|error| format!("{error:#}"), |()| "status 0".to_owned());
    let what = "all VMs power off, and EL2 has no error";
    report.check(what, "QEMU's status and EL2's log", &value, ended.is_ok());
    report.table();
    Ok(())
}
