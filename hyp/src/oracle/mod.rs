// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entry points into `vm`. With feature `oracle` each is also run on the specification.

#![cfg_attr(
    feature = "oracle",
    expect(clippy::expect_used, clippy::panic, reason = "a difference ends the test at once")
)]

#[cfg_attr(feature = "oracle", path = "enabled.rs")]
#[cfg_attr(not(feature = "oracle"), path = "disabled.rs")]
pub mod checked;

#[cfg(feature = "oracle")]
mod specified;
