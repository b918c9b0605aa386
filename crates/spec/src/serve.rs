// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls of a device VM: docs/devices.md, and docs/abi.md, "Calls of a device VM".

use crate::calls::{INVALID_PARAMETER, NOT_SUPPORTED, SUCCESS, answer};
use crate::link::{Answer, BELLS, Bell};
use crate::{Call, Outcome, Vm};

/// An HVC or SMC of the VM with number `caller`. Those of a device VM also change the VMs that it serves.
pub fn call(vms: &mut [Vm], caller: usize, call: &Call) -> Outcome {
    let is_device_call = call.imm == 0 && (0xc600_f010..=0xc600_f016).contains(&call.id());
    if !is_device_call {
        return vms[caller].call(call);
    }
    vms[caller].counters.hypercalls += 1;
    let Some(peers) = &vms[caller].config.peers else { return answer(NOT_SUPPORTED) };
    let x1 = call.x[1];
    let peer = usize::from(x1 as u16);
    // Nothing is above the part.
    match peers.get(peer).copied() {
        Some(client) if x1 >> 32 == 0 => vms[client].serve(call, x1 >> 16),
        _ => answer(INVALID_PARAMETER),
    }
}

/// The VM with number `server` has stopped, or is reset.
pub fn leave_peers(vms: &mut [Vm], server: usize) {
    for client in vms[server].config.peers.clone().into_iter().flatten() {
        vms[client].server_leaves();
    }
}

impl Vm {
    /// A call of the server about this VM; `part` is the vCPU, doorbell or transport that it names.
    fn serve(&mut self, call: &Call, part: u64) -> Outcome {
        let Some(served) = self.config.served.clone() else { return answer(INVALID_PARAMETER) };
        let [_, _, x2, x3] = call.x;
        let x4 = call.x4;
        let link = &mut self.link;
        let done = match call.id() & 0xf {
            0 => {
                if part != 0 {
                    return answer(INVALID_PARAMETER);
                }
                let info = self.config.vcpus as u64
                    | served.transport_count() << 8
                    | u64::from(link.running) << 16
                    | u64::from(link.attached) << 17
                    | u64::from(link.outstanding()) << 24;
                return Outcome::Answer([SUCCESS, self.life, info, served.timeout_ms]);
            }
            1 => match x2 {
                0 if part == 0 && self.life == x3 && link.attached => {
                    link.leave(served.aborts_on_loss);
                    true
                }
                1 if part == 0 && self.life == x3 => {
                    link.attach(call.now);
                    true
                }
                _ => false,
            },
            2 => {
                let with = match x4 {
                    0 => Some(Answer::Value(x3)),
                    1 => Some(Answer::Error),
                    _ => None,
                };
                link.attached && with.is_some_and(|with| link.complete(part, x2, with))
            }
            3 => match bell([x2, x3, x4]) {
                Some(bell)
                    if link.attached
                        && part < BELLS as u64
                        && bell.is_none_or(|bell| served.forwards(bell.ipa, bell.bytes)) =>
                {
                    link.bells[part as usize] = bell;
                    true
                }
                _ => false,
            },
            // What a transport's registers hold is not specified here.
            function => {
                let good = match function {
                    4 => x2 == 3,
                    5 => x2 < 2,
                    _ => x2 >> 32 == 0,
                };
                if good && link.attached && part < served.transport_count() {
                    return Outcome::Registers { value: function == 5 && x2 == 0 };
                }
                false
            }
        };
        answer(if done { SUCCESS } else { INVALID_PARAMETER })
    }
}

/// The doorbell that x2 to x4 describe: `Some(None)` removes one, `None` is no doorbell.
fn bell([ipa, kind, value]: [u64; 3]) -> Option<Option<Bell>> {
    let (bytes, more) = (kind & 0xff, kind >> 8);
    if more > 1 || !matches!(bytes, 0 | 1 | 2 | 4 | 8) {
        return None;
    }
    let value = (more == 1).then_some(crate::aborts::cut(value, bytes));
    Some((bytes != 0).then_some(Bell { ipa, bytes, value }))
}
