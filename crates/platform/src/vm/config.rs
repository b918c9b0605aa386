// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs from the modules of /chosen or from a bundle, checked as a whole before anything runs.

use crate::board::Gic;
use crate::error::{Error, err};
use crate::fdt;
use crate::fdt::Tree;
use crate::vm::addresses::check_addresses;
use crate::vm::cpu_share::{self, Asking, CpuOptions, CpuShare};
use crate::vm::description::{HostResources, VmDescription};
use crate::vm::elf_image::ElfImage;
use crate::vm::image_header::ImageHeader;
use crate::vm::image_kind::{HEAD_BYTES, ImageKind};
use crate::vm::memory_map::{
    FW_CFG_BASE, FW_CFG_SIZE, GicVersion, MemoryMap, RAM_PIECE, RegionKind,
};
use crate::vm::options::Options;
use crate::vm::passthrough::{self, MAX_PASSED, Passed};
use crate::vm::peers::{self, Party, PeerConfig};
use crate::vm::placement::{self, Image, Parts, Placement};
use crate::vm::role::Role;
use crate::vm::served::{Request, Served};
use crate::vm::{bundle, modules};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Ipa, OnCrash, PAGE_SIZE, Pa, Range};
use mmio_guard::{Dialect, Policy};

/// Most VMs.
pub const MAX_VMS: usize = 32;
/// RAM of a VM without `vm.mem`, in bytes.
pub const DEFAULT_MEM: u64 = 128 << 20;
/// IPA bits of a VM without `vm.ipa`, where the CPU has as many.
pub const DEFAULT_IPA_BITS: u8 = 40;
/// Table pages, beyond what RAM needs, of a VM without `vm.pool`.
pub const DEFAULT_POOL_PAGES: usize = 160;
/// Longest bootargs of a guest, in bytes.
pub const MAX_BOOTARGS: usize = fdt::MAX_STRING;

/// A VM, checked: everything that follows from it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmConfig {
    /// Unique among the VMs, never `hyp`.
    pub name: String,
    /// RAM: from [`crate::RAM_BASE`], a multiple of 2 MiB, not 0.
    pub ram: Range<Ipa>,
    /// What the guard does.
    pub policy: Policy,
    /// Which numbers the guard has.
    pub dialect: Dialect,
    /// Where the guest may declare MMIO; empty: anywhere outside RAM and ROM.
    pub allow: Vec<Range<Ipa>>,
    /// Pages declared on the guest's behalf, at start and after each reset.
    pub preset: Vec<Range<Ipa>>,
    /// Read-only, executable memory, filled with 0xff where no image lies in it.
    pub roms: Vec<Range<Ipa>>,
    /// Banks of flash memory, each a power of two from 256 KiB to 16 MiB at a multiple of its size.
    pub flash: Vec<Range<Ipa>>,
    /// Devices of the host that it owns alone.
    pub devices: Vec<Passed>,
    /// Size of the IPA space: 32 to 48, within the CPU's.
    pub ipa_bits: u8,
    /// Pages for stage-2 tables beyond what RAM and ROM need.
    pub pool_pages: usize,
    /// What its options say of CPUs.
    pub cpu_options: CpuOptions,
    /// Its CPUs, and its part of them.
    pub share: CpuShare,
    /// The kernel, as the boot loader left it: a module, or in a bundle.
    pub kernel: Range<Pa>,
    /// The ramdisk, as the boot loader left it.
    pub ramdisk: Option<Range<Pa>>,
    /// The guest's bootargs, `vm.` options taken out.
    pub bootargs: String,
    /// Where image, ramdisk and tree lie.
    pub placement: Placement,
    /// What its owner should know; it runs all the same.
    pub warning: Option<String>,
    /// The page of a device that counts accesses, for tests.
    pub test_device: Option<Ipa>,
    /// What becomes of it when its guest has crashed.
    pub on_crash: OnCrash,
    /// What it is to the others.
    pub role: Role,
    /// What another VM serves to it.
    pub served: Option<Served>,
    /// The VMs that it serves, by their number; empty without [`Role::Device`].
    pub peers: Vec<PeerConfig>,
    /// The GIC it sees: that of the host.
    pub gic: GicVersion,
    /// Path of its node, for messages; one of a bundle begins with `bundle:`.
    pub node: String,
}

impl VmConfig {
    /// Number of its vCPUs: 1 to [`arch::MAX_VCPUS`].
    #[must_use]
    pub fn vcpus(&self) -> usize {
        self.share.cpus.len()
    }

    /// Bytes of RAM.
    #[must_use]
    pub const fn ram_size(&self) -> u64 {
        self.ram.size()
    }

    /// Whether it has QEMU's firmware configuration device: a guest that is entered in a ROM or in flash is firmware.
    /// What its options put there comes first.
    #[must_use]
    pub fn fw_cfg(&self) -> bool {
        let page = Range::<Ipa>::new(Ipa::new(FW_CFG_BASE), PAGE_SIZE);
        let clear = |page: Range<Ipa>| {
            let taken = |range: &Range<Ipa>| range.overlaps(&page);
            let test = self.test_device.is_some_and(|test| page.contains(test));
            let passed = || self.devices.iter().flat_map(Passed::ipas).any(|pages| taken(&pages));
            !test
                && !self.roms.iter().chain(&self.flash).chain(self.forwarded()).any(taken)
                && !passed()
        };
        self.placement.image_rom.is_some() && page.is_some_and(clear)
    }

    /// Pages whose accesses its server answers one by one.
    fn forwarded(&self) -> &[Range<Ipa>] {
        self.served.as_ref().map_or(&[], |served| &served.forward)
    }

    /// Shared interrupts of its GIC.
    #[must_use]
    pub const fn spis(&self) -> usize {
        self.role.spis()
    }

    /// Its memory map: RAM, ROMs and devices.
    #[must_use]
    pub fn memory_map(&self) -> MemoryMap {
        let flash = self.flash.iter().map(|bank| (RegionKind::Flash, *bank));
        let devices = self.devices.iter().flat_map(Passed::ipas);
        let fw_cfg = Range::<Ipa>::new(Ipa::new(FW_CFG_BASE), FW_CFG_SIZE);
        let fw_cfg = fw_cfg.filter(|_| self.fw_cfg()).map(|range| (RegionKind::FwCfg, range));
        let forwarded = self.forwarded().iter().map(|range| (RegionKind::Forwarded, *range));
        let transports = self.served.as_ref().and_then(Served::transport_pages);
        let served = transports.map(|pages| (RegionKind::Transports, pages)).into_iter();
        let peers = self.peers.iter().flat_map(|peer| {
            let control = Range::<Ipa>::new(peer.control_page(), PAGE_SIZE);
            let images = peer.register_images().map(|pages| (RegionKind::RegisterImages, pages));
            let window = (RegionKind::Window, peer.window);
            control
                .map(|page| (RegionKind::ControlPage, page))
                .into_iter()
                .chain(images)
                .chain([window])
        });
        let others = flash.chain(devices.map(|pages| (RegionKind::Passed, pages))).chain(fw_cfg);
        let others = others.chain(forwarded).chain(served).chain(peers);
        MemoryMap::new(self.gic, self.vcpus(), self.ram, &self.roms, self.test_device, others)
    }
}

/// The VMs that the board's modules describe, or the bundle that was passed as its initrd or appended to the image:
/// one of these.
///
/// # Errors
/// One line that names what is wrong and what to do: no VM is returned unless all are right.
pub fn vms(host: &HostResources<'_>) -> Result<Vec<VmConfig>, Error> {
    let described = match bundle::find(host)? {
        Some((what, range)) => bundle::read(host, what, range)?,
        None => modules::read(host)?,
    };
    if let Some(beyond) = described.get(MAX_VMS) {
        return Err(err!(
            Vm,
            "{} VMs, at most {MAX_VMS} are possible; leave out {}",
            described.len(),
            beyond.node
        ));
    }
    let shares = shares(host, &described)?;
    let mut configs: Vec<VmConfig> = Vec::new();
    let mut requests = Vec::new();
    for (index, (described, share)) in described.into_iter().zip(shares).enumerate() {
        let (config, request) = config(host, index, described, share)?;
        if let Some(other) = configs.iter().find(|other| other.name == config.name) {
            return Err(err!(
                Vm,
                "two VMs are named '{}': {} and {}; give one another vm.name=",
                config.name,
                other.node,
                config.node
            ));
        }
        for device in &config.devices {
            let takes = |other: &&VmConfig| {
                other.devices.iter().any(|theirs| passthrough::clash(device, theirs))
            };
            if let Some(other) = configs.iter().find(takes) {
                return Err(err!(
                    Vm,
                    "VM '{}' ({}): vm.dev={}: VM '{}' has it, or its interrupt; leave one out",
                    config.name,
                    config.node,
                    device.node,
                    other.name
                ));
            }
        }
        configs.push(config);
        requests.push(request);
    }
    link(&mut configs, requests)?;
    check_memory(host, &configs)?;
    Ok(configs)
}

/// Who serves whom, now that all VMs are known.
#[inline(never)]
fn link(configs: &mut [VmConfig], requests: Vec<Option<Request>>) -> Result<(), Error> {
    let all = configs.iter().zip(&requests);
    let parties: Vec<Party<'_>> = all
        .map(|(config, request)| Party {
            name: &config.name,
            node: &config.node,
            role: config.role,
            ram: config.ram_size(),
            request: request.as_ref(),
        })
        .collect();
    let links = peers::link(&parties)?;
    for ((config, request), links) in configs.iter_mut().zip(requests).zip(links) {
        config.served = request.zip(links.server).map(|(request, at)| request.served_by(at));
        config.peers = links.peers;
    }
    Ok(())
}

/// Gives the VMs their CPUs anew, where fewer than expected are up: `cpus`.
///
/// # Errors
/// One line that names a VM whose options do not fit these CPUs.
pub fn assign_cpus(configs: &mut [VmConfig], cpus: usize) -> Result<(), Error> {
    let asking = |vm: &VmConfig| (vm.name.clone(), vm.vcpus(), vm.cpu_options.clone());
    let all: Vec<_> = configs.iter().map(asking).collect();
    let asking = all.iter().map(|(name, vcpus, options)| Asking {
        name,
        vcpus: *vcpus,
        options: options.clone(),
    });
    let shares = cpu_share::assign(asking.collect(), cpus)?;
    for (config, share) in configs.iter_mut().zip(shares) {
        config.share = share;
    }
    Ok(())
}

/// The name of VM number `index`.
fn name(index: usize, options: &Options) -> String {
    options.name.clone().unwrap_or_else(|| format!("vm{index}"))
}

/// The CPUs of each VM, and its part of them.
#[inline(never)]
fn shares(host: &HostResources<'_>, described: &[VmDescription]) -> Result<Vec<CpuShare>, Error> {
    let names: Vec<String> =
        described.iter().enumerate().map(|(index, vm)| name(index, &vm.options)).collect();
    let all = names.iter().zip(described);
    let asking = |(name, vm): (_, &VmDescription)| Asking {
        name,
        vcpus: vm.options.cpus.unwrap_or(1),
        options: vm.options.share.clone(),
    };
    let asking: Vec<Asking<'_>> = all.map(|(name, vm)| asking((name.as_str(), vm))).collect();
    cpu_share::assign(asking, host.cpus)
}

/// A VM by itself, and what it asks of a server.
#[inline(never)]
fn config(
    host: &HostResources<'_>,
    index: usize,
    described: VmDescription,
    share: CpuShare,
) -> Result<(VmConfig, Option<Request>), Error> {
    let VmDescription { node, options, bootargs, kernel, ramdisk } = described;
    let name = name(index, &options);
    let who =
        |error: Error| Error::new(error.kind(), format_args!("VM '{name}' ({node}): {error}"));
    let image = image(host, kernel).map_err(who)?;

    let ipa_bits = options.ipa.unwrap_or(DEFAULT_IPA_BITS.min(host.pa_bits));
    let ram_size = options.mem.unwrap_or(DEFAULT_MEM);
    let devices = devices(host, &options.dev).map_err(who)?;
    let ram = check_addresses(host, &options, &devices, ipa_bits, ram_size).map_err(who)?;
    if bootargs.len() > MAX_BOOTARGS {
        return Err(who(err!(
            Vm,
            "its bootargs have {} bytes, at most {MAX_BOOTARGS} are possible; shorten them",
            bootargs.len()
        )));
    }
    let request = options.served.request(ram).map_err(who)?;
    let pool = request.as_ref().and_then(|request| request.share.pool());
    let homes: Vec<Range<Ipa>> = options.rom.iter().chain(&options.flash).copied().collect();
    let (placement, warning) = placement::place(&Parts {
        ram: pool.map_or(ram, |pool| before(pool, ram)),
        roms: &homes,
        load: options.load,
        dtb: options.dtb,
        image,
        kernel_bytes: kernel.size(),
        ramdisk_bytes: ramdisk.map(|ramdisk| ramdisk.size()),
    })
    .map_err(|error| beside(error, pool))
    .map_err(who)?;
    let config = VmConfig {
        name: name.clone(),
        ram,
        policy: options.guard.unwrap_or_default(),
        dialect: options.dialect.unwrap_or_default(),
        allow: options.allow,
        preset: options.preset,
        roms: options.rom,
        flash: options.flash,
        devices,
        ipa_bits,
        pool_pages: options.pool.unwrap_or(DEFAULT_POOL_PAGES),
        cpu_options: options.share,
        share,
        kernel,
        ramdisk,
        bootargs,
        placement,
        warning,
        test_device: options.testdev,
        on_crash: options.on_crash.unwrap_or_default(),
        role: options.role,
        served: None,
        peers: Vec::new(),
        gic: match host.board.gic {
            Gic::V2 { .. } => GicVersion::V2,
            Gic::V3 { .. } => GicVersion::V3,
        },
        node: node.clone(),
    };
    Ok((config, request))
}

/// RAM before the pool at its end.
fn before(pool: Range<Ipa>, ram: Range<Ipa>) -> Range<Ipa> {
    let size = pool.start().raw().saturating_sub(ram.start().raw());
    Range::<Ipa>::new(ram.start(), size).unwrap_or(ram)
}

/// What `error` says of RAM is said of RAM before the pool.
fn beside(error: Error, pool: Option<Range<Ipa>>) -> Error {
    let Some(pool) = pool else { return error };
    let kind = error.kind();
    Error::new(kind, format_args!("{error} (that RAM ends before the pool of vm.share at {pool})"))
}

/// What the kernel at `kernel` is, by its first bytes; an ELF file is checked as a whole.
#[inline(never)]
fn image(host: &HostResources<'_>, kernel: Range<Pa>) -> Result<Image, Error> {
    let unread = || err!(Module, "its kernel at {kernel} cannot be read");
    let head = Range::<Pa>::new(kernel.start(), kernel.size().min(HEAD_BYTES as u64));
    let head = head.and_then(host.read).ok_or_else(unread)?;
    match ImageKind::of(head) {
        ImageKind::Flat => Ok(Image::Flat),
        ImageKind::Image => Ok(ImageHeader::parse(head)?.map_or(Image::Flat, Image::Header)),
        ImageKind::Elf => {
            let file = (host.read)(kernel).ok_or_else(unread)?;
            Ok(Image::Elf(ElfImage::parse(file)?))
        }
        ImageKind::Other(container) => Err(err!(Image, "its kernel is {container}")),
    }
}

/// The devices that a VM's options name.
#[inline(never)]
fn devices(host: &HostResources<'_>, paths: &[String]) -> Result<Vec<Passed>, Error> {
    let mut found: Vec<Passed> = Vec::new();
    if paths.is_empty() || host.tree.is_empty() {
        return Ok(found);
    }
    let tree = Tree::parse(host.tree)?;
    for path in paths {
        let device = passthrough::passed(host.board, &tree, path)?;
        if found.iter().any(|other| passthrough::clash(&device, other)) {
            return Err(err!(Vm, "vm.dev={path} is given twice, or its interrupt; leave one out"));
        }
        found.push(device);
    }
    if found.iter().flat_map(Passed::pages).count() > MAX_PASSED {
        return Err(err!(Vm, "its vm.dev have more than {MAX_PASSED} regions; leave one out"));
    }
    passthrough::number(&mut found)?;
    Ok(found)
}

/// The memory of all VMs, against what the machine has.
#[inline(never)]
fn check_memory(host: &HostResources<'_>, configs: &[VmConfig]) -> Result<(), Error> {
    let own: Vec<Range<Pa>> = host.own.iter().map(|own| own.range).collect();
    let free = host.board.free_ram(&own).iter().fold(0_u64, |sum, range| {
        let start = range.start().raw().next_multiple_of(RAM_PIECE);
        let pieces = range.end().raw().saturating_sub(start) / RAM_PIECE;
        sum.saturating_add(pieces.saturating_mul(RAM_PIECE))
    });
    let wanted = configs.iter().fold(0_u64, |sum, config| {
        let roms = config.roms.iter().chain(&config.flash);
        let roms = roms.fold(0_u64, |sum, rom| sum.saturating_add(rom.size()));
        sum.saturating_add(config.ram_size()).saturating_add(roms)
    });
    if wanted > free {
        let each: Vec<String> = configs
            .iter()
            .map(|config| format!("{} {} MiB", config.name, config.ram_size() >> 20))
            .collect();
        return Err(err!(
            Vm,
            "the VMs want {} MiB in all ({}), {} MiB are free in pieces of 2 MiB; lower vm.mem or \
             give the host more memory",
            wanted.div_ceil(1 << 20),
            each.join(", "),
            free >> 20
        ));
    }
    Ok(())
}
