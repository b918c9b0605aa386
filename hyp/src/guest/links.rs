// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links between VMs that are served and the device VMs that serve them: their pages, and what a device VM finds mapped.

use alloc::boxed::Box;
use alloc::vec::Vec;

use arch::{Ipa, Pa, Range, Stage2Geometry};
use arrayvec::ArrayString;
use lock::Order;
use platform::{PeerConfig, Served, ShareLevel, VmConfig};
use stage2::{Attr, MapError, Stage2, Window, tables_for};
use vm::link::{Link, LinkSetup, ShareLimit, TransportState, ring_limits};

use crate::cpu::timer;
use crate::guest::host::GuestHost;
use crate::guest::vm_error::{Cause, VmError};
use crate::memory;

const PAGE: u64 = arch::PAGE_SIZE;

/// All links, by the number of the VM that is served.
pub struct Links(Vec<Option<&'static Link>>);

impl Links {
    /// Makes the links that the VMs' configurations ask for.
    ///
    /// # Errors
    /// There is too little memory.
    pub fn make(configs: &[VmConfig]) -> Result<Self, VmError> {
        let link = |(index, config): (usize, &VmConfig)| {
            let Some(served) = &config.served else { return Ok(None) };
            let peers = configs.get(served.server).map_or(&[][..], |server| &server.peers);
            let Some(peer) = peers.iter().find(|peer| peer.vm == index) else { return Ok(None) };
            let link = make(index, config, served, peer)
                .ok_or_else(|| Cause::NoMemory("window").of(&config.name))?;
            Ok(Some(&*Box::leak(link)))
        };
        Ok(Self(configs.iter().enumerate().map(link).collect::<Result<_, _>>()?))
    }

    /// The link of VM `index` to the VM that serves it.
    pub fn served(&self, index: usize) -> Option<&'static Link> {
        self.0.get(index).copied().flatten()
    }

    /// The links to the VMs that are served by the one with this configuration; `None` if it is no device VM.
    pub fn peers(&self, config: &VmConfig) -> Option<&'static [&'static Link]> {
        let peers = config.peers.iter().filter_map(|peer| self.served(peer.vm));
        (config.role == platform::Role::Device).then(|| &*Vec::leak(peers.collect()))
    }
}

/// The link of VM `index`, in a frame of its own; `None` where there is too little memory.
#[inline(never)]
fn make(index: usize, config: &VmConfig, served: &Served, peer: &PeerConfig) -> Option<Box<Link>> {
    let size = config.ram.size();
    let window = zeroed(Window::pages(size))?;
    let mut name = ArrayString::new();
    for c in config.name.chars() {
        if name.try_push(c).is_err() {
            break;
        }
    }
    let share = match served.share {
        ShareLevel::Guest => ShareLimit::Guest,
        ShareLevel::Pool { range, auto } => ShareLimit::Pool { range, auto },
        ShareLevel::All => ShareLimit::All,
    };
    let seconds = u64::from(served.io_timeout_s);
    let images = zeroed((served.transports.len() as u64).max(1))?;
    let limits = ring_limits(share, config.ram);
    let image = |n: u64| Pa::new(images.raw().saturating_add(n.saturating_mul(PAGE)));
    let transports = (0..).zip(&served.transports);
    let transports: Vec<TransportState> =
        transports.map(|(n, id)| TransportState::new(id.raw(), limits, image(n))).collect();
    Some(Box::new(Link::new(LinkSetup {
        name,
        client: index as u16,
        server: served.server as u16,
        peer: peer.number as u8,
        vcpus: config.share.cpus.len(),
        ram: config.ram,
        window: Window::new(peer.window.start(), size, window)?,
        control: zeroed(1)?,
        transports: Vec::leak(transports),
        forwards: served.forward.iter().copied().collect(),
        share,
        timeout: timer::frequency().saturating_mul(seconds),
        timeout_ms: seconds.saturating_mul(1000),
        on_loss: served.on_loss,
    })))
}

fn zeroed(pages: u64) -> Option<Pa> {
    let bytes = pages.saturating_mul(PAGE);
    let pa = memory::take(bytes, PAGE)?;
    memory::wipe(pa, bytes);
    Some(pa)
}

/// Pages of control pages and register images in a device VM's address space, with their attributes.
pub fn pages<'a>(
    config: &'a VmConfig,
    links: &'a [&'static Link],
) -> impl Iterator<Item = (Range<Ipa>, Pa, Attr)> + Clone + 'a {
    config.peers.iter().zip(links).flat_map(|(peer, link)| {
        let setup = link.setup();
        let control = Range::<Ipa>::new(peer.control_page(), PAGE);
        let control = control.map(|range| (range, setup.control, Attr::SharedRead));
        let first = setup.transports.first().map(TransportState::image);
        let images = peer.register_images().zip(first).map(|(range, pa)| (range, pa, Attr::Shared));
        control.into_iter().chain(images)
    })
}

/// Table pages for [`map`].
pub fn tables(geometry: &Stage2Geometry, config: &VmConfig, links: &[&'static Link]) -> u64 {
    let pages = pages(config, links).map(|(range, ..)| tables_for(geometry, range, 3));
    let windows = links.iter().filter_map(|link| {
        let window = link.setup().window;
        // Down to level 1; the rest is the window's own.
        Some(tables_for(geometry, Range::<Ipa>::new(window.base(), window.size())?, 1))
    });
    pages.chain(windows).fold(0, u64::saturating_add)
}

/// Maps what a device VM sees of its peers.
///
/// # Errors
/// Where something cannot be mapped.
pub fn map(
    order: &Order,
    config: &VmConfig,
    stage2: &Stage2<GuestHost>,
    links: &[&'static Link],
) -> Result<(), (Ipa, MapError)> {
    for (range, pa, attr) in pages(config, links) {
        stage2.map(order, range.start(), pa, range.size(), attr).map_err(|e| (range.start(), e))?;
    }
    for link in links {
        let window = &link.setup().window;
        stage2.add_window(order, window).map_err(|e| (window.base(), e))?;
    }
    Ok(())
}
