// SPDX-License-Identifier: MIT OR Apache-2.0
//! All that a device VM sees of a VM that it serves: promise P3 as a table.
//!
//! docs/abi.md prints it ("What a device VM sees of a peer"), and what is there and in no row is a fault: the test guest that
//! spies on its peers compares every byte with these rows, and so do host tests.

use super::device::control;

/// What a part of a control page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// The layout's name and version.
    Layout,
    /// A number that changes when the peer starts or stops.
    Life,
    /// Bytes of its RAM.
    RamSize,
    /// How many vCPUs and transports it has.
    Counts,
    /// Where its window is.
    Window,
    /// Where its RAM begins for it.
    RamBase,
    /// Its name.
    Name,
    /// A counter for each doorbell.
    Doorbells,
    /// For each transport the number of its last event.
    Events,
    /// A slot for each vCPU: [`SLOT`].
    Slots,
    /// A counter for each queue of each transport.
    Notifications,
}

/// What a part of a slot shows of a forwarded access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowsAccess {
    /// Its number.
    Number,
    /// Its address.
    Ipa,
    /// What a store wrote.
    Value,
    /// Size, direction and vCPU.
    Kind,
}

/// A part of a control page or of a slot. Bytes in no part are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<T> {
    /// Offset of its first byte.
    pub start: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// What it shows.
    pub shows: T,
    /// The same for people.
    pub text: &'static str,
}

const fn field<T>(start: u64, end: u64, shows: T, text: &'static str) -> Field<T> {
    Field { start, bytes: end.wrapping_sub(start), shows, text }
}

/// The parts of a control page, in the order of their offsets.
pub const PAGE: [Field<Shows>; 11] = [
    field(control::MAGIC, control::LIFE, Shows::Layout, "`PVD1`, and the layout's version, 1"),
    field(
        control::LIFE,
        control::RAM_SIZE,
        Shows::Life,
        "a number that changes when it starts or stops",
    ),
    field(control::RAM_SIZE, control::VCPUS, Shows::RamSize, "bytes of its RAM"),
    field(control::VCPUS, control::WINDOW, Shows::Counts, "numbers of its vCPUs and transports"),
    field(control::WINDOW, control::RAM_BASE, Shows::Window, "where its window begins in this VM"),
    field(control::RAM_BASE, control::NAME, Shows::RamBase, "where its RAM begins for it"),
    field(control::NAME, 0x50, Shows::Name, "its name"),
    field(
        control::DOORBELLS,
        control::EVENTS,
        Shows::Doorbells,
        "for each doorbell a counter of its rings",
    ),
    field(control::EVENTS, 0x140, Shows::Events, "for each transport the number of its last event"),
    field(
        control::SLOTS,
        control::NOTIFY,
        Shows::Slots,
        "for each vCPU a slot: its last forwarded access",
    ),
    field(
        control::NOTIFY,
        0x800,
        Shows::Notifications,
        "for each queue of each transport a counter of its notifications",
    ),
];

/// The parts of a slot, in the order of their offsets.
pub const SLOT: [Field<ShowsAccess>; 4] = [
    field(control::SLOT_SEQ, control::SLOT_IPA, ShowsAccess::Number, "the access's number"),
    field(
        control::SLOT_IPA,
        control::SLOT_VALUE,
        ShowsAccess::Ipa,
        "its address for the peer (IPA)",
    ),
    field(
        control::SLOT_VALUE,
        control::SLOT_KIND,
        ShowsAccess::Value,
        "what a store wrote, cut to its size; 0 for a load",
    ),
    field(control::SLOT_KIND, 0x20, ShowsAccess::Kind, "its size, whether it is a store, its vCPU"),
];

/// What is outside of the control page: where, and what.
pub const ELSEWHERE: [(&str, &str); 3] = [
    (
        "window",
        "granules that the peer shares; all others are the scratch page, which is the device VM's own",
    ),
    (
        "REG",
        "what the driver has set up: Status, features, queue sizes, and the rings of queues that are ready",
    ),
    (
        "PEER_INFO",
        "life, numbers of vCPUs and transports, whether it runs, which vCPUs wait, `vm.iotimeout`",
    ),
];

/// The part of these that has the byte at `offset`.
#[must_use]
pub fn part<T>(parts: &[Field<T>], offset: u64) -> Option<&Field<T>> {
    parts.iter().find(|part| offset.wrapping_sub(part.start) < part.bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;

    #[test]
    fn parts_follow_one_another_and_end_in_the_page() {
        fn check<T>(parts: &[Field<T>], end: u64) {
            let mut last = 0;
            for part in parts {
                assert!(part.start >= last && part.bytes > 0, "{}", part.text);
                last = part.start + part.bytes;
            }
            assert!(last <= end);
        }
        check(&PAGE, super::super::GRANULE);
        check(&SLOT, control::SLOT_SIZE);
        assert_eq!(part(&PAGE, 0x203).map(|part| part.shows), Some(Shows::Slots));
        assert_eq!(part(&PAGE, 0x50), None);
        assert_eq!(part(&PAGE, 0x800), None);
        assert_eq!(part(&SLOT, 0x20), None);
    }
}
