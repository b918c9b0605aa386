// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network card (virtio 5.1) at a tap device. No offloads: the guest's header is neither trusted nor passed on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, anyhow, bail};
use virtio_bindings::virtio_net::VIRTIO_NET_F_MAC;

use super::{Device, Handler, Outcome, bit};
use crate::chain::Chain;
use crate::{counters, sys};

/// Bytes of `struct virtio_net_hdr` with num_buffers, as VERSION_1 has it (virtio 5.1.6).
const HEADER: usize = 12;
/// Most bytes of a packet that is sent.
const LONGEST: usize = 65_550;

/// A card.
#[derive(Debug)]
pub struct Card {
    tap: File,
    address: [u8; 6],
}

impl Card {
    /// Opens the tap device `name` for the VM `vm`.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do.
    pub fn open(name: &str, vm: &str) -> Result<Self> {
        let tap = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .context("cannot open /dev/net/tun: load the module tun")?;
        match sys::join_tap(&tap, name) {
            Ok(()) => Ok(Self::at(tap, address(vm, name))),
            Err(error) => match error.raw_os_error() {
                Some(libc::EPERM) => bail!(
                    "tap {name} cannot be made by this user: run `ip tuntap add dev {name} mode tap user USER` before"
                ),
                Some(libc::EBUSY) => bail!("tap {name} has another user: give each card its own"),
                _ => Err(anyhow!("tap {name}: {error}")),
            },
        }
    }

    /// A card at `tap`, whose reads and writes are a packet each and do not block.
    #[must_use]
    pub fn at(tap: File, address: [u8; 6]) -> Self {
        Self { tap, address }
    }
}

/// The card's MAC address: locally administered, and the same whenever the server is started (FNV-1a).
fn address(vm: &str, tap: &str) -> [u8; 6] {
    let text = vm.bytes().chain([0]).chain(tap.bytes());
    let hash = text.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [0x02, a, b, c, d, e]
}

impl Device for Card {
    fn id(&self) -> u32 {
        1
    }

    fn features(&self) -> u64 {
        bit(VIRTIO_NET_F_MAC)
    }

    /// receiveq1, transmitq1.
    fn queues(&self) -> &[u16] {
        &[256, 256]
    }

    fn config(&self) -> Vec<u8> {
        self.address.to_vec()
    }

    fn handler(&self, queue: u8, _features: u64) -> io::Result<Box<dyn Handler>> {
        let tap = self.tap.try_clone()?;
        Ok(if queue == 0 { Box::new(Receive(tap)) } else { Box::new(Send(tap)) })
    }
}

struct Receive(File);

impl Handler for Receive {
    fn handle(&mut self, chain: &mut Chain<'_>, counters: &counters::Queue) -> Outcome {
        // No flags, and one buffer.
        let header: [u8; HEADER] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        if chain.put(&header) < HEADER || chain.to_write() == 0 {
            counters.malformed.add(1);
            return Outcome::Done;
        }
        match sys::read(&self.0, chain.writable()) {
            Ok(count) => {
                chain.skip_writable(count);
                counters.bytes_out.add(count as u64);
                Outcome::Done
            }
            // The header is written again for the next packet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Outcome::Wait { fd: self.0.as_raw_fd(), write: false }
            }
            Err(_) => {
                counters.errors.add(1);
                Outcome::Done
            }
        }
    }
}

struct Send(File);

impl Handler for Send {
    fn handle(&mut self, chain: &mut Chain<'_>, counters: &counters::Queue) -> Outcome {
        let bytes = chain.to_read();
        if chain.take::<HEADER>().is_none() || bytes > LONGEST {
            counters.malformed.add(1);
            return Outcome::Done;
        }
        match sys::write(&self.0, chain.readable()) {
            Ok(count) => counters.bytes_in.add(count as u64),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Outcome::Wait { fd: self.0.as_raw_fd(), write: true };
            }
            // A packet that the host's network does not take is lost, as on a wire.
            Err(_) => counters.errors.add(1),
        }
        Outcome::Done
    }
}
