// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an exception saves, and where.

use core::mem::size_of;

/// Bytes of one nesting level: the frame at its top, the handler's stack below.
pub const CHUNK: usize = 16 << 10;

/// What an exception saves.
#[repr(C, align(16))]
pub struct Frame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// SP_EL1 as the exception found it.
    pub sp: u64,
    /// SP_EL0.
    pub sp_el0: u64,
    /// ELR_EL1: where to go on.
    pub elr: u64,
    /// SPSR_EL1: PSTATE before the exception.
    pub spsr: u64,
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: u64,
    /// Offset of the vector, 0x000 to 0x780.
    pub vector: u64,
    /// NZCV in the handler.
    pub nzcv: u64,
    /// DAIF in the handler.
    pub daif: u64,
    /// CurrentEL in the handler.
    pub current_el: u64,
    /// SPSel in the handler.
    pub spsel: u64,
}

const _: () = assert!(size_of::<Frame>().is_multiple_of(16));
