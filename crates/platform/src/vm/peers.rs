// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device VMs (`vm.role=device`), and which VMs each of them serves.
//!
//! [`link`] looks up the servers once all VMs are known: from there on VMs are known by their index.

use crate::error::{Error, err};
use crate::vm::role::{self, Role};
use crate::vm::served::{DeviceId, Request};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arch::guest_map::MAX_TRANSPORTS;
use arch::{Ipa, PAGE_SIZE, Range};
use mmio_guard::abi::device::map::{CONTROL, IMAGES, INTID, PEERS};

/// A window begins at a multiple of this.
const WINDOW_ALIGN: u64 = 1 << 30;

/// A VM that a device VM serves, as the device VM knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Index of the VM.
    pub vm: usize,
    /// Its number among the peers of the device VM, below [`PEERS`].
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Its transports.
    pub transports: Vec<DeviceId>,
    /// Where its RAM is in the device VM's address space, all of it: from a multiple of 1 GiB on.
    pub window: Range<Ipa>,
}

impl PeerConfig {
    /// Its control page.
    #[must_use]
    pub const fn control_page(&self) -> Ipa {
        page(CONTROL, self.number)
    }

    /// The register image of its transport `index`.
    #[must_use]
    pub const fn register_image(&self, index: usize) -> Ipa {
        page(IMAGES, self.number.saturating_mul(MAX_TRANSPORTS).saturating_add(index))
    }

    /// The register images of all its transports, a page each; `None` without one.
    #[must_use]
    pub fn register_images(&self) -> Option<Range<Ipa>> {
        let size = (self.transports.len() as u64).saturating_mul(PAGE_SIZE);
        Range::<Ipa>::new(self.register_image(0), size).filter(|range| range.size() != 0)
    }

    /// The interrupt by which EL2 tells the device VM that something of this peer has changed.
    #[must_use]
    pub const fn intid(&self) -> u32 {
        INTID.saturating_add(self.number as u32)
    }
}

const fn page(base: u64, index: usize) -> Ipa {
    Ipa::new(base.saturating_add((index as u64).saturating_mul(PAGE_SIZE)))
}

/// A VM, for [`link`].
pub(crate) struct Party<'a> {
    pub name: &'a str,
    pub node: &'a str,
    pub role: Role,
    /// Bytes of its RAM.
    pub ram: u64,
    /// What it asks of a server.
    pub request: Option<&'a Request>,
}

/// What [`link`] finds for a VM.
pub(crate) struct Links {
    /// Index of its server.
    pub server: Option<usize>,
    pub peers: Vec<PeerConfig>,
}

/// Looks up the server of each VM that asks for one, and gives each server its peers, in the order of the VMs.
///
/// # Errors
/// One line that names the VM and the server: one that is not there, is no device VM, is the VM itself or is served too;
/// or peers that are too many or too large.
#[inline(never)]
pub(crate) fn link(parties: &[Party<'_>]) -> Result<Vec<Links>, Error> {
    let mut all: Vec<Links> = Vec::new();
    for vm in 0..parties.len() {
        all.push(Links { server: server(parties, vm)?, peers: Vec::new() });
    }
    for (vm, party) in parties.iter().enumerate() {
        let Some(index) = all.get(vm).and_then(|links| links.server) else { continue };
        let Some(server) = all.get_mut(index) else { continue };
        let window = window(server.peers.last(), party.ram);
        let Some(window) = window.filter(|_| server.peers.len() < PEERS) else {
            return Err(too_many(parties, &all, index));
        };
        let transports = party.request.map_or_else(Vec::new, |it| it.transports.clone());
        let (number, name) = (server.peers.len(), String::from(party.name));
        server.peers.push(PeerConfig { vm, number, name, transports, window });
    }
    Ok(all)
}

/// The index of the server of VM number `vm`.
#[inline(never)]
fn server(parties: &[Party<'_>], vm: usize) -> Result<Option<usize>, Error> {
    let Some(party) = parties.get(vm) else { return Ok(None) };
    let Some(Request { word, server, .. }) = &party.request else { return Ok(None) };
    let who = format!("VM '{}' ({}): {word}={server}:", party.name, party.node);
    let found = parties.iter().enumerate().find(|(_, other)| other.name == server);
    let Some((index, other)) = found else {
        let names: Vec<&str> = parties.iter().map(|party| party.name).collect();
        return Err(err!(Vm, "{who} there is no VM '{server}'; there are {}", names.join(" ")));
    };
    if index == vm {
        return Err(err!(Vm, "{who} a VM cannot serve itself; name another one"));
    }
    if other.role != Role::Device {
        return Err(err!(
            Vm,
            "{who} VM '{server}' ({}) serves none; give it vm.role=device",
            other.node
        ));
    }
    if party.role == Role::Device {
        let circle = other.request.is_some_and(|back| back.server == party.name);
        let circle = if circle { " (and is served by it)" } else { "" };
        return Err(err!(
            Vm,
            "{who} it has vm.role=device, and a VM that serves others{circle} cannot be served; leave \
             one of the two words out"
        ));
    }
    Ok(Some(index))
}

/// Why the device VM number `server` cannot serve all who ask for it.
#[inline(never)]
fn too_many(parties: &[Party<'_>], all: &[Links], server: usize) -> Error {
    let clients = parties.iter().zip(all).filter(|(_, links)| links.server == Some(server));
    let each: Vec<String> =
        clients.map(|(party, _)| format!("{} {} MiB", party.name, party.ram >> 20)).collect();
    let (name, node) = parties.get(server).map_or(("", ""), |party| (party.name, party.node));
    err!(
        Vm,
        "VM '{name}' ({node}): it is to serve {} VMs: a device VM has room for {PEERS} and for {} GiB \
         of their RAM, each in whole GiB ({}); lower their vm.mem or give them another server",
        each.len(),
        role::windows().map_or(0, |all| all.size() >> 30),
        each.join(", ")
    )
}

/// A window of `size` bytes behind that of the peer before it; `None` where it does not fit.
fn window(before: Option<&PeerConfig>, size: u64) -> Option<Range<Ipa>> {
    let all = role::windows()?;
    let start = before.map_or(all.start(), |peer| peer.window.end());
    let start = start.raw().checked_next_multiple_of(WINDOW_ALIGN)?;
    Range::<Ipa>::new(Ipa::new(start), size).filter(|window| all.encloses(window))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::served::{Named, ServedOptions};
    use alloc::string::ToString;

    /// A device VM, and `count` VMs of 2 MiB that it serves.
    fn serving(count: usize) -> Result<Vec<Links>, Error> {
        let names: Vec<String> = (0..count).map(|n| format!("vm{n}")).collect();
        let ram = Range::<Ipa>::new(Ipa::new(0x4000_0000), 2 << 20).unwrap();
        let request = || {
            let devices =
                Some(Named { server: "s".into(), what: Vec::from([DeviceId::new(1).unwrap()]) });
            ServedOptions { devices, ..ServedOptions::default() }.request(ram).unwrap()
        };
        let request = request();
        let party =
            |name, role, request| Party { name, node: "/m", role, ram: ram.size(), request };
        let server = party("s", Role::Device, None);
        let clients = names.iter().map(|name| party(name, Role::Guest, request.as_ref()));
        link(&[server].into_iter().chain(clients).collect::<Vec<_>>())
    }

    #[test]
    fn a_device_vm_has_32_peers_and_no_more() {
        let links = serving(32).unwrap();
        let last = links[0].peers.last().unwrap();
        assert_eq!((last.vm, last.number, last.intid()), (32, 31, 127));
        assert_eq!(last.register_image(15).raw(), 0x0b2f_f000);
        assert_eq!(last.window.start().raw(), 0x10_0000_0000 + (31 << 30));
        let message = serving(33).err().unwrap().to_string();
        assert!(message.contains("VM 's' (/m): it is to serve 33 VMs"), "{message}");
        assert!(message.contains("has room for 32 and"), "{message}");
    }
}
