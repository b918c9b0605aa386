// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device tree made for a VM.
//!
//! What unmodified Linux and U-Boot need and no more: PSCI by HVC, memory, PL011, GIC, CPUs, timer, a
//! clock for the PL011, /chosen.

use crate::board::Board;
use crate::error::{Error, err};
use crate::map::{
    GICC_BASE, GICC_SIZE, GICD_BASE, GICD_SIZE, GICR_BASE, GICR_SIZE, GicVersion, RAM_BASE,
    TREE_SPACE, UART_BASE, UART_SIZE, UART_SPI,
};
use crate::seed::GuestSeeds;
use crate::vms::VmConfig;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

const GIC_PHANDLE: u32 = 0x8001;
const CLOCK_PHANDLE: u32 = 0x8000;
const LEVEL_HIGH: u32 = 4;
/// PPIs of the guest's timers, whatever the board's are: secure, physical, virtual, hypervisor.
const TIMER_PPIS: [u32; 4] = [13, 14, 11, 10];

/// What a VM's tree takes from the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestHardware {
    /// `compatible` of the CPUs, such as `arm,cortex-a57`.
    pub cpu_compatible: String,
}

impl GuestHardware {
    /// What guests see of this machine: its first CPU.
    #[must_use]
    pub fn of(board: &Board) -> Self {
        let first = board.cpus.first().map_or("", |cpu| cpu.compatible.as_str());
        let cpu_compatible = if first.is_empty() { "arm,armv8" } else { first };
        Self { cpu_compatible: String::from(cpu_compatible) }
    }
}

/// Makes the tree of a VM, at most [`TREE_SPACE`] bytes long.
///
/// # Errors
/// Where it does not fit: the bootargs are too long.
pub fn guest_tree(
    config: &VmConfig,
    hardware: &GuestHardware,
    seeds: Option<&GuestSeeds>,
) -> Result<Vec<u8>, Error> {
    let mut tree = DeviceTree::new();
    let root = &mut tree.root;
    set(root, "interrupt-parent", GIC_PHANDLE);
    set(root, "model", "Portcullis virtual machine");
    set(root, "#size-cells", 2_u32);
    set(root, "#address-cells", 2_u32);
    set(root, "compatible", &["portcullis,virt", "linux,dummy-virt"][..]);
    root.add_child(psci());
    root.add_child(memory(config));
    root.add_child(uart());
    root.add_child(gic(config));
    root.add_child(cpus(config, hardware));
    root.add_child(timer(config));
    root.add_child(clock());
    let mut aliases = DeviceTreeNode::new_unchecked("aliases");
    set(&mut aliases, "serial0", uart_path().as_str());
    root.add_child(aliases);
    root.add_child(chosen(config, seeds));
    let blob = tree.to_dtb();
    if blob.len() as u64 > TREE_SPACE {
        return Err(err!(
            Vm,
            "VM '{}': its device tree has {} bytes, {TREE_SPACE} are kept for it; shorten its \
             bootargs",
            config.name,
            blob.len()
        ));
    }
    Ok(blob)
}

fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

/// A property without a value.
fn flag(node: &mut DeviceTreeNode, name: &str) {
    set(node, name, [0_u8; 0]);
}

/// Numbers of two cells each.
fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn cells(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn uart_path() -> String {
    format!("/pl011@{UART_BASE:x}")
}

fn psci() -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked("psci");
    // The ids are for who takes it for PSCI 0.1.
    set(&mut node, "cpu_on", 0xc400_0003_u32);
    set(&mut node, "cpu_off", 0x8400_0002_u32);
    set(&mut node, "cpu_suspend", 0xc400_0001_u32);
    set(&mut node, "method", "hvc");
    set(&mut node, "compatible", &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"][..]);
    node
}

fn memory(config: &VmConfig) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(format!("memory@{RAM_BASE:x}"));
    set(&mut node, "reg", longs(&[RAM_BASE, config.ram_size()]));
    set(&mut node, "device_type", "memory");
    node
}

fn uart() -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(format!("pl011@{UART_BASE:x}"));
    set(&mut node, "clock-names", &["uartclk", "apb_pclk"][..]);
    set(&mut node, "clocks", cells(&[CLOCK_PHANDLE, CLOCK_PHANDLE]));
    set(&mut node, "interrupts", cells(&[0, UART_SPI, LEVEL_HIGH]));
    set(&mut node, "reg", longs(&[UART_BASE, UART_SIZE]));
    set(&mut node, "compatible", &["arm,pl011", "arm,primecell"][..]);
    node
}

fn gic(config: &VmConfig) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(format!("intc@{GICD_BASE:x}"));
    set(&mut node, "phandle", GIC_PHANDLE);
    match config.gic {
        GicVersion::V2 => {
            set(&mut node, "reg", longs(&[GICD_BASE, GICD_SIZE, GICC_BASE, GICC_SIZE]));
            set(&mut node, "compatible", "arm,cortex-a15-gic");
        }
        GicVersion::V3 => {
            // As large as there are redistributors: Linux declares all of it, page by page.
            let size = GICR_SIZE.saturating_mul(config.vcpus as u64);
            set(&mut node, "reg", longs(&[GICD_BASE, GICD_SIZE, GICR_BASE, size]));
            set(&mut node, "#redistributor-regions", 1_u32);
            set(&mut node, "compatible", "arm,gic-v3");
        }
    }
    flag(&mut node, "ranges");
    set(&mut node, "#size-cells", 2_u32);
    set(&mut node, "#address-cells", 2_u32);
    flag(&mut node, "interrupt-controller");
    set(&mut node, "#interrupt-cells", 3_u32);
    node
}

fn cpus(config: &VmConfig, hardware: &GuestHardware) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked("cpus");
    set(&mut node, "#size-cells", 0_u32);
    set(&mut node, "#address-cells", 1_u32);
    for index in 0..config.vcpus {
        let mut cpu = DeviceTreeNode::new_unchecked(format!("cpu@{index:x}"));
        // The vCPU's MPIDR: Aff0 is its number.
        set(&mut cpu, "reg", index as u32);
        set(&mut cpu, "enable-method", "psci");
        set(&mut cpu, "compatible", hardware.cpu_compatible.as_str());
        set(&mut cpu, "device_type", "cpu");
        node.add_child(cpu);
    }
    node
}

fn timer(config: &VmConfig) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked("timer");
    let mask = match config.gic {
        // GICv2's third cell has a mask of CPUs.
        GicVersion::V2 => 1_u32.checked_shl(config.vcpus as u32).unwrap_or(0).wrapping_sub(1) << 8,
        GicVersion::V3 => 0,
    };
    let interrupts: Vec<u32> =
        TIMER_PPIS.iter().flat_map(|ppi| [1, *ppi, mask | LEVEL_HIGH]).collect();
    set(&mut node, "interrupts", cells(&interrupts));
    flag(&mut node, "always-on");
    set(&mut node, "compatible", &["arm,armv8-timer", "arm,armv7-timer"][..]);
    node
}

fn clock() -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked("apb-pclk");
    set(&mut node, "phandle", CLOCK_PHANDLE);
    set(&mut node, "clock-output-names", "clk24mhz");
    set(&mut node, "clock-frequency", 24_000_000_u32);
    set(&mut node, "#clock-cells", 0_u32);
    set(&mut node, "compatible", "fixed-clock");
    node
}

fn chosen(config: &VmConfig, seeds: Option<&GuestSeeds>) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked("chosen");
    if let Some(ramdisk) = config.placement.ramdisk {
        set(&mut node, "linux,initrd-end", longs(&[ramdisk.end().raw()]));
        set(&mut node, "linux,initrd-start", longs(&[ramdisk.start().raw()]));
    }
    set(&mut node, "bootargs", config.bootargs.as_str());
    set(&mut node, "stdout-path", uart_path().as_str());
    if let Some(seeds) = seeds {
        set(&mut node, "rng-seed", seeds.rng);
        set(&mut node, "kaslr-seed", longs(&[seeds.kaslr]));
    }
    node
}
