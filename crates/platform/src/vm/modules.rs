// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs from the boot loader's modules: each kernel with the ramdisk above it.

use crate::board::{Module, ModuleKind};
use crate::error::{Error, err};
use crate::vm::description::{HostResources, VmDescription, check_place};
use crate::vm::options;
use alloc::format;
use alloc::vec::Vec;

/// The VMs that modules describe.
#[inline(never)]
pub(crate) fn read(host: &HostResources<'_>) -> Result<Vec<VmDescription>, Error> {
    check_modules(host)?;
    let pairs = pairs(&host.board.modules)?;
    if pairs.is_empty() {
        return Err(err!(
            Vm,
            "no guest: /chosen has no multiboot,kernel module and no bundle as its initrd; give \
             one, on QEMU with -device guest-loader,addr=0x50000000,kernel=FILE"
        ));
    }
    let described = |(kernel, ramdisk): (&Module, Option<&Module>)| {
        let (options, bootargs) = options::parse(&kernel.name, &kernel.bootargs)?;
        Ok(VmDescription {
            node: kernel.name.clone(),
            options,
            bootargs,
            kernel: kernel.range,
            ramdisk: ramdisk.map(|ramdisk| ramdisk.range),
        })
    };
    pairs.into_iter().map(described).collect()
}

/// Modules against Portcullis, reservations, RAM and each other.
fn check_modules(host: &HostResources<'_>) -> Result<(), Error> {
    let board = host.board;
    for (index, module) in board.modules.iter().enumerate() {
        if let ModuleKind::Other(compatible) = &module.kind {
            return Err(err!(
                Module,
                "{}: it is '{compatible}', neither multiboot,kernel nor multiboot,ramdisk; leave \
                 it out",
                module.name
            ));
        }
        let later = board.modules.get(index.saturating_add(1)..).unwrap_or_default();
        let what = format!("module {}", module.name);
        check_place(host, &what, module.range, later, false)?;
    }
    Ok(())
}

/// Kernels, each with the ramdisk that is the module next above it; sorted by address.
fn pairs(modules: &[Module]) -> Result<Vec<(&Module, Option<&Module>)>, Error> {
    let mut pairs: Vec<(&Module, Option<&Module>)> = Vec::new();
    let mut open = false;
    for module in modules {
        if module.kind == ModuleKind::Kernel {
            pairs.push((module, None));
            open = true;
            continue;
        }
        match pairs.last_mut().filter(|_| open) {
            Some(pair) => pair.1 = Some(module),
            None => {
                return Err(err!(
                    Module,
                    "ramdisk {} at {} is not the next module above a kernel; load it between its \
                     kernel and the next",
                    module.name,
                    module.range
                ));
            }
        }
        open = false;
    }
    Ok(pairs)
}
