// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel module's node of one peer, `/dev/portcullis/NAME`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::port::{Event, Memory, Port, Register};
use crate::{sys, uapi};

/// An open node. Closing it detaches.
#[derive(Debug)]
pub struct Module {
    node: Arc<File>,
}

impl Module {
    /// Where the node of the peer `name` is.
    #[must_use]
    pub fn path(name: &str) -> PathBuf {
        Path::new("/dev/portcullis").join(name)
    }

    /// Opens a node.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let node = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(node) => node,
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => bail!(
                    "{shown} is missing: load the module portcullis, and see that vm.role=device is this VM's word and \
                     vm.devices=THIS_VM:.. the other's"
                ),
                Some(libc::EBUSY) => bail!("{shown} has a server already: end that one first"),
                Some(libc::EACCES) => bail!("{shown}: no permission: join the group of the node"),
                _ => return Err(error).with_context(|| shown.to_string()),
            },
        };
        let module = Self { node: Arc::new(node) };
        let info = module.info();
        info.with_context(|| format!("{shown} is no node of the module portcullis"))?;
        Ok(module)
    }

    fn request<T>(&self, request: uapi::Request<T>, mut argument: T) -> io::Result<T> {
        sys::request(&self.node, request, &mut argument)?;
        Ok(argument)
    }
}

impl Port for Module {
    fn info(&self) -> io::Result<uapi::Info> {
        self.request(uapi::INFO, uapi::Info::default())
    }

    fn attach(&self, life: u64) -> io::Result<()> {
        self.request(uapi::ATTACH, life).map(drop)
    }

    fn detach(&self) -> io::Result<()> {
        self.request(uapi::DETACH, ())
    }

    fn window(&self, info: &uapi::Info) -> io::Result<Memory> {
        window(&self.node, info)
    }

    fn file(&self) -> &File {
        &self.node
    }

    fn get(&self, transport: u32, register: Register) -> io::Result<u64> {
        let reg = uapi::Reg { transport, reg: register.number(), value: 0 };
        self.request(uapi::REG_GET, reg).map(|reg| reg.value)
    }

    fn set(&self, transport: u32, register: Register, value: u64) -> io::Result<()> {
        let reg = uapi::Reg { transport, reg: register.number(), value };
        self.request(uapi::REG_SET, reg).map(drop)
    }

    fn set_config(&self, transport: u32, offset: u8, bytes: &[u8]) -> io::Result<()> {
        let mut data = [0; uapi::CONFIG_SPACE];
        let part = data.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
        part.copy_from_slice(bytes);
        let len = bytes.len() as u32;
        let config = uapi::Config { transport, offset: offset.into(), len, pad: 0, data };
        self.request(uapi::CONFIG, config).map(drop)
    }

    fn signal(&self, event: Event, fd: &EventFd) -> io::Result<()> {
        let (kind, transport, queue) = match event {
            Event::Queue(transport, queue) => (uapi::FD_QUEUE, transport, queue.into()),
            Event::Transport(transport) => (uapi::FD_EVENT, transport, 0),
            Event::Life => (uapi::FD_LIFE, 0, 0),
            Event::Call(transport, bits) => (uapi::FD_CALL, transport, bits),
        };
        let fd = uapi::Fd { kind, transport, queue, fd: fd.as_raw_fd() };
        self.request(uapi::SET_FD, fd).map(drop)
    }

    fn interrupt(&self, transport: u32, bits: u32) -> io::Result<()> {
        self.request(uapi::IRQ, uapi::Irq { transport, bits }).map(drop)
    }

    fn event_done(&self, transport: u32, seq: u32) -> io::Result<()> {
        self.request(uapi::EVENT_DONE, uapi::Done { transport, seq }).map(drop)
    }
}

/// Maps all of `file`, shared, at the peer's addresses.
///
/// # Errors
///
/// That of mmap(2), and a window that does not fit this process.
pub fn window(file: &Arc<File>, info: &uapi::Info) -> io::Result<Memory> {
    let bytes = usize::try_from(info.ram_size).map_err(io::Error::other)?;
    let whole = FileOffset::from_arc(Arc::clone(file), 0);
    let region = MmapRegion::from_file(whole, bytes).map_err(io::Error::other)?;
    let region = GuestRegionMmap::new(region, GuestAddress(info.ram_base));
    let region = region.ok_or_else(|| io::Error::other("the window is beyond 2^64"))?;
    GuestMemoryMmap::from_regions(vec![region]).map_err(io::Error::other)
}
