// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the models in `races/` are for: in a copy of the sources a lock is let go too early, a step is done in two, an
//! order is turned round; and the model that is to find it must fail. A model that finds nothing is no check.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::tool::{said, tail};
use crate::paths;
use anyhow::{Context, Result, anyhow, bail};

/// A mistake that a change might bring.
#[derive(Debug, Clone, Copy)]
pub struct Break {
    /// What is wrong then.
    what: &'static str,
    file: &'static str,
    /// Stands there once.
    right: &'static str,
    wrong: &'static str,
    /// The model that finds it.
    model: &'static str,
}

/// All of them: at least one for every part that has models.
pub const BREAKS: [Break; 21] = [
    Break {
        what: "a sender looks at what a CPU listens for before it sets the vCPU's bit",
        file: "crates/sched/src/wake.rs",
        right: "        let before = self.bits.fetch_or(bit, Ordering::SeqCst);
        before & bit == 0 && self.heed.load(Ordering::SeqCst) & bit != 0
",
        wrong: "        let heed = self.heed.load(Ordering::SeqCst);
        let before = self.bits.fetch_or(bit, Ordering::SeqCst);
        before & bit == 0 && heed & bit != 0
",
        model: "wake::no_wake_up_is_lost",
    },
    Break {
        what: "a CPU looks at the bits before it says what it listens for",
        file: "crates/sched/src/wake.rs",
        right: "        self.heed.store(heed, Ordering::SeqCst);
        self.bits.load(Ordering::SeqCst) & heed != 0
",
        wrong: "        let bits = self.bits.load(Ordering::SeqCst);
        self.heed.store(heed, Ordering::SeqCst);
        bits & heed != 0
",
        model: "wake::no_wake_up_is_lost",
    },
    Break {
        what: "a kick is sent for a vCPU whose bit is set already",
        file: "crates/sched/src/wake.rs",
        right: "        before & bit == 0 && self.heed",
        wrong: "        before | bit != 0 && self.heed",
        model: "wake::at_most_one_kick_is_outstanding",
    },
    Break {
        what: "a table is published before it is filled",
        file: "crates/stage2/src/tables.rs",
        right: "        self.host.fill(table, slot.raw);
        self.host.dsb_ishst();
        self.host.store(slot.table, slot.index, codec::table(table));
",
        wrong: "        self.host.store(slot.table, slot.index, codec::table(table));
        self.host.fill(table, slot.raw);
        self.host.dsb_ishst();
",
        model: "tables::a_declared_block_is_split_under_a_reader",
    },
    Break {
        what: "a block that is cut is empty meanwhile, and not `locked`",
        file: "crates/stage2/src/map.rs",
        right: "self.host.store(slot.table, slot.index, codec::locked());",
        wrong: "self.host.store(slot.table, slot.index, EMPTY);",
        model: "tables::a_page_of_a_block_is_given_away_under_a_reader",
    },
    Break {
        what: "what a reader finds in a table that a window has given back counts",
        file: "crates/stage2/src/window.rs",
        right: "_ => (codec::locked(), level),",
        wrong: "_ => (raw, level),",
        model: "windows::a_table_goes_back_under_a_reader",
    },
    Break {
        what: "a share looks for its table before the lock of the device VM's tables is held",
        file: "crates/stage2/src/window.rs",
        right: "        let writer = &*self.writer.lock(order);
        if offset >= window.size || writer.released {
            return Ok(Windowed::Refused);
        }
        let (level2, index) = window.level2(offset);
        let old = self.host.load(level2, index);
",
        wrong: "        if offset >= window.size {
            return Ok(Windowed::Refused);
        }
        let (level2, index) = window.level2(offset);
        let old = self.host.load(level2, index);
        let writer = &*self.writer.lock(order);
",
        model: "windows::a_window_is_cleared_beside_calls_and_a_reader",
    },
    Break {
        what: "an entry is looked up before the writers' lock is held",
        file: "crates/stage2/src/annotate.rs",
        right: "        let writer = &mut *self.writer.lock(order);
        let slot = self.walk(ipa.raw());
        // No need",
        wrong: "        let slot = self.walk(ipa.raw());
        let writer = &mut *self.writer.lock(order);
        // No need",
        model: "guard::two_declare_in_one_new_area",
    },
    Break {
        what: "a page is shared in two steps",
        file: "crates/vm/src/memory.rs",
        right: "word.fetch_or(bit, Ordering::AcqRel)",
        wrong: "{
                let old = word.load(Ordering::Acquire);
                word.store(old | bit, Ordering::Release);
                old
            }",
        model: "guard::two_share_one_page_and_one_relinquishes_it",
    },
    Break {
        what: "CPU_ON lets its lock go between the question and the answer",
        file: "crates/vm/src/lifecycle.rs",
        right: "            Some(cpu) if cpu.power == Power::Off => {
                // While",
        wrong: "            Some(cpu) if cpu.power == Power::Off => {
                drop(state);
                let mut state = self.state.lock(order);
                let Some(cpu) = state.cpus.get_mut(target) else { return Ok(()) };
                // While",
        model: "power::one_target_has_one_caller_that_succeeds",
    },
    Break {
        what: "a vCPU lets the lock go between its parking and the look for others",
        file: "crates/vm/src/lifecycle.rs",
        right: "        if !state.set(Power::On).is_empty() {
            return Parked::Others;",
        wrong: "        drop(state);
        let mut state = self.state.lock(order);
        if !state.set(Power::On).is_empty() {
            return Parked::Others;",
        model: "power::a_vm_that_stops_while_its_vcpus_run_parks_once_and_lives_again",
    },
    Break {
        what: "a vCPU that is turned on while its VM stops begins in the next life",
        file: "crates/vm/src/lifecycle.rs",
        right: "                if running {
                    *cpu",
        wrong: "                if true || running {
                    *cpu",
        model: "power::a_vcpu_that_is_turned_on_while_the_vm_stops_does_not_run",
    },
    Break {
        what: "a line goes to the console in pieces",
        file: "hyp/src/console/guest_output.rs",
        right: "if line.try_extend_from_slice(bytes).is_err() && !keyboard {",
        wrong: "if !keyboard {",
        model: "lines::lines_of_several_vms_come_whole",
    },
    Break {
        what: "whether the burst is over is asked, and then counted",
        file: "crates/vm/src/rate.rs",
        right: "        let more = self.lines.fetch_update(Relaxed, Relaxed, |lines| {
            (lines < BURST).then_some(lines.wrapping_add(1))
        });",
        wrong: "        let lines = self.lines.load(Relaxed);
        self.lines.store(lines.wrapping_add(1).min(BURST), Relaxed);
        let more = if lines < BURST { Ok(lines) } else { Err(lines) };",
        model: "lines::a_burst_is_ten_lines_whoever_asks",
    },
    Break {
        what: "an event keeps its number while it is written over",
        file: "crates/vm/src/trace.rs",
        right: "        sequence.store(0, Ordering::Relaxed);
",
        wrong: "",
        model: "ring::a_reader_never_sees_half_an_event",
    },
    Break {
        what: "a reader does not look at the number again",
        file: "crates/vm/src/trace.rs",
        right: "if sequence.load(Ordering::Relaxed) != number {",
        wrong: "if false {",
        model: "ring::a_reader_never_sees_half_an_event",
    },
    Break {
        what: "who waits for a transport is read before the waits end",
        file: "crates/vm/src/link/mod.rs",
        right: "        self.transports.all(
            order,
            |registers| {
                let _ = registers.detach();
            },
            |moved| self.set_line(host, order, moved),
        );
        // Read only now: a vCPU that says later that it waits sees that it does not have to.
        host.wake_of(self.setup.client, wake.union(self.waiting()));
",
        wrong: "        let wake = wake.union(self.waiting());
        self.transports.all(
            order,
            |registers| {
                let _ = registers.detach();
            },
            |moved| self.set_line(host, order, moved),
        );
        // Read only now: a vCPU that says later that it waits sees that it does not have to.
        host.wake_of(self.setup.client, wake);
",
        model: "links::a_server_that_leaves_wakes_who_waits_for_a_transport",
    },
    Break {
        what: "an access is ended without a look at who else has ended it",
        file: "crates/vm/src/link/slot.rs",
        right: "        self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
",
        wrong: "        self.word.store(to, Ordering::Release);
        true
",
        model: "links::an_access_ends_once",
    },
    Break {
        what: "a doorbell is not looked at again after its words",
        file: "crates/vm/src/link/doorbell.rs",
        right: "guard & CHANGING == 0 && place.guard.load(Ordering::SeqCst) == guard",
        wrong: "guard & CHANGING == 0",
        model: "links::a_doorbell_that_changes_is_the_old_or_the_new",
    },
    Break {
        what: "whether the server is attached is looked at before the registers are locked",
        file: "crates/vm/src/link/transports.rs",
        right: "        let change = |registers: &mut Transport| {
            if attached.load(Ordering::SeqCst) { change(registers) } else { Err(Refused::NotReady) }
        };
",
        wrong: "        if !attached.load(Ordering::SeqCst) {
            return Err(Refused::NotReady);
        }
",
        model: "links::a_register_set_late_is_not_in_the_next_life",
    },
    Break {
        what: "a server attaches to a life that is ending",
        file: "crates/vm/src/link/server.rs",
        right: "session.life != life || session.ends",
        wrong: "session.life != life",
        model: "links::what_is_set_in_a_new_life_stays",
    },
];

/// Breaks the sources in these ways, one after the other, and runs the models. How many were found.
///
/// # Errors
/// One was not found, or does not even compile.
pub fn all_found(breaks: &[&Break]) -> Result<u64> {
    let copy = paths::target().join("races/broken");
    copy_sources(&copy)?;
    for broken in breaks {
        let at = copy.join(broken.file);
        let text = read(&at)?;
        write(&at, &text.replacen(broken.right, broken.wrong, 1))?;
        let found = is_found(broken, &copy);
        write(&at, &text)?;
        if !found? {
            bail!("{} ({}): {} finds nothing", broken.what, broken.file, broken.model);
        }
    }
    Ok(breaks.len() as u64)
}

fn is_found(broken: &Break, copy: &Path) -> Result<bool> {
    let models = |words: &[&str]| {
        let mut command = Command::new(crate::toolchain::cargo());
        command
            .current_dir(copy)
            .args(["test", "--locked", "--manifest-path", "races/Cargo.toml", "--lib"])
            .args(words)
            // What comes from registries is built as it is for the models themselves, so once.
            .env("CARGO_TARGET_DIR", paths::target().join("races"))
            .env("RUSTFLAGS", "--cfg shuttle");
        said(&mut command)
    };
    let (built, text) = models(&["--no-run"])?;
    if !built {
        bail!("{}: does not compile\n{}", broken.what, tail(&text, 30));
    }
    let (passed, text) = models(&["--", "--test-threads=1", "--exact", broken.model])?;
    let ran = text.contains("running 1 test");
    if ran { Ok(!passed) } else { Err(anyhow!("there is no model {}", broken.model)) }
}

/// Copies what git knows of, and what is new; what is there already keeps its time, so that it is not built again.
fn copy_sources(to: &Path) -> Result<()> {
    let mut command = Command::new("git");
    command.current_dir(paths::root()).args(["ls-files", "-co", "--exclude-standard", "--"]);
    // The workspace is not whole without the manifests of all its members.
    command.args(["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo", "crates", "races"]);
    command.args(["examples", "hyp", "guest-stub", "tests", "xtask"]);
    let (listed, text) = said(&mut command)?;
    if !listed {
        bail!("git does not list the sources\n{}", tail(&text, 5));
    }
    for file in text.lines() {
        let from = paths::root().join(file);
        let (Ok(now), at) = (fs::read(&from), to.join(file)) else { continue };
        if fs::read(&at).is_ok_and(|before| before == now) {
            continue;
        }
        if let Some(folder) = at.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::write(&at, now).with_context(|| at.display().to_string())?;
    }
    Ok(())
}

fn read(at: &Path) -> Result<String> {
    fs::read_to_string(at).with_context(|| at.display().to_string())
}

fn write(at: &Path, text: &str) -> Result<()> {
    fs::write(at, text).with_context(|| at.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_stands_there_once_and_its_model_exists() {
        for broken in BREAKS {
            let text = read(&paths::root().join(broken.file)).unwrap();
            let found = text.matches(broken.right).count();
            assert_eq!(found, 1, "{}: {}", broken.file, broken.right);
            let (module, function) = broken.model.split_once("::").unwrap();
            let model = paths::root().join("races/src").join(format!("{module}.rs"));
            let model = read(&model).unwrap();
            assert!(model.contains(&format!("fn {function}()")), "{}", broken.model);
        }
    }

    #[test]
    fn every_part_with_models_has_a_break() {
        for module in ["guard", "lines", "power", "ring", "tables", "windows"] {
            let found = BREAKS.iter().any(|broken| broken.model.starts_with(module));
            assert!(found, "{module}");
        }
    }
}
