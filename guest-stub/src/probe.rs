// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single accesses, and the check of an abort against everything that the architecture and docs/abi.md
//! say about it.

use crate::features;
use crate::machine::{self, Code, Exit, Machine, pstate};
use crate::verdict::Verdict;

/// x0 and x1 of the access snippets: the data, the address.
pub const DATA: usize = 0;
/// The register that holds the address.
pub const ADDRESS: usize = 1;

snippet!(
    /// `ldrb w0, [x1]`
    pub ldrb, "ldrb w0, [x1]"
);
snippet!(
    /// `ldrh w0, [x1]`
    pub ldrh, "ldrh w0, [x1]"
);
snippet!(
    /// `ldr w0, [x1]`
    pub ldr_w, "ldr w0, [x1]"
);
snippet!(
    /// `ldr x0, [x1]`
    pub ldr_x, "ldr x0, [x1]"
);
snippet!(
    /// `strb w0, [x1]`
    pub strb, "strb w0, [x1]"
);
snippet!(
    /// `strh w0, [x1]`
    pub strh, "strh w0, [x1]"
);
snippet!(
    /// `str w0, [x1]`
    pub str_w, "str w0, [x1]"
);
snippet!(
    /// `str x0, [x1]`
    pub str_x, "str x0, [x1]"
);

/// Loads by width in bytes.
pub const LOADS: [(u64, Code); 4] = [(1, ldrb), (2, ldrh), (4, ldr_w), (8, ldr_x)];
/// Stores by width in bytes.
pub const STORES: [(u64, Code); 4] = [(1, strb), (2, strh), (4, str_w), (8, str_x)];

/// The bits of a value of `width` bytes.
pub const fn mask(width: u64) -> u64 {
    if width < 8 { (1 << (8 * width)) - 1 } else { u64::MAX }
}

/// One access and what came of it.
pub struct Access {
    /// The registers before.
    pub before: Machine,
    /// The registers after.
    pub after: Machine,
    /// How it ended.
    pub exit: Exit,
}

/// Runs a prepared machine and keeps the state before.
pub fn run(before: Machine) -> Access {
    let mut after = before.clone();
    let exit = machine::run(&mut after);
    Access { before, after, exit }
}

/// Runs an access snippet with its address in x1 at EL1h.
pub fn access(code: Code, address: u64) -> Access {
    run(Machine::new(code).with(ADDRESS, address))
}

/// The same at any level.
pub fn access_at(code: Code, address: u64, pstate: u64) -> Access {
    run(Machine::new(code).with(ADDRESS, address).at(pstate))
}

/// A 32-bit load at EL1.
pub fn load(address: u64) -> Access {
    access(ldr_w, address)
}

/// What an abort is expected to be.
#[derive(Clone, Copy, Debug)]
pub enum Abort {
    /// Of a data access: ESR 0x96000010 or 0x92000010, load or store.
    Data,
    /// Of an instruction fetch: 0x86000010 or 0x82000010.
    Fetch,
    /// Of a data access whose stage-1 walk stopped at this level.
    DataWalk(u64),
    /// Of a fetch whose stage-1 walk stopped at this level.
    FetchWalk(u64),
}

impl Access {
    /// Done without an exception, nothing changed but the registers of `except`.
    pub fn completed(&self, except: &[usize]) -> Verdict {
        check!(
            self.exit.done(),
            "ended with ESR {:#x} FAR {:#x} at +{:#x}",
            self.exit.esr,
            self.exit.far,
            self.exit.elr.wrapping_sub(self.before.pc)
        );
        self.unchanged(except)
    }

    /// x0 after a load that completed.
    pub fn loaded(&self) -> Result<u64, crate::verdict::Why> {
        self.completed(&[DATA])?;
        Ok(self.after.x[DATA])
    }

    /// No register changed but those of `except`, nor SP.
    pub fn unchanged(&self, except: &[usize]) -> Verdict {
        for (n, (before, after)) in self.before.x.iter().zip(&self.after.x).enumerate() {
            check!(
                before == after || except.contains(&n),
                "x{n} became {after:#x}, was {before:#x}"
            );
        }
        equal!(self.after.sp, self.before.sp, "SP");
        Ok(())
    }

    /// The guard's abort at the first instruction, exact in every field.
    pub fn refused(&self, va: u64) -> Verdict {
        self.aborted(Abort::Data, va, 0)
    }

    /// The abort that is expected, exact in every field that a guest sees: syndrome, address, return
    /// address `offset` bytes into the code, saved and new PSTATE, vector; and no register changed.
    pub fn aborted(&self, abort: Abort, va: u64, offset: u64) -> Verdict {
        let before = self.before.pstate;
        let lower = before & 0xf == 0;
        let aarch32 = before & 0x10 != 0;
        let (class, status) = match abort {
            Abort::Data => (0x24, 0x10),
            Abort::Fetch => (0x20, 0x10),
            Abort::DataWalk(level) => (0x24, 0x14 + level),
            Abort::FetchWalk(level) => (0x20, 0x14 + level),
        };
        let esr = (class + u64::from(!lower)) << 26 | 1 << 25 | status;
        equal!(self.exit.esr, esr, "ESR_EL1");
        equal!(self.exit.far, va, "FAR_EL1");
        equal!(self.exit.elr, self.before.pc + offset, "ELR_EL1");
        let vector = match (lower, aarch32, before & 1) {
            (true, true, _) => 0x600,
            (true, false, _) => 0x400,
            (false, _, 1) => 0x200,
            (false, ..) => 0x000,
        };
        equal!(self.exit.vector, vector, "vector");
        // A data abort may drop BTYPE; the first instruction of a snippet has none anyway.
        equal!(self.exit.spsr, before, "SPSR_EL1");
        equal!(
            self.exit.handler,
            handler_pstate(before, mrs!("sctlr_el1")),
            "PSTATE of the handler"
        );
        self.unchanged(&[])
    }
}

/// PSTATE of the handler of an exception taken to EL1 from `before`, as far as [`Exit::handler`] has it.
pub fn handler_pstate(before: u64, sctlr: u64) -> u64 {
    let aarch32 = before & 0x10 != 0;
    let mut pstate = pstate::EL1H | before & 0xf << 28;
    if features::pan() {
        pstate |= before & 1 << 22;
        if sctlr & 1 << 23 == 0 {
            pstate |= 1 << 22;
        }
    }
    if features::dit() {
        // AArch32 has DIT at another place.
        pstate |= if aarch32 { (before >> 21 & 1) << 24 } else { before & 1 << 24 };
    }
    if features::ssbs() {
        pstate |= (sctlr >> 44 & 1) << 12;
    }
    pstate
}
