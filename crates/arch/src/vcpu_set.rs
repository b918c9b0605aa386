// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of a VM's vCPUs.

/// Most vCPUs that a VM can have.
pub const MAX_VCPUS: usize = 8;

/// A set of vCPU indices, each below [`MAX_VCPUS`]; bit n stands for vCPU n.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct VcpuSet(u8);

impl VcpuSet {
    /// No vCPU.
    pub const EMPTY: Self = Self(0);

    /// One vCPU; empty if `index` is out of range.
    #[inline(always)]
    pub const fn single(index: usize) -> Self {
        if index < MAX_VCPUS { Self(1_u8.wrapping_shl(index as u32)) } else { Self::EMPTY }
    }

    /// vCPUs 0 to `count` - 1.
    #[inline(always)]
    pub const fn first(count: usize) -> Self {
        if count >= MAX_VCPUS { Self(u8::MAX) } else { Self(!u8::MAX.wrapping_shl(count as u32)) }
    }

    /// The set whose members are the bits of `bits`.
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// One bit per member.
    #[inline(always)]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Adds a vCPU; one out of range is ignored.
    #[inline(always)]
    pub const fn insert(&mut self, index: usize) {
        self.0 |= Self::single(index).0;
    }

    /// Takes a vCPU out.
    #[inline(always)]
    pub const fn remove(&mut self, index: usize) {
        self.0 &= !Self::single(index).0;
    }

    /// Whether a vCPU is a member.
    #[inline(always)]
    pub const fn contains(self, index: usize) -> bool {
        self.0 & Self::single(index).0 != 0
    }

    /// Members of either set.
    #[inline(always)]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Members of both sets.
    #[inline(always)]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Members of this set that are not in `other`.
    #[inline(always)]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is no member.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Number of members.
    #[inline(always)]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The members, lowest index first.
    #[inline(always)]
    pub const fn iter(self) -> VcpuSetIter {
        VcpuSetIter(self.0)
    }
}

impl IntoIterator for VcpuSet {
    type Item = usize;
    type IntoIter = VcpuSetIter;
    #[inline(always)]
    fn into_iter(self) -> VcpuSetIter {
        self.iter()
    }
}

impl core::fmt::Debug for VcpuSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Iterator over the members of a [`VcpuSet`].
#[derive(Clone, Debug)]
pub struct VcpuSetIter(u8);

impl Iterator for VcpuSetIter {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let index = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        Some(index)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.0.count_ones() as usize;
        (len, Some(len))
    }
}

impl ExactSizeIterator for VcpuSetIter {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn single_holds_one_member_and_nothing_out_of_range() {
        for index in 0..MAX_VCPUS {
            let set = VcpuSet::single(index);
            assert_eq!(set.iter().collect::<Vec<_>>(), [index]);
        }
        assert!(VcpuSet::single(MAX_VCPUS).is_empty());
        assert!(VcpuSet::single(usize::MAX).is_empty());
    }

    #[test]
    fn every_set_lists_exactly_its_members_in_order() {
        for bits in 0..=u8::MAX {
            let set = VcpuSet::from_bits(bits);
            let want: Vec<usize> = (0..8).filter(|n| bits & (1 << n) != 0).collect();
            assert_eq!(set.iter().collect::<Vec<_>>(), want);
            assert_eq!(set.len(), want.len());
            assert_eq!(set.iter().len(), want.len());
            assert_eq!(set.is_empty(), want.is_empty());
            assert_eq!(set.bits(), bits);
            for n in 0..16 {
                assert_eq!(set.contains(n), want.contains(&n));
            }
        }
    }

    #[test]
    fn insert_and_remove_undo_each_other() {
        let mut set = VcpuSet::from_bits(0b1010);
        set.insert(0);
        assert_eq!(set.bits(), 0b1011);
        set.remove(3);
        set.remove(3);
        assert_eq!(set.bits(), 0b0011);
        set.insert(8);
        set.remove(8);
        assert_eq!(set.bits(), 0b0011);
    }

    #[test]
    fn set_algebra_is_that_of_the_bits() {
        for a in 0..=u8::MAX {
            for b in 0..=u8::MAX {
                let (x, y) = (VcpuSet::from_bits(a), VcpuSet::from_bits(b));
                assert_eq!(x.union(y).bits(), a | b);
                assert_eq!(x.intersection(y).bits(), a & b);
                assert_eq!(x.without(y).bits(), a & !b);
            }
        }
    }

    #[test]
    fn first_counts_from_zero() {
        assert_eq!(VcpuSet::first(0), VcpuSet::EMPTY);
        assert_eq!(VcpuSet::first(3).bits(), 0b111);
        assert_eq!(VcpuSet::first(8).bits(), 0xff);
        assert_eq!(VcpuSet::first(usize::MAX).bits(), 0xff);
    }

    #[test]
    fn a_for_loop_and_debug_show_the_members() {
        let mut seen = Vec::new();
        for vcpu in VcpuSet::from_bits(0b1000_0001) {
            seen.push(vcpu);
        }
        assert_eq!(seen, [0, 7]);
        assert_eq!(format!("{:?}", VcpuSet::from_bits(0b101)), "{0, 2}");
    }
}
