// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk: a raw file or a block device (virtio 5.2).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use virtio_bindings::virtio_blk::*;

use super::{Device, Handler, Outcome, bit};
use crate::chain::Chain;
use crate::{counters, sys};

const ID: u32 = 2;
const SECTOR: u64 = 512;
const QUEUE_SIZE: u16 = 256;
/// Most buffers of a request, so that a pool of the guest's is not used up by one (virtio 5.2.4, seg_max).
const SEGMENTS: u32 = 126;
/// Ranges of one DISCARD or WRITE_ZEROES.
const RANGES: u32 = 16;
/// Sectors of one such range.
const RANGE_SECTORS: u32 = 1 << 22;

/// A disk.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    read_only: bool,
    sectors: u64,
}

impl Disk {
    /// Opens `path`, and locks it so that no other server writes to it.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do.
    pub fn open(path: &Path, read_only: bool) -> Result<Self> {
        let shown = path.display();
        let mut file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(path)
            .with_context(|| format!("cannot open {shown}"))?;
        let kind = file.metadata().with_context(|| shown.to_string())?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            bail!("{shown} is neither a file nor a block device");
        }
        let locked = if read_only { file.try_lock_shared() } else { file.try_lock() };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "{shown} is in use by another server: give each VM its own file, or use :ro in all"
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {shown}"));
            }
        }
        // Also of a block device, whose metadata has no size.
        let bytes = file.seek(SeekFrom::End(0)).with_context(|| shown.to_string())?;
        if bytes < SECTOR || bytes % SECTOR != 0 {
            bail!("{shown} has {bytes} bytes: a disk has a multiple of 512, and at least that");
        }
        Ok(Self { file, path: path.to_owned(), read_only, sectors: bytes / SECTOR })
    }
}

impl Device for Disk {
    fn id(&self) -> u32 {
        ID
    }

    fn features(&self) -> u64 {
        let always =
            bit(VIRTIO_BLK_F_SEG_MAX) | bit(VIRTIO_BLK_F_BLK_SIZE) | bit(VIRTIO_BLK_F_FLUSH);
        if self.read_only {
            always | bit(VIRTIO_BLK_F_RO)
        } else {
            always | bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES)
        }
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    /// `struct virtio_blk_config` (virtio 5.2.4).
    fn config(&self) -> Vec<u8> {
        let mut config = Vec::with_capacity(60);
        config.extend(self.sectors.to_le_bytes());
        config.extend(0_u32.to_le_bytes()); // size_max: not offered
        config.extend(SEGMENTS.to_le_bytes());
        config.extend([0; 4]); // geometry: not offered
        config.extend((SECTOR as u32).to_le_bytes()); // blk_size
        config.extend([0; 8]); // topology: not offered
        config.extend([0, 0]); // writeback: not offered
        config.extend(1_u16.to_le_bytes()); // num_queues
        config.extend(RANGE_SECTORS.to_le_bytes()); // max_discard_sectors
        config.extend(RANGES.to_le_bytes()); // max_discard_seg
        config.extend(8_u32.to_le_bytes()); // discard_sector_alignment: holes are of 4 KiB
        config.extend(RANGE_SECTORS.to_le_bytes()); // max_write_zeroes_sectors
        config.extend(RANGES.to_le_bytes()); // max_write_zeroes_seg
        config.extend([1, 0, 0, 0]); // write_zeroes_may_unmap
        config
    }

    fn handler(&self, _queue: u8, features: u64) -> io::Result<Box<dyn Handler>> {
        let name = self.path.file_name().unwrap_or_default().as_encoded_bytes();
        let mut serial = [0; VIRTIO_BLK_ID_BYTES as usize];
        for (to, from) in serial.iter_mut().zip(name) {
            *to = *from;
        }
        Ok(Box::new(Requests {
            file: self.file.try_clone()?,
            serial,
            read_only: self.read_only,
            // A driver without FLUSH relies on each write being stable (virtio 5.2.6.2).
            write_through: features & bit(VIRTIO_BLK_F_FLUSH) == 0,
            bytes: self.sectors.saturating_mul(SECTOR),
        }))
    }
}

/// The requests of one queue.
struct Requests {
    file: File,
    serial: [u8; VIRTIO_BLK_ID_BYTES as usize],
    read_only: bool,
    write_through: bool,
    bytes: u64,
}

/// Status of a request (virtio 5.2.6).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok = VIRTIO_BLK_S_OK as isize,
    Error = VIRTIO_BLK_S_IOERR as isize,
    Unsupported = VIRTIO_BLK_S_UNSUPP as isize,
}

impl From<io::Error> for Status {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Self::Unsupported,
            _ => Self::Error,
        }
    }
}

impl Handler for Requests {
    fn handle(&mut self, chain: &mut Chain<'_>, counters: &counters::Queue) -> Outcome {
        // The status is the last byte that the device writes.
        let (Some(mut end), Some(header)) = (chain.split_writable(1), chain.take::<16>()) else {
            counters.malformed.add(1);
            return Outcome::Done;
        };
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
        let status = match self.execute(
            u32::from_le_bytes([k0, k1, k2, k3]),
            u64::from_le_bytes(sector),
            chain,
            counters,
        ) {
            Ok(()) => Status::Ok,
            Err(status) => {
                counters.errors.add(1);
                status
            }
        };
        // The length in the used ring counts up to the status only if all before it was written (virtio 2.7.8.2).
        let complete = chain.to_write() == 0;
        end.put(&[status as u8]);
        if complete {
            chain.add_written(end.written());
        }
        Outcome::Done
    }
}

impl Requests {
    fn execute(
        &self,
        kind: u32,
        sector: u64,
        chain: &mut Chain<'_>,
        counters: &counters::Queue,
    ) -> Result<(), Status> {
        match kind {
            VIRTIO_BLK_T_IN => {
                let mut offset = self.place(sector, chain.to_write())?;
                while chain.to_write() != 0 {
                    let count = retry(|| sys::read_at(&self.file, chain.writable(), offset))?;
                    counters.bytes_out.add(count as u64);
                    offset = offset.saturating_add(count as u64);
                    chain.skip_writable(count);
                }
                Ok(())
            }
            VIRTIO_BLK_T_OUT => {
                self.writes()?;
                let mut offset = self.place(sector, chain.to_read())?;
                while chain.to_read() != 0 {
                    let count = retry(|| sys::write_at(&self.file, chain.readable(), offset))?;
                    counters.bytes_in.add(count as u64);
                    offset = offset.saturating_add(count as u64);
                    chain.skip_readable(count);
                }
                self.stable()
            }
            VIRTIO_BLK_T_FLUSH => Ok(self.file.sync_data()?),
            VIRTIO_BLK_T_GET_ID => {
                chain.put(&self.serial);
                Ok(())
            }
            VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => self.ranges(kind, chain),
            _ => Err(Status::Unsupported),
        }
    }

    /// `struct virtio_blk_discard_write_zeroes` for each range (virtio 5.2.6).
    fn ranges(&self, kind: u32, chain: &mut Chain<'_>) -> Result<(), Status> {
        self.writes()?;
        let bytes = chain.to_read();
        if bytes == 0 || !bytes.is_multiple_of(16) || bytes / 16 > RANGES as usize {
            return Err(Status::Error);
        }
        while let Some([s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..]) =
            chain.take::<16>()
        {
            let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
            let count = u32::from_le_bytes([n0, n1, n2, n3]);
            let unmap = u32::from_le_bytes(flags);
            let discard = kind == VIRTIO_BLK_T_DISCARD;
            // Bit 0 is unmap, which DISCARD must not have; the others are reserved (virtio 5.2.6.2).
            if unmap & !1 != 0 || discard && unmap != 0 {
                return Err(Status::Unsupported);
            }
            if count > RANGE_SECTORS {
                return Err(Status::Error);
            }
            let length = u64::from(count).saturating_mul(SECTOR);
            let offset = self.place(sector, length as usize)?;
            if length == 0 {
                continue;
            }
            let hole = discard || unmap == 1;
            match sys::clear(&self.file, hole, offset, length) {
                // A hint only (virtio 5.2.6.2).
                Err(error) if discard && error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                result => result?,
            }
        }
        self.stable()
    }

    /// Where a request of `count` bytes is in the file.
    fn place(&self, sector: u64, count: usize) -> Result<u64, Status> {
        let offset = sector.checked_mul(SECTOR).ok_or(Status::Error)?;
        let end = offset.checked_add(count as u64).ok_or(Status::Error)?;
        if end > self.bytes || !(count as u64).is_multiple_of(SECTOR) {
            return Err(Status::Error);
        }
        Ok(offset)
    }

    fn writes(&self) -> Result<(), Status> {
        if self.read_only { Err(Status::Error) } else { Ok(()) }
    }

    fn stable(&self) -> Result<(), Status> {
        if self.write_through {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// Again after a signal. No byte at all is an error: the file has become shorter.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> Result<usize, Status> {
    loop {
        match call() {
            Ok(0) => return Err(Status::Error),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Ok(result?),
        }
    }
}
