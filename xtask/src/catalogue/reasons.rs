// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios that have no test, and why.

/// Scenario, and why no test can cover it.
pub const REASONS: &[(&str, &str)] = &[
    (
        "B8",
        "the memory of a VM never changes while it runs: nothing is donated to it at an address",
    ),
    ("B9", "the memory of a VM never changes while it runs: nothing of it is taken away"),
    ("C6", "tables do not become blocks again while a VM runs"),
    ("E8", "no call reads a guest's memory: all arguments are registers"),
    (
        "F6",
        "a VM has one VMID as long as the machine runs, and there are 32 VMs at most: none wraps",
    ),
    ("H9", "there is no SMMU driver: a device that could master the bus is given to no VM"),
    (
        "J7",
        "who starts the image answers for its bytes: a check of its own could be changed with it",
    ),
];
