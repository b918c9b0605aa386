// SPDX-License-Identifier: MIT OR Apache-2.0
//! How to declare what a refusal was about: the whole device of the guest's tree, in one range, once per device.

use crate::bus::Device;
use crate::{Host, Reason, Refusal, Vm};
use arch::guest_map::{FW_CFG_IPA, GIC_WINDOW, GICD_IPA, GICD_SIZE, GICR_IPA, UART_IPA};
use arch::{Ipa, PAGE_SHIFT, PAGE_SIZE, Range};
use core::fmt;
use mmio_guard::{Dialect, abi};

/// Bit of the first bank of flash, and of the first region of direct pages.
const FLASH_BIT: u32 = 4;
const DIRECT_BIT: u32 = 8;
/// Bit of the firmware configuration device.
const FW_CFG_BIT: u32 = 31;

/// The line that follows the line of a refusal.
pub struct Advice<'a, H: Host> {
    vm: &'a Vm<H>,
    /// Name of the device's node in the guest's tree.
    node: Option<&'static str>,
    range: Range<Ipa>,
}

impl<H: Host> Vm<H> {
    /// Advice about `refusal`: `None` where the VM has had it already, or where there is nothing to declare.
    pub fn advice(&self, refusal: &Refusal) -> Option<Advice<'_, H>> {
        let page = refusal.ipa.filter(|_| refusal.reason == Reason::Undeclared)?.page();
        if self.memory().is_memory(page) || page.raw() >= self.stage2().geometry().ipa_limit() {
            return None;
        }
        let (bit, node, range) = match self.place(page) {
            Some((bit, node, range)) => (Some(bit), node, range),
            None => (None, None, Range::<Ipa>::new(page, PAGE_SIZE)?),
        };
        let first = match bit {
            Some(bit) => self.advice_given.first_for(bit),
            None => self.advice_given.first_for_page(page),
        };
        first.then_some(Advice { vm: self, node, range })
    }

    /// The bit, the node and all pages of the device at `page`.
    fn place(&self, page: Ipa) -> Option<(u32, Option<&'static str>, Range<Ipa>)> {
        if let Some((device, _)) = self.device_at(page) {
            let (bit, start, size) = match device {
                Device::Distributor => (0, GICD_IPA, GICD_SIZE),
                Device::Redistributor => (1, GICR_IPA, self.bus.gicr_size),
                Device::Uart => (2, UART_IPA, PAGE_SIZE),
                Device::Test => (3, page, PAGE_SIZE),
                Device::FwCfg => (FW_CFG_BIT, FW_CFG_IPA, PAGE_SIZE),
                // There are none where something is refused.
                Device::VirtioSlot => return None,
                Device::Flash(n) => {
                    let bank = self.flash.get(usize::from(n))?.range();
                    (FLASH_BIT.saturating_add(u32::from(n)), bank.start(), bank.size())
                }
            };
            return Some((bit, Some(device.node()), Range::<Ipa>::new(start, size)?));
        }
        let is_here = |range: &Range<Ipa>| range.contains(page);
        let (bit, range) = (DIRECT_BIT..)
            .zip(self.mapped_mmio.iter().map(|it| it.range()))
            .find(|it| is_here(&it.1))?;
        // Under GICv2 its CPU interface is one of them.
        let is_gic = range.start().raw().wrapping_sub(GICD_IPA.raw()) < GIC_WINDOW;
        Some((bit, is_gic.then(|| Device::Distributor.node()), range))
    }
}

impl<H: Host> fmt::Display for Advice<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vm, node, range } = self;
        let (start, pages) = (range.start(), range.size() >> PAGE_SHIFT);
        write!(f, "{}: ", vm.name())?;
        let allowed = vm.guard().allowed_until(start).is_some_and(|end| end >= range.end());
        f.write_str(if allowed { "to declare " } else { "not in vm.allow: to declare " })?;
        match node {
            Some(node) => f.write_str(node)?,
            None if pages == 1 => f.write_str("this page")?,
            None => f.write_str("this device")?,
        }
        f.write_str(": ")?;
        if allowed {
            match (vm.guard().dialect(), pages) {
                (Dialect::Pkvm, 1) => write!(f, "HVC {:#x} with x1={start}", abi::pkvm::MAP)?,
                (Dialect::Pkvm, _) => {
                    write!(f, "HVC {:#x} with x1={start} x2={pages:#x}", abi::pkvm::RANGE_MAP)?;
                }
                (Dialect::Series, 1) => write!(f, "HVC {:#x} with x1={start}", abi::series::MAP)?,
                (Dialect::Series, _) => {
                    write!(f, "HVC {:#x} with x1={start} and each page to", abi::series::MAP)?;
                    write!(f, " {:#x}", range.end().raw().saturating_sub(PAGE_SIZE))?;
                }
            }
            f.write_str(", or ")?;
        }
        write!(f, "vm.preset={start}+{:#x}", range.size())
    }
}
