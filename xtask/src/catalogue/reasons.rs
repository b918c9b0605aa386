// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios that have no test, and why.

/// Scenario, and why no test can cover it.
pub const REASONS: &[(&str, &str)] = &[
    (
        "B8",
        "the memory of a VM never changes while it runs: nothing is donated to it at an address",
    ),
    ("B9", "the memory of a VM never changes while it runs: nothing of it is taken away"),
    ("C4", "MEM_SHARE keeps a bit; there is no VM yet that would map a shared page"),
    ("C6", "tables do not become blocks again while a VM runs"),
    ("C11", "MEM_SHARE names no receiver, and no other party exists yet"),
    ("E7", "no VM serves devices yet"),
    ("E8", "no call reads a guest's memory: all arguments are registers"),
    ("F4", "no VM serves devices yet"),
    (
        "F6",
        "a VM has one VMID as long as the machine runs, and there are 8 VMs at most: none wraps",
    ),
    (
        "G5",
        "no VM serves devices yet; that a VM crashes or resets beside others is tested as G6 and E6",
    ),
    ("H2", "no VM serves devices yet"),
    ("H3", "no VM serves devices yet"),
    ("H4", "no VM serves devices yet"),
    ("H5", "no VM serves devices yet"),
    ("H6", "no VM serves devices yet"),
    ("H7", "no VM serves devices yet"),
    ("H8", "no VM serves devices yet"),
    (
        "H9",
        "no VM serves devices yet, and there is no SMMU driver: what could master the bus is refused",
    ),
    ("H10", "no VM serves devices yet"),
    (
        "J7",
        "who starts the image answers for its bytes: a check of its own could be changed with it",
    ),
];
