// SPDX-License-Identifier: MIT OR Apache-2.0
//! What EL2's own tables map: RAM and the devices that EL2 drives one to one, its image W^X, guard pages under its stacks.

use arch::{Pa, Range};

use crate::board::{Board, Gic, StartMethod, Uart};

const PAGE: u64 = 4096;

/// How a range is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum El2Memory {
    /// Not at all.
    None,
    /// Device registers: read and written, never executed.
    Device,
    /// Read and written, never executed.
    Data,
    /// Read only, never executed.
    Constants,
    /// Read and executed, never written.
    Code,
}

/// Where the parts of the image are. The ranges are whole pages.
#[derive(Clone, Copy, Debug)]
pub struct El2Image<'a> {
    /// All of it.
    pub all: Range<Pa>,
    /// Code.
    pub code: Range<Pa>,
    /// Constants.
    pub constants: Range<Pa>,
    /// Data, heap and stacks.
    pub data: Range<Pa>,
    /// The page below each stack.
    pub guards: &'a [Range<Pa>],
}

/// Calls `map` for each range of EL2's tables, in whole pages. A later range replaces what an earlier one had there.
///
/// `board` is `None` where the tree describes none: the error about it has to reach the console.
///
/// # Errors
/// The first one of `map`.
pub fn el2_map<E>(
    image: &El2Image<'_>,
    tree: Range<Pa>,
    uart: Option<&Uart>,
    board: Option<&Board>,
    mut map: impl FnMut(Range<Pa>, El2Memory) -> Result<(), E>,
) -> Result<(), E> {
    let mut add = |range: &Range<Pa>, memory| match pages(range) {
        Some(range) => map(range, memory),
        None => Ok(()),
    };
    if let Some(uart) = uart {
        add(&uart.registers, El2Memory::Device)?;
    }
    if let Some(board) = board {
        let (first, more) = match &board.gic {
            Gic::V2 { gicd, gicc, gich, .. } => ([Some(gicd), Some(gicc), Some(gich)], &[][..]),
            Gic::V3 { gicd, redistributors, .. } => ([Some(gicd), None, None], &redistributors[..]),
        };
        for range in first.into_iter().flatten().chain(more) {
            add(range, El2Memory::Device)?;
        }
        for bank in &board.ram {
            add(bank, El2Memory::Data)?;
        }
        // What firmware keeps for itself is not EL2's to map: the CPU could speculate into it.
        for reserved in &board.reserved {
            add(&reserved.range, El2Memory::None)?;
        }
        for cpu in &board.cpus {
            // EL2 writes it, although firmware has mostly reserved it.
            if let StartMethod::SpinTable(release) = cpu.start
                && let Some(release) = Range::<Pa>::new(release, 8)
            {
                add(&release, El2Memory::Data)?;
            }
        }
        // Boot loaders enter the initrd among the reservations.
        let initrd = board.initrd.filter(|it| board.ram.iter().any(|bank| bank.encloses(it)));
        if let Some(initrd) = initrd {
            add(&initrd, El2Memory::Data)?;
        }
    }
    // RAM that is not reserved is mapped already, in large blocks.
    let known = |range: &Range<Pa>| {
        board.is_some_and(|board| {
            board.ram.iter().any(|bank| bank.encloses(range))
                && !board.reserved.iter().any(|reserved| reserved.range.overlaps(range))
        })
    };
    if !pages(&tree).is_some_and(|tree| known(&tree)) {
        add(&tree, El2Memory::Data)?;
    }
    add(&image.code, El2Memory::Code)?;
    add(&image.constants, El2Memory::Constants)?;
    if !known(&image.all) {
        add(&image.data, El2Memory::Data)?;
    }
    for guard in image.guards {
        add(guard, El2Memory::None)?;
    }
    Ok(())
}

/// The pages that `range` lies in; `None` where it is empty or ends beyond all addresses.
fn pages(range: &Range<Pa>) -> Option<Range<Pa>> {
    let start = range.start().page();
    let end = range.end().checked_add(PAGE - 1)?.page();
    if range.size() == 0 {
        return None;
    }
    Range::<Pa>::new(start, end.raw().saturating_sub(start.raw()))
}
