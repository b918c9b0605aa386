// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device that a daemon serves, made of the library that the published daemons are made of.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use arch::Width;
use device_server::backend::Device;
use device_server::backend::vhost_user::Remote;
use device_server::stats;
use serde_json::json;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use crate::driver::{MODERN, Ring, WRITE};
use crate::fake::Fake;
use crate::served::{BUFFERS, Served, disk, disk_file, execute};

type Window = GuestMemoryAtomic<GuestMemoryMmap>;

/// Fills buffers with a byte: a vsock device's number of queues and configuration space, and no more of it.
struct Filler {
    memory: Option<Window>,
    features: Arc<Mutex<u64>>,
    ring_features: u64,
    protocol: VhostUserProtocolFeatures,
}

impl VhostUserBackendMut for Filler {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        3
    }

    fn max_queue_size(&self) -> usize {
        256
    }

    fn features(&self) -> u64 {
        self.ring_features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn acked_features(&mut self, features: u64) {
        *self.features.lock().unwrap() = features;
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        self.protocol | VhostUserProtocolFeatures::MQ
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        assert_eq!((offset, size), (0, 8));
        vec![3, 0, 0, 0, 0, 0, 0, 0]
    }

    fn update_memory(&mut self, memory: Window) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn handle_event(
        &mut self,
        device_event: u16,
        _events: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        let memory = self.memory.as_ref().unwrap().memory();
        let vring = &vrings[usize::from(device_event)];
        let mut state = vring.get_mut();
        let mut used = false;
        while let Some(chain) = state.get_queue_mut().iter(&*memory).unwrap().next() {
            let head = chain.head_index();
            let buffer = chain.writable().next().unwrap();
            memory.write_slice(&vec![0x5a; buffer.len() as usize], buffer.addr()).unwrap();
            state.get_queue_mut().add_used(&*memory, head, buffer.len()).unwrap();
            used = true;
        }
        if used {
            state.signal_used_queue().unwrap();
        }
        Ok(())
    }
}

/// Serves one connection.
fn serve(socket: PathBuf, filler: Filler) {
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon =
        VhostUserDaemon::new("filler".into(), Arc::new(Mutex::new(filler)), memory).unwrap();
    // It ends with an error when its front end does.
    let _ = daemon.serve(socket);
}

/// A daemon with a configuration space.
fn filler(ring_features: u64) -> Filler {
    let protocol = VhostUserProtocolFeatures::CONFIG;
    Filler { memory: None, features: Arc::default(), ring_features, protocol }
}

/// Starts a daemon. Answers its socket, and what the driver accepts.
fn daemon(folder: &Path, ring_features: u64) -> (PathBuf, Arc<Mutex<u64>>) {
    start(folder, filler(ring_features))
}

fn start(folder: &Path, filler: Filler) -> (PathBuf, Arc<Mutex<u64>>) {
    let socket = folder.join("socket");
    let (listens, features) = (socket.clone(), Arc::clone(&filler.features));
    thread::spawn(move || serve(listens, filler));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !socket.exists() {
        assert!(std::time::Instant::now() < end, "the daemon does not listen");
        thread::yield_now();
    }
    (socket, features)
}

fn fill(ring: &mut Ring, n: u16) {
    ask(ring, n);
    filled(ring, n);
}

fn ask(ring: &mut Ring, n: u16) {
    ring.chain(n, &[(BUFFERS + 0x1000 * u64::from(n), 100, WRITE)]);
    ring.offer(n);
    ring.kick();
}

fn filled(ring: &mut Ring, n: u16) {
    let at = BUFFERS + 0x1000 * u64::from(n);
    assert_eq!(ring.wait(1), [(n.into(), 100)]);
    let mut bytes = [0; 101];
    ring.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    assert_eq!(bytes, [[0x5a; 100].as_slice(), &[0]].concat()[..]);
}

#[test]
fn a_daemon_serves_through_the_window_and_the_modules_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    // VERSION_1, EVENT_IDX, INDIRECT_DESC; and packed rings, which the transport has not.
    let (socket, accepted) = daemon(folder.path(), 0x5_3000_0000);
    let fake = Fake::new(&[19]);
    let remote = Remote::connect("vsock", &socket, None).unwrap();
    let served = Served::start(&fake, vec![Arc::new(remote)]);
    let mut ring = Ring::probe(&fake, 0, u64::MAX, 64);
    fake.store(0, 0x14, 0);
    assert_eq!(fake.load(0, 0x10, Width::B4), 0x3000_0000);
    fake.store(0, 0x14, 1);
    // VERSION_1, and ACCESS_PLATFORM, which is between the driver and EL2.
    assert_eq!(fake.load(0, 0x10, Width::B4), 3);
    assert_eq!(fake.load(0, 0x100, Width::B8), 3);
    fill(&mut ring, 0);
    assert_eq!(fake.interrupted(0), 1);
    assert_eq!(*accepted.lock().unwrap() & 0xf_3000_0000, 0x1_3000_0000);
    // A reset, and another ring.
    fake.store(0, 0x70, 0);
    let mut ring = Ring::probe(&fake, 0, MODERN, 16);
    fill(&mut ring, 1);
    assert_eq!(fake.interrupted(0), 1);
    // A new life of the peer.
    fake.stop();
    fake.start();
    fake.attachments(2);
    let mut ring = Ring::probe(&fake, 0, MODERN, 16);
    fill(&mut ring, 2);
    drop(served);
}

#[test]
fn a_daemon_goes_on_where_the_ring_is_under_another_server() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let fake = Fake::new(&[19]);
    let (socket, _) = daemon(folders[0].path(), 0x1_3000_0000);
    let served =
        Served::start(&fake, vec![Arc::new(Remote::connect("vsock", &socket, None).unwrap())]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 16);
    fill(&mut ring, 0);
    fake.interrupted(0);
    drop(served);
    // Its notification is lost.
    ask(&mut ring, 1);
    let (socket, _) = daemon(folders[1].path(), 0x1_3000_0000);
    let _served =
        Served::start(&fake, vec![Arc::new(Remote::connect("vsock", &socket, None).unwrap())]);
    filled(&mut ring, 1);
    assert_eq!(fake.interrupted(0), 1);
}

#[test]
fn a_daemon_that_does_not_listen_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    // Bound by one that is gone: nothing listens.
    drop(UnixListener::bind(&socket).unwrap());
    let place = folder.path().to_owned();
    let late = thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(250));
        // Another one takes the connection, and ends.
        std::fs::remove_file(place.join("socket")).unwrap();
        let ends = UnixListener::bind(place.join("socket")).unwrap();
        drop(ends.accept().unwrap());
        drop(ends);
        std::fs::remove_file(place.join("socket")).unwrap();
        daemon(&place, 0x1_3000_0000)
    });
    let remote = Remote::connect("vsock", &socket, None);
    late.join().unwrap();
    assert!(remote.is_ok());
}

/// The variable that names the socket of a daemon's own process.
const SOCKET: &str = "DAEMON_SOCKET";

/// A daemon in a process of its own, which is this program with the variable.
struct Process(Child);

impl Process {
    fn start(socket: &Path) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut command = Command::new(this);
        command.args(["--exact", "vhost_user::a_process_is_a_daemon"]).env(SOCKET, socket);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_process_is_a_daemon() {
    // Without the variable it has nothing to do.
    if let Some(socket) = std::env::var_os(SOCKET) {
        serve(socket.into(), filler(0x1_3000_0000));
    }
}

/// Waits until the server says that its daemon serves, or does not.
fn wait_for(served: &Served, transport: usize, serves: bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while served.server().transports().nth(transport).unwrap().2 != Some(serves) {
        assert!(std::time::Instant::now() < end, "it does not notice");
        thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn other_devices_go_on_when_a_daemon_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut process = Process::start(&socket);
    let (_file, path) = disk_file(64);
    let fake = Fake::new(&[19, 2]);
    let remote = Arc::new(Remote::connect("vsock", &socket, None).unwrap());
    let served = Served::start(&fake, vec![remote, disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 16);
    fill(&mut ring, 0);
    let mut blocks = Ring::probe(&fake, 1, MODERN, 16);
    assert_eq!(execute(&mut blocks, 0, 1, 512), (0, 513));
    let counters = |served: &Served| stats::report(&served.server())["transports"][0].clone();
    assert_eq!(counters(&served), json!({"kind": "vsock", "daemon": "serves"}));

    process.kill();
    wait_for(&served, 0, false);
    assert_eq!(counters(&served), json!({"kind": "vsock", "daemon": "ended"}));
    ask(&mut ring, 1);
    assert_eq!(execute(&mut blocks, 0, 2, 512), (0, 513));
    // Neither a reset by its driver nor a new life of the peer waits for it.
    fake.store(0, 0x70, 0);
    Ring::probe(&fake, 0, MODERN, 16);
    fake.stop();
    fake.start();
    fake.attachments(2);
    let mut blocks = Ring::probe(&fake, 1, MODERN, 16);
    assert_eq!(execute(&mut blocks, 0, 3, 512), (0, 513));
    Ring::probe(&fake, 0, MODERN, 16);
    drop(served);

    // The next server has a daemon again.
    let mut process = Process::start(&socket);
    let remote = Arc::new(Remote::connect("vsock", &socket, None).unwrap());
    let served = Served::start(&fake, vec![remote, disk(&path)]);
    fake.store(0, 0x70, 0);
    let mut ring = Ring::probe(&fake, 0, MODERN, 16);
    fill(&mut ring, 0);
    assert_eq!(execute(&mut blocks, 0, 4, 512), (0, 513));
    drop(served);
    process.kill();
}

#[test]
fn a_daemon_that_does_not_answer_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let (answer, answered) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let error = Remote::connect("vsock", &socket, None).err();
        answer.send(error.map(|error| format!("{error:#}"))).unwrap();
    });
    let (_silent, _) = listener.accept().unwrap();
    let error = answered.recv_timeout(std::time::Duration::from_secs(30)).unwrap().unwrap();
    assert!(error.starts_with("the daemon at /"), "{error}");
}

#[test]
fn a_filesystem_has_the_tag_that_is_given_where_its_daemon_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let told = |tag: Option<&str>| {
        let place = tempfile::tempdir_in(folder.path()).unwrap().keep();
        let protocol = VhostUserProtocolFeatures::empty();
        let (socket, _) = start(&place, Filler { protocol, ..filler(1 << 32) });
        let remote = Remote::connect("fs", &socket, tag);
        remote.map(|remote| remote.config()).map_err(|error| format!("{error:#}"))
    };
    let config = told(Some("share")).unwrap();
    assert_eq!(config.len(), 40);
    assert_eq!((&config[..6], &config[35..]), (&b"share\0"[..], &[0, 1, 0, 0, 0][..]));
    assert_eq!(told(Some(&"x".repeat(36))).unwrap()[..36], [b'x'; 36]);
    assert!(told(Some(&"x".repeat(37))).unwrap_err().contains("more than 36 bytes"));
    for none in [None, Some("")] {
        assert!(told(none).unwrap_err().contains("fs=SOCKET:TAG"));
    }
}

#[test]
fn what_is_no_daemon_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing");
    let error = |word| Remote::connect(word, &nothing, None).err().unwrap().to_string();
    assert!(error("vsock").contains("no daemon for vsock listens at"), "{}", error("vsock"));
    assert!(error("9p").contains("net, blk, console"), "{}", error("9p"));
    let (socket, _) = daemon(folder.path(), 0);
    let old = Remote::connect("vsock", &socket, None).err().map(|error| format!("{error:#}"));
    assert!(old.unwrap().contains("take a newer one"));
}
