// SPDX-License-Identifier: MIT OR Apache-2.0
//! `portcullis-stream`: one end of a byte stream, at a vsock address or a Unix socket. A small root has no other program for
//! these: a client tries its vsock device by it, and a device VM talks to the sockets of its daemons and of `--stats`.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use vsock::{VMADDR_CID_ANY, VsockListener, VsockStream};

/// How often it is tried to connect: the other end may not listen yet.
const ATTEMPTS: u32 = 100;
/// How long before that.
const PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of an answer to CONNECT.
const ANSWER: usize = 32;

/// One end of a byte stream
#[derive(Debug, Parser)]
#[command(name = "portcullis-stream", version)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Sends standard input, then closes the stream
    Send(End),
    /// Writes what comes to standard output, until the other end closes the stream
    Receive(End),
    /// Says this VM's own CID
    Cid,
}

#[derive(Debug, clap::Args)]
struct End {
    /// vsock:CID:PORT or unix:PATH
    address: Address,
    /// Wait there for one connection, at any CID, rather than connect
    #[arg(long)]
    listen: bool,
    /// Ask the daemon of a vsock device, which listens there, for this port of its VM
    #[arg(long, value_name = "PORT", conflicts_with = "listen")]
    connect: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Vsock(u32, u32),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "vsock:CID:PORT or unix:PATH is wanted, such as vsock:2:1024";
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("vsock", rest)) => {
                let (cid, port) = rest.split_once(':').ok_or(WANTED)?;
                let (cid, port) = (cid.parse(), port.parse());
                Ok(Self::Vsock(cid.map_err(|_| WANTED)?, port.map_err(|_| WANTED)?))
            }
            _ => Err(WANTED),
        }
    }
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl Address {
    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Vsock(_, port) => {
                Box::new(VsockListener::bind_with_cid_port(VMADDR_CID_ANY, *port)?.accept()?.0)
            }
            Self::Unix(path) => Box::new(UnixListener::bind(path)?.accept()?.0),
        })
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Vsock(cid, port) => Box::new(VsockStream::connect_with_cid_port(*cid, *port)?),
            Self::Unix(path) => Box::new(UnixStream::connect(path)?),
        })
    }
}

/// Has the daemon connect `stream` to `port` of its VM: a line with CONNECT, and one with OK as the answer.
fn ask_for(stream: &mut dyn Stream, port: u32) -> Result<()> {
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut answer = Vec::new();
    // One by one: what is behind the line is the VM's.
    while answer.last() != Some(&b'\n') && answer.len() < ANSWER {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("it does not take the connection")?;
        answer.extend(byte);
    }
    match answer.starts_with(b"OK ") {
        true => Ok(()),
        false => bail!("it answers {}", String::from_utf8_lossy(&answer).trim()),
    }
}

fn open(end: &End) -> Result<Box<dyn Stream>> {
    if end.listen {
        return Ok(end.address.accept()?);
    }
    let once = || -> Result<Box<dyn Stream>> {
        let mut stream = end.address.connect()?;
        if let Some(port) = end.connect {
            ask_for(&mut stream, port)?;
        }
        Ok(stream)
    };
    let mut result = once();
    for _ in 1..ATTEMPTS {
        if result.is_ok() {
            break;
        }
        thread::sleep(PAUSE);
        result = once();
    }
    result
}

fn run(options: &Options) -> Result<()> {
    let opened = |end: &End| open(end).with_context(|| format!("{:?}", end.address));
    match &options.what {
        What::Send(end) => io::copy(&mut io::stdin().lock(), &mut opened(end)?).map(drop)?,
        What::Receive(end) => io::copy(&mut opened(end)?, &mut io::stdout().lock()).map(drop)?,
        What::Cid => println!("{}", vsock::get_local_cid().context("/dev/vsock")?),
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-stream: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_vsock_or_a_unix_socket() {
        assert_eq!("vsock:2:1024".parse(), Ok(Address::Vsock(2, 1024)));
        assert_eq!("unix:/run/a:b".parse(), Ok(Address::Unix("/run/a:b".into())));
        for bad in ["", "unix:", "vsock:2", "vsock:2:x", "vsock:-1:2", "tcp:1:2"] {
            assert!(bad.parse::<Address>().unwrap_err().contains("vsock:CID:PORT"), "{bad}");
        }
    }

    /// A daemon that reads the request, and answers with `answer`, and more behind it.
    fn asked(answer: &'static [u8]) -> Result<Vec<u8>> {
        let (mut ours, mut daemon) = UnixStream::pair().unwrap();
        let daemon = thread::spawn(move || {
            let mut request = [0; 13];
            daemon.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"CONNECT 1024\n");
            daemon.write_all(answer).unwrap();
        });
        let result = ask_for(&mut ours, 1024);
        daemon.join().unwrap();
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).unwrap();
        result.map(|()| rest)
    }

    #[test]
    fn a_daemon_is_asked_for_a_port_and_what_is_behind_its_answer_is_kept() {
        assert_eq!(asked(b"OK 1073741824\nthe VM's").unwrap(), b"the VM's");
        for bad in [&b""[..], b"OK 10", b"ERROR\n"] {
            assert!(asked(bad).is_err(), "{bad:?}");
        }
        let endless = [b'O'; 64];
        let error = format!("{:#}", asked(Box::leak(Box::new(endless))).unwrap_err());
        assert!(error.contains("it answers OOO"), "{error}");
    }
}
