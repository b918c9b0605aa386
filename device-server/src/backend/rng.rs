// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entropy (virtio 5.4), from the kernel's generator.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};

use super::{Device, Handler, Outcome};
use crate::chain::Chain;
use crate::{counters, sys};

/// Most bytes of a request, so that a guest cannot keep a thread at it.
const MOST: usize = 4096;

/// The source. It is /dev/random: other than /dev/urandom, it gives nothing before the kernel's generator is seeded.
#[derive(Debug)]
pub struct Entropy(File);

impl Entropy {
    /// Opens the source.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open() -> Result<Self> {
        let source =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/random");
        source.map(Self).context("cannot open /dev/random")
    }
}

impl Device for Entropy {
    fn id(&self) -> u32 {
        4
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> &[u16] {
        &[64]
    }

    fn handler(&self, _queue: u8, _features: u64) -> io::Result<Box<dyn Handler>> {
        Ok(Box::new(Requests(self.0.try_clone()?)))
    }
}

struct Requests(File);

impl Handler for Requests {
    fn handle(&mut self, chain: &mut Chain<'_>, counters: &counters::Queue) -> Outcome {
        chain.limit_writable(MOST);
        match sys::read(&self.0, chain.writable()) {
            Ok(count) => {
                chain.skip_writable(count);
                counters.bytes_out.add(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Outcome::Wait { fd: self.0.as_raw_fd(), write: false };
            }
            Err(_) => counters.errors.add(1),
        }
        Outcome::Done
    }
}
