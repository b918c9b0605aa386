// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accesses that the VM's server answers. The vCPU waits in the scheduler, and no other vCPU with it.

use crate::forwarded::{Forwarded, ForwardedAccess};
use crate::link::{Accessed, Answer, Link, Request, Sent};
use crate::{Abort, FastPath, Host, Outcome, Reason, Refusal, Vcpu, Vm};
use arch::{AbortKind, Access, DataAbort, Ipa, Va, Width, esr};
use lock::atomic::Ordering;

/// A load or store that no device of EL2 answers. The guard has let it pass.
#[cold]
#[inline(never)]
pub(crate) fn forward<H: Host>(
    abort: &DataAbort,
    ipa: Ipa,
    vcpu: &mut Vcpu,
    vm: &Vm<H>,
) -> Outcome {
    let reason = match (vm.served, abort.access) {
        (Some(link), Some(access)) => {
            let turned = arch::is_big_endian(vcpu.regs.spsr, vm.host().sctlr_el1());
            let store = abort.write.then(|| {
                let value = access.stored(vcpu.regs.get(access.reg));
                if turned { access.width.reversed(value) } else { value }
            });
            let request = Request { ipa, width: access.width, store };
            let how = How { access, turned, il: abort.il, va: abort.va };
            match serve(link, &request, &how, vcpu, vm) {
                Some(outcome) => return outcome,
                None => Reason::NoDevice,
            }
        }
        _ => Reason::NoDevice,
    };
    let width = abort.access.map(|access| access.width);
    let refusal = refusal(vcpu, abort.va, ipa, width, abort.write);
    aborted(vcpu, refusal, reason)
}

/// As [`forward`], on the fast path: a plain access of A64, which is 32 bits long, little-endian, within a page, described by `esr`.
/// Its addresses are in `vcpu.refusal`.
#[inline]
pub(crate) fn fast_forward<H: Host>(esr: u64, vcpu: &mut Vcpu, vm: &Vm<H>) -> FastPath {
    let (Some(link), Some(ipa)) = (vm.served, vcpu.refusal.ipa) else { return FastPath::Fallback };
    let access = Access {
        width: esr::width(esr),
        sign_extend: false,
        reg: esr::srt(esr),
        sixty_four: esr & esr::SF != 0,
        acquire_release: false,
    };
    let store = (esr & esr::WNR != 0).then(|| access.stored(vcpu.regs.get(access.reg)));
    let request = Request { ipa, width: access.width, store };
    let how = How { access, turned: false, il: true, va: vcpu.refusal.va };
    match serve(link, &request, &how, vcpu, vm) {
        Some(outcome) => {
            vm.counters(vcpu).mmio();
            FastPath::Done(outcome)
        }
        None => FastPath::Fallback,
    }
}

/// What the end of an access needs to know of the instruction.
struct How {
    access: Access,
    turned: bool,
    il: bool,
    va: Va,
}

/// An access that the server may answer. `None`, with nothing changed: nothing of it is there.
#[inline(always)]
fn serve<H: Host>(
    link: &Link,
    request: &Request,
    how: &How,
    vcpu: &mut Vcpu,
    vm: &Vm<H>,
) -> Option<Outcome> {
    let Request { ipa, width, store } = *request;
    if let Some(at) = link.transport_at(ipa) {
        return Some(transport(link, at, request, how, vcpu, vm));
    }
    if !link.forwards(ipa, width) {
        return None;
    }
    let refusal = |vcpu: &Vcpu| refusal(vcpu, how.va, ipa, Some(width), store.is_some());
    Some(match link.send(vm.host(), &vcpu.order, vcpu.index, request) {
        Sent::Rung => Outcome::Advance { il: how.il },
        Sent::Lost => aborted(vcpu, refusal(vcpu), Reason::NoAnswer),
        Sent::Waits => {
            let How { access, turned, il, .. } = *how;
            let access = ForwardedAccess { access, turned, il, refusal: refusal(vcpu) };
            vcpu.forwarded = Some(Forwarded::Access(access));
            Outcome::WaitForServer
        }
    })
}

fn refusal(vcpu: &Vcpu, va: Va, ipa: Ipa, width: Option<Width>, write: bool) -> Refusal {
    Refusal {
        pc: vcpu.regs.elr,
        va,
        ipa: Some(ipa),
        reason: Reason::NoDevice,
        kind: AbortKind::Data,
        width,
        write,
    }
}

/// An access to the registers of a virtio-mmio transport.
#[inline(always)]
fn transport<H: Host>(
    link: &Link,
    at: (usize, u64),
    request: &Request,
    how: &How,
    vcpu: &mut Vcpu,
    vm: &Vm<H>,
) -> Outcome {
    let (order, me) = (&vcpu.order, vcpu.index);
    match link.access_transport(vm.host(), order, me, at, request) {
        Err(wait) => {
            vcpu.forwarded = Some(Forwarded::Transport(wait));
            return Outcome::WaitForServer;
        }
        Ok(Some(Accessed::Moved(moved) | Accessed::Told(Some(moved)))) => {
            vm.interrupts(order, Some(me), |vgic| {
                vgic.set_level(me, moved.intid, moved.level.load(Ordering::Acquire))
            });
        }
        Ok(Some(Accessed::Value(value))) if request.store.is_none() => {
            let value = if how.turned { how.access.width.reversed(value) } else { value };
            vcpu.regs.set(how.access.reg, how.access.loaded(value));
        }
        Ok(_) => {}
    }
    Outcome::Advance { il: how.il }
}

fn aborted(vcpu: &mut Vcpu, refusal: Refusal, reason: Reason) -> Outcome {
    vcpu.refusal = Refusal { reason, ..refusal };
    Outcome::Abort(Abort { kind: AbortKind::Data, walk: false })
}

impl<H: Host> Vm<H> {
    /// CNTPCT_EL0 until which the access of `vcpu` that [`Outcome::WaitForServer`] is about waits, `u64::MAX` for ever; `None` if
    /// it waits no longer, or there is none.
    pub fn waits_for_server(&self, vcpu: &Vcpu, now: u64) -> Option<u64> {
        let link = self.served?;
        match vcpu.forwarded? {
            Forwarded::Access(_) => link.waits_until(vcpu.index, now),
            Forwarded::Transport(wait) => link.transport_waits_until(&vcpu.order, wait, now),
        }
    }

    /// Whether the log is to say that `vcpu` waits for its server without a deadline: [`Link::report_wait`].
    ///
    /// # Errors
    /// When to ask again.
    pub fn report_wait(&self, vcpu: &Vcpu, now: u64, after: u64) -> Result<(), u64> {
        let (Some(link), Some(forwarded)) = (self.served, vcpu.forwarded) else {
            return Err(u64::MAX);
        };
        let wait = match forwarded {
            Forwarded::Access(_) => None,
            Forwarded::Transport(wait) => Some(wait),
        };
        link.report_wait(vcpu.index, wait, now, after)
    }

    /// The end of the access of `vcpu`, which is loaded on this CPU: `None` if it waits, or there is none. Writes the register of a
    /// load.
    pub fn finish_forwarded(&self, vcpu: &mut Vcpu, now: u64) -> Option<Outcome> {
        let link = self.served?;
        let outcome = match vcpu.forwarded? {
            Forwarded::Access(access) => {
                let answer = link.take_answer(vcpu.index, now)?;
                access.end(answer, vcpu)
            }
            Forwarded::Transport(wait) => {
                let (host, order) = (self.host(), &vcpu.order);
                if !link.end_transport_wait(host, order, vcpu.index, wait, now) {
                    return None;
                }
                Outcome::Resume
            }
        };
        vcpu.forwarded = None;
        Some(outcome)
    }
}

impl ForwardedAccess {
    fn end(self, answer: Answer, vcpu: &mut Vcpu) -> Outcome {
        let Self { access, turned, il, refusal } = self;
        match answer {
            Answer::Value(value) => {
                if !refusal.write {
                    let value = value & access.width.mask();
                    let value = if turned { access.width.reversed(value) } else { value };
                    vcpu.regs.set(access.reg, access.loaded(value));
                }
                Outcome::Advance { il }
            }
            Answer::Error => aborted(vcpu, refusal, Reason::DeviceError),
            Answer::Lost => aborted(vcpu, refusal, Reason::NoAnswer),
        }
    }
}
