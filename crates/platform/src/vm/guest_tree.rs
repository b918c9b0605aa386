// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device tree made for a VM.
//!
//! What unmodified Linux and U-Boot need and no more: PSCI by HVC, memory, PL011, GIC, CPUs, timer, a
//! clock for the PL011, /chosen. [`device_nodes`] has the nodes of served VMs and of device VMs.

use crate::board::Board;
use crate::error::{Error, err};
use crate::fdt::writer::Writer;
use crate::seed::GuestSeeds;
use crate::vm::config::VmConfig;
use crate::vm::device_nodes::{self, LEVEL_HIGH};
use crate::vm::memory_map::{
    FW_CFG_BASE, FW_CFG_SIZE, GICC_BASE, GICC_SIZE, GICD_BASE, GICD_SIZE, GICR_BASE, GICR_SIZE,
    GicVersion, RAM_BASE, TREE_SPACE, UART_BASE, UART_SIZE, UART_SPI,
};
use crate::vm::role::Role;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const GIC_PHANDLE: u32 = 0x8001;
/// Of the PL011's clock; those of passed devices come downwards.
const CLOCK_PHANDLE: u32 = 0x8000;
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

/// Where a tree has its seeds: offsets of the values, which differ from start to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedPlaces {
    /// Of `rng-seed`: [`GuestSeeds::rng`].
    pub rng: usize,
    /// Of `kaslr-seed`: [`GuestSeeds::kaslr`] in big-endian order.
    pub kaslr: usize,
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
    guest_tree_with_places(config, hardware, seeds).map(|(tree, _)| tree)
}

/// [`guest_tree`], and where its seeds are if it has any.
///
/// # Errors
/// As [`guest_tree`].
pub fn guest_tree_with_places(
    config: &VmConfig,
    hardware: &GuestHardware,
    seeds: Option<&GuestSeeds>,
) -> Result<(Vec<u8>, Option<SeedPlaces>), Error> {
    let mut tree = Writer::new();
    tree.begin("");
    tree.cells("interrupt-parent", &[GIC_PHANDLE]);
    tree.text("model", "Portcullis virtual machine");
    tree.cells("#size-cells", &[2]);
    tree.cells("#address-cells", &[2]);
    tree.text("compatible", "portcullis,virt\0linux,dummy-virt");
    psci(&mut tree);
    memory(&mut tree, config);
    uart(&mut tree);
    gic(&mut tree, config);
    cpus(&mut tree, config, hardware);
    timer(&mut tree, config);
    tree.begin("apb-pclk");
    tree.cells("phandle", &[CLOCK_PHANDLE]);
    tree.text("clock-output-names", "clk24mhz");
    clock(&mut tree, 24_000_000);
    flash(&mut tree, config);
    if config.fw_cfg() {
        tree.begin_at("fw-cfg", FW_CFG_BASE);
        tree.longs("reg", &[FW_CFG_BASE, FW_CFG_SIZE]);
        tree.text("compatible", "qemu,fw-cfg-mmio");
        tree.end();
    }
    passed(&mut tree, config);
    if let Some(served) = &config.served {
        device_nodes::served(&mut tree, served);
    }
    if config.role == Role::Device {
        device_nodes::device_vm(&mut tree, &config.peers);
    }
    tree.begin("aliases");
    tree.text("serial0", &uart_path());
    tree.end();
    let places = chosen(&mut tree, config, seeds);
    tree.end();
    let blob = tree.finish();
    if blob.len() as u64 > TREE_SPACE {
        return Err(err!(
            Vm,
            "VM '{}': its device tree has {} bytes, {TREE_SPACE} are kept for it; shorten its \
             bootargs",
            config.name,
            blob.len()
        ));
    }
    Ok((blob, places))
}

fn uart_path() -> String {
    format!("/pl011@{UART_BASE:x}")
}

fn psci(tree: &mut Writer<'_>) {
    tree.begin("psci");
    // The ids are for guests that take it for PSCI 0.1.
    tree.cells("cpu_on", &[0xc400_0003]);
    tree.cells("cpu_off", &[0x8400_0002]);
    tree.cells("cpu_suspend", &[0xc400_0001]);
    tree.text("method", "hvc");
    tree.text("compatible", "arm,psci-1.0\0arm,psci-0.2\0arm,psci");
    tree.end();
}

fn memory(tree: &mut Writer<'_>, config: &VmConfig) {
    tree.begin_at("memory", RAM_BASE);
    tree.longs("reg", &[RAM_BASE, config.ram_size()]);
    tree.text("device_type", "memory");
    tree.end();
}

fn uart(tree: &mut Writer<'_>) {
    tree.begin_at("pl011", UART_BASE);
    tree.text("clock-names", "uartclk\0apb_pclk");
    tree.cells("clocks", &[CLOCK_PHANDLE, CLOCK_PHANDLE]);
    tree.cells("interrupts", &[0, UART_SPI, LEVEL_HIGH]);
    tree.longs("reg", &[UART_BASE, UART_SIZE]);
    tree.text("compatible", "arm,pl011\0arm,primecell");
    tree.end();
}

fn gic(tree: &mut Writer<'_>, config: &VmConfig) {
    tree.begin_at("intc", GICD_BASE);
    tree.cells("phandle", &[GIC_PHANDLE]);
    match config.gic {
        GicVersion::V2 => {
            tree.longs("reg", &[GICD_BASE, GICD_SIZE, GICC_BASE, GICC_SIZE]);
            tree.text("compatible", "arm,cortex-a15-gic");
        }
        GicVersion::V3 => {
            // As large as there are redistributors: Linux declares all of it, page by page.
            let size = GICR_SIZE.saturating_mul(config.vcpus() as u64);
            tree.longs("reg", &[GICD_BASE, GICD_SIZE, GICR_BASE, size]);
            tree.cells("#redistributor-regions", &[1]);
            tree.text("compatible", "arm,gic-v3");
        }
    }
    tree.bytes("ranges", &[]);
    tree.cells("#size-cells", &[2]);
    tree.cells("#address-cells", &[2]);
    tree.bytes("interrupt-controller", &[]);
    tree.cells("#interrupt-cells", &[3]);
    tree.end();
}

fn cpus(tree: &mut Writer<'_>, config: &VmConfig, hardware: &GuestHardware) {
    tree.begin("cpus");
    tree.cells("#size-cells", &[0]);
    tree.cells("#address-cells", &[1]);
    for index in 0..config.vcpus() as u32 {
        tree.begin_at("cpu", index.into());
        // The vCPU's MPIDR: Aff0 is its number.
        tree.cells("reg", &[index]);
        tree.text("enable-method", "psci");
        tree.text("compatible", &hardware.cpu_compatible);
        tree.text("device_type", "cpu");
        tree.end();
    }
    tree.end();
}

fn timer(tree: &mut Writer<'_>, config: &VmConfig) {
    tree.begin("timer");
    let mask = match config.gic {
        // GICv2's third cell has a mask of CPUs.
        GicVersion::V2 => {
            1_u32.checked_shl(config.vcpus() as u32).unwrap_or(0).wrapping_sub(1) << 8
        }
        GicVersion::V3 => 0,
    };
    let [secure, physical, virt, hypervisor] = TIMER_PPIS;
    let flags = mask | LEVEL_HIGH;
    tree.cells(
        "interrupts",
        &[1, secure, flags, 1, physical, flags, 1, virt, flags, 1, hypervisor, flags],
    );
    tree.bytes("always-on", &[]);
    tree.text("compatible", "arm,armv8-timer\0arm,armv7-timer");
    tree.end();
}

/// The rest of a clock's node.
fn clock(tree: &mut Writer<'_>, frequency: u32) {
    tree.cells("clock-frequency", &[frequency]);
    tree.cells("#clock-cells", &[0]);
    tree.text("compatible", "fixed-clock");
    tree.end();
}

/// Banks of flash: two chips of 16 bits side by side.
fn flash(tree: &mut Writer<'_>, config: &VmConfig) {
    for bank in &config.flash {
        let start = bank.start().raw();
        tree.begin_at("flash", start);
        tree.cells("bank-width", &[4]);
        tree.longs("reg", &[start, bank.size()]);
        tree.text("compatible", "cfi-flash");
        tree.end();
    }
}

/// Devices of the machine, where the machine has them, each behind its clocks.
fn passed<'a>(tree: &mut Writer<'a>, config: &'a VmConfig) {
    let mut phandle = CLOCK_PHANDLE;
    for device in &config.devices {
        let mut clocks = Vec::new();
        for frequency in &device.clocks {
            phandle = phandle.wrapping_sub(1);
            clocks.push(phandle);
            tree.begin_at("clock", phandle.into());
            tree.cells("phandle", &[phandle]);
            clock(tree, *frequency);
        }
        tree.begin(&device.name());
        for (name, value) in &device.properties {
            tree.bytes(name, value);
        }
        if !clocks.is_empty() {
            tree.cells("clocks", &clocks);
        }
        let mut interrupts = Vec::new();
        for interrupt in &device.interrupts {
            let spi = interrupt.intid.saturating_sub(32);
            interrupts.extend_from_slice(&[0, spi, interrupt.flags]);
        }
        if !interrupts.is_empty() {
            tree.cells("interrupts", &interrupts);
        }
        let mut registers = Vec::new();
        for range in &device.registers {
            registers.extend_from_slice(&[range.start().raw(), range.size()]);
        }
        tree.longs("reg", &registers);
        tree.end();
    }
}

fn chosen(
    tree: &mut Writer<'_>,
    config: &VmConfig,
    seeds: Option<&GuestSeeds>,
) -> Option<SeedPlaces> {
    tree.begin("chosen");
    if let Some(ramdisk) = config.placement.ramdisk {
        tree.longs("linux,initrd-end", &[ramdisk.end().raw()]);
        tree.longs("linux,initrd-start", &[ramdisk.start().raw()]);
    }
    tree.text("bootargs", &config.bootargs);
    tree.text("stdout-path", &uart_path());
    let places = seeds.map(|seeds| SeedPlaces {
        rng: tree.bytes("rng-seed", &seeds.rng),
        kaslr: tree.longs("kaslr-seed", &[seeds.kaslr]),
    });
    tree.end();
    places
}
