// SPDX-License-Identifier: MIT OR Apache-2.0
//! A console (virtio 5.3) with one port, at a terminal that is made for it or at standard input and output.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use vmm_sys_util::eventfd::EventFd;

use super::{Device, Handler, Outcome};
use crate::chain::Chain;
use crate::{counters, sys};

/// What is done with output that cannot be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// It is lost. Linux' driver spins with interrupts off until its buffer is used, so that a terminal that nobody reads
    /// would stop the VM.
    Drop,
    /// The queue waits.
    Wait,
}

/// A console.
#[derive(Debug)]
pub struct Console {
    input: File,
    output: File,
    full: Full,
    /// Never signalled: what is waited for at the end of the input.
    never: Arc<EventFd>,
    /// Held open, so that a reader that leaves does not hang the terminal up.
    _other: Option<File>,
}

impl Console {
    /// Makes a terminal. Answers its name.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn pty() -> Result<(Self, PathBuf)> {
        let (master, name) = sys::pty().context("cannot make a terminal for the console")?;
        let other =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&name);
        let other = other.with_context(|| name.display().to_string())?;
        let console = Self::at(master.try_clone()?, master, Full::Drop)?;
        Ok((Self { _other: Some(other), ..console }, name))
    }

    /// Takes standard input and output. They are opened anew, so that they do not block here and still block for others.
    ///
    /// # Errors
    ///
    /// One of them cannot be opened.
    pub fn stdio() -> Result<Self> {
        let open = |options: &mut OpenOptions, name| {
            let opened = options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(name);
            opened.with_context(|| format!("the console cannot open {name}"))
        };
        let input = open(OpenOptions::new().read(true), "/dev/stdin")?;
        let output = open(OpenOptions::new().append(true), "/dev/stdout")?;
        Self::at(input, output, Full::Wait)
    }

    /// A console at two files that do not block.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn at(input: File, output: File, full: Full) -> Result<Self> {
        let never = Arc::new(EventFd::new(libc::EFD_CLOEXEC)?);
        Ok(Self { input, output, full, never, _other: None })
    }
}

impl Device for Console {
    fn id(&self) -> u32 {
        3
    }

    fn features(&self) -> u64 {
        0
    }

    /// receiveq, transmitq of port 0.
    fn queues(&self) -> &[u16] {
        &[64, 64]
    }

    fn handler(&self, queue: u8, _features: u64) -> io::Result<Box<dyn Handler>> {
        Ok(if queue == 0 {
            let never = Arc::clone(&self.never);
            Box::new(Input { file: self.input.try_clone()?, never, ended: false })
        } else {
            Box::new(Output { file: self.output.try_clone()?, full: self.full })
        })
    }
}

struct Input {
    file: File,
    never: Arc<EventFd>,
    ended: bool,
}

impl Handler for Input {
    fn handle(&mut self, chain: &mut Chain<'_>, counters: &counters::Queue) -> Outcome {
        if chain.to_write() == 0 {
            counters.malformed.add(1);
            return Outcome::Done;
        }
        if self.ended {
            return Outcome::Wait { fd: self.never.as_raw_fd(), write: false };
        }
        match sys::read(&self.file, chain.writable()) {
            Ok(count) if count != 0 => {
                chain.skip_writable(count);
                counters.bytes_out.add(count as u64);
                Outcome::Done
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Outcome::Wait { fd: self.file.as_raw_fd(), write: false }
            }
            // The end of the input: the driver's buffers stay where they are.
            _ => {
                self.ended = true;
                Outcome::Wait { fd: self.never.as_raw_fd(), write: false }
            }
        }
    }
}

struct Output {
    file: File,
    full: Full,
}

impl Handler for Output {
    fn handle(&mut self, chain: &mut Chain<'_>, counters: &counters::Queue) -> Outcome {
        while chain.to_read() != 0 {
            match sys::write(&self.file, chain.readable()) {
                Ok(count) if count != 0 => {
                    chain.skip_readable(count);
                    counters.bytes_in.add(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && self.full == Full::Wait =>
                {
                    return Outcome::Wait { fd: self.file.as_raw_fd(), write: true };
                }
                _ => {
                    counters.errors.add(1);
                    break;
                }
            }
        }
        Outcome::Done
    }
}
