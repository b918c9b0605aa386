// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM's reset: its state becomes that of a VM before its first instruction.

use crate::{Host, Vm};
use arch::{Ipa, PAGE_SIZE, Range};
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

impl<H: Host> Vm<H> {
    /// Resets the VM: no declaration but the presets, no enrolment, no share, no interrupt, no
    /// device state, counters at zero. The caller fills memory again. Also called before the first
    /// start. No vCPU may run.
    ///
    /// # Errors
    /// The VM must not be started then.
    pub fn reset(&self, order: &Order) -> Result<(), ResetError> {
        self.guard.reset();
        self.stage2.reset(order);
        self.shares.clear();
        self.bus.reset(order);
        self.vgic.lock(order).reset();
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
        for range in self.guard.preset() {
            self.declare_preset(order, *range)?;
        }
        // What is not declared is reached without a trap only while the guard is not active.
        for region in &self.mapped_mmio {
            for ipa in region.pages() {
                if region.is_declared(ipa) || !self.guard.active() {
                    self.stage2
                        .install_device(order, ipa, region.pa(ipa))
                        .map_err(|error| ResetError::MappedMmio(ipa, error))?;
                }
            }
        }
        for bank in self.flash {
            self.place_flash(order, bank)
                .map_err(|error| ResetError::MappedMmio(bank.range().start(), error))?;
        }
        Ok(())
    }

    /// Declares a preset range: mapped MMIO by its bits, all other pages by annotations.
    fn declare_preset(&self, order: &Order, range: Range<Ipa>) -> Result<(), ResetError> {
        let mut at = range.start();
        while at < range.end() {
            if let Some(region) = self.mapped_mmio_at(at) {
                region.set_declared(at, true);
                at = Ipa::new(at.raw().wrapping_add(PAGE_SIZE));
                continue;
            }
            if let Some((_, bank)) = self.flash_at(at) {
                if bank.is_declared() {
                    at = bank.range().end();
                    continue;
                }
                if !self.declare_flash(bank, at, GuardAnnotation::PRESET, order) {
                    return Err(ResetError::Preset(range, DeclareError::PoolEmpty));
                }
                at = Ipa::new(at.raw().wrapping_add(PAGE_SIZE));
                continue;
            }
            let end = self.next_mapped_mmio(at).min(range.end());
            let rest = Range::<Ipa>::new(at, end.raw().wrapping_sub(at.raw()));
            let Some(rest) = rest else { break };
            let pages = self
                .stage2
                .declare(order, rest, GuardAnnotation::PRESET, stage2::BUDGET)
                .map_err(|error| ResetError::Preset(range, error))?;
            at = Ipa::new(at.raw().wrapping_add(pages.wrapping_mul(PAGE_SIZE)));
        }
        Ok(())
    }
}
