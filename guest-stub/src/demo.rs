// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demonstration: the main job of Portcullis, done step by step and told in plain words by the guest
//! that it is done to. Every row of the closing table is checked.

use core::fmt::{self, Write};

use arrayvec::{ArrayString, ArrayVec};
use mmio_guard::Call;

use crate::guard::{self, State};
use crate::hvc::hvc;
use crate::probe::{self, Access};
use crate::tree::{self, Gic};

/// One row of the closing table.
struct Row {
    what: &'static str,
    promised: ArrayString<40>,
    seen: ArrayString<40>,
}

/// What has happened so far.
#[derive(Default)]
struct Table(ArrayVec<Row, 16>);

fn text(arguments: fmt::Arguments<'_>) -> ArrayString<40> {
    let mut text = ArrayString::new();
    // The few things that are written here fit.
    let _ = text.write_fmt(arguments);
    text
}

impl Table {
    fn row(&mut self, what: &'static str, promised: fmt::Arguments<'_>, seen: fmt::Arguments<'_>) {
        // There is room for all of them.
        let _ = self.0.try_push(Row { what, promised: text(promised), seen: text(seen) });
    }

    /// An access that must have been aborted.
    fn abort(&mut self, what: &'static str, access: &Access, va: u64) {
        let promised = format_args!("abort 0x96000010");
        match access.refused(va) {
            Ok(()) => self.row(what, promised, format_args!("abort {:#x}", access.exit.esr)),
            Err(_) if access.exit.done() => self.row(what, promised, format_args!("it was served")),
            Err(_) => self.row(
                what,
                promised,
                format_args!("ESR {:#x} at {:#x}", access.exit.esr, access.exit.far),
            ),
        }
    }

    /// A call that must have answered this in x0.
    fn call(&mut self, what: &'static str, promised: u64, [seen, ..]: [u64; 4]) {
        let (promised, seen) = (promised.cast_signed(), seen.cast_signed());
        self.row(what, format_args!("{promised}"), format_args!("{seen}"));
    }

    fn close(&self) {
        say!("");
        say!("   {:<36} {:<17} {:<17}", "The guest ...", "promised", "seen");
        let mut kept = 0;
        for (n, row) in self.0.iter().enumerate() {
            let same = row.promised == row.seen;
            kept += usize::from(same);
            say!(
                "{:>2} {:<36} {:<17} {:<17} {}",
                n + 1,
                row.what,
                row.promised,
                row.seen,
                if same { "ok" } else { "NOT AS PROMISED" }
            );
        }
        say!("");
        say!("demo: {kept} of {} as promised", self.0.len());
    }
}

/// An access as the guest would tell it.
fn tell(access: &Access) {
    if access.exit.done() {
        say!("   It was served.");
        return;
    }
    say!(
        "   Synchronous external abort: ESR_EL1 {:#x}, FAR_EL1 {:#x}.",
        access.exit.esr,
        access.exit.far
    );
    if access.exit.elr == access.before.pc && access.after.x == access.before.x {
        say!("   It points at this very instruction, and no register has changed.");
    }
}

/// Tells and shows it all.
pub fn run() {
    let mut table = Table::default();
    let uart = tree::get().uart;

    // Nothing can be told before the console is declared, so the first steps are told afterwards.
    let [features, ..] = hvc(0x8600_0000, [0; 3]);
    if guard::dialect().is_none() {
        without_guard(features);
        return;
    }
    let (map_word, expected) = if guard::series() { ("series", 0x3d) } else { ("pkvm", 0xffd) };
    table.row(
        "asks for the features",
        format_args!("{expected:#x}"),
        format_args!("{features:#x}"),
    );
    let granule = hvc(guard::id(Call::Info), [0; 3]);
    table.row(
        "asks what one declaration covers",
        format_args!("4096 bytes"),
        format_args!("{} bytes", granule[0]),
    );
    let enrolled = hvc(guard::id(Call::Enroll), [0; 3]);
    table.call("switches the guard on (ENROLL)", 0, enrolled);
    let early = guard::query(uart) != State::Declared;
    let flags = uart + 0x18;
    let console = probe::load(flags);
    if early {
        table.abort("reads its console, undeclared", &console, flags);
    }
    let declared = guard::map(uart);
    table.call("declares the console (MAP)", 0, declared);
    let again = probe::load(flags);
    table.row(
        "reads the console, and prints",
        format_args!("served"),
        format_args!("{}", if again.exit.done() { "served" } else { "abort" }),
    );

    say!("");
    say!(
        "This is a guest of Portcullis: a small kernel at EL1, alone in its virtual machine. It shows what"
    );
    say!(
        "the MMIO guard does. Lines that begin with [hyp] are Portcullis' own, for whoever runs the VM."
    );
    say!("");
    say!(
        "1. Is there a guard? The feature map is {features:#x}: yes, in the dialect `{map_word}`."
    );
    say!("   One declaration covers {} bytes.", granule[0]);
    say!(
        "2. The guest has switched the guard on. From now on, and until the VM is reset, an access outside"
    );
    say!("   of its RAM reaches a device only if the guest has declared that page before.");
    if early {
        say!(
            "3. That holds for the console at {uart:#x} as well. The guest touched it at once, undeclared:"
        );
        tell(&console);
    } else {
        say!(
            "3. The owner of the VM has declared the console at {uart:#x} in advance (vm.preset)."
        );
    }
    say!("   Then it declared the page, and you can read this.");

    let (device, name, register, length) = match tree::get().gic {
        Gic::V2(distributor, _) => (distributor, "GICD_TYPER", 4, 0x1000),
        Gic::V3(distributor, ..) => (distributor, "GICD_TYPER", 4, 0x1000),
        Gic::None => (uart, "UARTFR", 0x18, 0),
    };
    let at = device + register;
    say!(
        "4. The interrupt controller at {device:#x} is not declared. The guest reads its register {name}:"
    );
    let first = probe::load(at);
    tell(&first);
    table.abort("reads the GIC, undeclared", &first, at);
    say!("5. It declares that page and reads again:");
    table.call("declares the GIC (MAP)", 0, guard::map(device));
    let second = probe::load(at);
    let value = second.after.x[probe::DATA] as u32;
    if second.exit.done() {
        say!("   Served: {name} is {value:#x}.");
    } else {
        tell(&second);
    }
    let lines = if second.exit.done() { "served" } else { "abort" };
    table.row("reads the GIC", format_args!("served"), format_args!("{lines}"));

    let hole = guard::HOLE;
    say!("6. A driver gone wrong: the guest stores to {hole:#x}, which it never declared.");
    let stray = probe::access(probe::str_w, hole);
    tell(&stray);
    table.abort("stores to a page it never declared", &stray, hole);
    say!(
        "   The guest has survived: its handler saw an ordinary exception, and the store went nowhere."
    );

    say!("7. It gives the interrupt controller's declaration back (UNMAP) and reads once more:");
    table.call("takes the GIC back (UNMAP)", 0, guard::unmap(device & !(length - 1)));
    let third = probe::load(at);
    tell(&third);
    table.abort("reads the GIC again", &third, at);

    let ram = probe::access(probe::ldr_x, tree::get().ram.0);
    table.row(
        "uses its own RAM meanwhile",
        format_args!("works"),
        format_args!("{}", if ram.exit.done() { "works" } else { "does not work" }),
    );
    let refused = guard::counters().refused;
    table.row(
        "asks how many accesses were refused",
        format_args!("{}", if early { 4 } else { 3 }),
        format_args!("{refused}"),
    );
    table.close();
}

/// The VM was made without one.
fn without_guard(features: u64) {
    let mut table = Table::default();
    say!("");
    if !tree::get().psci_hvc || features != 1 {
        say!("This is guest-stub, but nothing here answers as Portcullis does.");
        say!("demo: 0 of 1 as promised");
        return;
    }
    say!(
        "This is a guest of Portcullis, in a VM without an MMIO guard (vm.guard=off): its devices work"
    );
    say!("undeclared. Leave that word out to see the guard.");
    table.row("asks for the features", format_args!("0x1"), format_args!("{features:#x}"));
    let hole = guard::HOLE;
    table.abort("loads from where there is nothing", &probe::load(hole), hole);
    table.close();
}
