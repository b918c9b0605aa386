// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios that have no test, and why.

/// Scenario, and why no test can cover it.
pub const REASONS: &[(&str, &str)] = &[];
