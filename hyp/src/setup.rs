// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a VM's configuration and this machine to `vm::Setup`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::AtomicU64;

use arch::{Ipa, Range, VisibleCpu};
use platform::{Board, GICC_BASE, GICC_SIZE, Gic, GicVersion, VmConfig};
use stage2::Stage2;
use vm::{Direct, ID_REGISTERS, Setup, Vm, Workarounds};

use crate::host::GuestHost;

/// Shared interrupts that a guest's controller has.
const SPIS: usize = 64;

/// Makes the VM.
///
/// # Errors
/// What does not fit, in one line.
#[inline(never)]
pub fn vm(
    board: &Board,
    index: usize,
    config: &VmConfig,
    stage2: Stage2<GuestHost>,
    visible: VisibleCpu,
) -> Result<Vm<GuestHost>, String> {
    let version = match config.gic {
        GicVersion::V2 => vgic::Version::V2,
        GicVersion::V3 => vgic::Version::V3,
    };
    let list_registers = crate::gic::get().map_or(1, crate::gic::Gic::list_registers);
    let words = Vm::<GuestHost>::share_words(config.ram.size());
    let shares: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let id_registers = id_registers(&visible);
    let direct: Vec<Direct> = match &board.gic {
        Gic::V2 { gicv, .. } => {
            let size = gicv.size().min(GICC_SIZE);
            Range::<Ipa>::new(Ipa::new(GICC_BASE), size)
                .map(|ipa| Direct { ipa, pa: gicv.start() })
                .into_iter()
                .collect()
        }
        Gic::V3 { .. } => Vec::new(),
    };
    let setup = Setup {
        name: &config.name,
        id: index as u16,
        vcpus: config.vcpus,
        policy: config.policy,
        dialect: config.dialect,
        ram: config.ram,
        roms: &config.roms,
        allow: &config.allow,
        preset: &config.preset,
        direct: &direct,
        test_device: config.test_device,
        gic: vgic::Config::new(version, config.vcpus, list_registers, SPIS),
        id_registers: &id_registers,
        trng: crate::firmware::has_trng(),
        workarounds: Workarounds(crate::firmware::workarounds()),
        shares: Vec::leak(shares),
    };
    Vm::new(stage2, &setup).map_err(|e| format!("VM '{}': {e}", config.name))
}

macro_rules! id_row {
    ($raw:expr, $row:literal, $crm:literal) => {
        id_row!($raw, $row, $crm, 0 "0", 1 "1", 2 "2", 3 "3", 4 "4", 5 "5", 6 "6", 7 "7")
    };
    ($raw:expr, $row:literal, $crm:literal, $($n:literal $op2:literal),*) => {
        $(
            let value: u64;
            // SAFETY: the ID space reads as zero where it has no register (DDI 0487 D17.3.1).
            unsafe {
                asm!(concat!("mrs {}, S3_0_C0_", $crm, "_", $op2), out(reg) value,
                    options(nomem, nostack, preserves_flags));
            }
            if let Some(slot) = $raw.get_mut($row * 8 + $n) {
                *slot = value;
            }
        )*
    };
}

/// What a guest sees of this CPU, by CRm << 3 | op2.
#[inline(never)]
fn id_registers(visible: &VisibleCpu) -> [u64; ID_REGISTERS] {
    let mut raw = [0_u64; ID_REGISTERS];
    id_row!(raw, 1, "C1");
    id_row!(raw, 2, "C2");
    id_row!(raw, 3, "C3");
    id_row!(raw, 4, "C4");
    id_row!(raw, 5, "C5");
    id_row!(raw, 6, "C6");
    id_row!(raw, 7, "C7");
    let mut shown = [0_u64; ID_REGISTERS];
    for (n, (slot, value)) in shown.iter_mut().zip(raw).enumerate() {
        let (crm, op2) = (n as u16 >> 3, n as u16 & 7);
        let reg = arch::sysreg::sys(3, 0, 0, crm, op2);
        *slot = arch::visible_id_register(reg, value, visible).unwrap_or(0);
    }
    shown
}
