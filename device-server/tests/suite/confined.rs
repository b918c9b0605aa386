// SPDX-License-Identifier: MIT OR Apache-2.0
//! The filter of system calls: the server works under it, and a process that does more is killed. Each case is a process.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use device_server::backend::console::Console;
use device_server::backend::rng::Entropy;
use device_server::seccomp::confine;
use device_server::stats;

use crate::driver::{MODERN, Ring, WRITE};
use crate::fake::Fake;
use crate::served::{BUFFERS, Request, Served, disk, execute};

const CASE: &str = "PORTCULLIS_CONFINED";
/// Where its files are: a confined process cannot remove them.
const FOLDER: &str = "PORTCULLIS_CONFINED_FOLDER";

/// Runs [`child`] in a process of its own. Answers the signal that ended it.
fn case(name: &str) -> (Option<i32>, bool) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let folder = tempfile::tempdir().unwrap();
    command.args(["--exact", "confined::child", "--nocapture"]);
    command.env(CASE, name).env(FOLDER, folder.path());
    let output = command.output().unwrap();
    (output.status.signal(), output.status.success())
}

#[test]
fn a_confined_server_serves() {
    assert_eq!(case("serves"), (None, true));
}

#[test]
fn a_confined_process_that_does_more_is_killed() {
    for name in ["opens", "connects", "executes", "maps code"] {
        assert_eq!(case(name), (Some(libc::SIGSYS), false), "{name}");
    }
}

#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    if case == "serves" {
        serves();
        return;
    }
    confine().unwrap();
    match case.as_str() {
        "opens" => drop(File::open("/dev/null")),
        "connects" => drop(UnixStream::connect("/nothing")),
        "executes" => drop(Command::new("/bin/true").status()),
        _ => {
            let executable = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = vm_memory::MmapRegion::<()>::build(None, 4096, executable, flags);
            drop(map);
        }
    }
}

/// All back ends, a reset, two lives of the peer, and the counters.
fn serves() {
    let fake = Fake::new(&[2, 4, 3]);
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let (path, socket) = (folder.join("disk"), folder.join("stats"));
    std::fs::write(&path, [0; 32 << 10]).unwrap();
    let (console, _name) = Console::pty().unwrap();
    let listener = stats::listen(&socket).unwrap();
    let waiting = UnixStream::connect(&socket).unwrap();
    let entropy = Arc::new(Entropy::open().unwrap());
    let served = Served::start(&fake, vec![disk(&path), entropy, Arc::new(console)]);
    let ram = fake.ram();
    confine().unwrap();
    for _ in 0..2 {
        for _ in 0..2 {
            let mut ring = Ring::probe_with(&fake, 0, u64::MAX, 64, ram.clone());
            for (kind, len) in [(0, 512), (1, 512), (4, 0), (8, 20), (11, 16), (13, 16)] {
                Request(0).write(&ring, &[0; 512]);
                let status = execute(&mut ring, kind, 1, len).0;
                assert!(status != 1, "{kind}");
            }
            fake.store(0, 0x70, 0);
        }
        let mut ring = Ring::probe_with(&fake, 1, MODERN, 64, ram.clone());
        ring.chain(0, &[(BUFFERS, 64, WRITE)]);
        ring.offer(0);
        ring.kick();
        assert_eq!(ring.wait(1), [(0, 64)]);
        let mut ring = Ring::probe_with(&fake, 2, MODERN, 64, ram.clone());
        ring.chain(0, &[(BUFFERS, 64, WRITE)]);
        ring.offer(0);
        ring.kick();
        let lives = served.server().attachments();
        fake.stop();
        fake.start();
        fake.attachments(lives + 1);
    }
    stats::answer(listener, served.server()).unwrap();
    // One answer comes in one piece.
    let mut line = [0; 4096];
    let count = File::from(OwnedFd::from(waiting)).read(&mut line).unwrap();
    let line = String::from_utf8_lossy(&line[..count]);
    assert!(line.contains(r#""vm":"web""#), "{line}");
    drop(served);
}
