// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls of the kernel. `unsafe` are those that no library offers otherwise: requests of the module, reads and writes of files into
//! and out of guest memory, and the making of tap devices.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use libc::{c_int, c_ulong, iovec, off_t};
use rustix::fs::{FallocateFlags, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;
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
    let mode = if hole { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
    Ok(rustix::fs::fallocate(file, mode | FallocateFlags::KEEP_SIZE, offset, bytes)?)
}

/// Reads what `file`, which has no offset, has now: a packet of a tap device, or input of a terminal.
///
/// # Errors
///
/// Those of readv(2).
pub fn read(file: &File, memory: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let guards: Vec<_> = memory.iter().take(PIECES).map(VolatileSlice::ptr_guard_mut).collect();
    let pieces = guards.iter().map(|guard| piece(guard.as_ptr(), guard.len()));
    let pieces: Vec<iovec> = pieces.collect();
    // SAFETY: as in `read_at`.
    check(unsafe { libc::readv(file.as_raw_fd(), pieces.as_ptr(), count(&pieces)) })
}

/// Writes `memory` to `file`, which has no offset: one packet of a tap device, or output of a terminal.
///
/// # Errors
///
/// Those of writev(2).
pub fn write(file: &File, memory: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let guards: Vec<_> = memory.iter().take(PIECES).map(VolatileSlice::ptr_guard).collect();
    let pieces = guards.iter().map(|guard| piece(guard.as_ptr().cast_mut(), guard.len()));
    let pieces: Vec<iovec> = pieces.collect();
    // SAFETY: as in `write_at`.
    check(unsafe { libc::writev(file.as_raw_fd(), pieces.as_ptr(), count(&pieces)) })
}

/// Joins `tap` to the tap device `name`, which is there or which this process may make. Packets have no header.
///
/// # Errors
///
/// Those of TUNSETIFF: EPERM, EBUSY, EINVAL for a device that is no tap. A name that is too long.
pub fn join_tap(tap: &File, name: &str) -> io::Result<()> {
    const TUNSETIFF: c_ulong = 0x4004_54ca;
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as u16;
    // struct ifreq: the name with a zero, the flags, and the rest of a union.
    let mut request = [0_u8; 40];
    let (start, rest) = request.split_at_mut(libc::IFNAMSIZ);
    let place = start.get_mut(..name.len()).filter(|_| name.len() < libc::IFNAMSIZ);
    place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
    for (to, from) in rest.iter_mut().zip(flags.to_ne_bytes()) {
        *to = from;
    }
    // SAFETY: the kernel reads and writes a struct ifreq, which `request` is as large as, and which is alive.
    check(unsafe { ioctl_with_mut_ref(tap, TUNSETIFF, &mut request) } as isize).map(drop)
}

/// Makes a terminal in raw mode: its master, which does not block, and the name of the other side.
///
/// # Errors
///
/// Those of posix_openpt(3) and what follows it.
pub fn pty() -> io::Result<(File, PathBuf)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let mut mode = rustix::termios::tcgetattr(&master)?;
    mode.make_raw();
    rustix::termios::tcsetattr(&master, OptionalActions::Now, &mode)?;
    Ok((File::from(master), OsStr::from_bytes(name.to_bytes()).into()))
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
