// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accesses that a server answers, and those that it must not be told of.

use super::wishes::{Step, last, nothing_wrong, order, rings};
use crate::control_page::Access;
use crate::machine::{Code, Machine, pstate};
use crate::probe::{self, ADDRESS, DATA, LOADS, STORES, mask};
use crate::served::{self, BELL_KINDS, command, value};
use crate::verdict::Verdict;
use crate::{mmio, smp, tree};

pub const STEPS: &[Step] = &[
    ("values", values),
    ("stores", stores),
    ("refused", refused),
    ("pairs", pairs),
    ("bells", bells),
    ("removed", removed),
    ("kicks", kicks),
    ("together", together),
    ("many", many),
];

snippet!(ldrsb_w, "ldrsb w0, [x1]");
snippet!(ldrsb_x, "ldrsb x0, [x1]");
snippet!(ldrsh_w, "ldrsh w0, [x1]");
snippet!(ldrsh_x, "ldrsh x0, [x1]");
snippet!(ldrsw_x, "ldrsw x0, [x1]");
snippet!(ldar_w, "ldar w0, [x1]");
snippet!(to_zero, "ldr wzr, [x1]");
snippet!(store_zero, "str xzr, [x1]");

/// Sign-extending loads: the size, and bits of the register that is loaded.
const SIGNED: [(u64, u64, Code); 5] =
    [(1, 32, ldrsb_w), (1, 64, ldrsb_x), (2, 32, ldrsh_w), (2, 64, ldrsh_x), (4, 64, ldrsw_x)];

/// Every size and extension, at every place of 256 bytes where it is aligned. The server answers with 64 bits each time.
fn values() -> Verdict {
    let places = |size: u64| (0..256 / size).map(move |n| served::VALUES + n * size * 5 % 4096);
    for (size, code) in LOADS {
        for ipa in places(size) {
            let loaded = probe::access(code, ipa).loaded()?;
            equal!(loaded, value(ipa) & mask(size), "{size} bytes at {ipa:#x}");
        }
    }
    for (size, register, code) in SIGNED {
        for ipa in places(size) {
            let shift = 64 - 8 * size;
            let wanted = ((value(ipa) << shift).cast_signed() >> shift).cast_unsigned();
            let loaded = probe::access(code, ipa).loaded()?;
            equal!(loaded, wanted & mask(register / 8), "{size} bytes with sign at {ipa:#x}");
        }
    }
    let ipa = served::VALUES + 0x40;
    equal!(probe::access(ldar_w, ipa).loaded()?, value(ipa) & mask(4), "LDAR");
    equal!(
        probe::access_at(probe::ldr_x, crate::mmu::View::UserDevice.of(ipa), pstate::EL0)
            .loaded()?,
        value(ipa),
        "EL0"
    );
    probe::access(to_zero, ipa).completed(&[])?;
    nothing_wrong()
}

/// Every size: the server is told of no bit beyond it. What a store is answered with changes no register.
fn stores() -> Verdict {
    for (size, code) in STORES {
        let (_, before) = last();
        let ipa = served::VALUES + 0x808;
        let stored = 0xfedc_ba98_7654_3210_u64.rotate_left(size as u32 * 4);
        let access = probe::run(Machine::new(code).with(ADDRESS, ipa).with(DATA, stored));
        access.completed(&[])?;
        let kind = size as u32 | 1 << 8;
        let wanted = Access { seq: 0, ipa, value: stored & mask(size), kind };
        equal!(last(), (wanted, before + 1), "a store of {size} bytes");
    }
    probe::access(store_zero, served::VALUES).completed(&[])?;
    let wanted = Access { seq: 0, ipa: served::VALUES, value: 0, kind: 8 | 1 << 8 };
    equal!(last().0, wanted, "a store of XZR");
    nothing_wrong()
}

/// The guard comes first: the server is not told of an access to the page that is not declared.
pub fn refused() -> Verdict {
    let before = last();
    for (_, code) in LOADS.into_iter().chain(STORES) {
        for offset in [0, 0x7f8, 0xff8] {
            probe::access(code, served::HIDDEN + offset).refused(served::HIDDEN + offset)?;
        }
    }
    for ipa in [served::END, served::BASE - 8] {
        probe::load(ipa).refused(ipa)?;
    }
    equal!(last(), before, "what the server was told of");
    nothing_wrong()
}

snippet!(ldp, "ldp x0, x2, [x1]");
snippet!(stp, "stp x0, x2, [x1]");
snippet!(post, "ldr x0, [x1], #8");
snippet!(pre, "str x0, [x1, #8]!");
snippet!(exclusive, "ldxr x0, [x1]");
snippet!(vector, "ldr q0, [x1]");
snippet!(zero_line, "dc zva, x1");

/// What has no syndrome is never forwarded.
fn pairs() -> Verdict {
    let before = last();
    let ipa = served::VALUES + 0x100;
    for code in [ldp, stp, post, exclusive, vector, zero_line] {
        probe::access(code, ipa).refused(ipa)?;
    }
    probe::access(pre, ipa - 8).refused(ipa)?;
    equal!(last(), before, "what the server was told of");
    nothing_wrong()
}

/// Stores that ring do not wait and are counted; those of another size or value are accesses like all others.
fn bells() -> Verdict {
    order(command::SET_BELLS);
    let before: [u64; BELL_KINDS.len()] = core::array::from_fn(rings);
    let (_, accesses) = last();
    let mut others = 0;
    for (n, (offset, size, only)) in BELL_KINDS.into_iter().enumerate() {
        let ipa = served::BELLS + offset;
        for (other, code) in STORES {
            for data in [only.unwrap_or(3), only.unwrap_or(3) | 0xab << 56, 6] {
                let rang = other == size && only.is_none_or(|only| data & mask(size) == only);
                others += u64::from(!rang);
                probe::run(Machine::new(code).with(ADDRESS, ipa).with(DATA, data)).completed(&[])?;
            }
        }
        equal!(probe::access(probe::ldr_w, ipa).loaded()?, value(ipa) & mask(4), "a load of it");
        others += 1;
        let wanted = if only.is_some() { 2 } else { 3 };
        let wanted = if size == 8 && only.is_some() { 1 } else { wanted };
        equal!(rings(n), before.get(n).map_or(0, |old| old + wanted), "rings of doorbell {n}");
    }
    equal!(last().1, accesses + others, "accesses that rang none");
    nothing_wrong()
}

/// A doorbell that is removed rings no more.
fn removed() -> Verdict {
    order(command::SET_BELLS);
    mmio::write32(served::BELLS, 1);
    order(command::REMOVE_BELLS);
    let (before, (_, accesses)) = (rings(0), last());
    mmio::write32(served::BELLS, 1);
    equal!(rings(0), before, "rings");
    equal!(last().1, accesses + 1, "accesses");
    nothing_wrong()
}

/// Kicks of a flood.
const FLOOD: u64 = 30_000;

/// A flood of kicks: each is counted, and the server answers in between.
fn kicks() -> Verdict {
    order(command::SET_BELLS);
    let before = rings(0);
    for n in 0..FLOOD {
        mmio::write32(served::BELLS, n as u32);
        if n % 5_000 == 0 {
            equal!(mmio::read64(served::VALUES), value(served::VALUES), "a load among kicks");
        }
    }
    equal!(rings(0), before + FLOOD, "rings");
    nothing_wrong()
}

/// Loads of a vCPU from a place of its own; how many were wrong.
fn load_own(count: u64) -> u64 {
    let base = served::VALUES + 0x200 * crate::cpu::index() as u64;
    (0..count).filter(|n| mmio::read64(base + n % 64 * 8) != value(base + n % 64 * 8)).count()
        as u64
}

/// All vCPUs at once: each has its own answers.
fn together() -> Verdict {
    let vcpus = tree::get().vcpus;
    check!(vcpus > 1, "needs more vCPUs");
    for index in 1..vcpus {
        smp::give(index, load_own, 300)?;
    }
    equal!(load_own(300), 0, "wrong values");
    for index in 1..vcpus {
        equal!(smp::finish(index, 60_000)?, 0, "wrong values of vCPU {index}");
    }
    nothing_wrong()
}

/// Many loads in a row.
fn many() -> Verdict {
    equal!(load_own(3_000), 0, "wrong values");
    nothing_wrong()
}
