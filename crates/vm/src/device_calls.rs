// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls of a device VM: docs/devices.md. Arguments and results are registers. No call waits, and one that fails has changed
//! nothing.

use crate::link::{Answer, Bell, Link, NotNow};
use crate::{Host, Outcome, Vcpu, Vm};
use arch::{Ipa, Width};
use mmio_guard::abi::device::{self, DOORBELL_MATCH};
use mmio_guard::abi::{INVALID_PARAMETER, NOT_SUPPORTED, SUCCESS};

/// Call `id`, which is no call of the guard.
#[cold]
#[inline(never)]
pub(crate) fn device_call<H: Host>(id: u32, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let Some(peers) = vm.peers else { return vcpu.answer0(NOT_SUPPORTED) };
    let is_call = (device::PEER_INFO..=device::EVENT_DONE).contains(&id);
    if !is_call {
        return vcpu.answer0(NOT_SUPPORTED);
    }
    let target = vcpu.argument(1);
    let peer = usize::from(target as u16);
    let result = match peers.get(peer) {
        Some(link) if target >> 32 == 0 => call(id, link, (target >> 16) as usize, vcpu, vm),
        _ => Err(NotNow),
    };
    match result {
        Ok(results) => {
            let [x1, x2, x3] = results;
            vcpu.answer([SUCCESS, x1, x2, x3])
        }
        Err(NotNow) => vcpu.answer0(INVALID_PARAMETER),
    }
}

/// A call about `link`. `part` is what x1 has above the peer: a vCPU, a doorbell or a transport.
fn call<H: Host>(
    id: u32,
    link: &Link,
    part: usize,
    vcpu: &Vcpu,
    vm: &Vm<H>,
) -> Result<[u64; 3], NotNow> {
    const NOTHING: [u64; 3] = [0; 3];
    let (host, order) = (vm.host(), &vcpu.order);
    let [x2, x3, x4] = [2, 3, 4].map(|n| vcpu.argument(n));
    match id {
        device::PEER_INFO if part == 0 => {
            let (life, info) = link.info(order);
            Ok([life, info.to_raw(), link.setup().timeout_ms])
        }
        device::ATTACH if part == 0 => {
            match x2 {
                0 => link.detach(host, order, x3)?,
                1 => link.attach(host, order, x3)?,
                _ => return Err(NotNow),
            }
            Ok(NOTHING)
        }
        device::COMPLETE => {
            let answer = match x4 {
                0 => Answer::Value(x3),
                1 => Answer::Error,
                _ => return Err(NotNow),
            };
            link.complete(host, order, part, x2, answer)?;
            Ok(NOTHING)
        }
        device::DOORBELL => {
            link.set_bell(order, part, bell(x2, x3, x4)?)?;
            Ok(NOTHING)
        }
        device::IRQ => {
            link.interrupt(host, order, part, [x2, x3])?;
            Ok(NOTHING)
        }
        device::REG => Ok([link.register(host, order, part, [x2, x3, x4])?, 0, 0]),
        device::EVENT_DONE => {
            link.event_done(host, order, part, x2)?;
            Ok(NOTHING)
        }
        _ => Err(NotNow),
    }
}

/// The doorbell that x2 to x4 describe: `None` removes one.
fn bell(ipa: u64, kind: u64, value: u64) -> Result<Option<Bell>, NotNow> {
    if kind & !(DOORBELL_MATCH | 0xff) != 0 {
        return Err(NotNow);
    }
    let width = match kind & 0xff {
        0 => return Ok(None),
        1 => Width::B1,
        2 => Width::B2,
        4 => Width::B4,
        8 => Width::B8,
        _ => return Err(NotNow),
    };
    let value = (kind & DOORBELL_MATCH != 0).then_some(value & width.mask());
    Ok(Some(Bell { ipa: Ipa::new(ipa), width, value }))
}
