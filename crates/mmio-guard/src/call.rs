// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a function id to the call it names.

use crate::{Dialect, abi};

/// A call of the interface, whichever number it has in a dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// The UID of the service.
    Uid,
    /// The map of functions.
    Features,
    /// The granule, under pkvm's older number.
    Meminfo,
    /// The granule.
    Info,
    /// Turns the guard on.
    Enroll,
    /// Declares a page.
    Map,
    /// Takes a page's declaration back.
    Unmap,
    /// Shares RAM.
    MemShare,
    /// Takes a share back.
    MemUnshare,
    /// Gives a page of RAM up.
    Relinquish,
    /// Declares a range.
    RangeMap,
    /// Takes a range's declarations back.
    RangeUnmap,
    /// The version of Portcullis' own calls.
    AbiVersion,
    /// What is at a page.
    QueryPage,
    /// The counters of the VM.
    Counters,
}

/// The call that `id`, the whole of W0, names in `dialect`; `None` is answered with -1 and zeros.
///
/// Ids are compared whole: HVC32 forms of the HVC64 functions and the converse, slow calls, and ids
/// with the bits set that SMCCC keeps for hints name nothing. Policy is not looked at: under
/// [`Policy::Off`](crate::Policy::Off) the caller answers -1 to what [`Call::is_guard`] says.
#[must_use]
#[inline]
pub const fn call(dialect: Dialect, id: u32) -> Option<Call> {
    let common = match id {
        abi::CALL_UID => Call::Uid,
        abi::FEATURES => Call::Features,
        abi::own::VERSION => Call::AbiVersion,
        abi::own::QUERY_PAGE => Call::QueryPage,
        abi::own::COUNTERS => Call::Counters,
        _ => {
            return match dialect {
                Dialect::Pkvm => pkvm(id),
                Dialect::Series => series(id),
            };
        }
    };
    Some(common)
}

#[inline(always)]
const fn pkvm(id: u32) -> Option<Call> {
    Some(match id {
        abi::pkvm::MEMINFO => Call::Meminfo,
        abi::pkvm::MEM_SHARE => Call::MemShare,
        abi::pkvm::MEM_UNSHARE => Call::MemUnshare,
        abi::pkvm::INFO => Call::Info,
        abi::pkvm::ENROLL => Call::Enroll,
        abi::pkvm::MAP => Call::Map,
        abi::pkvm::UNMAP => Call::Unmap,
        abi::pkvm::RELINQUISH => Call::Relinquish,
        abi::pkvm::RANGE_MAP => Call::RangeMap,
        abi::pkvm::RANGE_UNMAP => Call::RangeUnmap,
        _ => return None,
    })
}

#[inline(always)]
const fn series(id: u32) -> Option<Call> {
    Some(match id {
        abi::series::INFO => Call::Info,
        abi::series::ENROLL => Call::Enroll,
        abi::series::MAP => Call::Map,
        abi::series::UNMAP => Call::Unmap,
        _ => return None,
    })
}

/// The id that names `call` in `dialect`, the inverse of [`call`](fn@call); `None` where the dialect
/// has no such call.
#[must_use]
pub const fn id(dialect: Dialect, call: Call) -> Option<u32> {
    Some(match (dialect, call) {
        (_, Call::Uid) => abi::CALL_UID,
        (_, Call::Features) => abi::FEATURES,
        (_, Call::AbiVersion) => abi::own::VERSION,
        (_, Call::QueryPage) => abi::own::QUERY_PAGE,
        (_, Call::Counters) => abi::own::COUNTERS,
        (Dialect::Pkvm, Call::Meminfo) => abi::pkvm::MEMINFO,
        (Dialect::Pkvm, Call::MemShare) => abi::pkvm::MEM_SHARE,
        (Dialect::Pkvm, Call::MemUnshare) => abi::pkvm::MEM_UNSHARE,
        (Dialect::Pkvm, Call::Info) => abi::pkvm::INFO,
        (Dialect::Pkvm, Call::Enroll) => abi::pkvm::ENROLL,
        (Dialect::Pkvm, Call::Map) => abi::pkvm::MAP,
        (Dialect::Pkvm, Call::Unmap) => abi::pkvm::UNMAP,
        (Dialect::Pkvm, Call::Relinquish) => abi::pkvm::RELINQUISH,
        (Dialect::Pkvm, Call::RangeMap) => abi::pkvm::RANGE_MAP,
        (Dialect::Pkvm, Call::RangeUnmap) => abi::pkvm::RANGE_UNMAP,
        (Dialect::Series, Call::Info) => abi::series::INFO,
        (Dialect::Series, Call::Enroll) => abi::series::ENROLL,
        (Dialect::Series, Call::Map) => abi::series::MAP,
        (Dialect::Series, Call::Unmap) => abi::series::UNMAP,
        (Dialect::Series, _) => return None,
    })
}

impl Call {
    /// Whether this is one of functions 2 to 11, which a VM without a guard does not have.
    #[must_use]
    #[inline]
    pub const fn is_guard(self) -> bool {
        !matches!(
            self,
            Self::Uid | Self::Features | Self::AbiVersion | Self::QueryPage | Self::Counters
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    /// The table as docs/abi.md has it, by number.
    fn table(dialect: Dialect) -> BTreeMap<u32, Call> {
        let functions: &[(u32, Call)] = match dialect {
            Dialect::Pkvm => &[
                (2, Call::Meminfo),
                (3, Call::MemShare),
                (4, Call::MemUnshare),
                (5, Call::Info),
                (6, Call::Enroll),
                (7, Call::Map),
                (8, Call::Unmap),
                (9, Call::Relinquish),
                (10, Call::RangeMap),
                (11, Call::RangeUnmap),
            ],
            Dialect::Series => {
                &[(2, Call::Info), (3, Call::Enroll), (4, Call::Map), (5, Call::Unmap)]
            }
        };
        let mut table: BTreeMap<_, _> =
            functions.iter().map(|&(function, call)| (0xC600_0000 + function, call)).collect();
        table.extend([
            (0x8600_FF01, Call::Uid),
            (0x8600_0000, Call::Features),
            (0xC600_F000, Call::AbiVersion),
            (0xC600_F001, Call::QueryPage),
            (0xC600_F002, Call::Counters),
        ]);
        table
    }

    #[test]
    fn every_vendor_id_is_looked_up_exactly() {
        for dialect in [Dialect::Pkvm, Dialect::Series] {
            let table = table(dialect);
            // All functions of the owner, fast and slow, in both widths.
            for top in [0x0600_0000, 0x4600_0000, 0x8600_0000, 0xC600_0000_u32] {
                for function in 0..=0xFFFF {
                    let id = top | function;
                    assert_eq!(call(dialect, id), table.get(&id).copied(), "{dialect} {id:#x}");
                }
            }
        }
    }

    #[test]
    fn ids_lead_back_to_their_calls() {
        let pkvm = table(Dialect::Pkvm);
        assert_eq!(pkvm.len(), 15, "every call there is");
        for dialect in [Dialect::Pkvm, Dialect::Series] {
            let table: BTreeMap<_, _> =
                table(dialect).into_iter().map(|(id, call)| (call as u32, id)).collect();
            for call in pkvm.values() {
                assert_eq!(id(dialect, *call), table.get(&(*call as u32)).copied(), "{call:?}");
            }
        }
    }

    #[test]
    fn one_flipped_bit_names_another_call_or_none() {
        for dialect in [Dialect::Pkvm, Dialect::Series] {
            let table = table(dialect);
            for known in table.keys() {
                for bit in 0..32 {
                    let other = known ^ 1 << bit;
                    assert_eq!(call(dialect, other), table.get(&other).copied(), "{other:#x}");
                }
            }
        }
    }

    #[test]
    fn hvc32_forms_of_the_guard_are_unknown() {
        for dialect in [Dialect::Pkvm, Dialect::Series] {
            for function in 1..64 {
                assert_eq!(call(dialect, 0x8600_0000 + function), None);
            }
            assert_eq!(call(dialect, 0x8600_F000), None);
            assert_eq!(call(dialect, 0xC600_FF01), None, "HVC64 form of CALL_UID");
            assert_eq!(call(dialect, 0xC600_0000), None, "HVC64 form of FEATURES");
        }
    }

    #[test]
    fn other_owners_are_unknown() {
        for id in [0x8400_0000, 0x8000_0000, 0xC400_0003, 0xC500_0020, 0xC700_0007, 0, u32::MAX] {
            for dialect in [Dialect::Pkvm, Dialect::Series] {
                assert_eq!(call(dialect, id), None, "{id:#x}");
            }
        }
    }

    #[test]
    fn the_ambiguous_numbers_differ() {
        let meanings = |function: u32| {
            [Dialect::Pkvm, Dialect::Series].map(|d| call(d, 0xC600_0000 + function).unwrap())
        };
        assert_eq!(meanings(2), [Call::Meminfo, Call::Info]);
        assert_eq!(meanings(3), [Call::MemShare, Call::Enroll]);
        assert_eq!(meanings(4), [Call::MemUnshare, Call::Map]);
        assert_eq!(meanings(5), [Call::Info, Call::Unmap]);
    }

    #[test]
    fn only_functions_2_to_11_belong_to_the_guard() {
        for dialect in [Dialect::Pkvm, Dialect::Series] {
            let guard: Vec<_> = table(dialect)
                .into_iter()
                .filter_map(|(id, call)| call.is_guard().then_some(id & 0xFFFF))
                .collect();
            let end = if dialect == Dialect::Pkvm { 12 } else { 6 };
            assert_eq!(guard, (2..end).collect::<Vec<_>>());
        }
    }
}
