// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM's reset: its state becomes that of a VM before its first instruction.

use crate::reset_progress::Stage;
use crate::{Host, Vm};
use arch::{Ipa, MAX_VCPUS, PAGE_SIZE, Range};
use lock::Order;
use stage2::{DeclareError, GuardAnnotation, MapError};

/// Why a VM could not be reset. It must not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetError {
    /// A preset page cannot be declared.
    Preset(Range<Ipa>, DeclareError),
    /// A page reached without a trap cannot be mapped.
    MappedMmio(Ipa, MapError),
}

impl core::fmt::Display for ResetError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Preset(range, error) => write!(f, "preset {range} cannot be declared: {error}"),
            Self::MappedMmio(ipa, error) => {
                write!(f, "device page {ipa} cannot be mapped: {error}")
            }
        }
    }
}

impl core::error::Error for ResetError {}

/// Words of shared pages that a piece of a reset clears.
const SHARE_WORDS: u64 = 1024;
/// Pages of mapped MMIO that a piece handles.
const PAGES: u64 = 8;
/// Descriptors that a piece declares.
const DESCRIPTORS: u32 = stage2::BUDGET / 2;

impl<H: Host> Vm<H> {
    /// Resets the VM: no declaration but the presets, no enrolment, no share, no interrupt, no
    /// device state, counters at zero. The caller fills memory again. Also called before the first
    /// start. No vCPU may run.
    ///
    /// # Errors
    /// The VM must not be started then.
    pub fn reset(&self, order: &Order) -> Result<(), ResetError> {
        while !self.reset_piece(order)? {}
        Ok(())
    }

    /// Does the next piece of a [`Vm::reset`], less than 10 us of EL2's time; returns whether all of it is done. One CPU at
    /// a time; no vCPU may run in between.
    ///
    /// # Errors
    /// As [`Vm::reset`]; the next piece is the first one of another reset then.
    pub fn reset_piece(&self, order: &Order) -> Result<bool, ResetError> {
        match self.stage_piece(order) {
            Ok(true) => Ok(self.resetting.advance()),
            Ok(false) => Ok(false),
            Err(error) => {
                self.resetting.abandon();
                Err(error)
            }
        }
    }

    /// A piece of the stage that goes on; returns whether the stage is done.
    fn stage_piece(&self, order: &Order) -> Result<bool, ResetError> {
        let (item, at) = self.resetting.place();
        match self.resetting.stage() {
            Stage::Guard => {
                self.guard.reset();
                self.leave_links(order);
            }
            Stage::Tables => return Ok(self.stage2.reset_piece(order)),
            Stage::Shares => {
                let end = at.saturating_add(SHARE_WORDS);
                self.resetting.set_place(0, end);
                return Ok(!self.shares.clear(at, end));
            }
            Stage::Interrupts => {
                let mut vgic = self.vgic.lock(order);
                if (item as usize) < MAX_VCPUS {
                    vgic.reset_vcpu(item as usize);
                    self.resetting.set_place(item.saturating_add(1), 0);
                    return Ok(false);
                }
                vgic.reset_shared();
            }
            Stage::Devices => self.reset_devices(order),
            Stage::Presets => {
                let range = self.guard.preset().get(item as usize).copied();
                return range.map_or(Ok(true), |range| self.preset_piece(order, range, item, at));
            }
            Stage::Mapped => return self.mapped_piece(order, item, at),
            Stage::Flash => {
                let Some(bank) = self.flash.get(item as usize) else { return Ok(true) };
                self.place_flash(order, bank)
                    .map_err(|error| ResetError::MappedMmio(bank.range().start(), error))?;
                self.resetting.set_place(item.saturating_add(1), 0);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Devices, counters, and the states of pages reached without a trap.
    fn reset_devices(&self, order: &Order) {
        self.bus.reset(order);
        for counters in &self.counters {
            counters.clear();
        }
        for region in &self.mapped_mmio {
            region.clear();
        }
        for bank in self.flash {
            let preset = self.guard.preset().iter().any(|range| range.encloses(&bank.range()));
            bank.reset(order, preset);
        }
    }

    /// Maps pages of region number `item` from page `at` on: what is not declared is reached without a trap only while the
    /// guard is not active.
    fn mapped_piece(&self, order: &Order, item: u64, at: u64) -> Result<bool, ResetError> {
        let Some(region) = self.mapped_mmio.get(item as usize) else { return Ok(true) };
        for ipa in region.pages().skip(at as usize).take(PAGES as usize) {
            if region.is_declared(ipa) || !self.guard.active() {
                self.stage2
                    .install_device(order, ipa, region.pa(ipa))
                    .map_err(|error| ResetError::MappedMmio(ipa, error))?;
            }
        }
        let next = at.saturating_add(PAGES);
        if next < region.range().size() / PAGE_SIZE {
            self.resetting.set_place(item, next);
        } else {
            self.resetting.set_place(item.saturating_add(1), 0);
        }
        Ok(false)
    }

    /// Declares the next pages of preset range number `item`, of which `done` bytes are declared: mapped MMIO by its bits,
    /// all other pages by annotations.
    fn preset_piece(
        &self,
        order: &Order,
        range: Range<Ipa>,
        item: u64,
        done: u64,
    ) -> Result<bool, ResetError> {
        let start = range.start().raw();
        let at = Ipa::new(start.wrapping_add(done));
        let next = self.declare_preset(order, range, at)?;
        if next < range.end() {
            self.resetting.set_place(item, next.raw().wrapping_sub(start));
        } else {
            self.resetting.set_place(item.saturating_add(1), 0);
        }
        Ok(false)
    }

    /// Declares pages of `range` from `at` on; returns where the next ones begin.
    fn declare_preset(&self, order: &Order, range: Range<Ipa>, at: Ipa) -> Result<Ipa, ResetError> {
        let next_page = Ipa::new(at.raw().wrapping_add(PAGE_SIZE));
        if let Some(region) = self.mapped_mmio_at(at) {
            region.set_declared(at, true);
            return Ok(next_page);
        }
        if let Some((_, bank)) = self.flash_at(at) {
            if bank.is_declared() {
                return Ok(bank.range().end());
            }
            if !self.declare_flash(bank, at, GuardAnnotation::PRESET, order) {
                return Err(ResetError::Preset(range, DeclareError::PoolEmpty));
            }
            return Ok(next_page);
        }
        let end = self.next_mapped_mmio(at).min(range.end());
        let rest = Range::<Ipa>::new(at, end.raw().wrapping_sub(at.raw()));
        let Some(rest) = rest else { return Ok(range.end()) };
        let pages = self
            .stage2
            .declare(order, rest, GuardAnnotation::PRESET, DESCRIPTORS)
            .map_err(|error| ResetError::Preset(range, error))?;
        Ok(Ipa::new(at.raw().wrapping_add(pages.wrapping_mul(PAGE_SIZE))))
    }
}
