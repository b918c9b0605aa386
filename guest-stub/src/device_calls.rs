// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of a VM with `vm.role=device`, one function for each (docs/abi.md), with every result that they have.

use mmio_guard::abi::device::{self, PeerInfo};
use mmio_guard::abi::{INVALID_PARAMETER, NOT_SUPPORTED};

use crate::hvc::hvc_4;

/// What a call of a VM without the role answers.
pub const DENIED: [u64; 4] = [NOT_SUPPORTED, 0, 0, 0];
/// What a call answers that refuses its arguments.
pub const REFUSED: [u64; 4] = [INVALID_PARAMETER, 0, 0, 0];
/// What a call answers that has no other result.
pub const DONE: [u64; 4] = [0; 4];

/// All of them.
pub const ALL: [u32; 7] = [
    device::PEER_INFO,
    device::ATTACH,
    device::COMPLETE,
    device::DOORBELL,
    device::IRQ,
    device::REG,
    device::EVENT_DONE,
];

/// A transport or vCPU of a peer, as calls name it.
pub const fn of(peer: u64, number: u64) -> u64 {
    peer | number << 16
}

/// Call `id` with x1 to x4, every result register.
pub fn call(id: u32, args: [u64; 4]) -> [u64; 4] {
    hvc_4(id.into(), args)
}

/// A peer's life, its state, and milliseconds that an access waits; `None` where there is no such peer.
pub fn peer_info(peer: u64) -> Option<(u64, PeerInfo, u64)> {
    let [x0, life, info, wait] = call(device::PEER_INFO, [peer, 0, 0, 0]);
    (x0 == 0).then_some((life, PeerInfo::from_raw(info), wait))
}

/// Begins to serve a peer.
pub fn attach(peer: u64, life: u64) -> [u64; 4] {
    call(device::ATTACH, [peer, 1, life, 0])
}

/// Ends that.
pub fn detach(peer: u64, life: u64) -> [u64; 4] {
    call(device::ATTACH, [peer, 0, life, 0])
}

/// Completes access `seq` of a vCPU with a value.
pub fn complete(peer: u64, vcpu: u64, seq: u64, value: u64) -> [u64; 4] {
    call(device::COMPLETE, [of(peer, vcpu), seq, value, 0])
}

/// Completes it with an abort.
pub fn complete_with_error(peer: u64, vcpu: u64, seq: u64) -> [u64; 4] {
    call(device::COMPLETE, [of(peer, vcpu), seq, 0, 1])
}

/// Sets doorbell `n`: `kind` is the size in bytes, perhaps with [`device::DOORBELL_MATCH`].
pub fn doorbell(peer: u64, n: u64, ipa: u64, kind: u64, value: u64) -> [u64; 4] {
    call(device::DOORBELL, [of(peer, n), ipa, kind, value])
}
