// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flattened device tree, checked whole and indexed in one pass.
//!
//! The values of properties are decoded by dtoolkit; guests' trees are written by [`writer`](crate::fdt::writer). Its reader
//! is not used, because a tree of a real board must be read and a lying one survived: it refuses
//! names of more than 31 characters (Tegra's trees have them), panics on what its validation would
//! have refused, walks a subtree once for each level above it, and knows no parents, without which
//! neither an address can be translated nor a path be named.
//!
//! Sources: Devicetree Specification v0.4, chapter 5.

use crate::error::{Error, err};
use crate::fdt::format::{
    BEGIN_NODE, END, END_NODE, Header, MAX_DEPTH, MAX_NODES, MAX_STRING, MAX_TREE_BYTES, NOP, PROP,
    PROP_BYTES, TOKEN_BYTES, be32, name, short, string_len, text, token_aligned,
};
use alloc::string::String;
use alloc::vec::Vec;
use dtoolkit::{FdtStringListIterator, FromPropertyValue};

/// A whole and well-formed tree.
pub(crate) struct Tree<'a> {
    /// `totalsize` bytes.
    data: &'a [u8],
    /// The strings block.
    strings: &'a [u8],
    nodes: Vec<Entry>,
    reservations: Vec<(u64, u64)>,
}

/// A node, in the order of the structure block.
struct Entry {
    /// Offset of the name, without its terminator.
    name: u32,
    name_len: u16,
    /// Offset of the first token after the name.
    body: u32,
    /// Index of the parent; the root is its own.
    parent: u32,
    /// Index after the last node of the subtree.
    end: u32,
    /// Offset of the token of its first `compatible`; 0 where it has none.
    compatible: u32,
    /// The first of its `phandle` and `linux,phandle`; 0, which is none, where it has neither.
    phandle: u32,
}

impl<'a> Tree<'a> {
    /// Checks and indexes the tree at the start of `blob`, which may be longer than the tree.
    ///
    /// # Errors
    /// Where it is not whole, or larger than a machine's may be: the message gives the offset or the node.
    pub(crate) fn parse(blob: &'a [u8]) -> Result<Self, Error> {
        Self::up_to(blob, MAX_TREE_BYTES)
    }

    /// The same for a tree that holds images: of any size that its header can say.
    pub(crate) fn of_any_size(blob: &'a [u8]) -> Result<Self, Error> {
        Self::up_to(blob, u32::MAX as usize)
    }

    fn up_to(blob: &'a [u8], most: usize) -> Result<Self, Error> {
        let Header { data, structure, strings, reservations } = Header::parse(blob, most)?;
        let mut tree = Self { data, strings, nodes: Vec::new(), reservations };
        tree.index(structure.start, structure.end)?;
        Ok(tree)
    }

    /// Checks the structure block token by token, and enters each node.
    fn index(&mut self, start: usize, end: usize) -> Result<(), Error> {
        let structure = self.data.get(..end).unwrap_or_default();
        let mut offset = start;
        let mut depth = 0_u16;
        // The node that is open; the root, before there is one.
        let mut open = 0_u32;
        let mut properties_allowed = false;
        loop {
            let token = be32(structure, offset).ok_or_else(|| {
                err!(Tree, "device tree: its structure block ends at {offset:#x} without an end")
            })?;
            let here = offset;
            offset = offset.saturating_add(TOKEN_BYTES);
            match token {
                BEGIN_NODE => {
                    let name = name(structure, offset).ok_or_else(|| {
                        err!(Tree, "device tree: the node at {here:#x} has no proper name")
                    })?;
                    let shown = || core::str::from_utf8(name).unwrap_or_default();
                    if depth > 0 && name.is_empty() || name.contains(&b'/') {
                        return Err(err!(
                            Tree,
                            "device tree: the node at {here:#x} has no proper name: '{}'",
                            shown()
                        ));
                    }
                    if usize::from(depth) >= MAX_DEPTH {
                        return Err(err!(
                            Tree,
                            "device tree: node '{}' at {here:#x} is nested more than {MAX_DEPTH} \
                             deep",
                            shown()
                        ));
                    }
                    // At most MAX_NODES.
                    let index = self.nodes.len() as u32;
                    if depth == 0 && index != 0 {
                        return Err(err!(
                            Tree,
                            "device tree: a second root node '{}' at {here:#x}",
                            shown()
                        ));
                    }
                    self.make_room()?;
                    depth = depth.saturating_add(1);
                    let name_at = offset;
                    offset = token_aligned(offset.saturating_add(name.len()).saturating_add(1));
                    properties_allowed = true;
                    self.nodes.push(Entry {
                        // Offsets are below 2^32, as the total is; names below MAX_NAME.
                        name: name_at as u32,
                        name_len: name.len() as u16,
                        body: offset as u32,
                        parent: open,
                        end: 0,
                        compatible: 0,
                        phandle: 0,
                    });
                    open = index;
                }
                END_NODE => {
                    depth = depth.checked_sub(1).ok_or_else(|| {
                        err!(Tree, "device tree: a node ends at {here:#x} that never began")
                    })?;
                    properties_allowed = false;
                    let end = self.nodes.len() as u32;
                    if let Some(node) = self.nodes.get_mut(open as usize) {
                        node.end = end;
                        open = node.parent;
                    }
                }
                PROP => {
                    if !properties_allowed {
                        return Err(err!(
                            Tree,
                            "device tree: the property at {here:#x} stands outside a node's \
                             properties"
                        ));
                    }
                    offset = self.check_property(here)?;
                }
                NOP => {}
                END => {
                    if depth != 0 || self.nodes.is_empty() {
                        return Err(err!(
                            Tree,
                            "device tree: it ends at {here:#x} inside a node or without one"
                        ));
                    }
                    return Ok(());
                }
                other => {
                    return Err(err!(Tree, "device tree: unknown token {other:#x} at {here:#x}"));
                }
            }
        }
    }

    /// Makes room for one more node; a failed allocation is an error, not a panic.
    fn make_room(&mut self) -> Result<(), Error> {
        let count = self.nodes.len();
        if count >= MAX_NODES {
            return Err(err!(
                Tree,
                "device tree: more than {MAX_NODES} nodes; remove what the board does not have"
            ));
        }
        if count < self.nodes.capacity() {
            return Ok(());
        }
        self.nodes.try_reserve_exact(count.max(64)).map_err(|_| {
            err!(Tree, "device tree: no memory to index over {count} nodes; pass a smaller tree")
        })
    }

    /// Checks the property of the last node whose token lies at `here`; returns the offset behind it.
    fn check_property(&mut self, here: usize) -> Result<usize, Error> {
        let checked = self.header_at(here).and_then(|(len, name_at)| {
            let end = here.saturating_add(PROP_BYTES).saturating_add(len);
            Some((token_aligned(end), name(self.strings, name_at)?, self.value_at(here)?))
        });
        let Some((next, name, value)) = checked else {
            return Err(err!(
                Tree,
                "device tree: the property at {here:#x} has no proper name or reaches beyond the \
                 tree"
            ));
        };
        if name.is_empty() {
            return Err(err!(Tree, "device tree: the property at {here:#x} has an empty name"));
        }
        if let Some(node) = self.nodes.last_mut() {
            match name {
                b"compatible" if node.compatible == 0 => node.compatible = here as u32,
                b"phandle" | b"linux,phandle" if node.phandle == 0 => {
                    node.phandle = u32::from_property_value(value).unwrap_or(0);
                }
                _ => {}
            }
        }
        Ok(next)
    }

    /// Length of its value and offset of its name: of the property whose token lies at `offset`.
    fn header_at(&self, offset: usize) -> Option<(usize, usize)> {
        let [_, _, _, _, l0, l1, l2, l3, n0, n1, n2, n3] =
            *self.data.get(offset..)?.first_chunk::<PROP_BYTES>()?;
        Some((
            u32::from_be_bytes([l0, l1, l2, l3]) as usize,
            u32::from_be_bytes([n0, n1, n2, n3]) as usize,
        ))
    }

    /// The value of the property whose token lies at `offset`.
    fn value_at(&self, offset: usize) -> Option<&'a [u8]> {
        let (len, _) = self.header_at(offset)?;
        self.data.get(offset..)?.get(PROP_BYTES..)?.get(..len)
    }

    /// The root node.
    pub(crate) fn root(&self) -> Node<'_> {
        Node { tree: self, index: 0 }
    }

    /// All nodes, in the tree's order.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        (0..self.nodes.len()).map(|index| Node { tree: self, index })
    }

    /// The memory reservation block: address and size of each entry.
    pub(crate) fn reservations(&self) -> &[(u64, u64)] {
        &self.reservations
    }

    /// The node at an absolute path; a component without `@` matches any unit address.
    pub(crate) fn find(&self, path: &str) -> Option<Node<'_>> {
        let mut node = self.root();
        let path = path.strip_prefix('/')?;
        for component in path.split('/').filter(|component| !component.is_empty()) {
            let component = component.as_bytes();
            let whole = component.contains(&b'@');
            node = node.children().find(|child| {
                child
                    .name_bytes()
                    .strip_prefix(component)
                    .is_some_and(|rest| rest.is_empty() || !whole && rest.first() == Some(&b'@'))
            })?;
        }
        Some(node)
    }

    /// The node with this phandle, which is not 0.
    pub(crate) fn by_phandle(&self, phandle: u32) -> Option<Node<'_>> {
        let index = self.nodes.iter().position(|node| node.phandle == phandle);
        index.filter(|_| phandle != 0).map(|index| Node { tree: self, index })
    }

    /// The usable nodes compatible with one of `names`, in the tree's order.
    pub(crate) fn compatible<'t>(&'t self, names: &'t [&str]) -> impl Iterator<Item = Node<'t>> {
        self.nodes().filter(|node| node.is_compatible(names) && node.is_enabled())
    }
}

/// A node of a [`Tree`].
#[derive(Clone, Copy)]
pub(crate) struct Node<'t> {
    tree: &'t Tree<'t>,
    index: usize,
}

/// What an index that is none would lead to: no name, no properties, no children.
const NO_ENTRY: Entry =
    Entry { name: 0, name_len: 0, body: u32::MAX, parent: 0, end: 0, compatible: 0, phandle: 0 };

impl<'t> Node<'t> {
    fn entry(&self) -> &'t Entry {
        // The index comes from the tree itself.
        self.tree.nodes.get(self.index).unwrap_or(&NO_ENTRY)
    }

    fn name_bytes(&self) -> &'t [u8] {
        let entry = self.entry();
        let tail = self.tree.data.get(entry.name as usize..).unwrap_or_default();
        tail.get(..usize::from(entry.name_len)).unwrap_or_default()
    }

    /// Its name with unit address; empty for the root.
    pub(crate) fn name(&self) -> &'t str {
        core::str::from_utf8(self.name_bytes()).unwrap_or_default()
    }

    /// Its name without unit address.
    pub(crate) fn base_name(&self) -> &'t str {
        self.name().split('@').next().unwrap_or_default()
    }

    /// Its absolute path, for messages.
    pub(crate) fn path(&self) -> String {
        let mut names = Vec::new();
        let mut node = Some(*self);
        while let Some(current) = node {
            names.push(current.name());
            node = current.parent();
        }
        // The root's empty name becomes the leading slash.
        names.pop();
        let mut path = String::new();
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        if path.is_empty() {
            path.push('/');
        }
        path
    }

    /// Its parent; `None` for the root.
    pub(crate) fn parent(&self) -> Option<Node<'t>> {
        (self.index != 0).then(|| Node { tree: self.tree, index: self.entry().parent as usize })
    }

    /// Its children, in the tree's order.
    pub(crate) fn children(&self) -> impl Iterator<Item = Node<'t>> + use<'t> {
        let tree = self.tree;
        let end = self.entry().end as usize;
        let mut next = self.index.saturating_add(1);
        core::iter::from_fn(move || {
            let child = (next < end).then_some(Node { tree, index: next })?;
            next = child.entry().end as usize;
            Some(child)
        })
    }

    /// Offsets of its properties' tokens, each with the length of the value and the offset of the name.
    fn tokens(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<'t> {
        let tree = self.tree;
        let mut offset = self.entry().body as usize;
        core::iter::from_fn(move || {
            loop {
                let here = offset;
                match be32(tree.data, here)? {
                    PROP => {
                        let (len, name) = tree.header_at(here)?;
                        let end = here.saturating_add(PROP_BYTES).saturating_add(len);
                        offset = token_aligned(end);
                        return Some((here, len, name));
                    }
                    NOP => offset = offset.saturating_add(TOKEN_BYTES),
                    _ => return None,
                }
            }
        })
    }

    /// Its properties: name and value, in the tree's order.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (&'t str, &'t [u8])> + use<'t> {
        let tree = self.tree;
        self.tokens()
            .filter_map(|(at, _, name)| Some((text(tree.strings, name)?, tree.value_at(at)?)))
    }

    /// The value of a property.
    pub(crate) fn property(&self, name: &str) -> Option<&'t [u8]> {
        let tree = self.tree;
        let name = name.as_bytes();
        let is_it = |at: usize| {
            let have = tree.strings.get(at..).unwrap_or_default();
            // The first byte, before a call is made of it.
            have.first() == name.first()
                && have.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0))
        };
        let (at, _, _) = self.tokens().find(|(_, _, name)| is_it(*name))?;
        tree.value_at(at)
    }

    /// A property of one cell; `None` where it is missing or of another size.
    pub(crate) fn word(&self, name: &str) -> Option<u32> {
        u32::from_property_value(self.property(name)?).ok()
    }

    /// A property of one cell, which must be one where it is there.
    pub(crate) fn checked_word(&self, name: &str) -> Result<Option<u32>, Error> {
        let Some(value) = self.property(name) else { return Ok(None) };
        match u32::from_property_value(value) {
            Ok(word) => Ok(Some(word)),
            Err(_) => {
                Err(err!(Board, "{}: {name} has {} bytes instead of 4", self.path(), value.len()))
            }
        }
    }

    /// A property of one or two cells, which must be that where it is there.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(value) = self.property(name) else { return Ok(None) };
        if let Ok(word) = u32::from_property_value(value) {
            Ok(Some(u64::from(word)))
        } else if let Ok(long) = u64::from_property_value(value) {
            Ok(Some(long))
        } else {
            Err(err!(Board, "{}: {name} has {} bytes instead of 4 or 8", self.path(), value.len()))
        }
    }

    /// A property that is a string of at most [`MAX_STRING`] bytes.
    pub(crate) fn string(&self, name: &str) -> Result<Option<&'t str>, Error> {
        let Some(value) = self.property(name) else { return Ok(None) };
        // Its terminator is not counted.
        if value.len() > MAX_STRING.saturating_add(1) {
            return Err(err!(
                Board,
                "{}: {name} has {} bytes, at most {MAX_STRING} are possible; shorten it",
                self.path(),
                value.len()
            ));
        }
        match <&str>::from_property_value(value) {
            Ok(string) => Ok(Some(string)),
            Err(_) => Err(err!(Board, "{}: {name} is not a string", self.path())),
        }
    }

    /// The first string of a property, cut to what a name can have; empty where there is none.
    pub(crate) fn first(&self, name: &str) -> String {
        short(self.strings(name).next().unwrap_or_default())
    }

    /// A property that is a list of strings, as far as it is one.
    pub(crate) fn strings(&self, name: &str) -> impl Iterator<Item = &'t str> + use<'t> {
        let value = self.property(name).unwrap_or_default();
        FdtStringListIterator::from_property_value(value).into_iter().flatten()
    }

    /// Whether its `compatible` has one of `names`.
    pub(crate) fn is_compatible(&self, names: &[&str]) -> bool {
        let at = self.entry().compatible as usize;
        // A property never lies in the header.
        let mut rest = if at == 0 { None } else { self.tree.value_at(at) }.unwrap_or_default();
        // A string that is none ends the list.
        while let Some(len) = string_len(rest) {
            let (name, after) = rest.split_at_checked(len).unwrap_or_default();
            if names.iter().any(|wanted| wanted.as_bytes() == name) {
                return true;
            }
            rest = after.get(1..).unwrap_or_default();
        }
        false
    }

    /// Whether its status, and that of all nodes above it, is okay.
    pub(crate) fn is_enabled(&self) -> bool {
        let mut node = Some(*self);
        while let Some(current) = node {
            let status = current.strings("status").next();
            if !matches!(status, None | Some("okay" | "ok")) {
                return false;
            }
            node = current.parent();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use alloc::string::ToString;
    use dtoolkit::fdt::{Fdt, FdtNode};
    use dtoolkit::model::{DeviceTree, DeviceTreeProperty};
    use dtoolkit::{Node as _, Property as _};

    const VIRT_G2: &[u8] = include_bytes!("../../tests/fixtures/virt-g2.dtb");
    const VIRT_G3: &[u8] = include_bytes!("../../tests/fixtures/virt-g3.dtb");
    const BOARD_SOC: &[u8] = include_bytes!("../../tests/fixtures/board-soc.dtb");

    /// Every node and property as dtoolkit reads it, against ours; the number of nodes.
    fn compare(ours: Node<'_>, theirs: FdtNode<'_>) -> usize {
        assert_eq!(ours.name(), theirs.name());
        assert_eq!(ours.base_name(), theirs.name_without_address());
        let mine: Vec<_> = ours.properties().collect();
        let other: Vec<_> = theirs.properties().collect();
        let other: Vec<_> = other.iter().map(|it| (it.name(), it.value())).collect();
        assert_eq!(mine, other, "{}", ours.path());
        let (mine, other): (Vec<_>, Vec<_>) =
            (ours.children().collect(), theirs.children().collect());
        assert_eq!(mine.len(), other.len(), "{}", ours.path());
        let mut count = 1;
        for (mine, other) in mine.into_iter().zip(other) {
            assert_eq!(mine.parent().unwrap().path(), ours.path());
            count += compare(mine, other);
        }
        count
    }

    #[test]
    fn every_node_and_property_is_as_dtoolkit_reads_it() {
        for blob in [VIRT_G2, VIRT_G3] {
            let tree = Tree::parse(blob).unwrap();
            let count = compare(tree.root(), Fdt::new(blob).unwrap().root());
            assert_eq!(count, tree.nodes().count());
            assert!(count > 50, "{count} nodes are no virt machine");
        }
        // It has a name that dtoolkit's validation refuses, but its walk can read.
        assert!(Fdt::new(BOARD_SOC).is_err());
        let tree = Tree::parse(BOARD_SOC).unwrap();
        compare(tree.root(), Fdt::new_unchecked(BOARD_SOC).root());
        let theirs = Fdt::new_unchecked(BOARD_SOC).memory_reservations();
        let theirs: Vec<_> = theirs.map(|it| (it.address(), it.size())).collect();
        assert_eq!(tree.reservations(), theirs);
    }

    #[test]
    fn paths_lead_to_the_nodes_that_have_them() {
        for blob in [VIRT_G2, BOARD_SOC] {
            let tree = Tree::parse(blob).unwrap();
            for node in tree.nodes() {
                assert_eq!(tree.find(&node.path()).unwrap().index, node.index);
            }
        }
        let tree = Tree::parse(BOARD_SOC).unwrap();
        let path = |path: &str| tree.find(path).map(|node| node.path());
        assert_eq!(path("/"), Some("/".to_string()));
        assert_eq!(path("/soc/bridge/serial"), path("/soc/bridge@7e200000/serial@5000"));
        assert_eq!(path("//soc//"), Some("/soc".to_string()));
        assert_eq!(path("soc"), None);
        assert_eq!(path(""), None);
        assert_eq!(path("/soc/bridge@0"), None);
        assert_eq!(path("/soc/missing/serial"), None);
    }

    #[test]
    fn phandles_lead_to_their_nodes() {
        let tree = Tree::parse(BOARD_SOC).unwrap();
        let parent = tree.root().word("interrupt-parent").unwrap();
        assert_eq!(tree.by_phandle(parent).unwrap().base_name(), "interrupt-controller");
        assert!(tree.by_phandle(0xdead).is_none());
        // Nodes without one do not have 0.
        assert!(tree.by_phandle(0).is_none());
    }

    #[test]
    fn a_node_is_enabled_only_if_all_above_are() {
        for (status, enabled) in
            [("okay", true), ("ok", true), ("disabled", false), ("fail-sss", false), ("", false)]
        {
            let mut tree = DeviceTree::from_fdt(&Fdt::new(VIRT_G2).unwrap());
            let gic = tree.find_node_mut("/intc@8000000").unwrap();
            gic.add_property(DeviceTreeProperty::new_unchecked("status", status));
            let blob = tree.to_dtb();
            let tree = Tree::parse(&blob).unwrap();
            assert_eq!(tree.find("/intc").unwrap().is_enabled(), enabled, "{status}");
            assert_eq!(tree.find("/intc/v2m").unwrap().is_enabled(), enabled, "{status}");
            assert!(tree.find("/timer").unwrap().is_enabled());
            assert_eq!(tree.compatible(&["arm,cortex-a15-gic"]).count(), usize::from(enabled));
        }
    }

    #[test]
    fn numbers_have_one_or_two_cells() {
        let tree = Tree::parse(BOARD_SOC).unwrap();
        let chosen = tree.find("/chosen").unwrap();
        assert_eq!(chosen.number("linux,initrd-start").unwrap(), Some(0x900_0000));
        assert_eq!(chosen.number("none").unwrap(), None);
        assert!(chosen.number("bootargs").is_err());
        let cpu = tree.find("/cpus/cpu@0").unwrap();
        assert_eq!(cpu.number("cpu-release-addr").unwrap(), Some(0xd8));
        assert!(cpu.checked_word("cpu-release-addr").is_err());
        assert_eq!(cpu.word("cpu-release-addr"), None);
    }
}
