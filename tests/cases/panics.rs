// SPDX-License-Identifier: MIT OR Apache-2.0
//! When EL2 itself fails: it says why once, with a backtrace that can be resolved, and the machine goes off.

use xtask::qemu::{Machine, Run};
use xtask::symbolize::Symbolizer;

use crate::fixture::{Checked, Fixture, ensure, one, powered_off};

cases![panic_says_why_once, panic_among_eight, stack_overflow_hits_the_guard_page];

fn boot(fixture: &Fixture, word: &str, cpus: u32) -> anyhow::Result<Run> {
    let machine = Machine { append: Some(word.into()), cpus, ..fixture.machine_with(&["demo"]) };
    let run = fixture.run(&machine)?;
    one(&run, "[hyp] panic on CPU")?;
    one(&run, "[hyp] stopped: EL2 panicked")?;
    powered_off(&run)?;
    Ok(run)
}

/// The run's backtrace, resolved.
fn backtrace(fixture: &Fixture, run: &Run) -> anyhow::Result<String> {
    let symbolizer = Symbolizer::new(&fixture.images.hypervisor_elf)?;
    one(run, "[hyp] backtrace")?;
    Ok(run
        .with("[hyp]   at image+")
        .map(|line| symbolizer.line(line))
        .collect::<Vec<_>>()
        .join("\n"))
}

// scenario: J8
// bug: 85
fn panic_says_why_once(fixture: &Fixture) -> Checked {
    let run = boot(fixture, "hyp.panic", 2)?;
    ensure(one(&run, "[hyp] panic")?.contains("hyp.panic"), "it does not say why", &run)?;
    let trace = backtrace(fixture, &run)?;
    for function in [
        "hyp::boot::command_line::apply (hyp/src/boot/command_line.rs:",
        "hyp::main (hyp/src/main.rs:",
    ] {
        ensure(trace.contains(function), &format!("no `{function}` in\n{trace}\n"), &run)?;
    }
    ensure(!run.lines.iter().any(|line| line.contains("demo")), "a guest ran", &run)
}

// scenario: J8
fn panic_among_eight(fixture: &Fixture) -> Checked {
    boot(fixture, "hyp.panic", 8).map(drop)
}

// scenario: F7
// bug: 49
fn stack_overflow_hits_the_guard_page(fixture: &Fixture) -> Checked {
    let run = boot(fixture, "hyp.overflow", 2)?;
    one(&run, "the stack of CPU 0 overflowed into its guard page")?;
    let trace = backtrace(fixture, &run)?;
    ensure(
        trace.contains("hyp::boot::command_line::overflow"),
        &format!("not in the trace:\n{trace}\n"),
        &run,
    )
}
