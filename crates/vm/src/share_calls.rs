// SPDX-License-Identifier: MIT OR Apache-2.0
//! MEM_SHARE, MEM_UNSHARE and RELINQUISH: docs/abi.md. A share is a bit per granule; for a VM that is served it is also what its
//! server reaches through the window, and both change under the lock of the server's tables.

use crate::link::{Link, ShareLimit};
use crate::{Host, Outcome, Vcpu, Vm};
use arch::{Ipa, PAGE_SHIFT, PAGE_SIZE, Pa, Range};
use lock::Order;
use mmio_guard::abi::{INVALID_PARAMETER, SUCCESS};
use stage2::Windowed;

/// Granules that one call does at most: about 10 us of EL2's time.
pub(crate) const GRANULES: u64 = 128;
/// The same where a window changes with each.
pub(crate) const WINDOWED_GRANULES: u64 = 16;

/// Bytes of RAM that are shown at once, a multiple of 2 MiB.
const SHOWN_AT_ONCE: u64 = 2 << 20;

/// MEM_SHARE and MEM_UNSHARE: x1 = IPA, x2 = granules (0 means 1), x3 = 0.
pub(crate) fn share<H: Host>(shared: bool, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let [start, pages, zero] = [1, 2, 3].map(|n| vcpu.argument(n));
    match share_pages(Ipa::new(start), pages.max(1), zero, shared, &vcpu.order, vm) {
        Some(pages) if pages != 0 => vcpu.answer([SUCCESS, pages, 0, 0]),
        _ => vcpu.answer0(INVALID_PARAMETER),
    }
}

fn share_pages<H: Host>(
    start: Ipa,
    pages: u64,
    zero: u64,
    shared: bool,
    order: &Order,
    vm: &Vm<H>,
) -> Option<u64> {
    if zero != 0 || start.page_offset() != 0 {
        return None;
    }
    let range = Range::<Ipa>::new(start, pages.checked_mul(PAGE_SIZE)?)?;
    if range.end().raw() > vm.stage2.geometry().ipa_limit() || !vm.memory.is_ram(start) {
        return None;
    }
    let left = vm.memory.ram().end().raw().wrapping_sub(start.raw()) >> PAGE_SHIFT;
    let first = vm.ram_offset(start) >> PAGE_SHIFT;
    let Some(link) = vm.served else {
        let most = pages.min(left).min(GRANULES);
        let mut done = 0_u64;
        while done < most && vm.shares.set(first.wrapping_add(done), shared) {
            done = done.wrapping_add(1);
        }
        return Some(done);
    };
    Some(change_granules(start, pages.min(left), shared, link, order, vm))
}

/// Shares the granules from `start` on, or takes their shares back: at most [`WINDOWED_GRANULES`] of these `pages`. Returns how many
/// it has done; the first that it cannot do ends it.
#[inline(always)]
fn change_granules<H: Host>(
    start: Ipa,
    pages: u64,
    shared: bool,
    link: &Link,
    order: &Order,
    vm: &Vm<H>,
) -> u64 {
    let mut spare = None;
    let mut done = 0_u64;
    while done < pages.min(WINDOWED_GRANULES) {
        let at = Ipa::new(start.raw().wrapping_add(done.wrapping_mul(PAGE_SIZE)));
        let changed = if shared {
            share_granule(at, link, order, &mut spare, vm)
        } else {
            unshare_granule(at, link, order, vm)
        };
        if !changed {
            break;
        }
        done = done.wrapping_add(1);
    }
    if let Some(page) = spare {
        vm.stage2.refill(order, page);
    }
    done
}

/// Shares one granule of RAM. `false`, with nothing changed, where it is shared, may not be, or there is no table for the window.
fn share_granule<H: Host>(
    at: Ipa,
    link: &Link,
    order: &Order,
    spare: &mut Option<Pa>,
    vm: &Vm<H>,
) -> bool {
    let setup = link.setup();
    if let ShareLimit::Pool { range, .. } = setup.share
        && !range.contains(at)
    {
        return false;
    }
    let offset = vm.ram_offset(at);
    let (Some(tables), Some(pa)) = (vm.host().stage2_of(setup.server), vm.ram_pa(at)) else {
        return false;
    };
    loop {
        let claim = || vm.shares.set(offset >> PAGE_SHIFT, true);
        match tables.window_share(order, &setup.window, (offset, pa), spare, claim) {
            Ok(Windowed::Done) => return true,
            Ok(Windowed::Refused) => return false,
            Err(stage2::NeedsTable) => match vm.stage2.take_spare(order) {
                Some(page) => *spare = Some(page),
                None => return false,
            },
        }
    }
}

/// Takes the share of one granule of RAM back. `false`, with nothing changed, where there is none.
fn unshare_granule<H: Host>(at: Ipa, link: &Link, order: &Order, vm: &Vm<H>) -> bool {
    let setup = link.setup();
    let offset = vm.ram_offset(at);
    let Some(tables) = vm.host().stage2_of(setup.server) else { return false };
    let release = || vm.shares.set(offset >> PAGE_SHIFT, false);
    tables.window_unshare(order, &setup.window, offset, release) == Windowed::Done
}

/// RELINQUISH: x1 = IPA. No other party can have the page, so it is wiped and stays.
pub(crate) fn relinquish<H: Host>(vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    let ipa = Ipa::new(vcpu.argument(1));
    if ipa.page_offset() != 0 {
        return vcpu.answer0(INVALID_PARAMETER);
    }
    if vm.memory.is_ram(ipa) {
        if vm.shares.get(vm.ram_offset(ipa) >> PAGE_SHIFT) {
            return vcpu.answer0(INVALID_PARAMETER);
        }
        if let Some(pa) = vm.ram_pa(ipa) {
            vm.host().wipe(pa, PAGE_SIZE);
        }
    }
    vcpu.answer0(SUCCESS)
}

impl<H: Host> Vm<H> {
    /// How far `ipa`, which is RAM, is from the start of RAM.
    fn ram_offset(&self, ipa: Ipa) -> u64 {
        ipa.raw().wrapping_sub(self.memory.ram().start().raw())
    }

    /// Takes everything out of the window of this VM, if it is served: before its RAM is wiped or used otherwise. The shares end
    /// with it.
    pub(crate) fn close_window(&self, order: &Order) {
        let Some(setup) = self.served.map(Link::setup) else { return };
        self.shares.clear(0, u64::MAX);
        if let Some(tables) = self.host().stage2_of(setup.server) {
            let mut freed = tables.window_clear(order, &setup.window);
            self.stage2.refill_all(order, &mut freed);
        }
    }

    /// Shares the next piece of what its owner's words share on the guest's behalf, before its first instruction: from offset `at`
    /// in RAM on. `pieces` are the offset, the physical address and the size of the parts of RAM. Returns where the next piece
    /// begins; `None` at the end.
    ///
    /// # Errors
    /// The pool of table pages is too small.
    pub fn share_piece(
        &self,
        order: &Order,
        pieces: &(impl Iterator<Item = (u64, Pa, u64)> + Clone),
        at: u64,
    ) -> Result<Option<u64>, NotShared> {
        let Some(link) = self.served else { return Ok(None) };
        let setup = link.setup();
        match setup.share {
            ShareLimit::Guest | ShareLimit::Pool { auto: false, .. } => Ok(None),
            ShareLimit::Pool { range, auto: true } => {
                let left = range.size().saturating_sub(at) >> PAGE_SHIFT;
                let start = range.start().checked_add(at).ok_or(NotShared)?;
                let done = change_granules(start, left, true, link, order, self);
                let next = at.saturating_add(done.wrapping_mul(PAGE_SIZE));
                if done < left.min(WINDOWED_GRANULES) {
                    return Err(NotShared);
                }
                Ok((next < range.size()).then_some(next))
            }
            ShareLimit::All => {
                let Some(tables) = self.host().stage2_of(setup.server) else {
                    return Err(NotShared);
                };
                let next = at.saturating_add(SHOWN_AT_ONCE);
                let part = pieces.clone().filter_map(|(offset, pa, size)| {
                    let start = offset.max(at);
                    let end = offset.saturating_add(size).min(next);
                    let inside = start.saturating_sub(offset);
                    let size = end.checked_sub(start).filter(|size| *size != 0)?;
                    Some((start, pa.checked_add(inside)?, size))
                });
                if tables.window_show_all(order, &setup.window, &part) != Windowed::Done {
                    return Err(NotShared);
                }
                let ram = self.memory.ram().size();
                for page in at >> PAGE_SHIFT..next.min(ram) >> PAGE_SHIFT {
                    self.shares.set(page, true);
                }
                Ok((next < ram).then_some(next))
            }
        }
    }
}

/// Memory that was to be shared is not: the pool of table pages is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotShared;
