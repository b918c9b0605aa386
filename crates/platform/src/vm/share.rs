// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vm.share`: how much of a served VM's RAM its server can reach.

use crate::error::{Error, err};
use crate::vm::memory_map::RAM_PIECE;
use crate::vm::parse_number::number;
use arch::{Ipa, Range};

/// What the server of a VM can reach of its RAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareLevel {
    /// What the guest itself shares by MEM_SHARE.
    #[default]
    Guest,
    /// The same; and the guest's tree names a pool, in which all rings and buffers of its devices must lie.
    Pool {
        /// Where the pool is: the last pieces of RAM of 2 MiB.
        range: Range<Ipa>,
        /// EL2 shares the pool, at start and after each reset.
        auto: bool,
    },
    /// All RAM, from the start.
    All,
}

impl ShareLevel {
    /// Where the pool is, if there is one.
    #[must_use]
    pub const fn pool(&self) -> Option<Range<Ipa>> {
        match self {
            Self::Pool { range, .. } => Some(*range),
            Self::Guest | Self::All => None,
        }
    }
}

/// What `vm.share` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShareOption {
    Guest,
    /// Bytes of the pool: a multiple of 2 MiB, not 0.
    Pool {
        size: u64,
        auto: bool,
    },
    All,
}

/// `guest`, `pool:SIZE`, `pool:SIZE:auto` or `all`.
pub(crate) fn parse(text: &str) -> Option<ShareOption> {
    match text {
        "guest" => return Some(ShareOption::Guest),
        "all" => return Some(ShareOption::All),
        _ => {}
    }
    let size = text.strip_prefix("pool:")?;
    let (size, auto) = size.strip_suffix(":auto").map_or((size, false), |size| (size, true));
    let size = number(size).filter(|size| *size != 0 && size.is_multiple_of(RAM_PIECE))?;
    Some(ShareOption::Pool { size, auto })
}

impl ShareOption {
    /// The same in a VM with this RAM.
    pub(crate) fn in_ram(self, ram: Range<Ipa>) -> Result<ShareLevel, Error> {
        match self {
            Self::Guest => Ok(ShareLevel::Guest),
            Self::All => Ok(ShareLevel::All),
            Self::Pool { size, auto } => {
                // Something must be left for the image.
                let start = ram.size().checked_sub(size).filter(|rest| *rest != 0);
                let start = start.and_then(|rest| ram.start().raw().checked_add(rest));
                let range = start.and_then(|start| Range::<Ipa>::new(Ipa::new(start), size));
                let range = range.ok_or_else(|| {
                    err!(
                        Vm,
                        "vm.share: a pool of {size:#x} bytes leaves nothing of its RAM {ram}; give it \
                         more vm.mem or a smaller pool"
                    )
                })?;
                Ok(ShareLevel::Pool { range, auto })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn levels_as_people_write_them() {
        let pool = |size, auto| Some(ShareOption::Pool { size, auto });
        assert_eq!(parse("guest"), Some(ShareOption::Guest));
        assert_eq!(parse("all"), Some(ShareOption::All));
        assert_eq!(parse("pool:8M"), pool(8 << 20, false));
        assert_eq!(parse("pool:0x200000:auto"), pool(2 << 20, true));
        for bad in [
            "",
            "pool",
            "pool:",
            "pool:0",
            "pool:1M",
            "pool:3M",
            "pool:8M:",
            "pool:8M:Auto",
            "pool:auto",
            "none",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pool_is_the_last_of_ram_and_leaves_some() {
        let ram = Range::<Ipa>::new(Ipa::new(0x4000_0000), 8 << 20).unwrap();
        let pool = |size| ShareOption::Pool { size, auto: true }.in_ram(ram);
        let range = Range::<Ipa>::new(Ipa::new(0x4020_0000), 6 << 20).unwrap();
        assert_eq!(pool(6 << 20), Ok(ShareLevel::Pool { range, auto: true }));
        assert_eq!(pool(6 << 20).unwrap().pool(), Some(range));
        for size in [8 << 20, 10 << 20, u64::MAX - 0x1f_ffff] {
            let message = pool(size).unwrap_err().to_string();
            assert!(message.contains("leaves nothing of its RAM 0x40000000+0x800000"), "{message}");
        }
        assert_eq!(ShareOption::All.in_ram(ram), Ok(ShareLevel::All));
        assert_eq!(ShareLevel::All.pool(), None);
    }
}
