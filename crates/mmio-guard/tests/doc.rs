// SPDX-License-Identifier: MIT OR Apache-2.0
//! docs/abi.md of the repository says the same as the code. A packaged crate has no such page.

use mmio_guard::{Call, Dialect, Policy, abi, feature_map, id};

fn page() -> Option<String> {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/abi.md")).ok()
}

/// The cells of every table row of the page.
fn rows(page: &str) -> Vec<Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect())
        .collect()
}

/// The text of a link, or of a cell without one.
fn label(cell: &str) -> &str {
    cell.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(cell)
}

#[test]
fn the_table_of_numbers_is_the_code() {
    let Some(page) = page() else { return };
    let mut seen = 0;
    for row in rows(&page) {
        let [number, pkvm, series] = row.as_slice() else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        for (dialect, cell) in [(Dialect::Pkvm, pkvm), (Dialect::Series, series)] {
            let call = match label(cell) {
                "-" => None,
                "MEMINFO" => Some(Call::Meminfo),
                "MEM_SHARE" => Some(Call::MemShare),
                "MEM_UNSHARE" => Some(Call::MemUnshare),
                "INFO" => Some(Call::Info),
                "ENROLL" => Some(Call::Enroll),
                "MAP" => Some(Call::Map),
                "UNMAP" => Some(Call::Unmap),
                "RELINQUISH" => Some(Call::Relinquish),
                "RANGE_MAP" => Some(Call::RangeMap),
                "RANGE_UNMAP" => Some(Call::RangeUnmap),
                other => panic!("{other} is no call"),
            };
            let expected = call.map(|_| 0xC600_0000 + number);
            assert_eq!(call.and_then(|call| id(dialect, call)), expected, "{number} {dialect}");
            assert_eq!(mmio_guard::call(dialect, 0xC600_0000 + number), call);
            seen += u32::from(call.is_some());
        }
    }
    assert_eq!(seen, 14, "ten calls of pkvm and four of the series");
}

#[test]
fn the_constants_are_on_the_page() {
    let Some(page) = page() else { return };
    let has = |text: String| assert!(page.contains(&text), "docs/abi.md lacks {text}");
    for id in [abi::own::VERSION, abi::own::QUERY_PAGE, abi::own::COUNTERS] {
        has(format!("| `0x{id:X}` |"));
    }
    for id in [abi::CALL_UID, abi::FEATURES] {
        has(format!("`0x{id:X}` |"));
    }
    has(abi::KVM_UID.map(|word| format!("{word:08x}")).join(" "));
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        has(format!("`{:#x}` (functions", feature_map(dialect, Policy::Enrol)));
    }
    has(format!("`{:#x}`: major << 16, minor", abi::own::VERSION_1_0));
    has(format!("now `{:#x}`", abi::own::FUNCTIONS));
    has(format!("The *granule* is {} bytes", abi::GRANULE));
    has(format!("written {} descriptors", abi::MAX_DESCRIPTORS_PER_CALL));
    for (code, name) in [
        (abi::SUCCESS, "SUCCESS"),
        (abi::NOT_SUPPORTED, "NOT_SUPPORTED"),
        (abi::NOT_REQUIRED, "NOT_REQUIRED"),
        (abi::INVALID_PARAMETER, "INVALID_PARAMETER"),
    ] {
        match code.cast_signed() {
            0 => has(format!("| 0 | {name}")),
            signed => has(format!("| {signed} `{code:#x}` | {name}")),
        }
    }
}
