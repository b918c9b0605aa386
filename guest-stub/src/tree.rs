// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the device tree says.

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

use crate::cpu::{self, MAX_VCPUS};
use crate::scratch::Shared;

/// The interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gic {
    /// None was found.
    None,
    /// GICv2: distributor, CPU interface.
    V2(u64, u64),
    /// GICv3: distributor, redistributors, bytes of the redistributors.
    V3(u64, u64, u64),
}

/// The machine, as the tree describes it.
#[derive(Clone, Copy)]
pub struct Tree {
    /// Where the tree itself is.
    pub address: u64,
    /// Bytes of the tree.
    pub size: u64,
    /// The PL011's address.
    pub uart: u64,
    /// RAM base and bytes.
    pub ram: (u64, u64),
    /// vCPUs of the VM.
    pub vcpus: usize,
    /// The interrupt controller.
    pub gic: Gic,
    /// /chosen/bootargs.
    arguments: &'static str,
    /// Whether /psci says `hvc`.
    pub psci_hvc: bool,
    /// Bytes of /chosen/rng-seed and /chosen/kaslr-seed.
    pub seeds: (usize, usize),
    /// A number made of the seeds.
    pub seed: u64,
}

static TREE: Shared<Tree> = Shared::new(Tree {
    address: 0,
    size: 0,
    uart: 0x0900_0000,
    ram: (0x4000_0000, 0),
    vcpus: 1,
    gic: Gic::None,
    arguments: "",
    psci_hvc: false,
    seeds: (0, 0),
    seed: 0,
});

/// What was read.
pub fn get() -> &'static Tree {
    // SAFETY: written once, by `read`, before anybody else runs.
    unsafe { &*TREE.get() }
}

/// The boot arguments.
pub fn arguments() -> &'static str {
    get().arguments
}

/// The value of a `WORD=VALUE` of the boot arguments.
pub fn argument(word: &str) -> Option<&'static str> {
    let value = |part: &'static str| part.strip_prefix(word)?.strip_prefix('=');
    arguments().split_ascii_whitespace().find_map(value)
}

/// The same as a number, decimal or with 0x.
pub fn number(word: &str) -> Option<u64> {
    parse(argument(word)?)
}

/// A number, decimal or with 0x.
pub fn parse(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The `N`th (address, size) of a node's reg, in a parent with cells of two.
fn reg(node: FdtNode<'_>, n: usize) -> Option<(u64, u64)> {
    let property = node.property("reg")?;
    let value = property.value().get(n * 16..n * 16 + 16)?;
    let (address, size) = value.split_at_checked(8)?;
    Some((u64::from_be_bytes(address.try_into().ok()?), u64::from_be_bytes(size.try_into().ok()?)))
}

fn compatible(node: FdtNode<'_>, with: &str) -> bool {
    node.property("compatible").is_some_and(|list| {
        list.value().split(|byte| *byte == 0).any(|entry| entry == with.as_bytes())
    })
}

/// Reads what the stub needs. Without a usable tree the defaults apply: those of the `virt` machine.
pub fn read(address: u64) {
    cpu::init();
    crate::features::init();
    // SAFETY: no other vCPU runs yet.
    let tree = unsafe { &mut *TREE.get() };
    tree.address = address;
    cpu::set_mpidr(0, mrs!("mpidr_el1") & 0xff_00ff_ffff);
    if address == 0 || address & 7 != 0 {
        return;
    }
    // SAFETY: the boot protocol: x0 is the address of the device tree, which is not written. Its header
    // is checked before anything that it says is believed.
    let Ok(fdt) = (unsafe { Fdt::from_raw(address as *const u8) }) else { return };
    tree.size = fdt.data().len() as u64;
    for node in fdt.root().children() {
        let name = node.name_without_address();
        if name == "memory" {
            tree.ram = reg(node, 0).unwrap_or(tree.ram);
        } else if name == "cpus" {
            read_cpus(tree, node);
        } else if compatible(node, "arm,pl011") {
            tree.uart = reg(node, 0).map_or(tree.uart, |(address, _)| address);
        } else if compatible(node, "arm,cortex-a15-gic") {
            if let (Some((d, _)), Some((c, _))) = (reg(node, 0), reg(node, 1)) {
                tree.gic = Gic::V2(d, c);
            }
        } else if compatible(node, "arm,gic-v3") {
            if let (Some((d, _)), Some((r, size))) = (reg(node, 0), reg(node, 1)) {
                tree.gic = Gic::V3(d, r, size);
            }
        } else if name == "psci" {
            tree.psci_hvc =
                node.property("method").is_some_and(|method| method.value() == b"hvc\0");
        } else if name == "chosen" {
            read_chosen(tree, node);
        }
    }
}

fn read_cpus(tree: &mut Tree, cpus: FdtNode<'static>) {
    let mut count = 0;
    for node in cpus.children() {
        let Some(reg) = node.property("reg") else { continue };
        if node.name_without_address() == "cpu" && count < MAX_VCPUS {
            let mpidr =
                reg.value().iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
            cpu::set_mpidr(count, mpidr);
            count += 1;
        }
    }
    tree.vcpus = count.max(1);
}

fn read_chosen(tree: &mut Tree, chosen: FdtNode<'static>) {
    for property in chosen.properties() {
        let value: &'static [u8] = {
            let value = property.value();
            // SAFETY: the bytes lie in the tree, which stays where it is for the life of the VM.
            unsafe { core::slice::from_raw_parts(value.as_ptr(), value.len()) }
        };
        let mix = |seed: u64| {
            value.iter().fold(seed, |seed, byte| {
                (seed ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3).rotate_left(23)
            })
        };
        match property.name() {
            "bootargs" => {
                let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
                tree.arguments = core::str::from_utf8(text).unwrap_or_default();
            }
            "rng-seed" => (tree.seeds.0, tree.seed) = (value.len(), mix(tree.seed)),
            "kaslr-seed" => (tree.seeds.1, tree.seed) = (value.len(), mix(tree.seed)),
            _ => {}
        }
    }
}
