// SPDX-License-Identifier: MIT OR Apache-2.0
//! The entropy service: Arm TRNG Firmware Interface 1.0 (DEN0098).

use crate::smccc_ids::*;
use crate::{Features, Host, Outcome, Vcpu, Vm};
use mmio_guard::abi::{NOT_SUPPORTED, SUCCESS};

/// Names this back end: 9b07f3c4-2c51-4d6e-8a13-70c2b1d5e6f8, in words as the interface returns a UUID.
const UUID: [u64; 4] = [0x9b07_f3c4, 0x2c51_4d6e, 0x8a13_70c2, 0xb1d5_e6f8];

#[cold]
#[inline(never)]
pub(crate) fn trng_call<H: Host>(id: u32, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    if !vm.features().has(Features::TRNG) {
        return vcpu.answer0(NOT_SUPPORTED);
    }
    match id {
        TRNG_VERSION => vcpu.answer0(TRNG_1_0),
        TRNG_FEATURES => vcpu.answer0(match vcpu.argument(1) as u32 {
            TRNG_VERSION | TRNG_FEATURES | TRNG_GET_UUID | TRNG_RND32 | TRNG_RND64 => SUCCESS,
            _ => NOT_SUPPORTED,
        }),
        TRNG_GET_UUID => vcpu.answer(UUID),
        TRNG_RND32 => {
            let bits = u64::from(vcpu.argument(1) as u32);
            random(bits, 96, vcpu, vm, |[low, middle, _]| {
                [0, middle & 0xffff_ffff, low >> 32, low & 0xffff_ffff]
            })
        }
        TRNG_RND64 => {
            let bits = vcpu.argument(1);
            random(bits, 192, vcpu, vm, |[low, middle, high]| [0, high, middle, low])
        }
        _ => vcpu.answer0(NOT_SUPPORTED),
    }
}

/// `bits` bits, of at most `most`; those beyond are zero in the answer.
fn random<H: Host>(
    bits: u64,
    most: u64,
    vcpu: &mut Vcpu,
    vm: &Vm<H>,
    place: impl FnOnce([u64; 3]) -> [u64; 4],
) -> Outcome {
    if bits == 0 || bits > most {
        return vcpu.answer0(INVALID_PARAMETERS);
    }
    let Some(mut words) = vm.host().random(bits as u32) else {
        return vcpu.answer0(NO_ENTROPY);
    };
    for (word, base) in words.iter_mut().zip([0_u64, 64, 128]) {
        let wanted = bits.saturating_sub(base).min(64);
        *word &= match wanted {
            0 => 0,
            wanted => u64::MAX >> 64_u64.wrapping_sub(wanted),
        };
    }
    vcpu.answer(place(words))
}
