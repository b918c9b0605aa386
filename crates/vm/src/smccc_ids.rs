// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers of the calls that a guest makes, and of their results: SMCCC (DEN0028), PSCI (DEN0022), TRNG (DEN0098).

pub(crate) use ::smccc::arch::{
    SMCCC_ARCH_FEATURES, SMCCC_ARCH_WORKAROUND_1, SMCCC_ARCH_WORKAROUND_2, SMCCC_ARCH_WORKAROUND_3,
    SMCCC_VERSION,
};
use ::smccc::psci::error;
pub(crate) use ::smccc::psci::{
    PSCI_AFFINITY_INFO_32, PSCI_AFFINITY_INFO_64, PSCI_CPU_OFF, PSCI_CPU_ON_32, PSCI_CPU_ON_64,
    PSCI_CPU_SUSPEND_32, PSCI_CPU_SUSPEND_64, PSCI_FEATURES, PSCI_MIGRATE_INFO_TYPE,
    PSCI_SYSTEM_OFF, PSCI_SYSTEM_RESET, PSCI_SYSTEM_RESET2_32, PSCI_SYSTEM_RESET2_64, PSCI_VERSION,
};

// The package has no TRNG calls.
pub(crate) const TRNG_VERSION: u32 = 0x8400_0050;
pub(crate) const TRNG_FEATURES: u32 = 0x8400_0051;
pub(crate) const TRNG_GET_UUID: u32 = 0x8400_0052;
pub(crate) const TRNG_RND32: u32 = 0x8400_0053;
pub(crate) const TRNG_RND64: u32 = 0xc400_0053;

/// SMCCC 1.1: no SVE hint, no SOC_ID.
pub(crate) const SMCCC_1_1: u64 = 0x1_0001;
/// PSCI 1.1.
pub(crate) const PSCI_1_1: u64 = 0x1_0001;
/// TRNG 1.0.
pub(crate) const TRNG_1_0: u64 = 0x1_0000;

/// A result as the guest finds it in x0.
const fn x0(result: i32) -> u64 {
    (result as i64).cast_unsigned()
}

pub(crate) const INVALID_PARAMETERS: u64 = x0(error::INVALID_PARAMETERS);
pub(crate) const ALREADY_ON: u64 = x0(error::ALREADY_ON);
pub(crate) const ON_PENDING: u64 = x0(error::ON_PENDING);
pub(crate) const INVALID_ADDRESS: u64 = x0(error::INVALID_ADDRESS);
/// Of TRNG only.
pub(crate) const NO_ENTROPY: u64 = x0(-3);
