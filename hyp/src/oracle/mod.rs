// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entry points into `vm`: with feature `oracle` each also runs on the specification.

// The checker panics when the specification disagrees.
#![cfg_attr(
    feature = "oracle",
    allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::panic)
)]

#[cfg_attr(feature = "oracle", path = "enabled.rs")]
#[cfg_attr(not(feature = "oracle"), path = "disabled.rs")]
pub mod checked;
