// SPDX-License-Identifier: MIT OR Apache-2.0
//! Aborts: docs/abi.md, "Accesses"; the order of the questions is docs/trap-path.md's.

use crate::{Data, Entry, Fault, Fetch, Leaf, Load, Outcome, PAGE, Reason, Vm};

/// An abort of a data access.
const fn abort(reason: Reason, ipa: Option<u64>) -> Outcome {
    Outcome::Abort { reason, ipa, walk: false, fetch: false }
}

impl Vm {
    /// The entry at `ipa`; empty at or beyond the IPA size.
    pub(crate) fn entry(&self, ipa: u64) -> Entry {
        if self.config.is_window(ipa) {
            // Of which page is the business of the VM behind it.
            return Entry::Leaf { pa: 0, leaf: Leaf::Shared };
        }
        if ipa < self.config.limit() { self.tables.at(ipa).entry } else { Entry::Empty }
    }

    /// A data abort.
    pub fn data(&mut self, data: &Data) -> Outcome {
        if data.fault == Fault::External {
            return abort(Reason::External, data.ipa);
        }
        if data.walk {
            return self.walk(data.ipa, data.fault, false);
        }
        let Some(ipa) = data.ipa else { return Outcome::ResolveIpa };
        match self.entry(ipa) {
            Entry::Leaf { leaf: Leaf::Rom | Leaf::SharedRead, .. }
                if data.write || data.fault == Fault::Permission =>
            {
                if self.bank_at(ipa).is_some() {
                    self.outside_memory(data, ipa)
                } else if data.maintenance {
                    Outcome::Skipped
                } else {
                    abort(Reason::ReadOnly, data.ipa)
                }
            }
            Entry::Leaf { .. } => Outcome::Retry,
            _ if self.config.is_memory(ipa) => abort(Reason::GivenAway, data.ipa),
            _ => self.outside_memory(data, ipa),
        }
    }

    /// The table of docs/abi.md, row by row.
    fn outside_memory(&mut self, data: &Data, ipa: u64) -> Outcome {
        self.counters.mmio += 1;
        let active = self.active();
        let declared = self.is_declared(ipa);
        if data.maintenance && data.access.is_none() {
            return Outcome::Skipped;
        }
        if active && !declared {
            return self.refuse(ipa);
        }
        let Some((bytes, register)) = data.access else {
            return abort(Reason::NoSyndrome, data.ipa);
        };
        if ipa % PAGE + bytes > PAGE {
            let second = ipa.checked_add(bytes - 1).map(crate::page_of);
            return match second {
                Some(page) if active && !self.is_declared(page) => self.refuse(page),
                // There is no page behind the last one, so that it is not declared.
                None if active => self.refuse(ipa),
                _ => abort(Reason::CrossesPage, data.ipa),
            };
        }
        if let Some(n) = self.bank_at(ipa) {
            return self.flash(n, data, ipa, bytes, register);
        }
        match self.config.device_at(ipa) {
            None => self.forward(data, ipa, bytes, register),
            Some(device) if device.refuses(ipa, bytes) => abort(Reason::DeviceError, data.ipa),
            Some(_) if data.write => Outcome::Served(None),
            Some(_) => Outcome::Served(Some(Load { register })),
        }
    }

    /// The guard says no.
    fn refuse(&mut self, ipa: u64) -> Outcome {
        self.counters.refused += 1;
        abort(Reason::Undeclared, Some(ipa))
    }

    /// An instruction abort.
    pub fn fetch(&mut self, fetch: &Fetch) -> Outcome {
        let abort = |reason| Outcome::Abort { reason, ipa: fetch.ipa, walk: false, fetch: true };
        if fetch.fault == Fault::External {
            return abort(Reason::External);
        }
        if fetch.walk {
            return self.walk(fetch.ipa, fetch.fault, true);
        }
        let Some(ipa) = fetch.ipa else { return Outcome::ResolveIpa };
        match self.entry(ipa) {
            Entry::Leaf { leaf: Leaf::Ram | Leaf::Rom, .. } => Outcome::Retry,
            _ if self.config.is_memory(ipa) => abort(Reason::GivenAway),
            _ => abort(Reason::Fetch),
        }
    }

    /// A stage-1 walk that stage 2 stopped. One that may not read a valid page wanted to write its descriptor there,
    /// or met a device.
    fn walk(&self, ipa: Option<u64>, fault: Fault, fetch: bool) -> Outcome {
        let Some(at) = ipa else { return Outcome::ResolveIpa };
        match self.entry(at) {
            Entry::Leaf { leaf: Leaf::Ram, .. } => Outcome::Retry,
            Entry::Leaf { .. } if fault != Fault::Permission => Outcome::Retry,
            _ => Outcome::Abort { reason: Reason::Walk, ipa, walk: true, fetch },
        }
    }
}
