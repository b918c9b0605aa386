// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPUs and the firmware interface that starts them.
//!
//! Sources: the bindings arm/cpus.yaml and arm/psci.yaml; DEN 0022 for the function ids.

use crate::board::types::{Conduit, Cpu, Psci, StartMethod};
use crate::error::{Error, err};
use crate::fdt::cells::{self, Cells};
use crate::fdt::{self, Node, Tree};
use alloc::vec::Vec;
use arch::{Mpidr, Pa};

/// Most CPUs of a machine.
const MAX_CPUS: usize = 512;
/// CPU_ON with 64-bit arguments.
const CPU_ON: u32 = 0xc400_0003;

/// The CPUs under /cpus.
pub(crate) fn cpus(tree: &Tree<'_>, has_psci: bool) -> Result<Vec<Cpu>, Error> {
    let Some(parent) = tree.find("/cpus") else {
        return Err(err!(Board, "device tree: it has no /cpus; name at least the CPU that boots"));
    };
    let mut found: Vec<Cpu> = Vec::new();
    for node in parent.children() {
        if node.base_name() != "cpu" && node.string("device_type")? != Some("cpu") {
            continue;
        }
        // "disabled" means not running, "fail" means broken.
        if node.strings("status").next().is_some_and(|status| status.starts_with("fail")) {
            continue;
        }
        let cells = Cells::of(&parent)?;
        let regs = cells::raw_reg(&node, cells)?;
        let Some((id, _)) = regs.first().copied() else {
            return Err(err!(Board, "{}: its reg is empty; give its MPIDR", node.path()));
        };
        let mpidr = Mpidr::new(id);
        if mpidr.raw() != id {
            return Err(err!(
                Board,
                "{}: reg {id:#x} is no MPIDR; only its affinity fields may be set",
                node.path()
            ));
        }
        if found.iter().any(|cpu| cpu.mpidr == mpidr) {
            return Err(err!(Board, "{}: a second CPU with MPIDR {id:#x}", node.path()));
        }
        if found.len() >= MAX_CPUS {
            return Err(err!(Board, "{}: more than {MAX_CPUS} CPUs", node.path()));
        }
        found.push(Cpu {
            mpidr,
            start: start_method(&node, has_psci)?,
            compatible: node.first("compatible"),
        });
    }
    if found.is_empty() {
        return Err(err!(Board, "/cpus: it has no usable CPU; name at least the one that boots"));
    }
    Ok(found)
}

fn start_method(node: &Node<'_>, has_psci: bool) -> Result<StartMethod, Error> {
    Ok(match node.strings("enable-method").next().unwrap_or_default() {
        "psci" if has_psci => StartMethod::Psci,
        "spin-table" => {
            // Firmware that fills it in may not have: then it is one more CPU that cannot be started.
            let Some(release) = node.number("cpu-release-addr")? else {
                return Ok(StartMethod::Unknown("spin-table without cpu-release-addr".into()));
            };
            if release % 8 != 0 {
                return Err(err!(
                    Board,
                    "{}: cpu-release-addr {release:#x} is not 8-byte aligned",
                    node.path()
                ));
            }
            cells::physical(node, "cpu-release-addr", release, 8)?;
            StartMethod::SpinTable(Pa::new(release))
        }
        other => StartMethod::Unknown(fdt::short(other)),
    })
}

/// The PSCI node, where there is one.
pub(crate) fn psci(tree: &Tree<'_>) -> Result<Option<Psci>, Error> {
    const NEW: [&str; 2] = ["arm,psci-1.0", "arm,psci-0.2"];
    let Some(node) = tree.compatible(&["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]).next() else {
        return Ok(None);
    };
    let conduit = match node.string("method")? {
        Some("smc") => Conduit::Smc,
        Some("hvc") => Conduit::Hvc,
        other => {
            return Err(err!(
                Board,
                "{}: method '{}' is neither smc nor hvc",
                node.path(),
                other.unwrap_or_default()
            ));
        }
    };
    if node.is_compatible(&NEW) {
        return Ok(Some(Psci { conduit, cpu_on: CPU_ON, has_system_off: true }));
    }
    // PSCI 0.1 has no fixed function ids.
    let cpu_on = node.checked_word("cpu_on")?;
    Ok(cpu_on.map(|cpu_on| Psci { conduit, cpu_on, has_system_off: false }))
}
