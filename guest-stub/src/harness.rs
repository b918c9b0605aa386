// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of tests, choosing among them, running them.

use crate::machine::{self, Machine, pstate};
use crate::scratch::Shared;
use crate::verdict::{Verdict, Why, failed};
use crate::{exception, guard, modes};

/// One test.
#[repr(C)]
pub struct Test {
    /// Its name, unique.
    pub name: &'static str,
    /// Scenario ids, separated by commas.
    pub ids: &'static str,
    /// Words of the VM that it needs beyond the defaults, separated by spaces.
    pub options: &'static str,
    /// `alone`: needs a boot of its own. `slow`: takes more than a few seconds.
    pub flags: &'static str,
    /// The test.
    pub function: fn() -> Verdict,
}

/// Puts tests into the table: `name: "IDS", "VM OPTIONS", "FLAGS" => function;`
macro_rules! tests {
    ($($name:ident: $ids:literal, $options:literal, $flags:literal => $function:expr;)+) => {
        $(const _: () = {
            #[used]
            #[unsafe(link_section = concat!(".stub_tests.", stringify!($name)))]
            static TEST: $crate::harness::Test = $crate::harness::Test {
                name: stringify!($name),
                ids: $ids,
                options: $options,
                flags: $flags,
                function: $function,
            };
        };)+
    };
}

unsafe extern "C" {
    static __tests_start: u8;
    static __tests_end: u8;
}

/// All tests, by name.
fn table() -> &'static [Test] {
    let start = (&raw const __tests_start).cast::<Test>();
    let length = (&raw const __tests_end as usize - start as usize) / size_of::<Test>();
    // SAFETY: the linker script puts nothing but `Test`s between the two symbols.
    unsafe { core::slice::from_raw_parts(start, length) }
}

/// What the boot arguments ask for.
pub enum Mode {
    /// The demonstration.
    Demo,
    /// The table.
    List,
    /// Tests by name.
    Run(&'static str),
    /// Benchmarks.
    Bench(&'static str),
    /// Company for other VMs.
    Other(modes::Request),
}

impl Mode {
    /// Reads the boot arguments; words that belong to other parts are theirs.
    pub fn parse(arguments: &'static str) -> Self {
        for word in arguments.split_ascii_whitespace() {
            if word == "list" {
                return Self::List;
            }
            if let Some(names) = word.strip_prefix("run=") {
                return Self::Run(names);
            }
            if let Some(what) = word.strip_prefix("bench=") {
                return Self::Bench(what);
            }
            if let Some(request) = modes::Request::parse(word) {
                return Self::Other(request);
            }
        }
        Self::Demo
    }

    /// Does it.
    pub fn run(self) {
        match self {
            Self::Demo => crate::demo::run(),
            Self::List => {
                guard::declare_own();
                list();
            }
            Self::Run(names) => {
                guard::declare_own();
                run(names);
            }
            Self::Bench(what) => crate::bench::run(what),
            Self::Other(request) => request.run(),
        }
    }
}

fn list() {
    for test in table() {
        say!("test\t{}\t{}\t{}\t{}", test.name, test.ids, test.options, test.flags);
    }
}

/// Whether `name` is what `pattern` says, in which a trailing `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

fn run(names: &str) {
    let (mut passed, mut failed, mut skipped) = (0_u32, 0_u32, 0_u32);
    for pattern in names.split(':').filter(|pattern| !pattern.is_empty()) {
        let mut found = false;
        for test in table().iter().filter(|test| matches(pattern, test.name)) {
            found = true;
            match guarded(test.function) {
                Ok(()) => {
                    passed += 1;
                    say!("ok {}", test.name);
                }
                Err(Why::Skipped(what)) => {
                    skipped += 1;
                    say!("skip {}: {what}", test.name);
                }
                Err(Why::Failed(reason)) => {
                    failed += 1;
                    say!("FAIL {}: {reason}", test.name);
                }
            }
        }
        if !found {
            failed += 1;
            say!("FAIL {pattern}: no such test");
        }
    }
    say!("stub: {passed} passed, {failed} failed, {skipped} skipped");
}

/// Stack of the test that runs, apart from the harness's own.
#[repr(C, align(4096))]
struct Stack {
    _bytes: [u8; 64 << 10],
}
static STACK: Shared<Stack> = Shared::new(Stack { _bytes: [0; 64 << 10] });

/// Runs a test inside a machine, so that an unexpected exception fails this test alone.
fn guarded(function: fn() -> Verdict) -> Verdict {
    extern "C" fn call(function: *const (), verdict: &mut Verdict) {
        // SAFETY: what the machine below was given.
        let function = unsafe { core::mem::transmute::<*const (), fn() -> Verdict>(function) };
        *verdict = function();
    }
    snippet!(trampoline, "mov x29, xzr", "blr x2");

    let mut verdict = Ok(());
    let mut machine = Machine::new(trampoline)
        .with(0, function as usize as u64)
        .with(1, &raw mut verdict as u64)
        .with(2, call as *const () as usize as u64)
        .at(pstate::EL1H);
    machine.sp = STACK.address() + size_of::<Stack>() as u64;
    let exit = machine::run(&mut machine);
    exception::restore();
    if exit.done() {
        verdict
    } else if exit.esr == crate::panic::PANICKED {
        Err(failed(format_args!("panicked")))
    } else {
        Err(failed(format_args!(
            "unexpected exception: vector {:#x} ESR {:#x} FAR {:#x} ELR {:#x} SPSR {:#x} LR {:#x}",
            exit.vector, exit.esr, exit.far, exit.elr, exit.spsr, machine.x[30]
        )))
    }
}
