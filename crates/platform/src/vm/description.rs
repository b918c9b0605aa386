// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM as it is described, and the host that it is checked against.

use crate::board::memory::MEMRESERVE;
use crate::board::{Board, Module};
use crate::error::{Error, err};
use crate::vm::options::Options;
use alloc::format;
use alloc::string::String;
use arch::{Pa, Range};

/// Memory that Portcullis itself uses, with a name for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedRegion<'a> {
    /// Such as `Portcullis's image` or `the device tree`.
    pub name: &'a str,
    /// Where it is.
    pub range: Range<Pa>,
}

/// What the VMs are checked against.
#[derive(Clone, Copy)]
pub struct HostResources<'a> {
    /// The board.
    pub board: &'a Board,
    /// The device tree that the board was read from. Empty where there is no host, just a bundle to check: then
    /// `vm.dev` is not looked up, and no VM has a device.
    pub tree: &'a [u8],
    /// Everything that Portcullis uses: image with BSS and stacks, heap, device tree.
    pub own: &'a [ReservedRegion<'a>],
    /// The bundle that lies behind the image, where one was appended to it; part of `own`'s image.
    pub appended: Option<Range<Pa>>,
    /// How many CPUs vCPUs can run on: [`Board::usable_cpus`], or fewer.
    pub cpus: usize,
    /// Bits of physical address of the weakest CPU (ID_AA64MMFR0_EL1.PARange).
    pub pa_bits: u8,
    /// Reads physical memory; `None` where it cannot be read.
    pub read: &'a dyn Fn(Range<Pa>) -> Option<&'a [u8]>,
}

/// A VM as it is described: nothing is checked but each value by itself.
pub(crate) struct VmDescription {
    pub node: String,
    pub options: Options,
    pub bootargs: String,
    pub kernel: Range<Pa>,
    pub ramdisk: Option<Range<Pa>>,
}

/// What the boot loader put at `range`, against RAM, Portcullis, reservations, the initrd and `modules`. A bundle
/// may be the initrd, or lie in the image.
pub(crate) fn check_place(
    host: &HostResources<'_>,
    what: &str,
    range: Range<Pa>,
    modules: &[Module],
    is_bundle: bool,
) -> Result<(), Error> {
    let board = host.board;
    if !board.ram.iter().any(|bank| bank.encloses(&range)) {
        return Err(err!(
            Module,
            "{what} at {range} is not inside RAM ({}); load it at another address or give the \
             host more memory",
            list(&board.ram)
        ));
    }
    let is_initrd = is_bundle && board.initrd == Some(range);
    let is_appended = is_bundle && host.appended == Some(range);
    // An appended bundle is part of the image.
    let own = host.own.iter().filter(|own| !is_appended || !own.range.encloses(&range));
    let own = own.map(|own| (own.name, own.range));
    let initrd = board.initrd.iter().filter(|_| !is_initrd).map(|range| ("the initrd", *range));
    // A boot loader reserves the initrd that it has loaded.
    let reserved = board.reserved.iter().filter(|it| !is_initrd || it.name != MEMRESERVE);
    let reserved = reserved.map(|it| (it.name.as_str(), it.range));
    let modules = modules.iter().map(|other| (other.name.as_str(), other.range));
    let mut others = own.chain(initrd).chain(reserved).chain(modules);
    if let Some((name, other)) = others.find(|(_, other)| other.overlaps(&range)) {
        return Err(err!(
            Module,
            "{what} at {range} overlaps {name} at {other}; load it at another address, 0x50000000 \
             and up where RAM allows"
        ));
    }
    Ok(())
}

fn list(ranges: &[Range<Pa>]) -> String {
    let mut text = String::new();
    for range in ranges.iter().take(8) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&format!("{range}"));
    }
    text
}
