// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two interfaces of the operating system that no library offers without `unsafe`: requests of the module, and reads
//! and writes of a file at an offset into and out of guest memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_ulong, iovec, off_t};
use vm_memory::VolatileSlice;
use vmm_sys_util::ioctl::ioctl_with_mut_ref;

use crate::uapi::Request;

/// Most pieces of memory of one call: Linux' UIO_MAXIOV.
pub const PIECES: usize = 1024;

/// Sends a request to the module behind `node`. It reads or writes `argument`, or both, as the request says.
///
/// # Errors
///
/// The module's, such as ESTALE.
pub fn request<T>(node: &File, request: Request<T>, argument: &mut T) -> io::Result<()> {
    let number = c_ulong::from(request.number());
    // SAFETY: the number holds the size of `T` (uapi.rs), so that the kernel copies no more than `argument`, which is alive
    // and exclusive during the call. Each `T` there is made of integers: every value that is copied into it is valid.
    check(unsafe { ioctl_with_mut_ref(node, number, argument) } as isize).map(drop)
}

/// Reads from `offset` of `file` into `memory`, as far as one call does. Answers the number of bytes.
///
/// # Errors
///
/// Those of preadv(2).
pub fn read_at(file: &File, memory: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let (guards, offset) = (memory.iter().map(VolatileSlice::ptr_guard_mut), position(offset)?);
    let guards: Vec<_> = guards.take(PIECES).collect();
    let pieces = guards.iter().map(|guard| piece(guard.as_ptr(), guard.len()));
    let pieces: Vec<iovec> = pieces.collect();
    // SAFETY: each piece is a `VolatileSlice`, mapped memory that stays mapped while `memory` is borrowed, and of which no
    // Rust reference exists: the guest may change it at any time, as the kernel does here. `pieces` has `count` elements.
    let read = unsafe { libc::preadv(file.as_raw_fd(), pieces.as_ptr(), count(&pieces), offset) };
    check(read)
}

/// Writes `memory` at `offset` of `file`, as far as one call does. Answers the number of bytes.
///
/// # Errors
///
/// Those of pwritev(2).
pub fn write_at(file: &File, memory: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let (guards, offset) = (memory.iter().map(VolatileSlice::ptr_guard), position(offset)?);
    let guards: Vec<_> = guards.take(PIECES).collect();
    let pieces = guards.iter().map(|guard| piece(guard.as_ptr().cast_mut(), guard.len()));
    let pieces: Vec<iovec> = pieces.collect();
    // SAFETY: as in `read_at`. The kernel only reads the memory, so that the cast of the pointer takes nothing away.
    let written =
        unsafe { libc::pwritev(file.as_raw_fd(), pieces.as_ptr(), count(&pieces), offset) };
    check(written)
}

/// Zeros `bytes` bytes from `offset` of `file` on, with `hole` by giving their blocks back to the filesystem.
///
/// # Errors
///
/// Those of fallocate(2): EOPNOTSUPP where the filesystem cannot.
pub fn clear(file: &File, hole: bool, offset: u64, bytes: u64) -> io::Result<()> {
    let mode = if hole { libc::FALLOC_FL_PUNCH_HOLE } else { libc::FALLOC_FL_ZERO_RANGE };
    let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
    let (offset, bytes) = (position(offset)?, position(bytes)?);
    // SAFETY: no memory is passed.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, bytes) } as isize).map(drop)
}

/// Reads what `file`, which has no offset, has now: a packet of a tap device, or input of a terminal.
///
/// # Errors
///
/// Those of readv(2).
pub fn read<F: AsFd>(file: &F, memory: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let guards: Vec<_> = memory.iter().take(PIECES).map(VolatileSlice::ptr_guard_mut).collect();
    let pieces = guards.iter().map(|guard| piece(guard.as_ptr(), guard.len()));
    let pieces: Vec<iovec> = pieces.collect();
    // SAFETY: as in `read_at`.
    check(unsafe { libc::readv(file.as_fd().as_raw_fd(), pieces.as_ptr(), count(&pieces)) })
}

/// Writes `memory` to `file`, which has no offset: one packet of a tap device, or output of a terminal.
///
/// # Errors
///
/// Those of writev(2).
pub fn write<F: AsFd>(file: &F, memory: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let guards: Vec<_> = memory.iter().take(PIECES).map(VolatileSlice::ptr_guard).collect();
    let pieces = guards.iter().map(|guard| piece(guard.as_ptr().cast_mut(), guard.len()));
    let pieces: Vec<iovec> = pieces.collect();
    // SAFETY: as in `write_at`.
    check(unsafe { libc::writev(file.as_fd().as_raw_fd(), pieces.as_ptr(), count(&pieces)) })
}

fn piece(start: *mut u8, bytes: usize) -> iovec {
    iovec { iov_base: start.cast(), iov_len: bytes }
}

/// At most [`PIECES`].
fn count(pieces: &[iovec]) -> c_int {
    c_int::try_from(pieces.len()).unwrap_or(0)
}

fn position(offset: u64) -> io::Result<off_t> {
    off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
