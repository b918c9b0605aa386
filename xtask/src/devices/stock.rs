// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks of Debian's stock kernel: as the device VM, and as a client that the modules of `linux/guest/` confine and enrol.

use std::fs;

use anyhow::{Context, Result};

use super::common::{Secrets, sha256, sum};
use super::setup::{MAIL, STORE, Vm};
use super::window::{self, SCANNED, pool_in, scan};
use crate::guests::{self, Guest, client_root};
use crate::show::dialogue::Dialogue;
use crate::show::report::Report;

/// A page that a stock kernel does not map in mail: there is no such device (the RTC of QEMU's machine).
const UNDECLARED: &str = "0x9010fe0";
/// Exit status of a process that died of SIGBUS.
const SIGBUS: i32 = 128 + 7;

/// The kernels of store and mail are Debian's.
///
/// # Errors
///
/// The package or the kernel cannot be read.
pub fn kernels(report: &mut Report<'_>) -> Result<()> {
    let (package, bytes) = guests::stock_kernel()?;
    let wanted = sha256(&bytes)?;
    for vm in [STORE, MAIL] {
        let file = vm.kernel.existing()?;
        let ours = sha256(&fs::read(&file).with_context(|| file.display().to_string())?)?;
        let what = format!("{} boots the kernel of Debian's package, byte for byte", vm.name);
        let from = format!("SHA-256 of the booted file and of vmlinuz in {package}");
        report.check(&what, &from, &ours, ours == wanted);
    }
    Ok(())
}

/// `vm` runs the version of that package.
///
/// # Errors
///
/// It does not answer.
pub fn version(dialogue: &mut Dialogue, report: &mut Report<'_>, vm: Vm) -> Result<()> {
    let version = dialogue.ask(vm, "uname -v")?.text();
    let wanted = Guest::Linux.origin().unwrap_or_default();
    let debian = wanted.split(' ').nth(1).unwrap_or("no version");
    let kept = version.contains(&format!("Debian {debian} "));
    let name = vm.name;
    report.check(
        &format!("{name} runs that version"),
        &format!("{name}, uname -v"),
        &version,
        kept,
    );
    Ok(())
}

/// Mail is enrolled, and store sees its pool alone.
///
/// # Errors
///
/// A VM does not answer.
pub fn confined(dialogue: &mut Dialogue, report: &mut Report<'_>, secrets: &Secrets) -> Result<()> {
    version(dialogue, report, MAIL)?;
    let modules = dialogue.ask(MAIL, "grep '(.*O.*)' /proc/modules | cut -d ' ' -f 1 | sort")?;
    let what = "its only modules that are not Debian's are ours";
    let kept = modules.lines == ["portcullis_guard", "portcullis_pool"];
    report.check(what, "mail, /proc/modules", &modules.text(), kept);
    enrolled(dialogue, report)?;
    pool(dialogue, report)?;
    disk(dialogue, report)?;
    seen(dialogue, report, secrets)
}

/// The guard was given to a kernel that ran already.
fn enrolled(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    let said = dialogue.ask(MAIL, "dmesg | grep -o 'portcullis_guard: .* declared.*'")?;
    let kept = said.lines.len() == 1 && said.text().starts_with("portcullis_guard: enrolled, ");
    report.check("mail has enrolled itself", "mail, dmesg", &said.text(), kept);

    let before = refused(dialogue).count();
    let status = dialogue.ask(MAIL, &format!("devmem {UNDECLARED} 32"))?.status;
    let lines: Vec<_> = refused(dialogue).cloned().collect();
    let load = format!("refused load of 4 bytes at IPA {UNDECLARED} ");
    let kept = before == 0
        && status == SIGBUS
        && matches!(lines.as_slice(), [only] if only.contains(&load));
    let value = format!("status {status}; {}", lines.join("; "));
    let what = "EL2 refuses a page that it has not declared, and refused nothing before";
    report.check(what, "mail, devmem; EL2's log", &value, kept);
    Ok(())
}

/// What EL2 has refused mail.
fn refused(dialogue: &Dialogue) -> impl Iterator<Item = &String> {
    let of_mail = |line: &&String| line.contains(" mail: vCPU ") && line.contains(": refused ");
    dialogue.lines().iter().filter(of_mail)
}

/// Its disk and its card work in the pool.
fn pool(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    let devices = dialogue.ask(MAIL, "dmesg | grep -o '[^ ]* confined to the pool'")?;
    let what = "its disk and its card are confined to the pool";
    report.check(what, "mail, dmesg", &devices.text(), devices.lines.len() == 2);

    // virtio 1.2, 6: bit 32 VERSION_1, bit 33 ACCESS_PLATFORM. sysfs shows bit 0 first.
    let bits = dialogue.ask(MAIL, "cat /sys/bus/virtio/devices/*/features | cut -c 33-34")?;
    let what = "their drivers work by DMA addresses (features 32 and 33)";
    report.check(what, "mail, /sys/bus/virtio", &bits.text(), bits.lines == ["11", "11"]);

    dialogue.ask(MAIL, "mount -t debugfs debugfs /sys/kernel/debug")?;
    let figures = dialogue.ask(MAIL, "cat /sys/kernel/debug/portcullis_pool")?;
    let figure = |name: &str| {
        let mut values = figures.lines.iter().filter_map(|line| line.strip_prefix(name));
        values.next()?.trim().parse::<u64>().ok()
    };
    let kept = figure("used ").is_some_and(|used| used > 0) && figure("failed ") == Some(0);
    let what = "rings and data take pages of it, and there was always room";
    report.check(what, "mail, debugfs", &figures.text(), kept);
    Ok(())
}

/// The root is on the disk that store serves.
fn disk(dialogue: &mut Dialogue, report: &mut Report<'_>) -> Result<()> {
    let root = dialogue.ask(MAIL, "grep '^/dev/vda / ' /proc/mounts")?.text();
    let kept = root.starts_with("/dev/vda / ext4 ro");
    report.check("mail's root is ext4 on its read-only disk", "mail, /proc/mounts", &root, kept);

    let known = client_root::KNOWN_PATH;
    let direct = format!("dd if={known} bs=64k iflag=direct 2>/dev/null | sha256sum");
    let read = sum(&dialogue.ask(MAIL, &direct)?);
    let what = "a file made by the script has its content, read around mail's page cache";
    let kept = read == sha256(&client_root::known())?;
    report.check(what, "mail, SHA-256 by O_DIRECT", &read, kept);
    Ok(())
}

/// What store sees of it.
fn seen(dialogue: &mut Dialogue, report: &mut Report<'_>, secrets: &Secrets) -> Result<()> {
    let line = dialogue.said("[hyp] mail: served by ")?;
    let pool = pool_in(&line).context("EL2's log names no pool of mail")?;
    let text = format!("mail-{}", secrets.ram);
    dialogue.ask(MAIL, &format!("echo {text} >/tmp/secret"))?;
    let seen = scan(dialogue, MAIL, &[&text])?;
    let row = format!("{}; the text in its RAM {}", seen.summary, seen.times(0));
    report.sees("store", "mail, after its I/O", &row);
    window::confined(report, MAIL, &seen, pool, "after its I/O");
    let held = dialogue.ask(MAIL, "cat /tmp/secret")?.text();
    let kept = seen.count(0) == Some(0) && held == text;
    let what = "a text in mail's RAM is nowhere in the window, and mail has it still";
    report.check(what, SCANNED, &format!("{held}: {}", seen.times(0)), kept);
    Ok(())
}
