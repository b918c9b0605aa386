// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which register an access means: the maps of GICD and GICR as data.

use crate::{Config, Frame, Version};
use arch::Width;

/// GICD_IIDR and GICR_IIDR: product 'P', revision 0, Arm's JEP106 code, as other hypervisors report it.
const IIDR: u64 = 0x5000_043b;
/// Size of RD_base and of SGI_base of a redistributor.
const FRAME: u64 = 0x1_0000;

/// The words of one bit per interrupt, in the order in which they lie from 0x080 on, 0x80 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
}

/// A register, or the part of it that an access touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reg {
    /// Always reads this; writes are ignored. 0 is what is reserved, beyond the interrupts there are, or not accessible like this.
    Constant(u64),
    /// GICD_CTLR.
    Control,
    /// GICR_WAKER.
    Waker,
    /// A bit per interrupt, of bank `.1` (0: private).
    Word(Word, usize),
    /// GICD_IPRIORITYR: INTID of the first byte, number of bytes.
    Priority(u32, u32),
    /// GICD_ITARGETSR, likewise.
    Targets(u32, u32),
    /// GICD_ICFGR: INTID of the first of sixteen.
    Trigger(u32),
    /// GICD_IROUTER of an SPI (INTID), which half: bit 0 low, bit 1 high.
    Router(u32, u8),
    /// GICD_SGIR.
    Sgir,
    /// GICD_CPENDSGIR and GICD_SPENDSGIR (`true`): first SGI, number of bytes.
    Sources(bool, u32, u32),
}

const RAZ: Reg = Reg::Constant(0);

impl Config {
    /// The value of a register that never changes, so that it can be read without taking a lock; `None` where
    /// the register has state. What is reserved or of the wrong size has no state either, and reads 0.
    #[inline]
    pub const fn constant(&self, frame: Frame, offset: u64, width: Width) -> Option<u64> {
        match decode(self, frame, offset, width) {
            Reg::Constant(value) => Some(value),
            // Write-only.
            Reg::Sgir => Some(0),
            _ => None,
        }
    }
}

/// The register at `offset` of `frame`. Total: what is not there is `Constant(0)`.
#[inline]
pub(crate) const fn decode(config: &Config, frame: Frame, offset: u64, width: Width) -> Reg {
    let bytes = 1u64 << width as u64;
    if offset & (bytes.wrapping_sub(1)) != 0 {
        return RAZ;
    }
    match (frame, config.version()) {
        (Frame::Dist, version) => dist(config, version, offset, width),
        (Frame::Redist(owner), Version::V3) if owner < config.vcpus() => {
            redist(config, owner, offset, width)
        }
        (Frame::Redist(_), _) => RAZ,
    }
}

#[inline]
const fn dist(config: &Config, version: Version, offset: u64, width: Width) -> Reg {
    let v3 = matches!(version, Version::V3);
    if offset >= 0x1000 {
        return if v3 { dist_high(config, offset, width) } else { RAZ };
    }
    // With affinity routing the private interrupts are in the redistributors only.
    let first = if v3 { 32 } else { 0 };
    let word_access = matches!(width, Width::B4);
    let byte_access = word_access || matches!(width, Width::B1);
    let offset = offset as u32;
    let count = 1u32.wrapping_shl(width as u32);
    match offset >> 7 {
        0 if word_access => match offset {
            0x000 => Reg::Control,
            0x004 => Reg::Constant(dist_typer(config)),
            0x008 => Reg::Constant(IIDR),
            _ => RAZ,
        },
        1..=7 if word_access => word(config, offset, first),
        8..=15 if byte_access => {
            let intid = offset & 0x3ff;
            if intid >= first && exists(config, intid) { Reg::Priority(intid, count) } else { RAZ }
        }
        16..=23 if byte_access && !v3 => {
            let intid = offset & 0x3ff;
            if exists(config, intid) { Reg::Targets(intid, count) } else { RAZ }
        }
        24..=25 if word_access => {
            let intid = (offset & 0xff) << 2;
            if intid >= first && exists(config, intid) { Reg::Trigger(intid) } else { RAZ }
        }
        30 if !v3 => match offset {
            0xf00 if word_access => Reg::Sgir,
            0xf10..0xf20 if byte_access => Reg::Sources(false, offset & 0xf, count),
            0xf20..0xf30 if byte_access => Reg::Sources(true, offset & 0xf, count),
            _ => RAZ,
        },
        31 if word_access && !v3 => Reg::Constant(id(offset, 2)),
        _ => RAZ,
    }
}

/// GICv3's distributor beyond its first page: IROUTER, and the identification registers in the last.
const fn dist_high(config: &Config, offset: u64, width: Width) -> Reg {
    match offset {
        0x6000..0x8000 => {
            let intid = (offset as u32 & 0x1fff) >> 3;
            if intid < 32 || !exists(config, intid) {
                return RAZ;
            }
            match (width, offset & 4) {
                (Width::B8, _) => Reg::Router(intid, 3),
                (Width::B4, 0) => Reg::Router(intid, 1),
                (Width::B4, _) => Reg::Router(intid, 2),
                _ => RAZ,
            }
        }
        0xf000..0x1_0000 if matches!(width, Width::B4) => {
            Reg::Constant(id(offset as u32 & 0xfff, 3))
        }
        _ => RAZ,
    }
}

const fn redist(config: &Config, owner: usize, offset: u64, width: Width) -> Reg {
    if offset < FRAME {
        return match (offset, width) {
            (0x0004, Width::B4) => Reg::Constant(IIDR),
            (0x0008, Width::B8) => Reg::Constant(redist_typer(config, owner)),
            (0x0008, Width::B4) => Reg::Constant(redist_typer(config, owner) & 0xffff_ffff),
            (0x000c, Width::B4) => Reg::Constant(redist_typer(config, owner) >> 32),
            (0x0014, Width::B4) => Reg::Waker,
            (0xf000..0x1_0000, Width::B4) => Reg::Constant(id(offset as u32 & 0xfff, 3)),
            _ => RAZ,
        };
    }
    let offset = offset.wrapping_sub(FRAME);
    match (offset, width) {
        (0x080..0x400, Width::B4) if offset & 0x7f == 0 => word(config, offset as u32, 0),
        (0x400..0x420, Width::B1 | Width::B4) => {
            Reg::Priority(offset as u32 & 0x1f, 1u32.wrapping_shl(width as u32))
        }
        (0xc00 | 0xc04, Width::B4) => Reg::Trigger((offset as u32 & 4) << 2),
        _ => RAZ,
    }
}

/// One of the seven arrays of words from 0x080 on.
#[inline]
const fn word(config: &Config, offset: u32, first: u32) -> Reg {
    let (kind, bank) = array_word(offset);
    let intid = (bank as u32) << 5;
    if intid < first || !exists(config, intid) { RAZ } else { Reg::Word(kind, bank) }
}

/// [`decode`] of a load or store of four bytes at `offset` of the distributor, if it is to one of the arrays of words that
/// hold shared interrupts: what guests access most.
#[inline(always)]
pub(crate) const fn shared_word(config: &Config, offset: u64) -> Option<(Word, usize)> {
    if offset.wrapping_sub(0x080) >= 0x380 || offset & 3 != 0 {
        return None;
    }
    let (kind, bank) = array_word(offset as u32);
    if bank.wrapping_sub(1) < config.spi_banks() { Some((kind, bank)) } else { None }
}

/// Which array of words, and which of its words.
#[inline(always)]
const fn array_word(offset: u32) -> (Word, usize) {
    let bank = (offset & 0x7f) >> 2;
    let kind = match (offset >> 7).wrapping_sub(1) {
        0 => Word::Group,
        1 => Word::SetEnable,
        2 => Word::ClearEnable,
        3 => Word::SetPending,
        4 => Word::ClearPending,
        5 => Word::SetActive,
        _ => Word::ClearActive,
    };
    (kind, bank as usize)
}

/// Whether the GIC has this INTID.
#[inline]
const fn exists(config: &Config, intid: u32) -> bool {
    (intid as usize) < config.spis().wrapping_add(32)
}

/// GICD_TYPER: ITLinesNumber in both; GICv2 CPUNumber (no security extension); GICv3 IDbits = 10 bits, No1N (IROUTER.IRM is
/// not offered), no LPIs, no MBIS, no extended SPIs, Aff0 0 to 15 (RSS=0).
const fn dist_typer(config: &Config) -> u64 {
    let lines = config.spis() as u64 >> 5;
    match config.version() {
        Version::V2 => lines | (config.vcpus() as u64).wrapping_sub(1) << 5,
        Version::V3 => lines | 9 << 19 | 1 << 25,
    }
}

/// GICR_TYPER: affinity, processor number, Last on the highest vCPU; no LPIs.
const fn redist_typer(config: &Config, owner: usize) -> u64 {
    let last = owner.wrapping_add(1) == config.vcpus();
    (Config::affinity(owner) as u64) << 32 | (owner as u64) << 8 | (last as u64) << 4
}

/// The identification registers at 0xfd0..0x1000 of a page: PIDR4-7, PIDR0-3, CIDR0-3 as a GIC-400 or GIC-500 has them;
/// `arch` is PIDR2.ArchRev.
const fn id(offset: u32, arch: u64) -> u64 {
    match offset {
        0xfd0 => 0x04,
        0xfe0 if arch == 2 => 0x90,
        0xfe0 => 0x92,
        0xfe4 => 0xb4,
        0xfe8 => arch << 4 | 0xb,
        0xff0 => 0x0d,
        0xff4 => 0xf0,
        0xff8 => 0x05,
        0xffc => 0xb1,
        _ => 0,
    }
}
