// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cells, `reg` and `ranges`: where a node's registers lie in physical memory.
//!
//! Sources: Devicetree Specification v0.4, sections 2.3.5, 2.3.6 and 2.3.8.

use crate::error::{Error, err};
use crate::fdt::tree::Node;
use alloc::vec::Vec;
use arch::{Pa, Range};

/// Most `reg` or `ranges` entries of one node: what is read is bounded by it.
pub(crate) const MAX_ENTRIES: usize = 256;
/// One more than the largest physical address of the architecture (FEAT_LPA: 52 bits).
const PA_LIMIT: u64 = 1 << 52;

/// How many cells the addresses and sizes of a bus's children have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cells {
    pub address: usize,
    pub size: usize,
}

impl Cells {
    /// What /chosen's modules use where /chosen does not say: QEMU's guest-loader writes it so.
    pub(crate) const TWO_AND_TWO: Self = Self { address: 2, size: 2 };

    /// The cells of `bus`'s children; 2 and 1 where it does not say.
    pub(crate) fn of(bus: &Node<'_>) -> Result<Self, Error> {
        let address = bus.checked_word("#address-cells")?.unwrap_or(2);
        let size = bus.checked_word("#size-cells")?.unwrap_or(1);
        if !(1..=2).contains(&address) {
            return Err(err!(
                Board,
                "{}: #address-cells is {address}; addresses of 1 or 2 cells are understood",
                bus.path()
            ));
        }
        if size > 2 {
            return Err(err!(
                Board,
                "{}: #size-cells is {size}; sizes of 0 to 2 cells are understood",
                bus.path()
            ));
        }
        Ok(Self { address: address as usize, size: size as usize })
    }
}

/// Reads numbers of some cells each from a property's value.
pub(crate) struct CellReader<'a>(&'a [u8]);

impl<'a> CellReader<'a> {
    pub(crate) const fn new(value: &'a [u8]) -> Self {
        Self(value)
    }

    /// The next number, of 0 to 2 cells; `None` at the end or where less is left.
    pub(crate) fn next(&mut self, cells: usize) -> Option<u64> {
        let (head, tail) = self.0.split_at_checked(cells.checked_mul(4)?)?;
        self.0 = tail;
        Some(head.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The entries of `value`, each of `widths` cells.
fn entries<const N: usize>(
    node: &Node<'_>,
    name: &str,
    value: &[u8],
    widths: [usize; N],
) -> Result<Vec<[u64; N]>, Error> {
    let bytes = widths.iter().fold(0_usize, |sum, cells| sum.saturating_add(*cells)).max(1);
    let bytes = bytes.saturating_mul(4);
    if !value.len().is_multiple_of(bytes) {
        return Err(err!(
            Board,
            "{}: {name} has {} bytes, which is no multiple of {bytes}; check the #-cells of its \
             bus",
            node.path(),
            value.len()
        ));
    }
    if value.len() > MAX_ENTRIES.saturating_mul(bytes) {
        return Err(err!(
            Board,
            "{}: {name} has more than {MAX_ENTRIES} entries; describe less",
            node.path()
        ));
    }
    let mut reader = CellReader::new(value);
    let mut found = Vec::new();
    while !reader.is_empty() {
        let mut entry = [0; N];
        for (field, cells) in entry.iter_mut().zip(widths) {
            *field = reader.next(cells).unwrap_or_default();
        }
        found.push(entry);
    }
    Ok(found)
}

/// The `reg` of `node` as its bus means it: addresses and sizes, not translated.
pub(crate) fn raw_reg(node: &Node<'_>, cells: Cells) -> Result<Vec<(u64, u64)>, Error> {
    raw_ranges(node, "reg", cells)?
        .ok_or_else(|| err!(Board, "{}: it has no reg; say where it stands", node.path()))
}

/// The addresses and sizes in the property `name`; `None` where `node` has no such property.
pub(crate) fn raw_ranges(
    node: &Node<'_>,
    name: &str,
    cells: Cells,
) -> Result<Option<Vec<(u64, u64)>>, Error> {
    let Some(value) = node.property(name) else { return Ok(None) };
    let found = entries(node, name, value, [cells.address, cells.size])?;
    Ok(Some(found.into_iter().map(|[address, size]| (address, size)).collect()))
}

/// A physical range that a machine can have, or what is wrong with it.
pub(crate) fn physical(
    node: &Node<'_>,
    name: &str,
    address: u64,
    size: u64,
) -> Result<Range<Pa>, Error> {
    Range::<Pa>::new(Pa::new(address), size)
        .filter(|range| range.end().raw() <= PA_LIMIT)
        .ok_or_else(|| {
            err!(
                Board,
                "{}: {name} {address:#x}+{size:#x} wraps or ends beyond 2^52; correct it",
                node.path()
            )
        })
}

/// The `reg` of a device: physical ranges, translated through the buses above it.
pub(crate) fn reg(node: &Node<'_>) -> Result<Vec<Range<Pa>>, Error> {
    let Some(bus) = node.parent() else {
        return Err(err!(Board, "/: the root has no registers"));
    };
    raw_reg(node, Cells::of(&bus)?)?
        .into_iter()
        .map(|(address, size)| {
            let address = translate(node, bus, address, size)?;
            physical(node, "reg", address, size)
        })
        .collect()
}

/// Translates an address on `bus` to a physical one: through each `ranges` up to the root.
fn translate(node: &Node<'_>, bus: Node<'_>, address: u64, size: u64) -> Result<u64, Error> {
    let mut bus = bus;
    let mut address = address;
    // Ends at the root: the tree's depth is bounded.
    while let Some(above) = bus.parent() {
        let Some(value) = bus.property("ranges") else {
            return Err(err!(
                Board,
                "{}: its bus {} has no ranges, so that it has no physical address",
                node.path(),
                bus.path()
            ));
        };
        if !value.is_empty() {
            let (child, parent) = (Cells::of(&bus)?, Cells::of(&above)?);
            let windows =
                entries(&bus, "ranges", value, [child.address, parent.address, child.size])?;
            address = windows
                .into_iter()
                .find_map(|[from, to, length]| {
                    let offset = address.checked_sub(from)?;
                    let fits = offset.checked_add(size)? <= length;
                    if fits { to.checked_add(offset) } else { None }
                })
                .ok_or_else(|| {
                    err!(
                        Board,
                        "{}: {address:#x}+{size:#x} is in no window of the ranges of {}",
                        node.path(),
                        bus.path()
                    )
                })?;
        }
        bus = above;
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_until_they_end() {
        let bytes = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9];
        let mut reader = CellReader::new(&bytes);
        assert_eq!(reader.next(0), Some(0));
        assert_eq!(reader.next(2), Some(0x1_0000_0002));
        assert_eq!(reader.next(2), None, "three cells and a byte are no four");
        assert_eq!(reader.next(1), Some(3));
        assert!(!reader.is_empty());
        assert_eq!(reader.next(1), None);
        assert_eq!(reader.next(usize::MAX), None);
    }
}
