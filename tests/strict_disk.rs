// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk for QEMU's `vhost-user-blk` that notes where everything lies that the driver asks it to read or write: rings, indirect
//! tables, buffers. It serves all of it; a test compares the addresses with the pool.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryLoadGuard,
    GuestMemoryMmap,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

/// Its socket's name.
const SOCKET: &str = "disk";
/// Bytes of a sector (virtio 1.2, section 5.2).
const SECTOR: u64 = 512;
/// Entries of its queue.
const QUEUE: usize = 1024;
/// VERSION_1, ACCESS_PLATFORM, INDIRECT_DESC, VHOST_USER_F_PROTOCOL_FEATURES; SEG_MAX, BLK_SIZE, FLUSH.
const FEATURES: u64 = 1 << 32 | 1 << 33 | 1 << 28 | 1 << 30 | 1 << 2 | 1 << 6 | 1 << 9;
/// Segments of a request.
const SEGMENTS: u32 = 126;
/// VIRTIO_BLK_T_IN, T_OUT, T_FLUSH, T_GET_ID.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;

/// Where something lay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Descriptors, available or used ring.
    Ring,
    /// An indirect table.
    Table,
    /// What the device reads.
    Read,
    /// What the device writes.
    Written,
}

/// How many of a kind there were, and the addresses that they were in.
pub type Seen = BTreeMap<What, (u64, Range<u64>)>;

/// The disk, as the library calls it.
struct Disk {
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    content: Vec<u8>,
    seen: Arc<Mutex<Seen>>,
}

impl Disk {
    fn note(&self, what: What, at: u64, length: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, range) = seen.entry(what).or_insert((0, at..at));
        *count += 1;
        *range = range.start.min(at)..range.end.max(at.saturating_add(length));
    }

    /// Serves the request whose chain begins with `head`; bytes written.
    fn request(
        &mut self,
        memory: &GuestMemoryMmap,
        table: u64,
        head: u16,
        chain: impl Iterator<Item = Descriptor>,
    ) -> Result<u32> {
        let at = GuestAddress(table + 16 * u64::from(head));
        let first: Descriptor = memory.read_obj(at).context("a descriptor")?;
        if first.refers_to_indirect_table() {
            self.note(What::Table, first.addr().0, first.len().into());
        }
        let chain: Vec<Descriptor> = chain.collect();
        for part in &chain {
            let what = if part.is_write_only() { What::Written } else { What::Read };
            self.note(what, part.addr().0, part.len().into());
        }
        let [header, data @ .., status] = chain.as_slice() else {
            return Err(anyhow!("a request of {} parts", chain.len()));
        };
        let kind: u32 = memory.read_obj(header.addr())?;
        let sector: u64 = memory.read_obj(GuestAddress(header.addr().0 + 8))?;
        let mut at = usize::try_from(sector * SECTOR)?;
        let mut written = 1;
        for part in data {
            let length = part.len() as usize;
            match kind {
                IN => memory.write_slice(self.part(at, length)?, part.addr())?,
                OUT => {
                    let mut bytes = vec![0; length];
                    memory.read_slice(&mut bytes, part.addr())?;
                    self.part(at, length)?.copy_from_slice(&bytes);
                }
                GET_ID => memory.write_slice(&vec![b'-'; length], part.addr())?,
                _ => {}
            }
            at += length;
            written += if kind == OUT { 0 } else { part.len() };
        }
        let answer: u8 = if [IN, OUT, FLUSH, GET_ID].contains(&kind) { 0 } else { 2 };
        memory.write_obj(answer, status.addr())?;
        Ok(written)
    }

    fn part(&mut self, at: usize, length: usize) -> Result<&mut [u8]> {
        let end = at.saturating_add(length);
        self.content.get_mut(at..end).with_context(|| format!("bytes {at} to {end}"))
    }

    fn serve(&mut self, vring: &VringRwLock) -> Result<()> {
        let memory: GuestMemoryLoadGuard<GuestMemoryMmap> = self.memory.memory();
        let rings = {
            let state = vring.get_ref();
            let queue = state.get_queue();
            let size = u64::from(queue.size());
            [
                (queue.desc_table(), 16 * size),
                (queue.avail_ring(), 6 + 2 * size),
                (queue.used_ring(), 6 + 8 * size),
            ]
        };
        for (at, length) in rings {
            self.note(What::Ring, at, length);
        }
        let chains: Vec<_> = vring.get_mut().get_queue_mut().iter(memory.clone())?.collect();
        for chain in chains {
            let head = chain.head_index();
            let length = self.request(&memory, rings[0].0, head, chain)?;
            vring.add_used(head, length)?;
        }
        vring.signal_used_queue().context("the driver's event")
    }
}

impl VhostUserBackendMut for Disk {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        QUEUE
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        // QEMU wants the last two beside VIRTIO_F_ACCESS_PLATFORM.
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::BACKEND_REQ
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        // struct virtio_blk_config: capacity, size_max, seg_max, geometry, blk_size.
        let mut config = (self.content.len() as u64 / SECTOR).to_le_bytes().to_vec();
        config.extend(0_u32.to_le_bytes());
        config.extend(SEGMENTS.to_le_bytes());
        config.extend([0; 4]);
        config.extend(512_u32.to_le_bytes());
        config.resize(256, 0);
        let from = offset as usize;
        config.get(from..from + size as usize).unwrap_or_default().to_vec()
    }

    fn update_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> std::io::Result<()> {
        self.memory = memory;
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(
        &mut self,
        _event: u16,
        _set: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> std::io::Result<()> {
        let Some(vring) = vrings.first() else { return Ok(()) };
        self.serve(vring).map_err(|error| std::io::Error::other(format!("{error:#}")))
    }
}

/// A disk that waits for QEMU, or serves it.
#[derive(Debug)]
pub struct StrictDisk {
    seen: Arc<Mutex<Seen>>,
    /// With the socket: a path of one may have 107 bytes.
    folder: TempDir,
    thread: JoinHandle<Result<()>>,
}

impl StrictDisk {
    /// A disk with the bytes of `image`.
    ///
    /// # Errors
    ///
    /// One of the files cannot be used.
    pub fn start(image: &Path) -> Result<Self> {
        let mut content = Vec::new();
        std::fs::File::open(image)?.read_to_end(&mut content)?;
        let seen = Arc::new(Mutex::new(Seen::new()));
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let disk = Disk { memory: memory.clone(), content, seen: Arc::clone(&seen) };
        let disk = Arc::new(Mutex::new(disk));
        let daemon = VhostUserDaemon::new("strict disk".into(), disk, memory);
        let mut daemon = daemon.map_err(|error| anyhow!("the disk: {error}"))?;
        let folder = tempfile::tempdir().context("the disk's socket")?;
        let mut listener =
            Listener::new(folder.path().join(SOCKET), true).context("the disk's socket")?;
        let thread = std::thread::spawn(move || {
            daemon.start(&mut listener).map_err(|error| anyhow!("the disk: {error}"))?;
            // QEMU ends without a word, which is an error to the library.
            let _ = daemon.wait();
            // Otherwise the daemon would wait for its threads.
            for handler in daemon.get_epoll_handlers() {
                handler.send_exit_event();
            }
            Ok(())
        });
        Ok(Self { seen, folder, thread })
    }

    /// QEMU's arguments for it, on a machine with `mib` of RAM, which both share.
    #[must_use]
    pub fn arguments(&self, mib: u64) -> Vec<String> {
        let socket = self.folder.path().join(SOCKET);
        let socket = format!("socket,id=disk,path={}", socket.display());
        let memory = format!("memory-backend-memfd,id=ram,size={mib}M,share=on");
        [
            ["-object", &memory],
            ["-machine", "memory-backend=ram"],
            ["-global", "virtio-mmio.force-legacy=false"],
            ["-chardev", &socket],
            ["-device", "vhost-user-blk,chardev=disk,iommu_platform=on,num-queues=1"],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
    }

    /// What it has seen, once QEMU has ended.
    ///
    /// # Errors
    ///
    /// It could not serve.
    pub fn seen(self) -> Result<Seen> {
        let ended = self.thread.join().map_err(|_| anyhow!("the disk panicked"))?;
        ended?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seen.clone())
    }
}
