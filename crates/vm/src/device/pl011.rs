// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers of a PL011 r1p4 (DDI 0183), but for its flag register.

use arrayvec::ArrayVec;

/// Depth of the receive FIFO.
const FIFO: usize = 16;

/// Interrupt bits of IMSC, RIS, MIS and ICR that are ever set here.
pub(crate) const RX: u32 = 1 << 4;
pub(crate) const TX: u32 = 1 << 5;
/// Receive timeout: bytes wait, however few.
pub(crate) const RT: u32 = 1 << 6;
const ALL: u32 = 0x7ff;

const LCRH_FEN: u32 = 1 << 4;

pub(crate) const DR: u64 = 0x00;
pub(crate) const FR: u64 = 0x18;
const RSR: u64 = 0x04;
const ILPR: u64 = 0x20;
const IBRD: u64 = 0x24;
const FBRD: u64 = 0x28;
const LCRH: u64 = 0x2c;
const CR: u64 = 0x30;
const IFLS: u64 = 0x34;
const IMSC: u64 = 0x38;
const RIS: u64 = 0x3c;
const MIS: u64 = 0x40;
const ICR: u64 = 0x44;
const DMACR: u64 = 0x48;

/// Everything a guest can change. Output is not here: it leaves at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pl011 {
    rx: ArrayVec<u8, FIFO>,
    ilpr: u32,
    ibrd: u32,
    fbrd: u32,
    lcrh: u32,
    cr: u32,
    ifls: u32,
    imsc: u32,
    ris: u32,
    dmacr: u32,
    /// The last byte found no room behind it: TX comes when there is some.
    pub(crate) tx_full: bool,
}

impl Pl011 {
    /// Out of reset (DDI 0183 table 3-1).
    pub(crate) const fn new() -> Self {
        Self {
            rx: ArrayVec::new_const(),
            ilpr: 0,
            ibrd: 0,
            fbrd: 0,
            lcrh: 0,
            cr: 0x300,
            ifls: 0x12,
            imsc: 0,
            ris: 0,
            dmacr: 0,
            tx_full: false,
        }
    }

    /// How many bytes the receiver holds before it is full: one where FIFOs are off.
    const fn depth(&self) -> usize {
        if self.lcrh & LCRH_FEN != 0 { FIFO } else { 1 }
    }

    pub(crate) fn received(&self) -> usize {
        self.rx.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rx.len() >= self.depth()
    }

    /// Receives bytes while there is room; none is ever dropped here.
    pub(crate) fn fill(&mut self, mut take: impl FnMut() -> Option<u8>) {
        while !self.is_full() {
            let Some(byte) = take() else { return };
            if self.rx.try_push(byte).is_err() {
                return;
            }
            self.ris |= RX | RT;
        }
    }

    /// The next byte out of the receiver.
    pub(crate) fn take(&mut self) -> u32 {
        if self.rx.is_empty() {
            return 0;
        }
        let byte = self.rx.remove(0);
        if self.rx.is_empty() {
            self.ris &= !(RX | RT);
        }
        u32::from(byte)
    }

    /// The transmitter has room again, or still.
    pub(crate) fn transmitted(&mut self) {
        self.tx_full = false;
        self.ris |= TX;
    }

    /// The interrupt line.
    pub(crate) const fn level(&self) -> bool {
        self.ris & self.imsc != 0
    }

    /// A register without side effects; DR and FR are elsewhere. What is reserved reads 0.
    pub(crate) const fn read(&self, offset: u64) -> u32 {
        match offset {
            ILPR => self.ilpr,
            IBRD => self.ibrd,
            FBRD => self.fbrd,
            LCRH => self.lcrh,
            CR => self.cr,
            IFLS => self.ifls,
            IMSC => self.imsc,
            RIS => self.ris,
            MIS => self.ris & self.imsc,
            DMACR => self.dmacr,
            _ => identification(offset),
        }
    }

    /// A register but DR; what is reserved or read-only is not written.
    pub(crate) fn write(&mut self, offset: u64, value: u32) {
        match offset {
            ILPR => self.ilpr = value & 0xff,
            IBRD => self.ibrd = value & 0xffff,
            FBRD => self.fbrd = value & 0x3f,
            LCRH => {
                // Off and on again empties the FIFO, as the manual has it.
                if (self.lcrh ^ value) & LCRH_FEN != 0 {
                    self.rx.clear();
                    self.ris &= !(RX | RT);
                }
                self.lcrh = value & 0xff;
            }
            CR => self.cr = value & 0xff87,
            IFLS => self.ifls = value & 0x3f,
            IMSC => self.imsc = value & ALL,
            ICR => self.ris &= !(value & ALL),
            DMACR => self.dmacr = value & 0x7,
            RSR => {}
            _ => {}
        }
    }
}

/// PeriphID0..3 and PCellID0..3: part 0x011, designer Arm, revision 1.
const fn identification(offset: u64) -> u32 {
    match offset {
        0xfe0 => 0x11,
        0xfe4 => 0x10,
        0xfe8 => 0x14,
        0xfec => 0x00,
        0xff0 => 0x0d,
        0xff4 => 0xf0,
        0xff8 => 0x05,
        0xffc => 0xb1,
        _ => 0,
    }
}
