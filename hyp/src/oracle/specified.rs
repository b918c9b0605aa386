// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a VM is configured, in the specification's words.

use alloc::vec::Vec;

use arch::{Ipa, Range};
use platform::{Board, Gic, GicVersion, VmConfig};
use spec::{Config, Device, DeviceKind, Flash, MappedMmio, Region, Served, Sharing};
use vm::link::ShareLimit;
use vm::{Host, Vm};

fn region(range: &Range<Ipa>) -> Region {
    Region { start: range.start().raw(), end: range.end().raw() }
}

fn regions(ranges: &[Range<Ipa>]) -> Vec<Region> {
    ranges.iter().map(region).collect()
}

/// docs/vm-words.md and docs/vm.md, "Devices", in the specification's words.
pub fn specified<H: Host>(board: &Board, config: &VmConfig, vm: &Vm<H>, ipa_bits: u32) -> Config {
    let page = |at: u64| Region::new(at, spec::PAGE);
    let mut devices = alloc::vec![
        Device { at: Region::new(0x0800_0000, 0x1_0000), kind: DeviceKind::Gic },
        Device { at: page(0x0900_0000), kind: DeviceKind::Uart },
    ];
    if config.gic == GicVersion::V3 {
        let frames = Region::new(0x080a_0000, (config.vcpus() as u64) << 17);
        devices.push(Device { at: frames, kind: DeviceKind::Gic });
    }
    if let Some(at) = config.test_device {
        devices.push(Device { at: page(at.raw()), kind: DeviceKind::Test });
    }
    if config.fw_cfg() {
        devices.push(Device { at: page(0x0902_0000), kind: DeviceKind::Quiet });
    }
    if config.policy == mmio_guard::Policy::Off && config.served.is_none() {
        devices.push(Device { at: Region::new(0x0a00_0000, 0x4000), kind: DeviceKind::Quiet });
    }
    let mut mapped_mmio = match &board.gic {
        Gic::V2 { gicv, .. } => {
            let at = Region::new(0x0801_0000, gicv.size().min(0x1_0000));
            alloc::vec![MappedMmio { at, pa: gicv.start().raw() }]
        }
        Gic::V3 { .. } => Vec::new(),
    };
    // Devices of the machine that were given to it.
    for pages in config.devices.iter().flat_map(platform::Passed::pages) {
        let at = Region { start: pages.start().raw(), end: pages.end().raw() };
        mapped_mmio.push(MappedMmio { at, pa: at.start });
    }
    Config {
        ipa_bits,
        policy: match config.policy {
            mmio_guard::Policy::Off => spec::Policy::Off,
            mmio_guard::Policy::Enrol => spec::Policy::Enrol,
            mmio_guard::Policy::Enforce => spec::Policy::Enforce,
        },
        dialect: match config.dialect {
            mmio_guard::Dialect::Pkvm => spec::Dialect::Pkvm,
            mmio_guard::Dialect::Series => spec::Dialect::Series,
        },
        ram: region(&config.ram),
        roms: regions(&config.roms),
        allow: regions(&config.allow),
        preset: regions(&config.preset),
        mapped_mmio,
        flash: vm
            .flash()
            .map(|bank| Flash {
                at: region(&bank.ipa),
                pa: bank.pa.raw(),
                protected: bank.protected,
            })
            .collect(),
        devices,
        served: config.served.as_ref().map(|served| served_by(served, vm)),
        peers: (config.role == platform::Role::Device)
            .then(|| config.peers.iter().map(|peer| peer.vm).collect()),
        windows: config.peers.iter().map(window).collect(),
        vcpus: config.vcpus(),
        trng: crate::firmware::has_trng(),
        workarounds: crate::firmware::workarounds().answers().map(i64::from),
    }
}

/// What serves a VM, in the specification's words.
fn served_by<H: Host>(served: &platform::Served, vm: &Vm<H>) -> Served {
    let setup = vm.link().expect("a served VM has a link").setup();
    let transports = served.transport_pages().map_or(Region::new(0, 0), |pages| region(&pages));
    Served {
        forwards: regions(&served.forward),
        transports,
        share: match setup.share {
            ShareLimit::Guest => Sharing::Own,
            ShareLimit::Pool { range, auto } => Sharing::Pool { at: region(&range), auto },
            ShareLimit::All => Sharing::All,
        },
        timeout: setup.timeout,
        timeout_ms: setup.timeout_ms,
        aborts_on_loss: setup.on_loss == arch::OnLoss::Abort,
    }
}

/// Where a device VM has the window of a peer.
fn window(peer: &platform::PeerConfig) -> Region {
    let window = region(&peer.window);
    Region { end: window.end.next_multiple_of(1 << 30), ..window }
}
