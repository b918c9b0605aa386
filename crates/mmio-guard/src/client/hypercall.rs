// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a hypercall is made.

/// Something that makes hypercalls: the HVC instruction in a guest, a model of the host in a test.
pub trait Hypercall {
    /// Makes one call by SMC Calling Convention 1.1: `id` in w0, `args` in x1 to x3, zeros in the
    /// arguments after them. Returns x0 to x3.
    ///
    /// An HVC32 `id` (bit 30 clear) takes the low halves of `args`; of what it returns, the low halves
    /// are looked at.
    fn call(&self, id: u32, args: [u64; 3]) -> [u64; 4];
}

impl<T: Hypercall + ?Sized> Hypercall for &T {
    fn call(&self, id: u32, args: [u64; 3]) -> [u64; 4] {
        (**self).call(id, args)
    }
}

/// The HVC instruction, through the smccc crate.
///
/// Only a guest whose hypervisor answers HVC may use it: its device tree says `method = "hvc"` in the
/// PSCI node. Elsewhere the instruction is undefined, or something else answers it.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SmcccHvc;

#[cfg(target_arch = "aarch64")]
impl Hypercall for SmcccHvc {
    #[inline]
    fn call(&self, id: u32, [x1, x2, x3]: [u64; 3]) -> [u64; 4] {
        /// Bit 30 of a function id: the 64-bit convention.
        const HVC64: u32 = 1 << 30;

        if id & HVC64 == 0 {
            // The convention takes the low halves.
            let low = |x: u64| x as u32;
            let [w0, w1, w2, w3, ..] = smccc::hvc32(id, [low(x1), low(x2), low(x3), 0, 0, 0, 0]);
            [w0.into(), w1.into(), w2.into(), w3.into()]
        } else {
            let args = [x1, x2, x3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let [x0, x1, x2, x3, ..] = smccc::hvc64(id, args);
            [x0, x1, x2, x3]
        }
    }
}
