// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes of a guest's tree about device VMs: the transports of a served VM, and a device VM's peers.

use crate::fdt::writer::Writer;
use crate::vm::peers::PeerConfig;
use crate::vm::served::Served;
use alloc::vec::Vec;
use arch::PAGE_SIZE;
use arch::guest_map::{TRANSPORT_SIZE, transport_intid, transport_ipa};

const POOL_PHANDLE: u32 = 0x8002;
/// Third cell of an interrupt specifier.
pub(crate) const LEVEL_HIGH: u32 = 4;
/// EL2 notifies a device VM by a pulse: it has no line whose level the device VM would have to take back by a call.
const EDGE_RISING: u32 = 1;
/// INTID of SPI 0.
const FIRST_SPI: u32 = 32;

/// Transports, as Linux' virtio/mmio.yaml has them, and the pool that their rings and buffers are in.
///
/// `dma-coherent`, as the server maps RAM write-back: without it Linux would do cache maintenance, or map rings uncached.
/// The pool has no `no-map`, which the binding of `restricted-dma-pool` forbids: the kernel copies to and from it.
pub(crate) fn served(tree: &mut Writer<'_>, served: &Served) {
    let pool = served.share.pool();
    if let Some(pool) = pool {
        tree.begin("reserved-memory");
        tree.cells("#address-cells", &[2]);
        tree.cells("#size-cells", &[2]);
        tree.bytes("ranges", &[]);
        tree.begin_at("pool", pool.start().raw());
        tree.cells("phandle", &[POOL_PHANDLE]);
        tree.longs("reg", &[pool.start().raw(), pool.size()]);
        tree.text("compatible", "restricted-dma-pool");
        tree.end();
        tree.end();
    }
    for index in 0..served.transports.len() {
        let start = transport_ipa(index).raw();
        tree.begin_at("virtio_mmio", start);
        tree.bytes("dma-coherent", &[]);
        let spi = transport_intid(index).saturating_sub(FIRST_SPI);
        tree.cells("interrupts", &[0, spi, LEVEL_HIGH]);
        tree.longs("reg", &[start, TRANSPORT_SIZE]);
        if pool.is_some() {
            tree.cells("memory-region", &[POOL_PHANDLE]);
        }
        tree.text("compatible", "virtio,mmio");
        tree.end();
    }
}

/// What a device VM's driver finds its peers by: docs/bindings/portcullis,device-vm.yaml.
pub(crate) fn device_vm<'a>(tree: &mut Writer<'a>, peers: &'a [PeerConfig]) {
    tree.begin("device-vm");
    tree.cells("#address-cells", &[2]);
    tree.cells("#size-cells", &[2]);
    tree.bytes("ranges", &[]);
    tree.text("compatible", "portcullis,device-vm-1");
    for peer in peers {
        let control = peer.control_page().raw();
        let mut registers =
            Vec::from([control, PAGE_SIZE, peer.window.start().raw(), peer.window.size()]);
        let images = peer.register_images();
        registers.extend(images.into_iter().flat_map(|it| [it.start().raw(), it.size()]));
        let names = if images.is_some() { "control\0window\0registers" } else { "control\0window" };
        let devices: Vec<u32> = peer.transports.iter().map(|device| device.raw()).collect();
        tree.begin_at("peer", control);
        tree.text("label", &peer.name);
        tree.longs("reg", &registers);
        tree.text("reg-names", names);
        tree.cells("interrupts", &[0, peer.intid().saturating_sub(FIRST_SPI), EDGE_RISING]);
        if !devices.is_empty() {
            tree.cells("portcullis,devices", &devices);
        }
        tree.end();
    }
    tree.end();
}
