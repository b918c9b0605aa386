// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a VM and the VM that serves it have in common: docs/devices.md. `forward.rs` has the client's half, `serve.rs` the server's.

use crate::{Data, Moment};
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// Doorbells of a served VM.
pub(crate) const BELLS: usize = 32;

/// A store that only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bell {
    pub ipa: u64,
    pub bytes: u64,
    /// Only a store of this value rings.
    pub value: Option<u64>,
}

/// What the server is told of an access, and nothing else (promise P3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// How many accesses of the vCPU came before it, and 1.
    pub number: u64,
    /// Where.
    pub ipa: u64,
    /// Its size.
    pub bytes: u64,
    /// What a store writes.
    pub store: Option<u64>,
}

/// How the server ends an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Value(u64),
    Error,
    Lost,
}

/// An access under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To a forwarded page.
    Forwarded { told: Told, data: Data, answer: Option<Answer> },
    /// To a transport, which decides when it is executed again.
    Transport,
}

/// What a client and its server have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub(crate) running: bool,
    pub(crate) attached: bool,
    /// When the server began to serve.
    pub(crate) attached_at: Moment,
    /// A server has served this life.
    pub(crate) known: bool,
    /// The server that has attached last did not answer in time.
    pub(crate) lost: bool,
    pub(crate) bells: [Option<Bell>; BELLS],
    /// By vCPU.
    pub(crate) accesses: Vec<Option<Access>>,
    pub(crate) numbers: Vec<u64>,
    /// Pieces of 2 MiB of RAM for which the window has a table.
    pub(crate) tables: BTreeSet<u64>,
}

impl Link {
    pub(crate) fn new(vcpus: usize) -> Self {
        Self {
            running: false,
            attached: false,
            attached_at: Moment::default(),
            known: false,
            lost: false,
            bells: [None; BELLS],
            accesses: vec![None; vcpus],
            numbers: vec![0; vcpus],
            tables: BTreeSet::new(),
        }
    }

    /// Whether the client runs.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Whether it is served.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// The vCPUs that wait for an answer, a bit each.
    pub fn outstanding(&self) -> u8 {
        let waits = |access: &Option<Access>| {
            matches!(access, Some(Access::Forwarded { answer: None, .. }))
        };
        (0..self.accesses.len())
            .filter(|vcpu| waits(&self.accesses[*vcpu]))
            .fold(0, |bits, vcpu| bits | 1 << vcpu)
    }

    /// What the server is told of the access of `vcpu` that waits.
    pub fn told(&self, vcpu: usize) -> Option<Told> {
        match self.accesses[vcpu] {
            Some(Access::Forwarded { told, answer: None, .. }) => Some(told),
            _ => None,
        }
    }

    /// The access of `vcpu` to a forwarded page that has not ended.
    pub fn access(&self, vcpu: usize) -> Option<Data> {
        match self.accesses[vcpu] {
            Some(Access::Forwarded { data, .. }) => Some(data),
            _ => None,
        }
    }

    /// The server answers access `number` of `vcpu`: `false` unless that very one waits.
    pub(crate) fn complete(&mut self, vcpu: u64, number: u64, with: Answer) -> bool {
        let access = usize::try_from(vcpu).ok().and_then(|vcpu| self.accesses.get_mut(vcpu));
        match access {
            Some(Some(Access::Forwarded { told, answer: answer @ None, .. }))
                if told.number == number =>
            {
                *answer = Some(with);
                true
            }
            _ => false,
        }
    }

    /// ATTACH of a server.
    pub(crate) fn attach(&mut self, now: Moment) {
        if !self.attached {
            self.bells = [None; BELLS];
            self.attached_at = now;
        }
        self.lost = false;
        self.known = true;
        self.attached = true;
    }

    /// The server serves no longer.
    pub(crate) fn leave(&mut self, aborts: bool) {
        self.attached = false;
        self.bells = [None; BELLS];
        if !(aborts && self.known) {
            return;
        }
        for access in self.accesses.iter_mut().flatten() {
            if let Access::Forwarded { answer: answer @ None, .. } = access {
                *answer = Some(Answer::Lost);
            }
        }
    }
}
