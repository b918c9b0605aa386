// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vm.role`: what a VM is to the others.

use arch::guest_map::{
    CONTROL_PAGE_IPA, MAX_PEERS, MAX_TRANSPORTS, REGISTER_IMAGE_IPA, WINDOWS_IPA, WINDOWS_SIZE,
};
use arch::{Ipa, PAGE_SIZE, Range};

/// What a VM is to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Nothing.
    #[default]
    Guest,
    /// It may serve devices to others.
    Device,
}

/// Fewest bits of IPA of a device VM: its windows end there.
pub(crate) const DEVICE_VM_IPA_BITS: u8 = 38;

const _: () = assert!(WINDOWS_IPA.raw() + WINDOWS_SIZE == 1 << DEVICE_VM_IPA_BITS);

impl Role {
    /// What EL2 keeps of the VM's address space, with a name for messages, but for windows.
    pub(crate) fn pages(self) -> impl Iterator<Item = (&'static str, Range<Ipa>)> {
        let pages = |count: usize| (count as u64).saturating_mul(PAGE_SIZE);
        let images = MAX_PEERS.saturating_mul(MAX_TRANSPORTS);
        let all = [
            ("the control pages of vm.role=device", CONTROL_PAGE_IPA, pages(MAX_PEERS)),
            ("the register images of vm.role=device", REGISTER_IMAGE_IPA, pages(images)),
        ];
        let all = all.into_iter().filter(move |_| self == Self::Device);
        all.filter_map(|(name, start, size)| Some((name, Range::<Ipa>::new(start, size)?)))
    }

    /// Where windows to other VMs' RAM are.
    pub(crate) fn windows(self) -> Option<Range<Ipa>> {
        Range::<Ipa>::new(WINDOWS_IPA, WINDOWS_SIZE).filter(|_| self == Self::Device)
    }
}
