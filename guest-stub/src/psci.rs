// SPDX-License-Identifier: MIT OR Apache-2.0
//! PSCI (Arm DEN0022) by HVC or SMC, as the device tree's `method` says.

use crate::hvc::{hvc, smc};
use crate::tree;

/// Function ids.
pub mod id {
    #![allow(missing_docs)]
    pub const VERSION: u64 = 0x8400_0000;
    pub const CPU_SUSPEND: u64 = 0xc400_0001;
    pub const CPU_OFF: u64 = 0x8400_0002;
    pub const CPU_ON: u64 = 0xc400_0003;
    pub const AFFINITY_INFO: u64 = 0xc400_0004;
    pub const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
    pub const SYSTEM_OFF: u64 = 0x8400_0008;
    pub const SYSTEM_RESET: u64 = 0x8400_0009;
    pub const FEATURES: u64 = 0x8400_000a;
    pub const SYSTEM_SUSPEND: u64 = 0xc400_000e;
    pub const SYSTEM_RESET2: u64 = 0xc400_0012;
    pub const SMCCC_VERSION: u64 = 0x8000_0000;
    pub const ARCH_FEATURES: u64 = 0x8000_0001;
}

/// Results.
pub mod result {
    #![allow(missing_docs)]
    pub const SUCCESS: i64 = 0;
    pub const NOT_SUPPORTED: i64 = -1;
    pub const INVALID_PARAMETERS: i64 = -2;
    pub const ALREADY_ON: i64 = -4;
    pub const ON_PENDING: i64 = -5;
    pub const INVALID_ADDRESS: i64 = -9;
}

fn conduit(id: u64, args: [u64; 3]) -> [u64; 4] {
    if tree::get().psci_hvc { hvc(id, args) } else { smc(id, args) }
}

/// The result of an SMC32 call is 32 bits wide.
pub fn call(id: u64, args: [u64; 3]) -> i64 {
    let [x0, ..] = conduit(id, args);
    i64::from(x0 as i32)
}

/// The end of this VM.
pub fn system_off() -> ! {
    loop {
        conduit(id::SYSTEM_OFF, [0; 3]);
    }
}

/// The VM starts again.
pub fn system_reset() -> ! {
    loop {
        conduit(id::SYSTEM_RESET, [0; 3]);
    }
}
