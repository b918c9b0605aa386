// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tests, one file per group of scenarios.

mod selftest;
