// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device that another process serves, by the vhost-user protocol: this one is the front end, and touches no ring of it.
//!
//! The daemon maps the window, waits for the driver's notifications and raises interrupts, each by a descriptor of the module.

use std::fs::File;
use std::io::{self, ErrorKind::ConnectionRefused, ErrorKind::NotFound};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::{VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1};
use vmm_sys_util::eventfd::EventFd;

use super::{Daemon, Device, Handler, RemoteRing, bit, kind};
use crate::uapi::Info;

/// VHOST_USER_F_PROTOCOL_FEATURES, between front end and daemon alone.
const PROTOCOL: u64 = bit(30);
/// What may be offered: all but that one, VHOST_F_LOG_ALL, packed rings (34), and what EL2's transport does not have.
const OFFERED: u64 = 0x1b_ffff_ffff & !PROTOCOL & !bit(26);
/// How long a daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is tried again to connect.
const ATTEMPTS: u32 = 10;
/// How long before that.
const PAUSE: Duration = Duration::from_millis(100);

/// A daemon.
pub struct Remote {
    id: u32,
    socket: PathBuf,
    frontend: Mutex<Frontend>,
    features: u64,
    queues: Vec<u16>,
    config: Vec<u8>,
}

/// DeviceID, number of queues, and bytes of configuration space.
fn shape(word: &str) -> Option<(u32, usize, usize)> {
    Some(match word {
        "net" => (1, 2, 12),
        "blk" => (2, 1, 60),
        "console" => (3, 2, 12),
        "rng" => (4, 1, 0),
        "scsi" => (8, 3, 36),
        "input" => (18, 2, 136),
        "vsock" => (19, 3, 8),
        "sound" => (25, 4, 12),
        "fs" => (26, 2, 44),
        "i2c" => (34, 1, 0),
        "gpio" => (41, 2, 8),
        _ => return None,
    })
}

/// Connects, though a daemon that has just been started may not listen yet.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let mut result = UnixStream::connect(socket);
    for _ in 0..ATTEMPTS {
        match &result {
            Err(error) if matches!(error.kind(), ConnectionRefused | NotFound) => {}
            _ => break,
        }
        thread::sleep(PAUSE);
        result = UnixStream::connect(socket);
    }
    result
}

impl Remote {
    /// Connects to the daemon of a device of this kind.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do.
    pub fn connect(word: &str, socket: &Path) -> Result<Self> {
        let Some((id, queues, bytes)) = shape(word) else {
            bail!(
                "--vhost-user {word}: net, blk, console, rng, scsi, input, vsock, sound, fs, i2c and gpio can be served so"
            );
        };
        let shown = socket.display();
        let stream = connect(socket)
            .with_context(|| format!("no daemon for {word} listens at {shown}: start it first"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let frontend = Frontend::from_stream(stream, queues as u64);
        let remote = Self {
            id,
            socket: socket.to_owned(),
            frontend: Mutex::new(frontend),
            features: 0,
            queues: vec![256; queues],
            config: Vec::new(),
        };
        remote.agree(bytes).with_context(|| format!("the daemon at {shown}"))
    }

    fn agree(mut self, bytes: usize) -> Result<Self> {
        let mut frontend = self.lock();
        frontend.set_owner()?;
        let features = frontend.get_features()?;
        if features & PROTOCOL == 0 || features & bit(VIRTIO_F_VERSION_1) == 0 {
            bail!(
                "it lacks VIRTIO_F_VERSION_1 or vhost-user's protocol features: take a newer one"
            );
        }
        frontend.set_features(features & PROTOCOL)?;
        let wanted = VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::REPLY_ACK;
        let protocol = frontend.get_protocol_features()? & wanted;
        frontend.set_protocol_features(protocol)?;
        if protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
            frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        let mut config = Vec::new();
        if bytes != 0 && protocol.contains(VhostUserProtocolFeatures::CONFIG) {
            let flags = VhostUserConfigFlags::empty();
            config = frontend.get_config(0x0, bytes as u32, flags, &vec![0; bytes])?.1;
        }
        drop(frontend);
        (self.features, self.config) = (features, config);
        Ok(self)
    }

    fn lock(&self) -> MutexGuard<'_, Frontend> {
        self.frontend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said<T>(&self, result: vhost::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let (kind, socket) = (kind(self.id), self.socket.display());
            io::Error::other(format!("the daemon for {kind} at {socket}: {error}"))
        })
    }
}

impl Daemon for Remote {
    fn window(&self, file: &File, info: &Info) -> io::Result<()> {
        // Addresses of rings are given as guest-physical ones: no process of a VMM has the memory elsewhere.
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: info.ram_base,
            memory_size: info.ram_size,
            userspace_addr: info.ram_base,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        };
        self.said(self.lock().set_mem_table(&[region]).map(drop))
    }

    fn start(&self, n: u8, ring: &RemoteRing, kick: &EventFd, call: &EventFd) -> io::Result<()> {
        let (frontend, index) = (self.lock(), usize::from(n));
        let start = || -> vhost::Result<()> {
            let mut frontend = frontend;
            // Addresses are not translated: that is the window's part.
            let features = ring.features & !bit(VIRTIO_F_ACCESS_PLATFORM) | PROTOCOL;
            frontend.set_features(features)?;
            frontend.set_vring_num(index, ring.size)?;
            let addresses = VringConfigData {
                queue_max_size: 256,
                queue_size: ring.size,
                flags: 0,
                desc_table_addr: ring.descriptors,
                used_ring_addr: ring.used,
                avail_ring_addr: ring.available,
                log_addr: None,
            };
            frontend.set_vring_addr(index, &addresses)?;
            frontend.set_vring_base(index, ring.next)?;
            frontend.set_vring_call(index, call)?;
            frontend.set_vring_kick(index, kick)?;
            frontend.set_vring_enable(index, true)
        };
        self.said(start())?;
        // What came before it listened, and an interrupt that an earlier server owed.
        kick.write(1)?;
        if ring.next != 0 { call.write(1) } else { Ok(()) }
    }

    fn stop(&self, n: u8) -> io::Result<()> {
        self.said(self.lock().get_vring_base(usize::from(n)).map(drop))
    }
}

impl Device for Remote {
    fn id(&self) -> u32 {
        self.id
    }

    fn features(&self) -> u64 {
        self.features & OFFERED | bit(VIRTIO_F_ACCESS_PLATFORM)
    }

    fn offer(&self) -> u64 {
        self.features()
    }

    fn queues(&self) -> &[u16] {
        &self.queues
    }

    fn config(&self) -> Vec<u8> {
        self.config.clone()
    }

    fn handler(&self, _queue: u8, _features: u64) -> io::Result<Box<dyn Handler>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remote(&self) -> Option<&dyn Daemon> {
        Some(self)
    }
}
