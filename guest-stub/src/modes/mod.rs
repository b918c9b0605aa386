// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the stub does as company for other VMs, or as their enemy. The first word of the boot arguments
//! that names one is obeyed:
//!
//! | word | what happens | says |
//! |---|---|---|
//! | `spin` | an endless loop with interrupts masked | `spin: spinning` |
//! | `spin=S` | the same for S seconds, then power-off | `spin: done` |
//! | `idle=S` | WFI for S seconds, woken by the timer ten times each, then power-off | `idle: N wakes, the latest by T us` |
//! | `hammer`, `hammer=N` | calls, device accesses and aborts, for ever or N rounds | `hammer: N rounds` each second and at the end |
//! | `canary=K`, `canary=K:S` | fills every register it may with patterns of number K, yields, and checks that they stay and that no other patterns appear, for S (3) seconds | `canary K: kept N times`, or `FAIL canary K: ..` |
//! | `storm`, `storm=S` | SGIs to all vCPUs and timer interrupts, for an hour or S seconds | `storm: begins`, then `storm: N interrupts` |
//! | `tenant=K`, `tenant=K:S` | finds all its RAM zero, fills it with words of number K, and looks that they stay for S (1) seconds | `tenant K: moved in`, then `tenant K: N pages of its own`, or `FAIL tenant K: ..` |
//! | `reboot=N` | resets the VM N times; needs a test device | `reboot: life L of N`, then `reboot: N lives` |
//! | `pending=N` | SGIs that wait, masked, while others have the CPU, N (1000) rounds | `pending: N rounds`, or `FAIL pending: ..` |
//! | `victim=S` | measures its share of the CPU for S (1) seconds | `victim: N of 1000, longest gap G us` |
//! | `wakes`, `wakes=N` | sleeps 1000 times, for ever or N times over: how late it runs after its timer | `wakes: 1000, A ns at the least, B median, C at the most` |
//! | `attack=KIND` | tries to take more than its share, for ever: `steal`, `ahead` and `nap` (sleep), `reset`, `tables` (all tables in use, then a reset), `flood` (lines), `share` (pages, and back), or with two vCPUs SGIs to vCPU 0, which is `off`, `ready`, `waiting` or `waking` | |
//! | `inventory` | lists all registers, fills them, lists them again, resets, and lists those of the next boot; needs a test device | `first (..) 0x..`, `filled ..`, `second ..`, a line each |
//! | `inventory=S` | lists all registers, and looks for S seconds whether one changes | `other (..) 0x..`, a line each, then `other looked N times`, or `FAIL other ..` |
//! | `step=S` | has debug events on for S seconds | `step: armed`, then `step: done`, or `FAIL step: ..` |
//! | `stepped=S` | runs at EL0 for S seconds, beside `step` | `stepped: N rounds`, or `FAIL stepped: ..` |
//! | `workarounds` | asks for SMCCC_ARCH_WORKAROUND_1, 2 and 3 | `workarounds: A B C` |
//! | `guided=S` | calls of the guard and accesses by chance, guided by what came before, for S (10) seconds | `guided: begins, seed=N`, `guided: N rounds` |
//! | `serve` | serves its peers, as they ask it to, until the last one is done; needs `vm.role=device` | `serve: N peers`, `serve: done, N wrong`, or `FAIL serve: ..` |
//! | `client=STEP:STEP..` | is served by such a VM (`vm.forward=SERVER:0xc000000+0x4000`), and does these steps of `client` | `client: STEP: ok` for each, `client: N ok, N failed`, or `FAIL client: ..` |
//! | `worst=KIND`, `worst=KIND:N` | see below, N rounds where it ends | `worst KIND: N rounds` |
//!
//! `worst` kinds: `calls` (random ids and arguments), `registers` (random system registers), `devices`
//! (random accesses everywhere), `walks` (tables in the void), all of which end; `all` (those four, one
//! after the other); `abort` (an abort handler that aborts) and `vbar` (vectors that cannot be fetched),
//! which never end. `seed=N` changes what is random. With more than one vCPU, all of them do it.

mod background_load;
mod client;
mod inventory;
mod pending;
mod random_guided;
mod register_canary;
mod serve;
mod share;
mod stepping;
mod stress;

use crate::tree;

/// The part of the boot arguments that names a mode, and what follows its `=`.
#[derive(Clone, Copy)]
pub struct Request {
    name: &'static str,
    value: &'static str,
}

const NAMES: [&str; 19] = [
    "spin",
    "idle",
    "hammer",
    "canary",
    "storm",
    "tenant",
    "reboot",
    "worst",
    "guided",
    "pending",
    "victim",
    "wakes",
    "attack",
    "inventory",
    "step",
    "stepped",
    "workarounds",
    "serve",
    "client",
];

impl Request {
    /// If the word is one.
    pub fn parse(word: &'static str) -> Option<Self> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        NAMES.contains(&name).then_some(Self { name, value })
    }

    /// Does it.
    pub fn run(self) {
        match self.name {
            "spin" => background_load::spin(tree::parse(self.value)),
            "idle" => background_load::idle(tree::parse(self.value).unwrap_or(1)),
            "hammer" => background_load::hammer(tree::parse(self.value)),
            "storm" => background_load::storm(tree::parse(self.value)),
            "tenant" => {
                let (number, seconds) = self.value.split_once(':').unwrap_or((self.value, "1"));
                background_load::tenant(
                    tree::parse(number).unwrap_or(1),
                    tree::parse(seconds).unwrap_or(1),
                );
            }
            "reboot" => background_load::reboot(tree::parse(self.value).unwrap_or(1)),
            "victim" => share::victim(tree::parse(self.value).unwrap_or(1)),
            "wakes" => share::wakes(tree::parse(self.value)),
            "attack" => share::attack(self.value),
            "pending" => pending::run(tree::parse(self.value).unwrap_or(1000)),
            "inventory" => match tree::parse(self.value) {
                Some(seconds) => inventory::look(seconds),
                None => inventory::fill(),
            },
            "step" => stepping::arm(tree::parse(self.value).unwrap_or(3)),
            "stepped" => stepping::watch(tree::parse(self.value).unwrap_or(3)),
            "serve" => serve::run(),
            "client" => client::run(self.value),
            "workarounds" => background_load::workarounds(),
            "guided" => random_guided::run(tree::parse(self.value).unwrap_or(10)),
            "canary" => {
                let (number, seconds) = self.value.split_once(':').unwrap_or((self.value, "3"));
                let number = tree::parse(number).unwrap_or(1);
                register_canary::run(number, tree::parse(seconds).unwrap_or(3));
            }
            _ => {
                let (kind, rounds) = self.value.split_once(':').unwrap_or((self.value, ""));
                stress::run(kind, tree::parse(rounds).unwrap_or(2000));
            }
        }
    }
}
