// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cases in Rust: what takes several guests, bad inputs, or a look from outside.
//!
//! A comment `scenario:` or `bug:` above a case says what it covers; `cargo xtask catalogue` collects them.

mod banks;
mod board_pages;
mod boards;
mod bundles;
mod chains;
mod company;
mod crashes;
mod enrolled;
mod files;
mod firmware;
mod hello;
mod image;
mod images;
mod inputs;
mod levels;
mod lifecycle;
mod lines;
mod operator;
mod panics;
mod real;
mod settings;
mod several;
mod shares;
mod timers;
mod trees;

use crate::lab::Case;

/// All cases.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        image::CASES,
        images::CASES,
        inputs::CASES,
        trees::CASES,
        levels::CASES,
        banks::CASES,
        bundles::CASES,
        files::CASES,
        chains::CASES,
        panics::CASES,
        lines::CASES,
        several::CASES,
        timers::CASES,
        shares::CASES,
        boards::CASES,
        board_pages::CASES,
        company::CASES,
        settings::CASES,
        firmware::CASES,
        lifecycle::CASES,
        hello::CASES,
        crashes::CASES,
        operator::CASES,
        real::CASES,
        enrolled::CASES,
    ]
    .concat()
}
