// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thinnest path: ask, touch, declare, use.

use crate::common::{OK_1, TEST, rig};
use arch::{AbortKind, Width};
use mmio_guard::{Dialect, Policy};
use vm::{Abort, Outcome, Reason};

#[test]
fn features_then_a_refusal_then_a_declaration_then_use() {
    let mut rig = rig(Policy::Enforce, Dialect::Pkvm);
    assert_eq!(rig.call(0x8600_0000, [0; 3]), [0xffd, 0, 0, 0]);
    let outcome = rig.load(TEST, Width::B4);
    assert_eq!(outcome, Outcome::Abort(Abort { kind: AbortKind::Data, walk: false }));
    assert_eq!(rig.vcpus.first().unwrap().refusal.reason, Reason::Undeclared);
    assert_eq!(rig.call(0xc600_0007, [TEST, 0, 0]), OK_1);
    assert_eq!(rig.read(TEST, Width::B4), Ok(0x7465_7374));
    assert_eq!(rig.refused(), 1);
}
