// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Portcullis would use of a board, or why it would refuse it, from the board's tree alone: `scripts/board-check`.
//!
//! The judgement is that of the image: the same crate reads the tree. What a tree does not say stays open: whether
//! firmware enters the image at EL2, and what it changes in the tree.

use std::collections::BTreeMap;
use std::fmt::Write;

use platform::{BoardReport, Conduit, Cpu, Gic, ReportedRam, StartMethod, UartKind};

/// CPUs that the image can use.
const MAX_CPUS: usize = 8;

/// How a tree was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The image would boot.
    Bootable {
        /// With a console that it drives.
        console: bool,
        /// Once firmware has filled in the RAM.
        firmware_fills_ram: bool,
    },
    /// It would refuse.
    Refused,
    /// It is no device tree.
    Unreadable,
}

/// The judgement of one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it was judged.
    pub verdict: Verdict,
    /// Whether it has an interrupt controller that can serve EL2 at all: a GICv3, or a GICv2 with GICH and GICV.
    pub has_el2_gic: bool,
    /// Why it is refused or unreadable; empty otherwise.
    pub reason: String,
    /// The console's kind, or why there is none.
    pub console: String,
    /// For people: part by part.
    pub text: String,
}

impl Report {
    /// Judges the tree in `blob`.
    #[must_use]
    pub fn of(blob: &[u8]) -> Self {
        match BoardReport::of(blob) {
            Ok(report) => Self::of_board(&report),
            Err(error) => Self {
                verdict: Verdict::Unreadable,
                has_el2_gic: false,
                reason: error.to_string(),
                console: "none".into(),
                text: format!("unreadable: {error}\n"),
            },
        }
    }

    fn of_board(report: &BoardReport) -> Self {
        let (console, drives) = console(report);
        let reason = report.refusal().map(ToString::to_string).unwrap_or_default();
        let firmware_fills_ram = matches!(report.ram, Ok(ReportedRam::FilledByFirmware));
        let verdict = if reason.is_empty() {
            Verdict::Bootable { console: drives, firmware_fills_ram }
        } else {
            Verdict::Refused
        };
        let mut text = format!("board            {}\n", report.model);
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "{what:<16} {value}");
        };
        line("console", console.clone());
        line(
            "RAM",
            match &report.ram {
                Ok(ReportedRam::Banks(banks)) => {
                    let banks: Vec<_> = banks.iter().map(ToString::to_string).collect();
                    banks.join(", ")
                }
                Ok(ReportedRam::FilledByFirmware) => "filled in by firmware".into(),
                Err(error) => format!("refused: {error}"),
            },
        );
        line(
            "reserved memory",
            match &report.reserved {
                Ok(all) => {
                    let bytes: u64 = all.iter().map(|one| one.range.size()).sum();
                    format!("{} ranges, {} KiB, left alone", all.len(), bytes >> 10)
                }
                Err(error) => format!("refused: {error}"),
            },
        );
        line("GIC", report.gic.as_ref().map_or_else(|e| format!("refused: {e}"), gic));
        line(
            "timer",
            match &report.timer {
                Ok(timer) => format!(
                    "PPIs: hypervisor {}, virtual {}, physical {}{}",
                    timer.hypervisor,
                    timer.virt,
                    timer.physical,
                    timer.frequency.map_or(String::new(), |hz| format!("; {hz} Hz"))
                ),
                Err(error) => format!("refused: {error}"),
            },
        );
        line("CPUs", report.cpus.as_ref().map_or_else(|e| format!("refused: {e}"), |c| cpus(c)));
        line(
            "power-off",
            match &report.psci {
                Ok(Some(psci)) if psci.conduit == Conduit::Hvc => {
                    "none: the tree calls PSCI by HVC, so something else is at EL2 there; parks"
                        .into()
                }
                Ok(Some(psci)) if psci.has_system_off => "PSCI, by SMC".into(),
                Ok(_) => "none: no PSCI 0.2 in the tree (firmware may add it); parks".into(),
                Err(error) => format!("refused: {error}"),
            },
        );
        line(
            "verdict",
            match verdict {
                Verdict::Bootable { firmware_fills_ram: true, .. } => {
                    "would boot, once firmware has filled in the RAM".into()
                }
                Verdict::Bootable { .. } => "would boot".into(),
                Verdict::Refused | Verdict::Unreadable => format!("would refuse: {reason}"),
            },
        );
        Self { verdict, has_el2_gic: report.has_el2_gic, reason, console, text }
    }
}

/// The console for people, and whether it is one that the image drives.
fn console(report: &BoardReport) -> (String, bool) {
    match &report.uart {
        Ok(Some(uart)) => match &uart.kind {
            UartKind::Driven { name, driver } => {
                let input = match (driver.interrupt, uart.intid) {
                    (Some(_), Some(intid)) => format!("interrupt {intid}"),
                    _ => "looked at now and then".into(),
                };
                (format!("{name} at {}, {}; input: {input}", uart.registers, uart.path), true)
            }
            UartKind::Unknown(name) => (format!("none: no driver for {name}"), false),
        },
        Ok(None) => {
            ("none: neither stdout-path nor the alias serial0 leads to a UART".into(), false)
        }
        Err(error) => (format!("refused: {error}"), false),
    }
}

fn gic(gic: &Gic) -> String {
    let maintenance = gic
        .maintenance()
        .map_or("no maintenance interrupt".into(), |intid| format!("maintenance {intid}"));
    match gic {
        Gic::V2 { gicd, gicc, gich, gicv, .. } => {
            format!("GICv2: GICD {gicd}, GICC {gicc}, GICH {gich}, GICV {gicv}; {maintenance}")
        }
        Gic::V3 { gicd, redistributors, stride, .. } => {
            let regions: Vec<String> = redistributors.iter().map(ToString::to_string).collect();
            let stride = stride.map_or(String::new(), |bytes| format!(" every {bytes:#x} bytes"));
            format!("GICv3: GICD {gicd}, GICR {}{stride}; {maintenance}", regions.join(", "))
        }
    }
}

fn cpus(all: &[Cpu]) -> String {
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    for cpu in all {
        let way = match &cpu.start {
            StartMethod::Psci => "by PSCI".to_owned(),
            StartMethod::SpinTable(_) => "by spin-table".to_owned(),
            StartMethod::Unknown(name) if name.is_empty() => {
                "not startable: no enable-method (firmware may add it)".to_owned()
            }
            StartMethod::Unknown(name) => format!("not startable: enable-method {name}"),
        };
        *ways.entry(way).or_default() += 1;
    }
    let ways: Vec<_> = ways.into_iter().map(|(way, count)| format!("{count} {way}")).collect();
    let spare = match all.len().saturating_sub(MAX_CPUS) {
        0 => String::new(),
        spare => format!("; {spare} not used: the image is built for {MAX_CPUS}"),
    };
    format!("{}: {}{spare}", all.len(), ways.join(", "))
}

/// Counts over many trees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub trees: usize,
    /// Of them, device trees.
    pub parsed: usize,
    /// Of those, with an interrupt controller that can serve EL2.
    pub with_el2_gic: usize,
    /// Of those, bootable.
    pub bootable: usize,
    /// Of the bootable ones, with a console that the image drives.
    pub with_console: usize,
    /// Of the bootable ones, with RAM that firmware fills in.
    pub firmware_fills_ram: usize,
    /// Why others were refused, and which.
    pub refused: BTreeMap<String, Vec<String>>,
    /// Consoles of the bootable ones.
    pub consoles: BTreeMap<String, usize>,
}

impl Counts {
    /// Adds the tree called `name`.
    pub fn add(&mut self, name: &str, report: &Report) {
        self.trees += 1;
        self.parsed += usize::from(report.verdict != Verdict::Unreadable);
        self.with_el2_gic += usize::from(report.has_el2_gic);
        match report.verdict {
            Verdict::Bootable { console, firmware_fills_ram } => {
                self.bootable += 1;
                self.with_console += usize::from(console);
                self.firmware_fills_ram += usize::from(firmware_fills_ram);
                let kind = report.console.split(" at 0x").next().unwrap_or_default();
                *self.consoles.entry(kind.into()).or_default() += 1;
            }
            Verdict::Refused | Verdict::Unreadable => {
                // The same reason has another path on each board.
                let reason = report.reason.split_once(": ").map_or(&*report.reason, |it| it.1);
                self.refused.entry(reason.into()).or_default().push(name.into());
            }
        }
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} trees, {} parsed, {} with a GIC that can serve EL2\n{} bootable: {} with a console \
             that is driven, {} without; {} once firmware has filled in the RAM\n",
            self.trees,
            self.parsed,
            self.with_el2_gic,
            self.bootable,
            self.with_console,
            self.bootable - self.with_console,
            self.firmware_fills_ram
        );
        for (kind, count) in &self.consoles {
            let _ = writeln!(text, "  {count:>4} {kind}");
        }
        let refused: usize = self.refused.values().map(Vec::len).sum();
        let _ = writeln!(text, "{refused} refused");
        for (reason, names) in &self.refused {
            let _ = writeln!(text, "  {:>4} {reason}: {}", names.len(), names.join(" "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIRT: &[u8] = include_bytes!("../../../crates/platform/tests/fixtures/virt-g3.dtb");
    const SOC: &[u8] = include_bytes!("../../../crates/platform/tests/fixtures/board-soc.dtb");

    #[test]
    fn a_board_is_described_part_by_part() {
        let report = Report::of(VIRT);
        let verdict = Verdict::Bootable { console: true, firmware_fills_ram: false };
        assert_eq!((report.verdict, report.has_el2_gic), (verdict, true));
        for words in [
            "PL011 at 0x9000000+0x1000, /pl011@9000000; input: interrupt 33",
            "0x40000000+0x200000000",
            "GICv3: GICD 0x8000000+0x10000, GICR 0x80a0000+0xf60000; maintenance 25",
            "hypervisor 26, virtual 27, physical 30",
            "4: 4 by PSCI",
            "PSCI, by SMC",
            "would boot\n",
        ] {
            assert!(report.text.contains(words), "{words}: {}", report.text);
        }
        let report = Report::of(SOC);
        assert!(report.text.contains("by spin-table"), "{}", report.text);
        assert!(report.text.contains("none: no PSCI 0.2"), "{}", report.text);
    }

    #[test]
    fn what_is_refused_says_why() {
        let report = Report::of(VIRT.get(..VIRT.len() / 2).unwrap());
        assert_eq!(report.verdict, Verdict::Unreadable);
        assert!(report.reason.contains("truncated"), "{}", report.reason);
    }

    #[test]
    fn counts_tell_boards_apart() {
        let mut counts = Counts::default();
        counts.add("a", &Report::of(VIRT));
        counts.add("b", &Report::of(SOC));
        counts.add("c", &Report::of(b"no tree"));
        assert_eq!((counts.trees, counts.parsed, counts.with_el2_gic), (3, 2, 2));
        assert_eq!((counts.bootable, counts.with_console), (2, 2));
        assert_eq!(counts.refused.len(), 1);
        assert!(counts.table().contains("1 refused"));
    }
}
