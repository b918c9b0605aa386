// SPDX-License-Identifier: MIT OR Apache-2.0
//! All that a device VM can read of a peer, byte for byte, against what promise P3 lets it see.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mmio_guard::abi::device::{control, map};
use mmio_guard::abi::visible::{PAGE as PARTS, SLOT, Shows, ShowsAccess, part};

use super::peer::Peer;
use crate::control_page::{ControlPage, PAGE};
use crate::device_calls::peer_info;
use crate::served::{self, SECRET, pattern};
use crate::smp;
use crate::verdict::Verdict;

/// Differences that are told one by one.
const TOLD: u64 = 4;

/// Reads all of the window and the control page.
pub fn look(peer: &mut Peer) {
    window(peer);
    control_page(peer);
}

/// Reads what the client says it shares, where it shares more besides.
pub fn look_at_shared(peer: &mut Peer) {
    let shared = peer.shared;
    let end = shared.start + 64 * PAGE;
    let all = (shared.start..end).step_by(8).filter(|ipa| shared.expected(*ipa) != 0);
    let differ = all.filter(|ipa| peer.page.read_peer(*ipa) != shared.expected(*ipa)).count();
    if differ != 0 {
        peer.complain(format_args!("{differ} words of shared granules differ"));
    }
}

fn window(peer: &mut Peer) {
    let (base, size) = peer.page.ram();
    let start = peer.page.double(control::WINDOW);
    let placed = start & ((1 << 30) - 1) == 0
        && start >= map::WINDOWS
        && start + size <= map::WINDOWS_END
        && base == 0x4000_0000;
    if !placed {
        peer.complain(format_args!("its window is at {start:#x}, its RAM at {base:#x}"));
        return;
    }
    let mut differ = 0;
    for ipa in (base..base + size).step_by(8) {
        let (seen, wanted) = (peer.page.read_peer(ipa), peer.shared.expected(ipa));
        if seen != wanted {
            differ += 1;
            if differ <= TOLD {
                peer.complain(format_args!(
                    "the window shows {seen:#x} at {ipa:#x}, not {wanted:#x}"
                ));
            }
        }
    }
    let granules = peer.shared.bits.count_ones();
    let words = size / 8;
    say!(
        "spy: peer {}: {words} words of the window, {granules} granules shared, {differ} differ",
        peer.number()
    );
}

/// Every byte of the control page is in a row of the table of what is visible, with a value that it may have, or 0.
fn control_page(peer: &mut Peer) {
    let page = peer.page;
    let Some((life, info, _)) = peer_info(peer.number()) else { return };
    let (vcpus, devices) = (usize::from(info.vcpus), usize::from(info.devices));
    let mut wrong = 0;
    for offset in (0..PAGE).step_by(8) {
        let value = page.double(offset);
        let fine = part(&PARTS, offset).map_or(value == 0, |part| {
            let at = offset - part.start;
            match part.shows {
                Shows::Layout => value == u64::from(control::MAGIC_VALUE) | 1 << 32,
                Shows::Life => value == life,
                Shows::RamSize => value != 0 && value.is_multiple_of(2 << 20),
                Shows::Counts => value == vcpus as u64 | (devices as u64) << 32,
                Shows::Window | Shows::RamBase => value != 0,
                Shows::Name => is_text(value),
                Shows::Doorbells => true,
                Shows::Events => among(at, devices, value),
                Shows::Slots => slot(page, at, vcpus, value),
                Shows::Notifications => among(at / 16, devices, value),
            }
        });
        if !fine {
            wrong += 1;
            peer.complain(format_args!("the control page has {value:#x} at {offset:#x}"));
        }
    }
    say!("spy: peer {}: 512 words of the control page, {wrong} differ", peer.number());
}

/// Letters, and zeros behind them.
fn is_text(value: u64) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == 0;
    value.to_le_bytes().iter().all(letter)
}

/// Words of transports that exist, two in `value`, or 0.
fn among(at: u64, devices: usize, value: u64) -> bool {
    at / 4 < devices as u64 || value == 0
}

/// A word of a slot: what belongs to no vCPU, and what has no name, is 0.
fn slot(page: ControlPage, at: u64, vcpus: usize, value: u64) -> bool {
    let vcpu = (at / control::SLOT_SIZE) as usize;
    let access = page.access(vcpu);
    if vcpu >= vcpus || access.seq == 0 {
        return value == 0;
    }
    part(&SLOT, at % control::SLOT_SIZE).map_or(value == 0, |part| match part.shows {
        ShowsAccess::Number | ShowsAccess::Value => true,
        ShowsAccess::Ipa => (served::BASE..served::HIDDEN).contains(&value),
        ShowsAccess::Kind => {
            let vcpu = value >> 16 & 0xff == vcpu as u64;
            value >> 24 == 0
                && vcpu
                && value >> 8 & 0xff <= 1
                && [1, 2, 4, 8].contains(&(value & 0xff))
        }
    })
}

/// Writes to shared granules, which the client sees, and elsewhere, which it does not.
pub fn poke(peer: &mut Peer) {
    let shared = peer.shared;
    let (base, size) = peer.page.ram();
    let granule = |n: u64| shared.start + n * PAGE;
    for n in 0..64 {
        let at = granule(n);
        if at + PAGE > base + size {
            break;
        }
        if shared.bits >> n & 1 != 0 {
            // The next pattern, for the client to find.
            for ipa in (at..at + PAGE).step_by(8) {
                peer.page.write_peer(ipa, pattern(shared.pattern + 1, ipa));
            }
        } else {
            peer.page.write_peer(at + 8, SECRET | n);
        }
    }
    peer.shared.pattern += 1;
    // What is not shared is one page of scratch, and gone with the next ATTACH.
    let scratch = (base..base + size).step_by(PAGE as usize).find(|ipa| shared.expected(*ipa) == 0);
    let Some(scratch) = scratch else { return };
    peer.page.write_peer(scratch, SECRET);
    peer.attach_again();
    if peer.page.read_peer(scratch) != 0 {
        peer.complain(format_args!("the scratch page keeps its contents over ATTACH"));
    }
}

static WATCHING: AtomicBool = AtomicBool::new(false);
static SEEN: AtomicU64 = AtomicU64::new(0);
static SECRETS: AtomicU64 = AtomicU64::new(0);

/// How often vCPU 1 has seen something that is shared.
pub fn seen() -> u64 {
    SEEN.load(Ordering::Relaxed)
}

/// vCPU 1 reads the first shared word from now on, as fast as it can.
pub fn watch(peer: &Peer) -> Verdict {
    WATCHING.store(true, Ordering::Release);
    SEEN.store(0, Ordering::Relaxed);
    SECRETS.store(0, Ordering::Relaxed);
    smp::give(1, watch_word, peer.page.window(peer.shared.start))
}

fn watch_word(at: u64) -> u64 {
    while WATCHING.load(Ordering::Acquire) {
        // SAFETY: within the window, which is mapped whatever the peer does.
        let word = unsafe { (at as *const u64).read_volatile() };
        if word & 0xffff_ff00_0000_0000 == SECRET {
            SECRETS.fetch_add(1, Ordering::Relaxed);
        } else if word != 0 {
            SEEN.fetch_add(1, Ordering::Relaxed);
        }
    }
    0
}

/// Ends that; how many secrets were seen.
pub fn end_watch() -> u64 {
    WATCHING.store(false, Ordering::Release);
    SECRETS.load(Ordering::Relaxed)
}
