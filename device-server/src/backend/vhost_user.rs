// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device that another process serves, by the vhost-user protocol: this one is the front end, and touches no ring of it.
//!
//! The daemon maps the window, waits for the driver's notifications and raises interrupts, each by a descriptor of the module.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures,
};
use vhost::vhost_user::{Error as Broken, Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::{VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1};
use vmm_sys_util::eventfd::EventFd;

use super::{Daemon, Device, Handler, RemoteRing, bit, kind};
use crate::uapi::Info;

/// VHOST_USER_F_PROTOCOL_FEATURES, between front end and daemon alone.
const PROTOCOL: u64 = bit(30);
/// What may be offered: all but that one, VHOST_F_LOG_ALL, packed rings (34), and what EL2's transport does not have.
const OFFERED: u64 = 0x1b_ffff_ffff & !PROTOCOL & !bit(26);
/// How long a daemon may take for an answer, and to be there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long before it is tried again to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// A daemon.
pub struct Remote {
    id: u32,
    socket: PathBuf,
    link: UnixStream,
    frontend: Mutex<Frontend>,
    features: u64,
    queues: Vec<u16>,
    config: Vec<u8>,
    lost: AtomicBool,
}

/// Bytes of a filesystem's tag (virtio 1.2, 5.11.4).
const TAG: usize = 36;

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

impl Remote {
    /// Connects to the daemon of a device of this kind. A filesystem has the tag `tag`, unless the daemon tells one.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do.
    pub fn connect(word: &str, socket: &Path, tag: Option<&str>) -> Result<Self> {
        let Some((id, queues, bytes)) = shape(word) else {
            bail!(
                "--vhost-user {word}: net, blk, console, rng, scsi, input, vsock, sound, fs, i2c and gpio can be served so"
            );
        };
        // One that has just been started does not listen yet, and one of an earlier server may be about to end.
        let begun = Instant::now();
        let agreed = loop {
            match agree(word, socket, queues, bytes) {
                Err(error) if begun.elapsed() < PATIENCE && absent(&error) => thread::sleep(PAUSE),
                result => break result?,
            }
        };
        let (link, frontend, features, mut config) = agreed;
        if config.is_empty() && word == "fs" {
            config =
                filesystem(tag).with_context(|| format!("the daemon at {}", socket.display()))?;
        }
        Ok(Self {
            id,
            socket: socket.to_owned(),
            link,
            frontend: Mutex::new(frontend),
            features,
            queues: vec![256; queues],
            config,
            lost: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Frontend> {
        self.frontend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the daemon do something. Answers whether it did.
    fn tell(&self, what: impl FnOnce(&mut Frontend) -> vhost::Result<()>) -> bool {
        if self.lost.load(Ordering::Acquire) {
            return false;
        }
        let result = patiently(&self.link, || what(&mut self.lock()));
        if let Err(error) = &result {
            self.lose(&format!("does not answer ({error})"));
        }
        result.is_ok()
    }

    /// It serves no longer, which is said once.
    fn lose(&self, why: &str) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            let (kind, socket) = (kind(self.id), self.socket.display());
            eprintln!(
                "portcullis-devices: the daemon for {kind} at {socket} {why}: {kind} is not served any more. Other devices \
                 go on. Start the daemon and then this server again"
            );
        }
    }
}

/// Does `what`, and breaks off the connection `link` if that takes too long: whoever waits for the daemon gets an error then.
/// (A time limit of the socket would not do: the library asks again.)
fn patiently<T>(link: &UnixStream, what: impl FnOnce() -> T) -> T {
    let (done, finished) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if finished.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // It fails if the daemon has ended, which is an error already.
                let _ = link.shutdown(Shutdown::Both);
            }
        });
        let result = what();
        drop(done);
        result
    })
}

/// Connects to a daemon, and agrees with it.
fn agree(
    word: &str,
    socket: &Path,
    queues: usize,
    bytes: usize,
) -> Result<(UnixStream, Frontend, u64, Vec<u8>)> {
    let shown = socket.display();
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("no daemon for {word} listens at {shown}: start it first"))?;
    let link = stream.try_clone().context("no descriptor for the connection")?;
    let mut frontend = Frontend::from_stream(stream, queues as u64);
    let (features, config) = patiently(&link, || offer(&mut frontend, bytes))
        .with_context(|| format!("the daemon at {shown}"))?;
    Ok((link, frontend, features, config))
}

/// Whether it is because no daemon is there that this went wrong: there may be one soon.
fn absent(error: &anyhow::Error) -> bool {
    let connecting = error.downcast_ref::<io::Error>().map(io::Error::kind);
    let speaking = error.downcast_ref::<vhost::Error>();
    matches!(connecting, Some(ErrorKind::ConnectionRefused | ErrorKind::NotFound))
        || matches!(
            speaking,
            Some(vhost::Error::VhostUserProtocol(Broken::Disconnected | Broken::SocketBroken(_)))
        )
}

/// Agrees with a daemon on features. Answers those that it offers, and what it tells of its configuration space.
fn offer(frontend: &mut Frontend, bytes: usize) -> Result<(u64, Vec<u8>)> {
    frontend.set_owner()?;
    let features = frontend.get_features()?;
    if features & PROTOCOL == 0 || features & bit(VIRTIO_F_VERSION_1) == 0 {
        bail!("it lacks VIRTIO_F_VERSION_1 or vhost-user's protocol features: take a newer one");
    }
    // libvhost-user ends where VERSION_1 is not accepted at any time.
    frontend.set_features(features & (PROTOCOL | bit(VIRTIO_F_VERSION_1)))?;
    let wanted = VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::REPLY_ACK;
    let protocol = frontend.get_protocol_features()? & wanted;
    frontend.set_protocol_features(protocol)?;
    if protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    }
    if bytes == 0 || !protocol.contains(VhostUserProtocolFeatures::CONFIG) {
        return Ok((features, Vec::new()));
    }
    let flags = VhostUserConfigFlags::empty();
    let config = frontend.get_config(0x0, bytes as u32, flags, &vec![0; bytes])?.1;
    Ok((features, config))
}

/// Configuration space of a filesystem with one request queue.
fn filesystem(tag: Option<&str>) -> Result<Vec<u8>> {
    let tag = tag.filter(|tag| !tag.is_empty());
    let tag = tag.context("it tells no tag of its filesystem: write --vhost-user fs=SOCKET:TAG")?;
    if tag.len() > TAG {
        bail!("the tag {tag} has more than {TAG} bytes");
    }
    let mut config = tag.as_bytes().to_vec();
    config.resize(TAG, 0);
    config.extend(1_u32.to_le_bytes());
    Ok(config)
}

impl Daemon for Remote {
    fn window(&self, file: &File, info: &Info) {
        // Addresses of rings are given as guest-physical ones: no process of a VMM has the memory elsewhere.
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: info.ram_base,
            memory_size: info.ram_size,
            userspace_addr: info.ram_base,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        };
        self.tell(|frontend| frontend.set_mem_table(&[region]).map(drop));
    }

    fn start(&self, n: u8, ring: &RemoteRing, kick: &EventFd, call: &EventFd) -> io::Result<()> {
        let index = usize::from(n);
        let started = self.tell(|frontend| {
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
        });
        if !started {
            return Ok(());
        }
        // What came before it listened, and an interrupt that an earlier server owed.
        kick.write(1)?;
        if ring.next != 0 { call.write(1) } else { Ok(()) }
    }

    fn stop(&self, n: u8) {
        self.tell(|frontend| frontend.get_vring_base(usize::from(n)).map(drop));
    }

    fn serves(&self) -> bool {
        !self.lost.load(Ordering::Acquire)
    }

    fn link(&self) -> RawFd {
        self.link.as_raw_fd()
    }

    fn ended(&self) {
        self.lose("has ended");
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
