// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a flattened device tree, token by token.
//!
//! dtoolkit has a writer too. It wants the tree as a model of hash maps first, and those take more of EL2's code than all
//! that a guest's tree says: 12 KiB.
//!
//! Source: Devicetree Specification v0.4, chapter 5.

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

/// A tree that is being written: nodes nest, and a node's properties come before its children.
#[derive(Default)]
pub(crate) struct Writer {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Writer {
    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    /// Zeroes up to the next token.
    fn align(&mut self) {
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    /// A node begins.
    pub(crate) fn begin(&mut self, name: &str) {
        self.word(BEGIN_NODE);
        self.structure.extend_from_slice(name.as_bytes());
        self.structure.push(0);
        self.align();
    }

    /// The node that began last ends.
    pub(crate) fn end(&mut self) {
        self.word(END_NODE);
    }

    /// A property of these bytes.
    pub(crate) fn bytes(&mut self, name: &str, value: &[u8]) {
        let mut wanted = Vec::from(name);
        wanted.push(0);
        let first = wanted.first();
        let same = |have: &[u8]| have.first() == first && have == wanted;
        let known = self.strings.windows(wanted.len()).position(same);
        let at = known.unwrap_or(self.strings.len());
        if known.is_none() {
            self.strings.extend_from_slice(&wanted);
        }
        self.word(PROP);
        self.word(value.len() as u32);
        self.word(at as u32);
        self.structure.extend_from_slice(value);
        self.align();
    }

    /// A property of cells.
    pub(crate) fn cells(&mut self, name: &str, cells: &[u32]) {
        let mut value = Vec::new();
        for cell in cells {
            value.extend_from_slice(&cell.to_be_bytes());
        }
        self.bytes(name, &value);
    }

    /// A property of numbers of two cells each.
    pub(crate) fn longs(&mut self, name: &str, longs: &[u64]) {
        let mut value = Vec::new();
        for long in longs {
            value.extend_from_slice(&long.to_be_bytes());
        }
        self.bytes(name, &value);
    }

    /// A property of strings; those of a list are separated by NUL.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        let mut value = Vec::from(text);
        value.push(0);
        self.bytes(name, &value);
    }

    /// The whole tree; every node has ended.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.word(END);
        let (structure, strings) = (self.structure.len() as u32, self.strings.len() as u32);
        let strings_at = HEADER.saturating_add(structure);
        let total = strings_at.saturating_add(strings);
        let mut tree = Vec::new();
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
