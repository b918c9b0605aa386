// SPDX-License-Identifier: MIT OR Apache-2.0
//! The addresses of one VM: every range of its options against its IPA space, its RAM and each other.

use crate::error::{Error, err};
use crate::vm::description::HostResources;
use crate::vm::memory_map::{RAM_BASE, device_windows};
use crate::vm::options::Options;
use crate::vm::passthrough::Passed;
use crate::vm::role::{DEVICE_VM_IPA_BITS, Role};
use alloc::vec::Vec;
use arch::{Ipa, PAGE_SIZE, Range};

/// Smallest IPA space.
const MIN_IPA_BITS: u8 = 32;

/// Every address a VM's options give, against its IPA space, its RAM and each other; its RAM.
#[inline(never)]
pub(crate) fn check_addresses(
    host: &HostResources<'_>,
    options: &Options,
    devices: &[Passed],
    ipa_bits: u8,
    ram_size: u64,
) -> Result<Range<Ipa>, Error> {
    if ipa_bits > host.pa_bits || ipa_bits > 48 {
        return Err(err!(
            Vm,
            "vm.ipa={ipa_bits}: this CPU has {} bits of physical address; ask for no more",
            host.pa_bits
        ));
    }
    if ipa_bits < MIN_IPA_BITS {
        return Err(err!(
            Vm,
            "this CPU has {} bits of physical address, a VM needs at least {MIN_IPA_BITS}",
            host.pa_bits
        ));
    }
    let limit = 1_u64.checked_shl(ipa_bits.into()).unwrap_or(u64::MAX);
    let ram = Range::<Ipa>::new(Ipa::new(RAM_BASE), ram_size);
    let Some(ram) = ram.filter(|ram| ram.end().raw() <= limit) else {
        return Err(err!(
            Vm,
            "its RAM of {} MiB from {RAM_BASE:#x} ends beyond its {ipa_bits} bits of IPA; lower \
             vm.mem or raise vm.ipa",
            ram_size >> 20
        ));
    };
    check_device_vm(options.role, ipa_bits, ram)?;
    let page = |ipa: Ipa| Range::<Ipa>::new(ipa, PAGE_SIZE);
    let testdev: Vec<Range<Ipa>> = options.testdev.and_then(page).into_iter().collect();
    if options.testdev.is_some() && testdev.is_empty() {
        return Err(err!(Vm, "vm.testdev wraps; move it"));
    }
    let passed: Vec<Range<Ipa>> = devices.iter().flat_map(Passed::ipas).collect();
    let declared = [("vm.allow", options.allow.as_slice()), ("vm.preset", &options.preset)];
    // Memory and our devices overlap nothing.
    let alone = [
        ("vm.rom", options.rom.as_slice()),
        ("vm.flash", &options.flash),
        ("vm.testdev", &testdev),
        ("vm.dev at", &passed),
        ("vm.forward", options.served.forwarded()),
    ];
    for (word, ranges) in alone.iter().chain(&declared) {
        for range in *ranges {
            if range.end().raw() > limit {
                return Err(err!(
                    Vm,
                    "{word} {range} ends beyond its {ipa_bits} bits of IPA; move it or raise vm.ipa"
                ));
            }
            if range.overlaps(&ram) {
                return Err(err!(Vm, "{word} {range} overlaps its RAM {ram}; move it outside"));
            }
            if let Some(windows) = options.role.windows().filter(|it| it.overlaps(range)) {
                return Err(err!(
                    Vm,
                    "{word} {range} overlaps the windows of vm.role=device at {windows}; move it outside"
                ));
            }
        }
    }
    let transports = options.served.transport_pages();
    let transports = transports.map(|pages| ("the transports of vm.devices", pages));
    let mut fixed: Vec<(&str, Range<Ipa>)> = device_windows().collect();
    fixed.extend(options.role.pages());
    fixed.extend(transports);
    let (alone, declared) = (named(&alone), named(&declared));
    for (index, (word, range)) in alone.iter().enumerate() {
        let overlaps = |(_, other): &&(&str, Range<Ipa>)| other.overlaps(range);
        if let Some((device, window)) = fixed.iter().find(overlaps) {
            return Err(err!(Vm, "{word} {range} overlaps {device} at {window}; move it"));
        }
        // ROM is memory, which is never declared.
        let memory = *word == "vm.rom";
        let notes = declared.iter().filter(|_| memory);
        let mut others = alone.iter().skip(index.saturating_add(1)).chain(notes);
        if let Some((other, at)) = others.find(overlaps) {
            let why = if memory { "ROM is memory, " } else { "" };
            return Err(err!(Vm, "{word} {range} overlaps {other} {at}; {why}move one of them"));
        }
    }
    Ok(ram)
}

/// Each range, with its word.
#[inline(never)]
fn named<'a>(lists: &[(&'a str, &[Range<Ipa>])]) -> Vec<(&'a str, Range<Ipa>)> {
    let all = lists.iter().flat_map(|(word, ranges)| ranges.iter().map(|range| (*word, *range)));
    all.collect()
}

/// What a device VM needs of its address space: all windows lie in it, and nothing but windows lies there.
fn check_device_vm(role: Role, ipa_bits: u8, ram: Range<Ipa>) -> Result<(), Error> {
    let Some(windows) = role.windows() else { return Ok(()) };
    if ipa_bits < DEVICE_VM_IPA_BITS {
        return Err(err!(
            Vm,
            "vm.role=device needs {DEVICE_VM_IPA_BITS} bits of IPA, it has {ipa_bits}; raise vm.ipa, \
             or take a CPU with more bits of physical address"
        ));
    }
    if ram.end() > windows.start() {
        return Err(err!(
            Vm,
            "its RAM {ram} ends beyond {}, where the windows of vm.role=device begin; lower vm.mem",
            windows.start()
        ));
    }
    Ok(())
}
