// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vendors' own trees: what Portcullis makes of every arm64 board that Debian's kernel knows. The boards that QEMU
//! models are machines of the matrix.

use anyhow::{Context, anyhow};
use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use platform::{Board, BoardReport, ReportedRam};
use xtask::boards;
use xtask::boards::check::{Counts, Report, Verdict};
use xtask::boards::model::ZCU102;
use xtask::qemu::Machine;

use crate::asm::{Asm, UART, calls};
use crate::fixture::{Checked, Fixture};

cases_with![
    vendors_trees: &[], true;
    a_console_that_sends_slowly: &[], false;
];

// scenario: J1
fn vendors_trees(_: &Fixture) -> Checked {
    let mut counts = Counts::default();
    // Boards whose tree names no console, and whose first UART is driven.
    let mut by_alias = 0;
    for file in boards::all_trees()? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let blob = fs::read(&file).with_context(|| format!("{}", file.display()))?;
        let report = Report::of(&blob);
        agrees_with_the_image(&blob, &report).with_context(|| name.to_string())?;
        // Cut, and with a byte gone wrong here and there: whatever comes of it, it comes.
        for part in [3, 7] {
            let at = blob.len() * part / 8 + part;
            let _ = Report::of(blob.get(..at).unwrap_or_default());
            let mut other = blob.clone();
            other
                .get_mut(at % blob.len())
                .map(|byte| *byte ^= 1 << part)
                .context("an empty tree")?;
            let _ = Report::of(&other);
        }
        if matches!(report.verdict, Verdict::Bootable { console: true, .. }) {
            let is_named = blob.windows(12).any(|window| window == b"stdout-path\0");
            by_alias += usize::from(!is_named);
        }
        counts.add(&name, &report);
    }
    // Below the name of this case, which the runner has begun to say.
    println!();
    for line in counts.table().lines() {
        println!("boards: {line}");
    }
    if counts.trees < 400 || counts.parsed != counts.trees {
        return Err(anyhow!("{} of {} trees parsed", counts.parsed, counts.trees));
    }
    if counts.bootable * 100 < counts.with_el2_gic * 95 {
        return Err(anyhow!(
            "only {} of {} boards with a GIC for EL2 are bootable",
            counts.bootable,
            counts.with_el2_gic
        ));
    }
    println!("boards: {by_alias} with the console of the alias serial0");
    // 15 in Linux 6.12's trees.
    if by_alias < 10 {
        return Err(anyhow!("only {by_alias} boards without stdout-path have a console"));
    }
    if counts.with_console * 100 < counts.bootable * 60 || counts.refused.contains_key("") {
        return Err(anyhow!("too few consoles, or a refusal without a reason: {counts:?}"));
    }
    Ok(())
}

/// Where a tree has its RAM, the image itself says of it what the report says.
fn agrees_with_the_image(blob: &[u8], report: &Report) -> Checked {
    let filled = BoardReport::of(blob).is_ok_and(|it| it.ram == Ok(ReportedRam::FilledByFirmware));
    match (Board::from_tree(blob), report.verdict) {
        (Ok(_), Verdict::Bootable { firmware_fills_ram: false, .. })
        | (Err(_), Verdict::Refused | Verdict::Unreadable) => Ok(()),
        (Err(error), Verdict::Bootable { firmware_fills_ram: true, .. })
            if filled && error.message().contains("the firmware must fill in /memory") =>
        {
            Ok(())
        }
        (Ok(_), verdict) => Err(anyhow!("it boots, and the report says {verdict:?}")),
        (Err(error), verdict) => Err(anyhow!("the image says `{error}`, the report {verdict:?}")),
    }
}

/// Bytes of `machine`'s console, taken as slowly as a UART of `rate` bytes a second sends them: QEMU's model of the Cadence
/// UART holds the next byte back until the pipe takes it.
fn listen_slowly(machine: &Machine, rate: u64, time: Duration) -> anyhow::Result<String> {
    let arguments = machine.arguments()?;
    let program = machine.program()?;
    let mut qemu = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut console = qemu.stdout.take().context("no console")?;
    let (mut out, start) = (Vec::new(), Instant::now());
    while start.elapsed() < time {
        let mut some = [0; 64];
        match console.read(&mut some) {
            Ok(count @ 1..) => out.extend(some.iter().take(count)),
            _ => break,
        }
        let due = Duration::from_micros(out.len() as u64 * 1_000_000 / rate);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    let _ = qemu.kill();
    let _ = qemu.wait();
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Prints `line` for ever, and looks at FR.TXFF before each byte.
fn polite(line: &str) -> Asm {
    let mut code = Asm::new().mov(10, UART).mov(11, UART + 0x18).label("again");
    for (number, byte) in line.bytes().enumerate() {
        let wait: &'static str = format!("wait {number}").leak();
        code = code.label(wait).load(12, 11).unless_bit_clear(12, 5, wait);
        code = code.mov(13, u64::from(byte)).store(13, 10);
    }
    code.jump("again")
}

// scenario: F8
fn a_console_that_sends_slowly(fixture: &Fixture) -> Checked {
    // One resets itself for ever and prints without looking, so that there is always more to say of it and by it; the other
    // looks before each byte: it gets its share, and loses nothing.
    let mut bad = Asm::new().mov(10, UART).mov(11, u64::from(b'#')).mov(14, 400).label("line");
    for _ in 0..60 {
        bad = bad.store(11, 10);
    }
    let bad = bad.print("\n").sub(14, 14, 1).unless_zero(14, "line").call(calls::RESET, 0);
    let line = "a line of thirty-nine characters and lf";
    let modules = vec![
        fixture.code(bad, "vm.name=bad vm.mem=4M")?,
        fixture.code(polite(&format!("{line}\n")), "vm.name=good vm.mem=4M")?,
    ];
    let machine = fixture.machine();
    let board = Machine { board: Some(&ZCU102), cpus: 1, memory_mib: 4096, modules, ..machine };
    // The pipe's 64 KiB are written at once; what comes behind them is what counts.
    let (rate, time) = (20_000, Duration::from_secs(16));
    let text = listen_slowly(&board, rate, time)?;
    fixture.file("console", text.as_bytes())?;
    let late = text.get(100_000..).ok_or_else(|| anyhow!("only {} bytes came", text.len()))?;
    let lines: Vec<&str> = late.lines().skip(1).collect();
    let (_, lines) = lines.split_last().context("nothing came")?;
    let theirs: Vec<_> = lines.iter().filter(|line| line.starts_with("[good] ")).collect();
    if let Some(odd) = theirs.iter().find(|it| !it.ends_with(line)) {
        return Err(anyhow!("a line of the polite one is `{odd}`"));
    }
    let share = theirs.len() * (line.len() + "[good] \r\n".len()) * 100 / late.len();
    if share < 40 {
        return Err(anyhow!("the polite one has {share} % of the console"));
    }
    let lost = |name: &str| {
        let about = lines.iter().filter(|line| line.starts_with("[hyp] "));
        let about = about.filter(|line| line.contains(&format!("{name}: ")));
        about.filter(|line| line.contains("bytes of its console output lost")).count()
    };
    if lost("bad") == 0 || lost("good") != 0 {
        return Err(anyhow!("losses told: bad {}, good {}", lost("bad"), lost("good")));
    }
    let about = lines.iter().filter(|line| line.starts_with("[hyp] ")).count();
    if about > time.as_secs() as usize + 11 {
        return Err(anyhow!("{about} lines of EL2's in at most {time:?}"));
    }
    Ok(())
}
