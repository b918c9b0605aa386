// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests of a few instructions, made in the test that needs them: they do exactly what it says and nothing
//! more, so that counts can be compared.
//!
//! Encodings: DDI 0487 chapter C6. Registers are X0 to X30 by number.

use std::collections::BTreeMap;

/// The console of a guest.
pub const UART: u64 = 0x0900_0000;
/// A page with nothing behind it.
pub const NOWHERE: u64 = 0x1000_0000;
/// Where a plain image is loaded and entered.
pub const ENTRY: u64 = 0x4020_0000;

/// PSCI and guard calls.
pub mod calls {
    /// PSCI_VERSION: answered, and nothing else happens.
    pub const VERSION: u64 = 0x8400_0000;
    /// SYSTEM_OFF.
    pub const OFF: u64 = 0x8400_0008;
    /// SYSTEM_RESET.
    pub const RESET: u64 = 0x8400_0009;
    /// ENROLL of the dialect `pkvm`.
    pub const ENROLL: u64 = 0xc600_0006;
    /// MAP of the dialect `pkvm`.
    pub const MAP: u64 = 0xc600_0007;
}

/// A program, growing.
#[derive(Debug, Clone, Default)]
pub struct Asm {
    words: Vec<u32>,
    labels: BTreeMap<&'static str, usize>,
    jumps: Vec<(usize, u32, &'static str)>,
}

impl Asm {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn word(mut self, word: u32) -> Self {
        self.words.push(word);
        self
    }

    /// `mov xD, #value`, in as many instructions as it takes.
    #[must_use]
    pub fn mov(mut self, d: u32, value: u64) -> Self {
        self = self.word(0xd280_0000 | ((value & 0xffff) as u32) << 5 | d);
        for part in 1..4_u32 {
            let half = (value >> (16 * part) & 0xffff) as u32;
            if half != 0 {
                self = self.word(0xf280_0000 | part << 21 | half << 5 | d);
            }
        }
        self
    }

    /// `add xD, xN, #value`, value below 4096.
    #[must_use]
    pub fn add(self, d: u32, n: u32, value: u32) -> Self {
        self.word(0x9100_0000 | value << 10 | n << 5 | d)
    }

    /// `sub xD, xN, #value`, value below 4096.
    #[must_use]
    pub fn sub(self, d: u32, n: u32, value: u32) -> Self {
        self.word(0xd100_0000 | value << 10 | n << 5 | d)
    }

    /// `ldr wT, [xN]`
    #[must_use]
    pub fn load(self, t: u32, n: u32) -> Self {
        self.word(0xb940_0000 | n << 5 | t)
    }

    /// `str wT, [xN]`
    #[must_use]
    pub fn store(self, t: u32, n: u32) -> Self {
        self.word(0xb900_0000 | n << 5 | t)
    }

    /// `hvc #0` with X0 to X1 as given; X0 to X3 are lost.
    #[must_use]
    pub fn call(self, id: u64, x1: u64) -> Self {
        self.mov(0, id).mov(1, x1).mov(2, 0).mov(3, 0).word(0xd400_0002)
    }

    /// `smc #0` with X0 to X1 as given; X0 to X3 are lost.
    #[must_use]
    pub fn secure_call(self, id: u64, x1: u64) -> Self {
        self.mov(0, id).mov(1, x1).mov(2, 0).mov(3, 0).word(0xd400_0003)
    }

    /// `hvc #0` with the function's number in X`id`; X0 is lost.
    #[must_use]
    pub fn call_register(self, id: u32) -> Self {
        // mov x0, xN
        self.word(0xaa00_03e0 | id << 16).word(0xd400_0002)
    }

    /// `msr vbar_el1, xT`
    #[must_use]
    pub fn set_vectors(self, t: u32) -> Self {
        self.word(0xd518_c000 | t)
    }

    /// `isb` and `mrs xT, cntpct_el0`: the machine's counter.
    #[must_use]
    pub fn machine_count(self, t: u32) -> Self {
        self.word(0xd503_3fdf).word(0xd53b_e020 | t)
    }

    /// `isb` and `mrs xT, cntvct_el0`: the VM's counter.
    #[must_use]
    pub fn own_count(self, t: u32) -> Self {
        self.word(0xd503_3fdf).word(0xd53b_e040 | t)
    }

    /// `mrs xT, cntfrq_el0`
    #[must_use]
    pub fn frequency(self, t: u32) -> Self {
        self.word(0xd53b_e000 | t)
    }

    /// `sub xD, xN, xM`
    #[must_use]
    pub fn minus(self, d: u32, n: u32, m: u32) -> Self {
        self.word(0xcb00_0000 | m << 16 | n << 5 | d)
    }

    /// `mrs x0, pmcr_el0`: a register that guests do not have.
    #[must_use]
    pub fn pmu(self) -> Self {
        self.word(0xd53b_9c00)
    }

    /// The instruction that an exception handler returns to becomes the next one: X`t` is lost.
    #[must_use]
    pub fn skip_faulting(self, t: u32) -> Self {
        self.word(0xd538_4020 | t).add(t, t, 4).word(0xd518_4020 | t)
    }

    /// Goes on at EL0, in AArch64: X`t` is lost.
    #[must_use]
    pub fn to_el0(self, t: u32) -> Self {
        // msr elr_el1, xT; msr spsr_el1, xzr
        self.here(t).add(t, t, 20).word(0xd518_4020 | t).word(0xd518_401f).eret()
    }

    /// `eret`
    #[must_use]
    pub fn eret(self) -> Self {
        self.word(0xd69f_03e0)
    }

    /// `wfi`
    #[must_use]
    pub fn wait(self) -> Self {
        self.word(0xd503_207f)
    }

    /// Prints `text`, byte by byte: one store each. X20 and X21 are lost.
    #[must_use]
    pub fn print(mut self, text: &str) -> Self {
        self = self.mov(20, UART);
        for byte in text.bytes() {
            self = self.mov(21, u64::from(byte)).store(21, 20);
        }
        self
    }

    /// `adr xD, .`: where this instruction lies.
    #[must_use]
    pub fn here(self, d: u32) -> Self {
        self.word(0x1000_0000 | d)
    }

    /// Goes to `label` unless xN and xM are the same; X22 is lost.
    #[must_use]
    pub fn unless_same(self, n: u32, m: u32, label: &'static str) -> Self {
        // eor x22, xN, xM
        self.word(0xca00_0000 | m << 16 | n << 5 | 22).unless_zero(22, label)
    }

    /// `ubfx xD, xN, #lsb, #width`
    #[must_use]
    pub fn field(self, d: u32, n: u32, lsb: u32, width: u32) -> Self {
        self.word(0xd340_0000 | lsb << 16 | (lsb + width - 1) << 10 | n << 5 | d)
    }

    /// `mrs xT, id_aa64pfr0_el1`
    #[must_use]
    pub fn read_pfr0(self, t: u32) -> Self {
        self.word(0xd538_0400 | t)
    }

    /// `msr cntfrq_el0, xT`: UNDEFINED at EL1.
    #[must_use]
    pub fn set_frequency(self, t: u32) -> Self {
        self.word(0xd51b_e000 | t)
    }

    /// A place to jump to.
    #[must_use]
    pub fn label(mut self, name: &'static str) -> Self {
        self.labels.insert(name, self.words.len());
        self
    }

    /// `b label`
    #[must_use]
    pub fn jump(self, label: &'static str) -> Self {
        self.branch(0x1400_0000, label)
    }

    /// `cbz xT, label`
    #[must_use]
    pub fn if_zero(self, t: u32, label: &'static str) -> Self {
        self.branch(0xb400_0000 | t, label)
    }

    /// `cbnz xT, label`
    #[must_use]
    pub fn unless_zero(self, t: u32, label: &'static str) -> Self {
        self.branch(0xb500_0000 | t, label)
    }

    /// `tbnz wT, #bit, label`
    #[must_use]
    pub fn unless_bit_clear(self, t: u32, bit: u32, label: &'static str) -> Self {
        self.branch(0x3700_0000 | bit << 19 | t, label)
    }

    fn branch(mut self, word: u32, label: &'static str) -> Self {
        self.jumps.push((self.words.len(), word, label));
        self.word(0)
    }

    /// Switches the VM off.
    #[must_use]
    pub fn off(self) -> Self {
        self.call(calls::OFF, 0)
    }

    /// Goes on at `offset` bytes from the image's start, which must be ahead.
    #[must_use]
    pub fn at(mut self, offset: usize) -> Self {
        assert!(self.words.len() * 4 <= offset, "the code reaches beyond {offset:#x}");
        self.words.resize(offset / 4, 0);
        self
    }

    /// The image.
    ///
    /// # Panics
    ///
    /// A label is missing, or too far.
    #[must_use]
    pub fn bytes(mut self) -> Vec<u8> {
        for (at, word, label) in &self.jumps {
            let target = self.labels.get(label).unwrap_or_else(|| panic!("no label `{label}`"));
            let words = *target as i32 - *at as i32;
            // `b` has 26 bits at 0, `tbnz` 14 at 5, the others 19 at 5.
            assert!(words.abs() < 1 << 13, "`{label}` is too far");
            let field = match word >> 24 {
                0x14 => words as u32 & 0x03ff_ffff,
                0x37 => (words as u32 & 0x3fff) << 5,
                _ => (words as u32 & 0x0007_ffff) << 5,
            };
            if let Some(slot) = self.words.get_mut(*at) {
                *slot = word | field;
            }
        }
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `llvm-mc -triple=aarch64 -show-encoding` has them.
    #[test]
    fn encodings() {
        let words = |code: Asm| -> Vec<u32> {
            code.bytes()
                .chunks(4)
                .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
                .collect()
        };
        assert_eq!(words(Asm::new().mov(3, 0x1234)), [0xd282_4683]);
        assert_eq!(words(Asm::new().mov(0, 0xc600_0006)), [0xd280_00c0, 0xf2b8_c000]);
        assert_eq!(words(Asm::new().add(1, 2, 4)), [0x9100_1041]);
        assert_eq!(words(Asm::new().sub(5, 5, 1)), [0xd100_04a5]);
        assert_eq!(words(Asm::new().load(1, 2).store(3, 4)), [0xb940_0041, 0xb900_0083]);
        assert_eq!(words(Asm::new().set_vectors(7).eret()), [0xd518_c007, 0xd69f_03e0]);
        assert_eq!(words(Asm::new().skip_faulting(9)), [0xd538_4029, 0x9100_1129, 0xd518_4029]);
        assert_eq!(words(Asm::new().here(1)), [0x1000_0001]);
        assert_eq!(words(Asm::new().label("a").unless_same(1, 2, "a")), [0xca02_0036, 0xb5ff_fff6]);
        assert_eq!(
            words(Asm::new().read_pfr0(1).field(1, 1, 12, 4).set_frequency(1)),
            [0xd538_0401, 0xd34c_3c21, 0xd51b_e001]
        );
        assert_eq!(words(Asm::new().pmu()), [0xd53b_9c00]);
        assert_eq!(words(Asm::new().machine_count(3)), [0xd503_3fdf, 0xd53b_e023]);
        assert_eq!(words(Asm::new().own_count(3)), [0xd503_3fdf, 0xd53b_e043]);
        assert_eq!(words(Asm::new().frequency(3).minus(1, 2, 3)), [0xd53b_e003, 0xcb03_0041]);
        assert_eq!(words(Asm::new().label("a").jump("a")), [0x1400_0000]);
        assert_eq!(
            words(
                Asm::new()
                    .label("a")
                    .eret()
                    .jump("a")
                    .if_zero(1, "a")
                    .unless_zero(2, "b")
                    .eret()
                    .label("b")
            ),
            [0xd69f_03e0, 0x17ff_ffff, 0xb4ff_ffc1, 0xb500_0042, 0xd69f_03e0]
        );
    }
}
