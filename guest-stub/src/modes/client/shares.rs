// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a client shares with its server, and what it takes back. Everything else of its memory holds secrets.

use mmio_guard::abi::{INVALID_PARAMETER, pkvm};

use super::wishes::{Step, nothing_wrong, order, pool_range};
use crate::control_page::PAGE;
use crate::hvc::hvc;
use crate::served::{self, SECRET, command, pattern};
use crate::verdict::Verdict;
use crate::{mmio, probe, time, tree};

pub const STEPS: &[Step] = &[
    ("secrets", secrets),
    ("spy", spy),
    ("share", share),
    ("share-first", share_first),
    ("pool", pool),
    ("pool-auto", pool_auto),
    ("all", all),
    ("spy-meanwhile", spy_meanwhile),
    ("poke", poke),
    ("unshare-some", unshare_some),
    ("unshare", unshare),
    ("race", race),
    ("share-unserved", share_unserved),
    ("tell", tell_all),
];

/// Granules that are shared, in two blocks of 2 MiB.
const COUNT: u64 = 40;
/// Most granules of a call while a server has a window.
const MOST: u64 = 16;
/// All of them.
const ALL: u64 = (1 << COUNT) - 1;

/// The first of them: half lie in front of the middle of the RAM, half behind.
fn start() -> u64 {
    let (base, size) = tree::get().ram;
    base + size / 2 - COUNT / 2 * PAGE
}

fn granule(n: u64) -> u64 {
    start() + n * PAGE
}

fn write(ipa: u64, value: u64) {
    // SAFETY: RAM that nothing of the stub is in.
    unsafe { (ipa as *mut u64).write_volatile(value) };
}

fn read(ipa: u64) -> u64 {
    // SAFETY: as above.
    unsafe { (ipa as *const u64).read_volatile() }
}

fn fill(n: u64, value: impl Fn(u64) -> u64) {
    for ipa in (granule(n)..granule(n + 1)).step_by(8) {
        write(ipa, value(ipa));
    }
}

/// Tells the server what is shared, and in which pattern.
fn tell(bits: u64, number: u64) {
    tell_of(start(), bits, number);
}

/// [`tell`], of granules from `start` on.
fn tell_of(start: u64, bits: u64, number: u64) {
    mmio::write64(served::SHARED_START, start);
    mmio::write64(served::SHARED_BITS, bits);
    mmio::write64(served::PATTERN, number);
}

/// The same again, for a server that was restarted.
fn tell_all() -> Verdict {
    tell(ALL, 2);
    Ok(())
}

/// All memory that is not the stub's own is full of secrets.
fn secrets() -> Verdict {
    let (base, size) = tree::get().ram;
    let first = crate::image_layout::footprint().end.next_multiple_of(PAGE);
    check!(first < start(), "the VM is too small");
    for ipa in (first..base + size).step_by(8) {
        write(ipa, SECRET | ipa);
    }
    Ok(())
}

fn spy() -> Verdict {
    order(command::SPY);
    nothing_wrong()
}

fn spy_meanwhile() -> Verdict {
    order(command::SPY_MEANWHILE);
    probe::access(probe::ldr_w, served::VALUES).loaded()?;
    nothing_wrong()
}

/// MEM_SHARE or MEM_UNSHARE of a range, as often as it takes.
fn each(id: u32, from: u64, count: u64) -> Verdict {
    let mut done = 0;
    while done < count {
        let [x0, x1, ..] = hvc(id.into(), [granule(from + done), count - done, 0]);
        equal!((x0, x1), (0, (count - done).min(MOST)), "call {id:#x} of granule {}", from + done);
        done += x1;
    }
    equal!(hvc(id.into(), [granule(from), 1, 0]), [INVALID_PARAMETER, 0, 0, 0], "once more");
    Ok(())
}

fn share() -> Verdict {
    for n in 0..COUNT {
        fill(n, |ipa| pattern(1, ipa));
    }
    each(pkvm::MEM_SHARE, 0, COUNT)?;
    tell(ALL, 1);
    Ok(())
}

/// Shares in the first incarnation alone: what comes after a reset is not shared.
fn share_first() -> Verdict {
    if mmio::read64(served::LIVES) == 1 { share() } else { Ok(()) }
}

/// Secrets everywhere but in the pool, which has a pattern in its first granules.
fn fill_pool() -> Verdict {
    secrets()?;
    let (pool, end) = pool_range();
    for ipa in (pool..end).step_by(8) {
        let shown = ipa < pool + COUNT * PAGE;
        write(ipa, if shown { pattern(1, ipa) } else { 0 });
    }
    tell_of(pool, ALL, 1);
    Ok(())
}

/// `vm.share=pool:2M`: the VM shares within its pool, and nowhere else.
fn pool() -> Verdict {
    let (start, end) = pool_range();
    let share = |ipa, count| hvc(pkvm::MEM_SHARE.into(), [ipa, count, 0]);
    for outside in [start - PAGE, tree::get().ram.0, end] {
        equal!(share(outside, 1), [INVALID_PARAMETER, 0, 0, 0], "MEM_SHARE of {outside:#x}");
    }
    fill_pool()?;
    tell_of(start, 0, 0);
    let mut at = start;
    while at < end {
        let [x0, x1, ..] = share(at, (end - at) / PAGE);
        equal!((x0, x1), (0, MOST), "MEM_SHARE of {at:#x}");
        at += x1 * PAGE;
    }
    tell_of(start, ALL, 1);
    spy()
}

/// `vm.share=pool:2M:auto`: the pool is shared already, and all of it.
fn pool_auto() -> Verdict {
    let (start, end) = pool_range();
    for at in [start, end - PAGE] {
        let answer = hvc(pkvm::MEM_SHARE.into(), [at, 1, 0]);
        equal!(answer, [INVALID_PARAMETER, 0, 0, 0], "MEM_SHARE of {at:#x}");
    }
    fill_pool()?;
    spy()
}

/// `vm.share=all`: all of it is shared, and stays so.
fn all() -> Verdict {
    for (id, ipa) in [(pkvm::MEM_SHARE, granule(0)), (pkvm::MEM_UNSHARE, granule(0))] {
        equal!(hvc(id.into(), [ipa, 1, 0]), [INVALID_PARAMETER, 0, 0, 0], "call {id:#x}");
    }
    for n in 0..COUNT {
        fill(n, |ipa| pattern(1, ipa));
    }
    tell(ALL, 1);
    order(command::SPY_SHARED);
    nothing_wrong()
}

/// The server writes everywhere. Only what is shared has changed.
fn poke() -> Verdict {
    order(command::POKE);
    for n in 0..COUNT {
        for ipa in (granule(n)..granule(n + 1)).step_by(8) {
            equal!(read(ipa), pattern(2, ipa), "what the server wrote to {ipa:#x}");
        }
    }
    for ipa in (granule(COUNT)..granule(64)).step_by(8) {
        equal!(read(ipa), SECRET | ipa, "{ipa:#x}, which is not shared");
    }
    nothing_wrong()
}

/// Every granule with an odd number: its contents stay, and the server sees zeros in its place.
fn unshare_some() -> Verdict {
    let mut bits = ALL;
    for n in (1..COUNT).step_by(2) {
        each(pkvm::MEM_UNSHARE, n, 1)?;
        equal!(read(granule(n)), pattern(2, granule(n)), "what is taken back");
        bits &= !(1 << n);
    }
    tell(bits, 2);
    spy()?;
    // The other half goes, and all come back.
    for n in (0..COUNT).step_by(2) {
        each(pkvm::MEM_UNSHARE, n, 1)?;
    }
    tell(0, 2);
    spy()?;
    each(pkvm::MEM_SHARE, 0, COUNT)?;
    tell(ALL, 2);
    spy()
}

fn unshare() -> Verdict {
    each(pkvm::MEM_UNSHARE, 0, COUNT)?;
    tell(0, 2);
    spy()
}

/// Rounds in which one granule is shared and taken back while the server reads it.
const ROUNDS: u64 = 400;

/// After MEM_UNSHARE has returned, the server sees nothing that is written from then on.
fn race() -> Verdict {
    tell(0, 2);
    order(command::WATCH);
    let at = granule(0);
    for round in 1..=ROUNDS {
        write(at, round);
        equal!(hvc(pkvm::MEM_SHARE.into(), [at, 1, 0])[0], 0, "MEM_SHARE");
        linger();
        equal!(hvc(pkvm::MEM_UNSHARE.into(), [at, 1, 0])[0], 0, "MEM_UNSHARE");
        write(at, SECRET | round);
        linger();
    }
    order(command::END_WATCH);
    let seen = mmio::read64(served::SEEN);
    say!("client: shared words were seen {seen} times");
    check!(seen > 0, "the server has seen nothing shared");
    nothing_wrong()
}

/// A few microseconds, in which the server looks.
fn linger() {
    let end = time::now() + time::ticks(1) / 4;
    while time::now() < end {}
}

/// With no server there, calls are as they are without one.
fn share_unserved() -> Verdict {
    let mut done = 0;
    while done < COUNT {
        let [x0, x1, ..] = hvc(pkvm::MEM_SHARE.into(), [granule(done), COUNT - done, 0]);
        check!(x0 == 0 && x1 > 0, "MEM_SHARE: {x0:#x} {x1}");
        done += x1;
    }
    while done > 0 {
        let [x0, x1, ..] = hvc(pkvm::MEM_UNSHARE.into(), [granule(COUNT - done), done, 0]);
        check!(x0 == 0 && x1 > 0, "MEM_UNSHARE: {x0:#x} {x1}");
        done -= x1;
    }
    Ok(())
}
