// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a flattened device tree, token by token.
//!
//! dtoolkit has a writer too. It wants the tree as a model of hash maps first, and those take more of EL2's code than all
//! that a guest's tree says: 12 KiB.
//!
//! Source: Devicetree Specification v0.4, chapter 5.

use alloc::format;
use alloc::vec::Vec;

const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
const LAST_COMPATIBLE: u32 = 16;
/// Header, and the terminator of an empty reservation block.
const HEADER: u32 = 40 + 16;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const END: u32 = 9;

/// Room that a guest's tree finds in most cases.
const ROOM: usize = 4096;

/// A tree that is being written: nodes nest, and a node's properties come before its children.
pub(crate) struct Writer<'a> {
    structure: Vec<u8>,
    strings: Vec<u8>,
    /// The names in `strings`, each with its offset there.
    names: Vec<(&'a str, u32)>,
}

impl<'a> Writer<'a> {
    /// Nothing is written yet.
    pub(crate) fn new() -> Self {
        Self { structure: Vec::with_capacity(ROOM), strings: Vec::new(), names: Vec::new() }
    }

    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    /// Zeroes up to the next token.
    fn align(&mut self) {
        while !self.structure.len().is_multiple_of(4) {
            self.structure.push(0);
        }
    }

    /// A node begins.
    pub(crate) fn begin(&mut self, name: &str) {
        self.word(BEGIN_NODE);
        self.structure.extend_from_slice(name.as_bytes());
        self.structure.push(0);
        self.align();
    }

    /// A node `name@address` begins.
    pub(crate) fn begin_at(&mut self, name: &str, address: u64) {
        self.begin(&format!("{name}@{address:x}"));
    }

    /// The node that began last ends.
    pub(crate) fn end(&mut self) {
        self.word(END_NODE);
    }

    /// A property begins whose value has `length` bytes; returns the value's offset in the tree.
    fn property(&mut self, name: &'a str, length: usize) -> usize {
        let known = self.names.iter().find(|(known, _)| *known == name);
        let at = known.map_or(self.strings.len() as u32, |(_, at)| *at);
        if known.is_none() {
            self.names.push((name, at));
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
        }
        self.word(PROP);
        self.word(length as u32);
        self.word(at);
        self.structure.len().saturating_add(HEADER as usize)
    }

    /// A property of these bytes; returns their offset in the tree.
    pub(crate) fn bytes(&mut self, name: &'a str, value: &[u8]) -> usize {
        let at = self.property(name, value.len());
        self.structure.extend_from_slice(value);
        self.align();
        at
    }

    /// A property of cells.
    pub(crate) fn cells(&mut self, name: &'a str, cells: &[u32]) {
        self.property(name, size_of_val(cells));
        for cell in cells {
            self.word(*cell);
        }
    }

    /// A property of numbers of two cells each; returns their offset in the tree.
    pub(crate) fn longs(&mut self, name: &'a str, longs: &[u64]) -> usize {
        let at = self.property(name, size_of_val(longs));
        for long in longs {
            self.word((long >> 32) as u32);
            self.word(*long as u32);
        }
        at
    }

    /// A property of strings; those of a list are separated by NUL.
    pub(crate) fn text(&mut self, name: &'a str, text: &str) {
        self.property(name, text.len().saturating_add(1));
        self.structure.extend_from_slice(text.as_bytes());
        self.structure.push(0);
        self.align();
    }

    /// The whole tree; every node has ended.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.word(END);
        let (structure, strings) = (self.structure.len() as u32, self.strings.len() as u32);
        let strings_at = HEADER.saturating_add(structure);
        let total = strings_at.saturating_add(strings);
        let mut tree = Vec::with_capacity(total as usize);
        let header =
            [MAGIC, total, HEADER, strings_at, 40, VERSION, LAST_COMPATIBLE, 0, strings, structure];
        for word in header.into_iter().chain([0; 4]) {
            tree.extend_from_slice(&word.to_be_bytes());
        }
        tree.extend_from_slice(&self.structure);
        tree.extend_from_slice(&self.strings);
        tree
    }
}
