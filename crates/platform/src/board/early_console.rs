// SPDX-License-Identifier: MIT OR Apache-2.0
//! A console while the MMU is off, where nothing may allocate: one walk over the tree for each question.
//!
//! Sources: Devicetree Specification v0.4, sections 2.3 and 5.4.

use crate::board::uart;
use crate::fdt::cells::CellReader;
use crate::fdt::format::{self, MAX_TREE_BYTES};
use arch::Pa;

/// Address of the first PL011 that `hyp.console=`, stdout-path or the alias serial0 names, the places where
/// [`Board::with_console`](crate::Board::with_console) looks too. `None` for anything else, and where the tree is not
/// whole. Allocates nothing and takes no lock.
#[must_use]
pub fn early_pl011(blob: &[u8]) -> Option<Pa> {
    let of_chosen = |name| property(blob, "/chosen", name).and_then(text);
    let word = of_chosen("bootargs").and_then(|bootargs| {
        bootargs.split_ascii_whitespace().find_map(|word| word.strip_prefix(uart::CONSOLE_WORD))
    });
    let stdout = of_chosen("stdout-path").or_else(|| of_chosen("linux,stdout-path"));
    let [word, stdout] = [word, stdout].map(|place| pl011(blob, place?));
    let serial0 = || {
        let path = text(property(blob, "/aliases", uart::SERIAL0)?)?;
        let status = property(blob, path, "status").map(text);
        matches!(status, None | Some(Some("okay" | "ok"))).then(|| pl011(blob, path))?
    };
    word.or(stdout).or_else(serial0)
}

/// Address of the PL011 at `place`: a path or an alias, with or without options behind a colon.
fn pl011(blob: &[u8], place: &str) -> Option<Pa> {
    let path = place.split(':').next()?;
    let path = if path.starts_with('/') { path } else { text(property(blob, "/aliases", path)?)? };
    if !property(blob, path, "compatible")?.split(|byte| *byte == 0).any(|it| it == b"arm,pl011") {
        return None;
    }
    let bus = path.rsplit_once('/')?.0;
    // What is translated on its way is not ours to guess.
    let mut above = bus;
    while let Some((next, _)) = above.rsplit_once('/') {
        property(blob, above, "ranges").filter(|ranges| ranges.is_empty())?;
        above = next;
    }
    let cells = property(blob, bus, "#address-cells").and_then(|value| format::be32(value, 0));
    let cells = cells.unwrap_or(2).min(2) as usize;
    CellReader::new(property(blob, path, "reg")?).next(cells).map(Pa::new)
}

fn text(value: &[u8]) -> Option<&str> {
    format::text(value, 0)
}

/// The value of a property of the node at `path`; a component without `@` matches any unit address.
fn property<'a>(blob: &'a [u8], path: &str, name: &str) -> Option<&'a [u8]> {
    let word = |offset| format::be32(blob, offset).map(|word| word as usize);
    let strings = word(12)?;
    let mut offset = word(8)?;
    let mut components = path.split('/').filter(|component| !component.is_empty());
    let mut wanted = components.next();
    // Open nodes, and how many of them, from the root on, are on the path.
    let (mut depth, mut on_path) = (0_usize, 0_usize);
    // Each turn goes on by a token at least.
    while offset < MAX_TREE_BYTES {
        let token = word(offset)? as u32;
        offset = offset.checked_add(4)?;
        match token {
            format::BEGIN_NODE => {
                let name = format::text(blob, offset)?;
                if depth == on_path {
                    let bare = name.split('@').next();
                    if depth == 0 {
                        on_path = 1;
                    } else if wanted.is_some() && (wanted == Some(name) || wanted == bare) {
                        on_path = on_path.checked_add(1)?;
                        wanted = components.next();
                    }
                }
                depth = depth.checked_add(1)?;
                offset = format::token_aligned(offset.checked_add(name.len())?.checked_add(1)?);
            }
            // The last of the path that was found ends without what is sought.
            format::END_NODE if depth == on_path => return None,
            format::END_NODE => depth = depth.checked_sub(1)?,
            format::PROP => {
                let value = offset.checked_add(8)?;
                let end = value.checked_add(word(offset)?)?;
                let at = strings.checked_add(word(offset.checked_add(4)?)?)?;
                if depth == on_path && wanted.is_none() && format::text(blob, at)? == name {
                    return blob.get(value..end);
                }
                offset = format::token_aligned(end);
            }
            format::NOP => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;
    use crate::Board;

    const VIRT: &[u8] = include_bytes!("../../tests/fixtures/virt-g3.dtb");
    const SOC: &[u8] = include_bytes!("../../tests/fixtures/board-soc.dtb");

    #[test]
    fn it_is_the_console_that_the_board_has() {
        let board = Board::with_console(VIRT).0.unwrap();
        assert_eq!(early_pl011(VIRT), Some(board.registers.start()));
        assert_eq!(early_pl011(VIRT), Some(Pa::new(0x900_0000)));
    }

    #[test]
    fn each_property_is_found_as_the_indexed_tree_finds_it() {
        for blob in [VIRT, SOC] {
            let tree = crate::fdt::Tree::parse(blob).unwrap();
            for node in tree.nodes() {
                let path = node.path();
                // The tree itself takes the first of several of one name.
                let same = |name: &str| node.property(name);
                for name in ["reg", "compatible", "none"] {
                    assert_eq!(property(blob, &path, name), same(name), "{path} {name}");
                }
            }
        }
        assert_eq!(property(VIRT, "/pl011", "reg"), property(VIRT, "/pl011@9000000", "reg"));
        assert_eq!(property(VIRT, "/missing", "reg"), None);
    }

    #[test]
    fn without_stdout_path_it_is_serial0_unless_that_is_off_and_a_word_comes_first() {
        use dtoolkit::fdt::Fdt;
        use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

        let tree = |bootargs: &'static str, alias: &'static str, status: &'static str| {
            let mut tree = DeviceTree::from_fdt(&Fdt::new(VIRT).unwrap());
            let chosen = tree.find_node_mut("/chosen").unwrap();
            chosen.remove_property("stdout-path").unwrap();
            chosen.add_property(DeviceTreeProperty::new_unchecked("bootargs", bootargs));
            let uart = tree.find_node_mut("/pl011@9000000").unwrap();
            uart.add_property(DeviceTreeProperty::new_unchecked("status", status));
            let mut aliases = DeviceTreeNode::new_unchecked("aliases");
            aliases.add_property(DeviceTreeProperty::new_unchecked(alias, "/pl011@9000000"));
            tree.root.add_child(aliases);
            tree.to_dtb()
        };
        let uart = Some(Pa::new(0x900_0000));
        assert_eq!(early_pl011(&tree("", "serial0", "okay")), uart);
        assert_eq!(early_pl011(&tree("", "serial0", "disabled")), None);
        assert_eq!(early_pl011(&tree("", "serial1", "okay")), None);
        let word = "quiet hyp.console=serial1:115200n8";
        assert_eq!(early_pl011(&tree(word, "serial1", "okay")), uart);
        // A word that leads nowhere leaves the others.
        assert_eq!(early_pl011(&tree("hyp.console=/nowhere", "serial0", "okay")), uart);
    }

    #[test]
    fn a_tree_that_is_cut_or_damaged_gives_nothing_or_something_but_ends() {
        for len in 0..VIRT.len() {
            let _ = early_pl011(&VIRT[..len]);
        }
        let mut blob = VIRT.to_vec();
        for at in 0..VIRT.len() {
            blob[at] ^= 0xff;
            let _ = early_pl011(&blob);
            blob[at] ^= 0xff;
        }
        assert_eq!(early_pl011(&[]), None);
    }

    #[test]
    fn another_uart_or_one_behind_a_translating_bus_is_none() {
        // Its console lies on a bus with ranges.
        assert!(Board::with_console(SOC).0.is_some());
        assert_eq!(early_pl011(SOC), None);
        let mut blob = VIRT.to_vec();
        let at = blob.windows(9).position(|it| it == b"arm,pl011").unwrap();
        blob[at + 8] = b'9';
        assert_eq!(early_pl011(&blob), None);
    }
}
