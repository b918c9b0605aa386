// SPDX-License-Identifier: MIT OR Apache-2.0
//! What waits for the console's UART: EL2's own lines and what guests write, in order.

/// A ring of `N` bytes, which `VMS` VMs and EL2 write to.
///
/// A VM has a share of it, so that one that floods the console takes no room from another, and a quarter of the ring is
/// EL2's alone. What finds no room is dropped, and counted.
#[derive(Debug)]
pub struct Ring<const N: usize, const VMS: usize> {
    bytes: [u8; N],
    head: usize,
    used: usize,
    lost: usize,
    /// Of each VM, how many bytes it has put since the ring was less than half full.
    put: [usize; VMS],
    /// What each may put until then.
    share: usize,
}

impl<const N: usize, const VMS: usize> Ring<N, VMS> {
    /// Empty; one VM has all that guests may use.
    pub const fn new() -> Self {
        Self { bytes: [0; N], head: 0, used: 0, lost: 0, put: [0; VMS], share: N / 4 }
    }

    /// Divides what guests may use among `vms` VMs.
    pub fn divide(&mut self, vms: usize) {
        self.share = (N / 4).checked_div(vms).unwrap_or(N / 4);
    }

    /// Bytes in it.
    pub const fn used(&self) -> usize {
        self.used
    }

    /// One byte of EL2's own, or of a VM's that was admitted.
    #[inline(never)]
    pub fn push(&mut self, byte: u8) {
        let at = self.head.wrapping_add(self.used).checked_rem(N).unwrap_or(0);
        match self.bytes.get_mut(at) {
            Some(slot) if self.used < N => {
                *slot = byte;
                self.used = self.used.wrapping_add(1);
            }
            _ => self.lose(1),
        }
    }

    /// Whether VM `vm` may put `count` bytes now.
    pub fn fits(&self, vm: usize, count: usize) -> bool {
        let put = self.put.get(vm).copied().unwrap_or(usize::MAX);
        put.saturating_add(count) <= self.share
    }

    /// `count` bytes of VM `vm` come. `false` where they find no room: then they are counted as lost, and must not come.
    pub fn admit(&mut self, vm: usize, count: usize) -> bool {
        let fits = self.fits(vm, count);
        match self.put.get_mut(vm) {
            Some(put) if fits => *put = put.saturating_add(count),
            _ => self.lose(count),
        }
        fits
    }

    /// Counts `count` bytes that did not come.
    pub fn lose(&mut self, count: usize) {
        self.lost = self.lost.saturating_add(count);
    }

    /// The next byte for the UART.
    #[inline(never)]
    pub fn pop(&mut self) -> Option<u8> {
        self.used = self.used.checked_sub(1)?;
        let byte = self.bytes.get(self.head).copied();
        self.head = self.head.wrapping_add(1).checked_rem(N).unwrap_or(0);
        if self.used < N / 2 {
            self.put = [0; VMS];
        }
        byte
    }

    /// How many bytes were lost; forgets them.
    pub fn take_lost(&mut self) -> usize {
        core::mem::take(&mut self.lost)
    }
}

impl<const N: usize, const VMS: usize> Default for Ring<N, VMS> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::Ring;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    /// Puts bytes of VM `vm` one by one, as a guest does that never looks; how many found room.
    fn flood(ring: &mut Ring<1024, 4>, vm: usize, count: usize) -> usize {
        (0..count)
            .filter(|_| {
                let admitted = ring.admit(vm, 1);
                if admitted {
                    ring.push(b'0' + vm as u8);
                }
                admitted
            })
            .count()
    }

    fn drain(ring: &mut Ring<1024, 4>, count: usize) -> Vec<u8> {
        (0..count).map_while(|_| ring.pop()).collect()
    }

    // scenario: F8
    #[test]
    fn a_flood_leaves_the_others_and_el2_their_room() {
        let mut ring = Ring::<1024, 4>::new();
        ring.divide(4);
        for round in 0..100 {
            let got = flood(&mut ring, 0, 10_000);
            assert!(got <= 64, "round {round}: {got}");
            assert!(!ring.fits(0, 1));
            assert_eq!(ring.take_lost(), 10_000 - got);
            // The others' share, and more than a line of EL2's.
            assert!(ring.fits(3, 64), "round {round}");
            let before = ring.used();
            (0..256).for_each(|_| ring.push(b'!'));
            assert_eq!(ring.used(), before + 256);
            assert_eq!(ring.take_lost(), 0);
            drain(&mut ring, 400);
        }
    }

    // scenario: F8
    #[test]
    fn all_of_them_together_leave_el2_a_quarter() {
        let mut ring = Ring::<1024, 4>::new();
        ring.divide(4);
        // Half full of EL2's own, which counts for nobody.
        (0..511).for_each(|_| ring.push(b'!'));
        for vm in 0..4 {
            flood(&mut ring, vm, 1000);
        }
        drain(&mut ring, 1);
        for vm in 0..4 {
            flood(&mut ring, vm, 1000);
        }
        assert!(ring.used() <= 768, "{}", ring.used());
    }

    #[test]
    fn a_flooder_goes_on_when_the_ring_has_drained() {
        let mut ring = Ring::<1024, 4>::new();
        ring.divide(1);
        assert_eq!(flood(&mut ring, 0, 5000), 256);
        drain(&mut ring, 1);
        assert_eq!(flood(&mut ring, 0, 5000), 256, "the ring was less than half full");
        drain(&mut ring, 512);
        assert_eq!(flood(&mut ring, 0, 5000), 256);
    }

    #[test]
    fn what_el2_writes_into_a_full_ring_is_counted() {
        let mut ring = Ring::<16, 1>::new();
        (0..20).for_each(|n| ring.push(n));
        assert_eq!(ring.take_lost(), 4);
        assert_eq!(ring.take_lost(), 0);
        assert_eq!(
            (0..20).map_while(|_| ring.pop()).collect::<Vec<_>>(),
            (0..16).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_vm_that_there_is_not_has_no_room() {
        let mut ring = Ring::<16, 1>::new();
        assert!(!ring.fits(1, 0) && !ring.admit(1, 1));
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order_and_every_one_is_accounted_for(
            ops in proptest::collection::vec((0..6_usize, 0..40_usize), 0..200),
        ) {
            let mut ring = Ring::<128, 4>::new();
            ring.divide(4);
            let mut ideal = VecDeque::new();
            let (mut put, mut kept, mut lost, mut next) = (0, 0, 0, 0_u8);
            for (who, count) in ops {
                match who {
                    5 => for _ in 0..count {
                        prop_assert_eq!(ring.pop(), ideal.pop_front());
                    },
                    _ => for _ in 0..count {
                        put += 1;
                        if who < 4 && !ring.admit(who, 1) {
                            continue;
                        }
                        next = next.wrapping_add(1);
                        if ideal.len() < 128 {
                            ideal.push_back(next);
                            kept += 1;
                        }
                        ring.push(next);
                    },
                }
                lost += ring.take_lost();
                prop_assert_eq!(ring.used(), ideal.len());
            }
            prop_assert_eq!(put, kept + lost);
        }
    }
}
