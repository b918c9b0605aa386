// SPDX-License-Identifier: MIT OR Apache-2.0
//! Log lines of a refusal and of a VM's end, formatted outside the exit path. `advice` says how to declare what was refused.

use crate::{Counts, Host, Reason, Refusal, StopReason, Vm};
use arch::{AbortKind, Ipa};
use core::fmt;
use mmio_guard::Policy;

/// `NAME: stopped (REASON): H hypercalls, M MMIO exits, R refused`.
#[derive(Clone, Copy, Debug)]
pub struct StopLine<'a> {
    name: &'a str,
    reason: StopReason,
    counts: Counts,
}

impl fmt::Display for StopLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { hypercalls, mmio, refused } = self.counts;
        write!(
            f,
            "{}: stopped ({}): {hypercalls} hypercalls, {mmio} MMIO exits, {refused} refused",
            self.name, self.reason
        )
    }
}

/// The log line of one refusal or other abort.
pub struct RefusalLine<'a, H: Host> {
    vm: &'a Vm<H>,
    vcpu: usize,
    refusal: Refusal,
}

impl<H: Host> Vm<H> {
    /// Its last line.
    pub fn stop_line(&self, reason: StopReason) -> StopLine<'_> {
        StopLine { name: &self.name, reason, counts: self.counts() }
    }

    /// The line of `refusal`.
    pub const fn refusal_line(&self, vcpu: usize, refusal: Refusal) -> RefusalLine<'_, H> {
        RefusalLine { vm: self, vcpu, refusal }
    }
}

impl<H: Host> fmt::Display for RefusalLine<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.refusal;
        let verb = match r.reason {
            Reason::Undeclared => "refused",
            _ => "aborted",
        };
        write!(f, "{}: vCPU {}: {verb} ", self.vm.name(), self.vcpu)?;
        match (r.kind, r.write) {
            (AbortKind::Instruction, _) => f.write_str("fetch")?,
            (AbortKind::Data, true) => f.write_str("store")?,
            (AbortKind::Data, false) => f.write_str("load")?,
        }
        if let Some(width) = r.width {
            write!(f, " of {} bytes", width.bytes())?;
        }
        match r.ipa {
            Some(ipa) => write!(f, " at IPA {ipa}")?,
            None => f.write_str(" at an unknown IPA")?,
        }
        write!(f, " (VA {}, PC {:#x}): {}", r.va, r.pc, r.reason.text())?;
        if let Some(ipa) = r.ipa {
            if let Some((device, _)) = self.vm.device_at(ipa) {
                write!(f, ", {}", device.node())?;
            }
            if r.reason == Reason::Undeclared {
                self.why_not(f, ipa)?;
            }
        }
        Ok(())
    }
}

impl<H: Host> RefusalLine<'_, H> {
    /// Why the page of `ipa` cannot be declared, if so. A line of its own says how to declare it: [`Advice`](crate::Advice).
    fn why_not(&self, f: &mut fmt::Formatter<'_>, ipa: Ipa) -> fmt::Result {
        let (vm, page) = (self.vm, ipa.page());
        if vm.memory().is_memory(page) {
            return f.write_str("; memory cannot be declared");
        }
        if page.raw() >= vm.stage2().geometry().ipa_limit() {
            return f.write_str("; beyond the VM's IPA size, cannot be declared");
        }
        debug_assert!(vm.guard().policy() != Policy::Off);
        Ok(())
    }
}
