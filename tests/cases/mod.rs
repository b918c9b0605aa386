// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cases in Rust: what takes several guests, bad inputs, or a look from outside.
//!
//! A comment `scenario:` or `bug:` above a case says what it covers; `cargo xtask catalogue` collects them.

mod background_load;
mod banks;
mod board_pages;
mod boards;
mod boot_chains;
mod bundles;
mod console_lines;
mod crashes;
mod device_module;
mod device_vms;
mod devices;
mod devices_linux;
mod enrolled;
mod entry_el;
mod files;
mod firmware;
mod hello;
mod image;
mod images;
mod inputs;
mod lifecycle;
mod operator;
mod panics;
mod real_guests;
mod realtime;
mod settings;
mod several;
mod shares;
mod stock_linux;
mod timers;
mod trees;

use crate::fixture::Case;

/// All cases.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        image::CASES,
        images::CASES,
        inputs::CASES,
        trees::CASES,
        entry_el::CASES,
        banks::CASES,
        bundles::CASES,
        files::CASES,
        boot_chains::CASES,
        panics::CASES,
        console_lines::CASES,
        several::CASES,
        timers::CASES,
        shares::CASES,
        device_module::CASES,
        device_vms::CASES,
        boards::CASES,
        board_pages::CASES,
        background_load::CASES,
        settings::CASES,
        firmware::CASES,
        lifecycle::CASES,
        hello::CASES,
        crashes::CASES,
        devices::CASES,
        devices_linux::CASES,
        operator::CASES,
        real_guests::CASES,
        realtime::CASES,
        enrolled::CASES,
        stock_linux::CASES,
    ]
    .concat()
}
