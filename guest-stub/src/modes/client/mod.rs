// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM that another stub serves (`served`): steps by name, each with its checks, one after the other.

mod accesses;
mod disk;
mod misbehaviour;
mod shares;
mod wishes;

use crate::verdict::{Verdict, Why};
use crate::{guard, mmio, served};

/// Does the steps that `names` has, separated by colons.
pub fn run(names: &'static str) {
    guard::declare_own();
    let (mut done, mut failed) = (0_u32, 0_u32);
    let mut tell = |name: &str, verdict: Verdict| match verdict {
        Ok(()) => {
            done += 1;
            say!("client: {name}: ok");
        }
        Err(Why::Failed(why) | Why::Skipped(why)) => {
            failed += 1;
            say!("FAIL client: {name}: {why}");
        }
    };
    tell("prepare", prepare());
    for name in names.split(':').filter(|name| !name.is_empty()) {
        let groups = [accesses::STEPS, misbehaviour::STEPS, shares::STEPS, disk::STEPS];
        let mut steps = groups.into_iter().flatten();
        match steps.find(|(other, _)| *other == name) {
            Some((_, step)) => tell(name, step()),
            None => say!("FAIL client: no step {name}"),
        }
    }
    say!("client: {done} ok, {failed} failed");
}

/// The guard is active, the served pages are declared but for the last one, and the server answers.
fn prepare() -> Verdict {
    guard::activate()?;
    for page in [served::REGISTERS, served::VALUES, served::BELLS] {
        equal!(guard::map(page), guard::done(), "MAP of {page:#x}");
    }
    equal!(mmio::read64(served::ID), served::ID_VALUE, "what the server says it is");
    Ok(())
}
