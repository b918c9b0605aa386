// SPDX-License-Identifier: MIT OR Apache-2.0
//! Failure injection: every allocation of a scenario fails once.

use crate::compare;
use crate::guest::Guest;
use crate::scenario::Scenario;

/// Runs the first steps of `scenario` once for each table page that any of them takes: at that point there is none
/// left. Unlike a call that is tried starved within a scenario, this one may do a part of its work, and the
/// scenario goes on from there.
pub fn each_lack_of_a_table(scenario: &Scenario) -> Result<u64, String> {
    let mut scenario = scenario.clone();
    scenario.vms.truncate(1);
    scenario.steps.retain(|step| step.vm == 0);
    scenario.steps.truncate(60);
    for step in &mut scenario.steps {
        step.starved = false;
    }
    let mut exits = 0;
    let mut failing = 0;
    loop {
        let (checked, reached) = with_lack(&scenario, failing)?;
        exits += checked;
        if !reached {
            return Ok(exits);
        }
        failing += 1;
    }
}

/// One run, in which table page number `failing` cannot be had by the step that would take it. Whether there was
/// such a step.
fn with_lack(scenario: &Scenario, failing: u64) -> Result<(u64, bool), String> {
    let Some(mut guests) = scenario.build()? else { return Ok((0, false)) };
    let guest = &mut guests[0];
    let (mut exits, mut taken_before, mut reached) = (0, 0, false);
    for (number, step) in scenario.steps.iter().enumerate() {
        let at = |why: String| format!("table page {failing} fails, step {number}: {why}");
        guest.slow = step.slow;
        let mut withheld = Vec::new();
        if !reached && let Some(takes) = takes(guest, step) {
            if failing < taken_before + takes {
                withheld = guest.starve(failing - taken_before);
                reached = true;
            }
            taken_before += takes;
        }
        exits += u64::from(guest.act(step.vcpu, &step.action, false).map_err(at)?);
        compare::quickly(guest).map_err(at)?;
        guest.feed(withheld);
        guest.machine.fake.forget_events();
    }
    compare::wholly(guest)?;
    Ok((exits, reached))
}

/// How many table pages the call of `step` takes; `None` if it has none that can.
pub fn takes(guest: &Guest, step: &crate::exits::Step) -> Option<u64> {
    let call = call_of(guest, step)?;
    let mut trial = guest.spec.clone();
    trial.call(&call);
    Some(guest.spec.tables.free().saturating_sub(trial.tables.free()))
}

/// The call of a step that can take table pages.
fn call_of(guest: &Guest, step: &crate::exits::Step) -> Option<spec::Call> {
    let crate::exits::Action::Call { smc, imm, x, mair, entropy } = step.action else {
        return None;
    };
    // Those of the guard, and none of those that stop the VM.
    if x[0] as u32 >> 16 != 0xc600 {
        return None;
    }
    let vcpu = guest.spec.on().next()?;
    let conduit = if smc { spec::Conduit::Smc } else { spec::Conduit::Hvc };
    Some(crate::exits::made(vcpu, conduit, imm, x, (mair, entropy), spec::Moment::default()))
}
