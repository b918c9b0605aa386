// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vm.role`: what a VM is to the others.

use arch::guest_map::{MAX_TRANSPORTS, SPIS};
use arch::{Ipa, PAGE_SIZE, Range};
use mmio_guard::abi::device::map::{
    CONTROL, IMAGES, INTID, PEERS, TRANSPORTS, WINDOWS, WINDOWS_END,
};

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

const _: () = assert!(WINDOWS_END == 1 << DEVICE_VM_IPA_BITS);
// The interrupts of peers follow those that every VM has.
const _: () = assert!(INTID as usize == 32 + SPIS);
// The ABI has room for the transports that a VM can have.
const _: () = assert!(TRANSPORTS == MAX_TRANSPORTS);

impl Role {
    /// What EL2 keeps of the VM's address space, with a name for messages, but for windows.
    pub(crate) fn pages(self) -> impl Iterator<Item = (&'static str, Range<Ipa>)> {
        let pages = |count: usize| (count as u64).saturating_mul(PAGE_SIZE);
        let images = PEERS.saturating_mul(TRANSPORTS);
        let all = [
            ("the control pages of vm.role=device", CONTROL, pages(PEERS)),
            ("the register images of vm.role=device", IMAGES, pages(images)),
        ];
        let all = all.into_iter().filter(move |_| self == Self::Device);
        all.filter_map(|(name, start, size)| {
            Some((name, Range::<Ipa>::new(Ipa::new(start), size)?))
        })
    }

    /// Shared interrupts of the VM's GIC: those of peers are a device VM's alone.
    pub(crate) const fn spis(self) -> usize {
        match self {
            Self::Guest => SPIS,
            Self::Device => SPIS.saturating_add(PEERS),
        }
    }

    /// Where windows to other VMs' RAM are.
    pub(crate) fn windows(self) -> Option<Range<Ipa>> {
        windows().filter(|_| self == Self::Device)
    }
}

/// Where the windows of a device VM are.
pub(crate) fn windows() -> Option<Range<Ipa>> {
    Range::<Ipa>::new(Ipa::new(WINDOWS), WINDOWS_END.checked_sub(WINDOWS)?)
}
