// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small crates with each fault, and without.

use std::fs;
use std::path::Path;

use super::order::Order;
use super::{Findings, MAX_LINES, look};

/// Writes a crate `sample` with these files and looks at it.
fn findings(files: &[(&str, &str)], order: &str) -> Findings {
    let top = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = top.path().join("sample/src").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let order = Order::parse(order).expect("an order");
    look(top.path(), &top.path().join("sample/src/lib.rs"), &order).expect("a crate").0
}

const NO_ORDER: &str = "crates = []";

#[test]
fn a_chain_is_no_cycle() {
    let files = [
        ("lib.rs", "mod a; mod b; pub use a::A;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }"),
    ];
    assert_eq!(findings(&files, NO_ORDER), Findings::default());
}

#[test]
fn two_files_that_import_each_other_are_a_cycle() {
    let cycle = vec![vec!["sample/src/b.rs".to_owned(), "sample/src/a.rs".to_owned()]];
    let a = ("a.rs", "pub fn a() { crate::b::b() }");
    // By `use`, by a path in code, through the root's re-export, inside a macro, through a module's name.
    for b in [
        "use crate::a::a; pub fn b() {}",
        "pub fn b() { crate::a::a() }",
        "use crate::a as other; pub fn b() { other::a() }",
        "use crate::shown; pub fn b() {}",
        "pub fn b() { println!(\"{}\", crate::a::a()) }",
        "use super::a; pub fn b() { a::a() }",
    ] {
        let files = [("lib.rs", "mod a; mod b; pub use a::a as shown;"), a, ("b.rs", b)];
        let mut found = findings(&files, NO_ORDER).cycles;
        found.iter_mut().for_each(|c| c.sort_by(|x, y| y.cmp(x)));
        assert_eq!(found, cycle, "{b}");
    }
}

#[test]
fn a_re_export_leads_to_the_file_behind_it() {
    let files = [
        ("lib.rs", "mod f;"),
        ("f/mod.rs", "mod a; mod b; pub use a::*; pub use b::B;"),
        ("f/a.rs", "pub struct A;"),
        ("f/b.rs", "use crate::f::A; pub struct B(A);"),
    ];
    assert_eq!(findings(&files, NO_ORDER), Findings::default());
    let files = [files[0], files[1], ("f/a.rs", "pub struct A(crate::f::B);"), files[3]];
    assert_eq!(findings(&files, NO_ORDER).cycles.len(), 1);
}

#[test]
fn an_import_against_the_order_is_named() {
    let files = [
        ("lib.rs", "mod high; mod low;"),
        ("high.rs", "pub struct High(crate::low::Low);"),
        ("low.rs", "pub struct Low;"),
    ];
    let order = "crates = []\n[folders]\nsample = [[\"high\"], [\"low\"]]";
    assert_eq!(findings(&files, order), Findings::default());
    let turned = "crates = []\n[folders]\nsample = [[\"low\"], [\"high\"]]";
    let beside = "crates = []\n[folders]\nsample = [[\"low\", \"high\"]]";
    for order in [turned, beside] {
        let found = findings(&files, order).upward;
        let expected = "against the order: sample/src/high.rs imports sample/src/low.rs";
        assert_eq!(found, [expected]);
    }
}

#[test]
fn tests_do_not_count_as_lines() {
    let line = "const _: () = ();\n";
    let most = line.repeat(MAX_LINES);
    let with_tests = format!("{most}#[cfg(test)]\nmod tests {{\n{line}}}\n");
    assert_eq!(findings(&[("lib.rs", &with_tests)], NO_ORDER), Findings::default());
    let more = format!("{with_tests}{line}");
    let expected = vec![("sample/src/lib.rs".to_owned(), MAX_LINES + 1)];
    assert_eq!(findings(&[("lib.rs", &more)], NO_ORDER).long, expected);
}

#[test]
fn a_folder_that_the_order_leaves_out_is_an_error() {
    let top = tempfile::tempdir().expect("a temporary folder");
    let source = top.path().join("sample/src");
    fs::create_dir_all(&source).expect("a folder");
    fs::write(source.join("lib.rs"), "mod a; pub struct L(a::A);").expect("a file");
    fs::write(source.join("a.rs"), "pub struct A;").expect("a file");
    let order = Order::parse("crates = []\n[folders]\nsample = [[\"lib\"]]").expect("an order");
    let error = look(top.path(), Path::new(&source.join("lib.rs")), &order).unwrap_err();
    assert!(error.to_string().contains("`a`"), "{error}");
}
