// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a VM's configuration and this machine to `vm::Setup`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

use arch::{Ipa, Range, VisibleCpu};
use platform::{Board, GICC_BASE, GICC_SIZE, Gic, GicVersion, VmConfig};
use stage2::Stage2;
use vm::link::Link;
use vm::{Bank, ID_REGISTERS, MappedMmio, Setup, SetupError, Vm};

use crate::cpu::id_registers;
use crate::guest::host::GuestHost;

/// Makes the VM. It is on the heap, so that no copy of it is on the caller's stack as well.
///
/// # Errors
/// What does not fit.
#[inline(never)]
pub fn vm(
    board: &Board,
    index: usize,
    config: &VmConfig,
    stage2: Stage2<GuestHost>,
    visible: VisibleCpu,
    flash: &'static [Bank],
    (served, peers): (Option<&'static Link>, Option<&'static [&'static Link]>),
) -> Result<Box<Vm<GuestHost>>, SetupError> {
    let version = match config.gic {
        GicVersion::V2 => vgic::Version::V2,
        GicVersion::V3 => vgic::Version::V3,
    };
    let list_registers = crate::gic::get().map_or(1, crate::gic::Gic::list_registers);
    let words = Vm::<GuestHost>::share_words(config.ram.size());
    let shares: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let id_registers = id_registers(&visible);
    let mut mapped_mmio: Vec<MappedMmio> = match &board.gic {
        Gic::V2 { gicv, .. } => {
            let size = gicv.size().min(GICC_SIZE);
            Range::<Ipa>::new(Ipa::new(GICC_BASE), size)
                .map(|ipa| MappedMmio { ipa, pa: gicv.start() })
                .into_iter()
                .collect()
        }
        Gic::V3 { .. } => Vec::new(),
    };
    for pages in config.devices.iter().flat_map(platform::Passed::pages) {
        let ipa = Range::<Ipa>::new(Ipa::new(pages.start().raw()), pages.size());
        mapped_mmio.extend(ipa.map(|ipa| MappedMmio { ipa, pa: pages.start() }));
    }
    let setup = Setup {
        name: &config.name,
        id: index as u16,
        vcpus: config.vcpus(),
        policy: config.policy,
        dialect: config.dialect,
        ram: config.ram,
        roms: &config.roms,
        allow: &config.allow,
        preset: &config.preset,
        mapped_mmio: &mapped_mmio,
        flash,
        fw_cfg: config.fw_cfg(),
        test_device: config.test_device,
        gic: vgic::Config::new(version, config.vcpus(), list_registers, config.spis()),
        id_registers: &id_registers,
        trng: crate::firmware::has_trng(),
        workarounds: crate::firmware::workarounds(),
        shares: Vec::leak(shares),
        served,
        peers,
    };
    Vm::new(stage2, &setup).map(Box::new)
}

/// What a guest sees of the CPUs, by CRm << 3 | op2.
#[inline(never)]
fn id_registers(visible: &VisibleCpu) -> [u64; ID_REGISTERS] {
    core::array::from_fn(|n| {
        arch::visible_id_register(id_registers::reg(n), id_registers::common(n), visible)
            .unwrap_or(0)
    })
}
