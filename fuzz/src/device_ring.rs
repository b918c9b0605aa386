// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings of a hostile driver, before the back ends of a device VM's server.

use crate::{count, rings};

/// One driver, with one ring after another.
pub fn run(data: &[u8]) {
    count::add(rings::play(data));
}
