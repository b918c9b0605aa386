// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM that serves others by their forwarded accesses and through windows, and what goes wrong between them. Steps are
//! those of guest-stub's `modes/client`; its `modes/serve` is the server, and the spy.

use std::time::Duration;

use xtask::qemu::{Gic, Machine, Run};

use crate::fixture::{Checked, Fixture, ensure, one, powered_off};

cases![
    accesses_are_answered,
    doorbells_are_counted,
    wrong_answers_change_nothing,
    a_silent_server,
    a_server_that_detaches_or_resets,
    a_server_that_is_lost,
    a_server_that_goes_off,
    a_server_that_stays_away,
    a_client_that_resets,
    a_spy_sees_what_is_shared,
    what_the_owner_lets_a_vm_share,
    a_page_that_is_taken_back,
    a_server_out_of_bounds,
    clients_do_not_disturb_each_other,
    a_disk_is_read,
    a_flood_of_interrupts,
    rings_that_make_no_sense,
    a_disk_survives_its_server;
    slow: as_many_clients_as_there_may_be, accesses_are_answered_gicv2, accesses_are_answered_on_one_cpu, a_page_that_is_taken_back_gicv2,
];

/// Words of the VM that serves.
const SERVER: &str = "serve vm.name=server vm.role=device vm.mem=8M";

/// A client called `name` that does `steps`, with `words` more.
fn client(name: &str, steps: &str, words: &str) -> String {
    format!(
        "client={steps} vm.name={name} vm.forward=server:0xc000000+0x4000 vm.guard=enforce vm.mem=16M {words}"
    )
}

/// Boots these VMs and reads to the end: nothing fails, EL2 goes on, and the machine powers itself off.
fn boot(fixture: &Fixture, machine: Machine, vms: &[&str]) -> anyhow::Result<Run> {
    let modules = vms.iter().map(|words| fixture.guest(words)).collect();
    let run = fixture.run(&Machine { modules, ..machine })?;
    let complaint = run.lines.iter().find(|line| line.contains("FAIL") || line.contains("died"));
    ensure(complaint.is_none(), complaint.map_or("", String::as_str), &run)?;
    ensure(run.with("[hyp] panic").count() == 0, "EL2 panicked", &run)?;
    ensure(run.with("[hyp] error").count() == 0, "an error of EL2", &run)?;
    powered_off(&run)?;
    Ok(run)
}

/// All of `steps` were done by client `name`, each once.
fn did(run: &Run, name: &str, steps: &str) -> Checked {
    let count = steps.split(':').count() + 1;
    one(run, &format!("[{name}] client: {count} ok, 0 failed"))?;
    for step in steps.split(':') {
        ensure(run.with(&format!("[{name}] client: {step}: ok")).count() > 0, step, run)?;
    }
    Ok(())
}

/// A server and a client that does `steps` and says goodbye.
fn serve(fixture: &Fixture, machine: Machine, steps: &str, words: &str) -> anyhow::Result<Run> {
    serve_by(fixture, machine, SERVER, steps, words)
}

/// [`serve`], with these words of the server. The client comes first: its first access waits for the server.
fn serve_by(
    fixture: &Fixture,
    machine: Machine,
    server: &str,
    steps: &str,
    words: &str,
) -> anyhow::Result<Run> {
    let steps = format!("{steps}:bye");
    let run = boot(fixture, machine, &[&client("client", &steps, words), server])?;
    did(&run, "client", &steps)?;
    one(&run, "[server] serve: 1 peers")?;
    one(&run, "[server] serve: done, 0 wrong")?;
    Ok(run)
}

const ACCESSES: &str = "values:stores:refused:pairs:many:denied:together";

// scenario: B6 H2 H3 H7
fn accesses_are_answered(fixture: &Fixture) -> Checked {
    serve(fixture, fixture.machine(), ACCESSES, "vm.cpus=2").map(drop)
}

fn accesses_are_answered_gicv2(fixture: &Fixture) -> Checked {
    let machine = Machine { gic: Gic::V2, ..fixture.machine() };
    serve(fixture, machine, ACCESSES, "vm.cpus=2").map(drop)
}

fn accesses_are_answered_on_one_cpu(fixture: &Fixture) -> Checked {
    let machine = Machine { cpus: 1, ..fixture.machine() };
    serve(fixture, machine, ACCESSES, "vm.cpus=2").map(drop)
}

fn doorbells_are_counted(fixture: &Fixture) -> Checked {
    serve(fixture, fixture.machine(), "bells:removed:kicks:values", "").map(drop)
}

// scenario: E7 H2 D21
fn wrong_answers_change_nothing(fixture: &Fixture) -> Checked {
    serve(fixture, fixture.machine(), "error:foreign:twice:values", "vm.cpus=2").map(drop)
}

// scenario: F4
fn a_silent_server(fixture: &Fixture) -> Checked {
    let run = serve(fixture, fixture.machine(), "silent:values", "deadline=2 vm.iotimeout=2")?;
    let ended = run.with("[server] serve: peer 0: the access ended after").count();
    ensure(ended == 2, "the server was not silent twice", &run)
}

// scenario: G5 E7
fn a_server_that_detaches_or_resets(fixture: &Fixture) -> Checked {
    let steps = "detached:values:cycles:server-reset:values:detached:server-resets:stores";
    let run = boot(
        fixture,
        fixture.machine(),
        &[&client("client", &format!("{steps}:bye"), ""), SERVER],
    )?;
    did(&run, "client", &format!("{steps}:bye"))?;
    let found = run.with("[server] serve: peer 0: life 1 of it, outstanding 0x1").count();
    ensure((11..=12).contains(&found), "an access was not found again", &run)?;
    ensure(run.with("[server] serve: 1 peers").count() == 12, "not twelve incarnations", &run)?;
    one(&run, "[server] serve: done, 0 wrong").map(drop)
}

// scenario: G5
fn a_server_that_is_lost(fixture: &Fixture) -> Checked {
    serve(fixture, fixture.machine(), "lost:values", "vm.onloss=abort").map(drop)
}

// scenario: C11 G5
fn a_server_that_goes_off(fixture: &Fixture) -> Checked {
    let steps = "values:off:share-unserved:denied";
    let vms = [SERVER, &client("client", steps, "vm.onloss=abort")];
    let run = boot(fixture, fixture.machine(), &vms)?;
    did(&run, "client", steps)?;
    let line = one(&run, "[client] client: aborts after ")?;
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    ensure(numbers.len() == 2 && numbers.iter().all(|ms| *ms < 500), line, &run)
}

// scenario: G5 G6
fn a_server_that_stays_away(fixture: &Fixture) -> Checked {
    // The access waits for another server, without a deadline; nothing else does.
    let client = client("client", "values:off", "vm.iotimeout=1 vm.cpus=2");
    let other = "hammer vm.name=other vm.guard=enforce vm.mem=8M";
    let modules = [SERVER, &client, other].map(|words| fixture.guest(words)).to_vec();
    let mut session = fixture.boot(&Machine { modules, ..fixture.machine() })?;
    session.wait_for("[hyp] server: stopped (power off)")?;
    for _ in 0..3 {
        session.wait_for("[other] hammer: ")?;
    }
    let run = session.stop_after(Duration::ZERO);
    ensure(run.with("FAIL").count() == 0, "something failed", &run)?;
    ensure(run.with("[hyp] panic").count() == 0, "EL2 panicked", &run)?;
    ensure(run.with("[client] client: off").count() == 0, "the access ended", &run)?;
    ensure(run.with("[hyp] client: stopped").count() == 0, "the client was stopped", &run)
}

// scenario: E6
fn a_client_that_resets(fixture: &Fixture) -> Checked {
    let steps = "secrets:share-first:reset-silent:spy:values:bye";
    let other = "values:many:bye";
    let run = boot(
        fixture,
        Machine { cpus: 4, ..fixture.machine() },
        &[SERVER, &client("client", steps, "vm.cpus=2"), &client("other", other, "")],
    )?;
    did(&run, "client", steps)?;
    did(&run, "other", other)?;
    one(&run, "[server] serve: peer 0: reset with an access outstanding")?;
    one(&run, "[server] serve: peer 0: life 2 of it, outstanding 0x0")?;
    one(&run, "[server] serve: done, 0 wrong").map(drop)
}

const SPY: &str = "secrets:spy:share:spy:spy-meanwhile:poke:spy:unshare-some:unshare:share:poke:server-reset:tell:spy:unshare";

// scenario: C4 H1 H7
fn a_spy_sees_what_is_shared(fixture: &Fixture) -> Checked {
    let steps = format!("{SPY}:bye");
    let run = boot(fixture, fixture.machine(), &[&client("client", &steps, ""), SERVER])?;
    did(&run, "client", &steps)?;
    let looked = run.with("words of the window, 40 granules shared, 0 differ").count();
    ensure(looked >= 5, "the spy has not looked often enough", &run)?;
    ensure(
        run.with("words of the window, 0 granules shared, 0 differ").count() >= 4,
        "nor with nothing shared",
        &run,
    )?;
    one(&run, "[server] serve: done, 0 wrong").map(drop)
}

// scenario: H1
fn what_the_owner_lets_a_vm_share(fixture: &Fixture) -> Checked {
    for (steps, words) in [
        ("pool:disk-pool", "vm.share=pool:2M pool"),
        ("pool-auto:disk-pool", "vm.share=pool:2M:auto pool"),
        ("all:disk", "vm.share=all"),
    ] {
        serve(fixture, fixture.machine(), steps, &format!("vm.devices=server:blk {words}"))?;
    }
    Ok(())
}

// scenario: C4
fn a_page_that_is_taken_back(fixture: &Fixture) -> Checked {
    taken_back(fixture, Gic::V3)
}

fn a_page_that_is_taken_back_gicv2(fixture: &Fixture) -> Checked {
    taken_back(fixture, Gic::V2)
}

fn taken_back(fixture: &Fixture, gic: Gic) -> Checked {
    let machine = Machine { cpus: 3, gic, ..fixture.machine() };
    let server = format!("{SERVER} vm.cpus=2");
    serve_by(fixture, machine, &server, "secrets:race:spy", "").map(drop)
}

// scenario: H1 H5 H8 C2
fn a_server_out_of_bounds(fixture: &Fixture) -> Checked {
    serve(fixture, fixture.machine(), "random:trespass:values", "").map(drop)
}

// scenario: H10
fn clients_do_not_disturb_each_other(fixture: &Fixture) -> Checked {
    let machine = Machine { cpus: 4, ..fixture.machine() };
    let (noisy, quiet) = ("kicks:random:kicks:bye", "many:values:many:foreign:bye");
    let run = boot(
        fixture,
        machine,
        &[
            &client("noisy", noisy, ""),
            SERVER,
            &client("quiet", quiet, ""),
            "hammer=3000 vm.name=bystander vm.guard=enforce vm.mem=8M",
        ],
    )?;
    did(&run, "noisy", noisy)?;
    did(&run, "quiet", quiet)?;
    one(&run, "[bystander] hammer: 3000 rounds")?;
    one(&run, "[server] serve: 2 peers")?;
    one(&run, "[server] serve: done, 0 wrong").map(drop)
}

/// All VMs but one are served by that: each has a control page, an interrupt and a window of its own.
fn as_many_clients_as_there_may_be(fixture: &Fixture) -> Checked {
    let machine = Machine { cpus: 8, ..fixture.machine() };
    let steps = "values:stores:share:bye";
    let names: Vec<String> = (0..31).map(|number| format!("n{number}")).collect();
    let mut vms: Vec<String> = names.iter().map(|name| client(name, steps, "")).collect();
    vms.push(SERVER.to_owned());
    let vms: Vec<&str> = vms.iter().map(String::as_str).collect();
    let run = boot(fixture, machine, &vms)?;
    for name in &names {
        did(&run, name, steps)?;
    }
    one(&run, "[server] serve: 31 peers")?;
    one(&run, "[server] serve: done, 0 wrong").map(drop)
}

/// [`serve`] for a client with a disk.
fn serve_disk(fixture: &Fixture, steps: &str) -> Checked {
    serve(fixture, fixture.machine(), steps, "vm.devices=server:blk").map(drop)
}

// scenario: B6
fn a_disk_is_read(fixture: &Fixture) -> Checked {
    serve_disk(fixture, "disk:disk-features:disk-reset:disk-stopped")
}

// scenario: H4 H6
fn a_flood_of_interrupts(fixture: &Fixture) -> Checked {
    serve_disk(fixture, "disk-storm:disk-kicks")
}

// scenario: C4 H10
fn rings_that_make_no_sense(fixture: &Fixture) -> Checked {
    serve_disk(fixture, "disk-unshared:disk-taken-back:disk-rubbish")
}

// scenario: G5
fn a_disk_survives_its_server(fixture: &Fixture) -> Checked {
    let steps = "disk-restart:values:bye";
    let words = "vm.devices=server:blk";
    let run = boot(fixture, fixture.machine(), &[&client("client", steps, words), SERVER])?;
    did(&run, "client", steps)?;
    one(&run, "[hyp] server: incarnation 2 begins")?;
    one(&run, "[server] serve: done, 0 wrong").map(drop)
}
