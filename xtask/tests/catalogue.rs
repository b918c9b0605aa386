// SPDX-License-Identifier: MIT OR Apache-2.0
//! The catalogue in docs/ is that of the tests.

use std::fs;

use xtask::catalogue::{self, Id, Registry};
use xtask::paths;

#[test]
fn the_page_is_what_the_marks_say() {
    let root = paths::root();
    let registry = Registry::collect(&root).unwrap_or_else(|error| panic!("{error}"));
    let wanted = catalogue::page(&registry);
    let there = fs::read_to_string(root.join(catalogue::PATH)).unwrap_or_default();
    let differs = wanted.lines().zip(there.lines()).find(|(wanted, there)| wanted != there);
    assert!(
        wanted == there,
        "{} is stale: run `cargo xtask catalogue`; the first line that differs: {differs:?}",
        catalogue::PATH
    );
}

#[test]
fn every_bug_has_a_test_or_a_reason() {
    let registry = Registry::collect(&paths::root()).unwrap_or_else(|error| panic!("{error}"));
    for id in Id::all().filter(|id| matches!(id, Id::Bug(_))) {
        assert!(!registry.tests(id).is_empty() || id.reason().is_some(), "{id} has neither");
    }
    assert!(registry.covered().0 >= 75, "only {} bugs have a test", registry.covered().0);
}

#[test]
fn every_scenario_has_a_test_or_a_reason() {
    let registry = Registry::collect(&paths::root()).unwrap_or_else(|error| panic!("{error}"));
    for id in Id::all().filter(|id| matches!(id, Id::Scenario(..))) {
        assert!(!registry.tests(id).is_empty() || id.reason().is_some(), "{id} has neither");
    }
}
