// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM that another one serves: `vm.devices`, `vm.forward`, `vm.share`, `vm.iotimeout` and `vm.onloss`.

use crate::error::{Error, err};
use crate::vm::parse_number::{self, number};
use crate::vm::share::{ShareLevel, ShareOption};
use alloc::string::String;
use alloc::vec::Vec;
use arch::guest_map::{MAX_TRANSPORTS, TRANSPORT_SIZE, transport_ipa};
use arch::{Ipa, OnLoss, PAGE_SIZE, Range};
use core::fmt;
use core::num::NonZeroU32;

/// Most ranges in `vm.forward`.
pub const MAX_FORWARDED: usize = 8;
/// Seconds that a forwarded access may take without `vm.iotimeout`.
pub const DEFAULT_IO_TIMEOUT: u32 = 30;
/// Most seconds in `vm.iotimeout`: a day.
pub const MAX_IO_TIMEOUT: u32 = 86_400;

/// Kinds of devices, with their numbers (virtio 1.2, section 5).
const KINDS: [(&str, u32); 12] = [
    ("net", 1),
    ("blk", 2),
    ("console", 3),
    ("rng", 4),
    ("scsi", 8),
    ("9p", 9),
    ("input", 18),
    ("vsock", 19),
    ("sound", 25),
    ("fs", 26),
    ("i2c", 34),
    ("gpio", 41),
];

/// DeviceID of a virtio device. 0 is no device (virtio 1.2, section 4.2.2), and cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId(NonZeroU32);

impl DeviceId {
    /// `id` as a DeviceID; `None` for 0.
    #[must_use]
    pub const fn new(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0.get()
    }

    /// A name out of [`KINDS`], or a number without a suffix.
    fn parse(text: &str) -> Option<Self> {
        if let Some((_, id)) = KINDS.iter().find(|(name, _)| *name == text) {
            return Self::new(*id);
        }
        let plain = text.bytes().last().is_some_and(|byte| byte.is_ascii_hexdigit());
        let id = number(text).filter(|_| plain)?;
        u32::try_from(id).ok().and_then(Self::new)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KINDS.iter().find(|(_, id)| *id == self.raw()) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "device {}", self.raw()),
        }
    }
}

/// What another VM serves to a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Index of the VM that serves it; it has [`crate::Role::Device`].
    pub server: usize,
    /// Its virtio-mmio transports, at most [`MAX_TRANSPORTS`]. [`arch::guest_map`] says where transport d is.
    pub transports: Vec<DeviceId>,
    /// Pages whose accesses are forwarded one by one: whole pages, at most [`MAX_FORWARDED`] ranges.
    pub forward: Vec<Range<Ipa>>,
    /// What the server can reach of its RAM.
    pub share: ShareLevel,
    /// Seconds after which an access without an answer fails; 0: never.
    pub io_timeout_s: u32,
    /// What becomes of an access while the server is away.
    pub on_loss: OnLoss,
}

impl Served {
    /// For the boot log: what `server`, the name of the VM that serves it, serves, and what that one can see.
    #[must_use]
    pub fn described<'a>(&'a self, server: &'a str) -> impl fmt::Display + 'a {
        Described { served: self, server }
    }

    /// The pages of its transports.
    #[must_use]
    pub fn transport_pages(&self) -> Option<Range<Ipa>> {
        transport_pages(self.transports.len())
    }
}

/// [`Served::described`].
struct Described<'a> {
    served: &'a Served,
    server: &'a str,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { served, server } = self;
        write!(f, "served by {server}:")?;
        for device in &served.transports {
            write!(f, " {device}")?;
        }
        for range in &served.forward {
            write!(f, " {range}")?;
        }
        write!(f, "; {server} sees its accesses there, and ")?;
        match served.share {
            ShareLevel::Guest => write!(f, "of its RAM what the guest shares")?,
            ShareLevel::Pool { range, auto: false } => {
                write!(f, "of its RAM what the guest shares, with its pool at {range}")?;
            }
            ShareLevel::Pool { range, auto: true } => {
                write!(f, "of its RAM the pool at {range} and what the guest shares")?;
            }
            ShareLevel::All => write!(f, "all its RAM (vm.share=all)")?,
        }
        match served.io_timeout_s {
            0 => write!(f, "; an access waits for ever"),
            seconds => write!(f, "; an access waits {seconds} s"),
        }
    }
}

/// Pages of the first `count` transports; `None` without one.
fn transport_pages(count: usize) -> Option<Range<Ipa>> {
    let size = (count as u64).saturating_mul(TRANSPORT_SIZE);
    Range::<Ipa>::new(transport_ipa(0), size).filter(|_| count != 0)
}

/// What a word asks of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named<T> {
    /// Name of the VM that is to serve it.
    pub server: String,
    pub what: Vec<T>,
}

/// What the words of one VM say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServedOptions {
    pub devices: Option<Named<DeviceId>>,
    pub forward: Option<Named<Range<Ipa>>>,
    pub share: Option<ShareOption>,
    pub io_timeout: Option<u32>,
    pub on_loss: Option<OnLoss>,
}

/// [`Served`], with the name of a server that is not looked up yet.
pub(crate) struct Request {
    /// The word that names the server.
    pub word: &'static str,
    pub server: String,
    pub transports: Vec<DeviceId>,
    forward: Vec<Range<Ipa>>,
    pub share: ShareLevel,
    io_timeout_s: u32,
    on_loss: OnLoss,
}

/// `SERVER:KIND[:KIND..]`.
pub(crate) fn devices(text: &str) -> Option<Named<DeviceId>> {
    let (server, kinds) = text.split_once(':')?;
    let what: Vec<DeviceId> = kinds.split(':').map(DeviceId::parse).collect::<Option<_>>()?;
    let fits = !server.is_empty() && what.len() <= MAX_TRANSPORTS;
    fits.then(|| Named { server: String::from(server), what })
}

/// `SERVER:IPA+SIZE[:IPA+SIZE..]`, in whole pages.
pub(crate) fn forward(text: &str) -> Option<Named<Range<Ipa>>> {
    let (server, ranges) = text.split_once(':')?;
    let what = parse_number::ranges(ranges)?;
    let whole = |range: &Range<Ipa>| {
        range.size() != 0
            && range.start().is_aligned(PAGE_SIZE)
            && range.size().is_multiple_of(PAGE_SIZE)
    };
    let fits = !server.is_empty() && what.len() <= MAX_FORWARDED && what.iter().all(whole);
    fits.then(|| Named { server: String::from(server), what })
}

impl ServedOptions {
    /// The pages of the transports that are asked for.
    pub(crate) fn transport_pages(&self) -> Option<Range<Ipa>> {
        transport_pages(self.devices.as_ref()?.what.len())
    }

    /// The ranges that are to be forwarded.
    pub(crate) fn forwarded(&self) -> &[Range<Ipa>] {
        self.forward.as_ref().map_or(&[], |forward| &forward.what)
    }

    /// What a VM with this RAM asks for; `None` without a server.
    pub(crate) fn request(&self, ram: Range<Ipa>) -> Result<Option<Request>, Error> {
        let (word, server) = match (&self.devices, &self.forward) {
            (Some(devices), Some(forward)) if devices.server != forward.server => {
                return Err(err!(
                    Vm,
                    "vm.devices names '{}' and vm.forward '{}': a VM has one server; name the same in \
                     both",
                    devices.server,
                    forward.server
                ));
            }
            (Some(devices), _) => ("vm.devices", &devices.server),
            (None, Some(forward)) => ("vm.forward", &forward.server),
            (None, None) => return self.without_server().map(|()| None),
        };
        Ok(Some(Request {
            word,
            server: server.clone(),
            transports: self.devices.as_ref().map_or_else(Vec::new, |it| it.what.clone()),
            forward: self.forwarded().to_vec(),
            share: self.share.map_or(Ok(ShareLevel::Guest), |share| share.in_ram(ram))?,
            io_timeout_s: self.io_timeout.unwrap_or(DEFAULT_IO_TIMEOUT),
            on_loss: self.on_loss.unwrap_or_default(),
        }))
    }

    /// Refuses words that say how a VM is served, where none serves it.
    fn without_server(&self) -> Result<(), Error> {
        let word = match self {
            Self { share: Some(_), .. } => "vm.share",
            Self { io_timeout: Some(_), .. } => "vm.iotimeout",
            Self { on_loss: Some(_), .. } => "vm.onloss",
            _ => return Ok(()),
        };
        Err(err!(
            Vm,
            "{word} says how a VM is served, and no VM serves it; name its server in vm.devices or \
             vm.forward, or leave {word} out"
        ))
    }
}

impl Request {
    /// What it is once the server is known.
    pub(crate) fn served_by(self, server: usize) -> Served {
        let Self { transports, forward, share, io_timeout_s, on_loss, .. } = self;
        Served { server, transports, forward, share, io_timeout_s, on_loss }
    }
}
