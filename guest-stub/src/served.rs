// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device that one stub serves to another by forwarded accesses: four pages, and what the two agree on. The client's
//! stores to [`COMMAND`] choose how the server behaves; `modes` has both halves.

/// Its first page: `vm.forward=SERVER:0xc000000+0x4000` of the client.
pub const BASE: u64 = 0x0c00_0000;
/// Registers, see below.
pub const REGISTERS: u64 = BASE;
/// Loads here are answered with [`value`] of their address; stores are noted.
pub const VALUES: u64 = BASE + 0x1000;
/// Doorbells are set here.
pub const BELLS: u64 = BASE + 0x2000;
/// The client never declares this page.
pub const HIDDEN: u64 = BASE + 0x3000;
/// One beyond the last.
pub const END: u64 = BASE + 0x4000;

/// Load: [`ID_VALUE`].
pub const ID: u64 = REGISTERS;
/// "served".
pub const ID_VALUE: u64 = 0x6465_7672_6573;
/// Store: one of [`command`].
pub const COMMAND: u64 = REGISTERS + 0x08;
/// Load: what the server has seen that should not have been.
pub const WRONG: u64 = REGISTERS + 0x10;
/// Load: incarnations of the client that this incarnation of the server has served.
pub const LIVES: u64 = REGISTERS + 0x18;
/// Loads: address, value and kind of the last access to any other page.
pub const LAST_IPA: u64 = REGISTERS + 0x20;
/// See [`LAST_IPA`].
pub const LAST_VALUE: u64 = REGISTERS + 0x28;
/// See [`LAST_IPA`].
pub const LAST_KIND: u64 = REGISTERS + 0x30;
/// Load: number of accesses to other pages.
pub const COUNT: u64 = REGISTERS + 0x38;
/// Store: first granule of those that [`SHARED_BITS`] is about.
pub const SHARED_START: u64 = REGISTERS + 0x40;
/// Store: bit n says that granule n from there is shared.
pub const SHARED_BITS: u64 = REGISTERS + 0x48;
/// Store: number of the [`pattern`] in the shared granules.
pub const PATTERN: u64 = REGISTERS + 0x50;
/// Load: how often vCPU 1 of the server has seen something shared, since [`command::WATCH`].
pub const SEEN: u64 = REGISTERS + 0x58;
/// Loads: how often each of the [`BELL_KINDS`] rang.
pub const RINGS: u64 = REGISTERS + 0x100;

/// Doorbells that [`command::SET_BELLS`] sets: offset in [`BELLS`], size in bytes, the only value that rings.
pub const BELL_KINDS: [(u64, u64, Option<u64>); 4] =
    [(0x00, 4, None), (0x10, 4, Some(0x8000_0007)), (0x20, 8, None), (0x30, 1, Some(5))];

/// What [`COMMAND`] takes. The first group is about the next access to [`VALUES`], the second is done before the store ends.
pub mod command {
    /// Answers with an error.
    pub const ERROR: u64 = 1;
    /// Answers wrong in every way first.
    pub const FOREIGN: u64 = 2;
    /// Answers twice.
    pub const TWICE: u64 = 3;
    /// Does not answer until nothing is outstanding any more; then tries to. Then attaches again.
    pub const SILENT: u64 = 4;
    /// Detaches, attaches again, and answers then.
    pub const DETACH: u64 = 5;
    /// Detaches, which ends the access (`vm.onloss=abort`), and attaches again.
    pub const DETACH_ABORT: u64 = 6;
    /// Resets itself.
    pub const RESET: u64 = 7;
    /// Switches itself off.
    pub const OFF: u64 = 8;
    /// Reads beyond all that it should see, then answers.
    pub const SPY_MEANWHILE: u64 = 9;

    /// Sets the doorbells; and tries to set some that cannot be.
    pub const SET_BELLS: u64 = 0x20;
    /// Removes them.
    pub const REMOVE_BELLS: u64 = 0x21;
    /// Calls with random arguments.
    pub const RANDOM: u64 = 0x22;
    /// Reads the control page and the window, and compares every byte.
    pub const SPY: u64 = 0x23;
    /// Writes to the window, shared or not; what is not comes to nothing.
    pub const POKE: u64 = 0x24;
    /// vCPU 1 reads the first word at SHARED_START until END_WATCH.
    pub const WATCH: u64 = 0x25;
    /// Ends that; a secret that was seen is wrong.
    pub const END_WATCH: u64 = 0x26;
    /// Tries to declare the client's pages, and looks for what it must not reach.
    pub const TRESPASS: u64 = 0x27;
    /// The client is about to reset itself.
    pub const EXPECT_RESET: u64 = 0x28;
    /// Raises interrupts of transports again and again; and tries to raise others.
    pub const FLOOD: u64 = 0x29;
    /// Detaches and attaches a thousand times.
    pub const CYCLES: u64 = 0x2a;
    /// Reads the shared granules alone, and compares them.
    pub const SPY_SHARED: u64 = 0x2b;
    /// This client has no more wishes.
    pub const BYE: u64 = 0x2f;
}

/// Marks a word that the server must never see.
pub const SECRET: u64 = 0x5ec2_e700_0000_0000;

const fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (value ^ value >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ value >> 32
}

/// What a load from `ipa` is answered with: all of its 64 bits, whatever the size.
pub const fn value(ipa: u64) -> u64 {
    mix(ipa ^ 0x7365_7276_6564)
}

/// The word at `ipa` of a shared granule, in pattern number `number`.
pub const fn pattern(number: u64, ipa: u64) -> u64 {
    mix(ipa | number << 48 | 1)
}

/// Sectors of a disk.
pub const SECTORS: u64 = 12;

/// The word at `offset` of a sector.
pub const fn sector(number: u64, offset: u64) -> u64 {
    mix(number << 32 | offset | 1 << 63)
}
