// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each call of a `Guard`: the registers that go out, what comes back, in both dialects.
#![allow(clippy::arithmetic_side_effects)]

mod common;

use common::{DEV, Host, MINUS_1, PAGE, RAM, UART, attr, pages};
use mmio_guard::abi::{Hint, PageState};
use mmio_guard::client::{AttrIndex, CallError, Code, Counters, Page, RangeError};
use mmio_guard::{Call, Dialect};
use std::error::Error as _;

fn code(host: &Host) -> Code {
    match host.0.borrow().dialect {
        Dialect::Pkvm => Code::InvalidParameter,
        Dialect::Series => Code::NotSupported,
    }
}

#[test]
fn enrol_is_the_right_number_in_each_dialect() {
    for (host, id) in Host::both().into_iter().zip([0xC600_0006, 0xC600_0003]) {
        let guard = host.guard();
        assert!(host.access(UART), "served before ENROLL");
        guard.enrol().unwrap();
        guard.enrol().unwrap();
        assert_eq!(host.asked(), [(id, [0; 3]), (id, [0; 3])]);
        assert!(!host.access(UART), "refused after it");
    }
}

#[test]
fn map_and_unmap_are_the_right_numbers_in_each_dialect() {
    for (host, [map, unmap]) in
        Host::both().into_iter().zip([[0xC600_0007, 0xC600_0008], [0xC600_0004, 0xC600_0005]])
    {
        let guard = host.enrolled();
        guard.map(UART, AttrIndex::default()).unwrap();
        assert!(host.access(UART + 0xFFF) && !host.access(UART + PAGE));
        guard.unmap(UART).unwrap();
        assert!(!host.access(UART));
        assert_eq!(host.asked(), [(map, [UART, 0, 0]), (unmap, [UART, 0, 0])]);
    }
}

#[test]
fn the_attribute_goes_where_a_descriptor_has_it() {
    for host in Host::both() {
        let guard = host.enrolled();
        for index in 0..8 {
            host.forget();
            guard.map(UART, attr(index)).unwrap();
            assert_eq!(host.asked()[0].1, [UART, u64::from(index) * 4, 0]);
        }
    }
}

#[test]
fn there_are_eight_attributes() {
    assert_eq!(AttrIndex::new(7).map(AttrIndex::get), Some(7));
    assert_eq!(AttrIndex::new(8), None);
    assert_eq!(AttrIndex::default().get(), 0);
}

#[test]
fn mapping_twice_is_no_error() {
    for host in Host::both() {
        let guard = host.enrolled();
        guard.map(UART, attr(0)).unwrap();
        guard.map(UART, attr(0)).unwrap();
        assert_eq!(host.declared(), [UART]);
    }
}

#[test]
fn unaligned_addresses_never_reach_the_host() {
    for host in Host::both() {
        let guard = host.enrolled();
        for offset in [1, 8, 0x800, 0xFFF] {
            let ipa = UART + offset;
            assert_eq!(guard.map(ipa, attr(0)), Err(CallError::Unaligned(ipa)));
            assert_eq!(guard.unmap(ipa), Err(CallError::Unaligned(ipa)));
            let error = RangeError { done: 0, error: CallError::Unaligned(ipa) };
            assert_eq!(guard.map_range(ipa, 2, attr(0)), Err(error));
            assert_eq!(guard.unmap_range(ipa, 2), Err(error));
        }
        assert_eq!(host.asked(), []);
    }
}

#[test]
fn a_refusal_has_the_dialects_code() {
    for host in Host::both() {
        let guard = host.enrolled();
        for ipa in [RAM.start, RAM.end - PAGE, 1 << 40, !0xFFF] {
            let error = CallError::Refused { call: Call::Map, ipa, code: code(&host) };
            assert_eq!(guard.map(ipa, attr(0)), Err(error));
        }
        assert_eq!(host.declared(), []);
    }
}

#[test]
fn what_the_owner_does_not_allow_is_refused() {
    for host in Host::both() {
        host.change(|state| state.allow = Some(UART..UART + PAGE));
        let guard = host.enrolled();
        assert_eq!(guard.map(UART, attr(0)), Ok(()));
        let error = CallError::Refused { call: Call::Map, ipa: DEV, code: code(&host) };
        assert_eq!(guard.map(DEV, attr(0)), Err(error));
    }
}

#[test]
fn before_enrolment_the_dialects_differ() {
    let host = Host::pkvm();
    host.guard().map(UART, attr(0)).unwrap();
    assert_eq!(host.declared(), [UART], "recorded");

    let host = Host::series();
    let guard = host.guard();
    let refused = |call| Err(CallError::Refused { call, ipa: UART, code: Code::NotSupported });
    assert_eq!(guard.map(UART, attr(0)), refused(Call::Map));
    assert_eq!(guard.unmap(UART), refused(Call::Unmap));
    assert_eq!(host.declared(), []);
}

#[test]
fn unmap_of_an_undeclared_page_differs_too() {
    assert_eq!(Host::pkvm().enrolled().unmap(UART), Ok(()));
    let error = CallError::Refused { call: Call::Unmap, ipa: UART, code: Code::NotSupported };
    assert_eq!(Host::series().enrolled().unmap(UART), Err(error));
}

#[test]
fn a_range_is_one_call_where_it_is_offered() {
    let host = Host::pkvm();
    let guard = host.enrolled();
    guard.map_range(DEV, 16, attr(4)).unwrap();
    assert_eq!(host.declared(), pages(DEV, 16));
    guard.unmap_range(DEV + PAGE, 14).unwrap();
    assert_eq!(host.declared(), [DEV, DEV + 15 * PAGE]);
    assert_eq!(host.asked(), [(0xC600_000A, [DEV, 16, 0]), (0xC600_000B, [DEV + PAGE, 14, 0])]);
}

#[test]
fn a_range_is_single_calls_where_it_is_not() {
    let host = Host::series();
    let guard = host.enrolled();
    guard.map_range(DEV, 3, attr(4)).unwrap();
    guard.unmap_range(DEV, 3).unwrap();
    let map = pages(DEV, 3).into_iter().map(|ipa| (0xC600_0004, [ipa, 16, 0]));
    let unmap = pages(DEV, 3).into_iter().map(|ipa| (0xC600_0005, [ipa, 0, 0]));
    assert_eq!(host.asked(), map.chain(unmap).collect::<Vec<_>>());
}

#[test]
fn a_range_of_one_granule_keeps_its_attribute() {
    let host = Host::pkvm();
    host.enrolled().map_range(UART, 1, attr(4)).unwrap();
    assert_eq!(host.asked(), [(0xC600_0007, [UART, 16, 0])]);
}

#[test]
fn partial_progress_is_gone_on_with() {
    for (per_call, granules) in [(1, 5), (2, 5), (3, 5), (5, 5), (512, 1500)] {
        let host = Host::pkvm().with(|state| state.per_call = per_call);
        let guard = host.enrolled();
        guard.map_range(DEV, granules, attr(0)).unwrap();
        assert_eq!(host.declared(), pages(DEV, granules));
        let calls = host.calls();
        assert_eq!(calls.len() as u64, granules.div_ceil(per_call));
        let mut done = 0;
        for call in calls {
            assert_eq!(call.args, [DEV + done * PAGE, granules - done, 0]);
            done += call.result[1];
        }
        host.forget();
        guard.unmap_range(DEV, granules).unwrap();
        assert_eq!(host.declared(), []);
        assert_eq!(host.calls().len() as u64, granules.div_ceil(per_call));
    }
}

#[test]
fn a_range_that_fails_says_how_far_it_got() {
    for host in Host::both() {
        // Three pages below the RAM, then RAM.
        let start = RAM.start - 3 * PAGE;
        let call =
            if host.0.borrow().dialect == Dialect::Pkvm { Call::RangeMap } else { Call::Map };
        let error = CallError::Refused { call, ipa: RAM.start, code: code(&host) };
        let guard = host.enrolled();
        assert_eq!(guard.map_range(start, 5, attr(0)), Err(RangeError { done: 3, error }));
        assert_eq!(host.declared(), pages(start, 3), "the caller decides what becomes of them");
    }
}

#[test]
fn an_empty_pool_stops_a_range() {
    for host in Host::both() {
        host.change(|state| {
            state.pool = 700;
            state.per_call = 512;
        });
        let failed = host.enrolled().map_range(DEV, 1000, attr(0)).unwrap_err();
        assert_eq!(failed.done, 700);
    }
}

#[test]
fn no_range_never_reaches_the_host() {
    for host in Host::both() {
        let guard = host.enrolled();
        let top = u64::MAX - 0xFFF;
        for (ipa, granules) in
            [(DEV, 0), (top, 2), (0, (1 << 52) + 1), (PAGE, 1 << 52), (DEV, u64::MAX)]
        {
            let error = RangeError { done: 0, error: CallError::BadRange { ipa, granules } };
            assert_eq!(guard.map_range(ipa, granules, attr(0)), Err(error));
            assert_eq!(guard.unmap_range(ipa, granules), Err(error));
        }
        assert_eq!(host.asked(), []);
        // What exists is for the host to judge.
        for (ipa, granules) in [(top, 1), (top - PAGE, 2), (0, 1 << 52)] {
            let failed = guard.map_range(ipa, granules, attr(0)).unwrap_err();
            if ipa != 0 {
                assert!(matches!(failed.error, CallError::Refused { .. }), "{failed}");
            }
            if host.0.borrow().dialect == Dialect::Series {
                break; // One by one, 2^52 calls are too many.
            }
        }
    }
}

#[test]
fn a_host_that_lies_about_progress_is_not_believed() {
    for claimed in [0, 3, u64::MAX] {
        let host = Host::pkvm();
        let guard = host.enrolled();
        host.change(|state| {
            state.instead.insert(0xC600_000A, [0, claimed, 0, 0]);
        });
        let error = CallError::BadProgress { ipa: DEV, asked: 2, claimed };
        assert_eq!(guard.map_range(DEV, 2, attr(0)), Err(RangeError { done: 0, error }));
        assert_eq!(host.calls().len(), 1, "and not asked again");
    }
}

#[test]
fn larger_granules_are_stepped_over() {
    let host = Host::series().answer(0xC600_0002, [0x1_0000, 0, 0, 0]);
    let guard = host.enrolled();
    assert_eq!(guard.granule(), 0x1_0000);
    guard.map_range(DEV, 2, attr(0)).unwrap();
    assert_eq!(host.asked().iter().map(|c| c.1[0]).collect::<Vec<_>>(), [DEV, DEV + 0x1_0000]);
    let ipa = DEV + PAGE;
    assert_eq!(guard.map(ipa, attr(0)), Err(CallError::Unaligned(ipa)));
}

#[test]
fn every_result_has_its_meaning() {
    for (x0, code) in [
        (u64::MAX, Code::NotSupported),
        (u64::MAX - 1, Code::NotRequired),
        (u64::MAX - 2, Code::InvalidParameter),
        // Android 13 lost the upper half of -3.
        (0xFFFF_FFFD, Code::Other(0xFFFF_FFFD)),
        (1, Code::Other(1)),
    ] {
        let host = Host::pkvm();
        let guard = host.enrolled();
        let host = &host;
        host.change(|state| {
            state.instead.insert(0xC600_0007, [x0, 1, 0, 0]);
        });
        let error = CallError::Refused { call: Call::Map, ipa: UART, code };
        assert_eq!(guard.map(UART, attr(0)), Err(error));
    }
}

#[test]
fn own_calls_are_found_and_read() {
    for host in Host::both() {
        let guard = host.enrolled();
        guard.map(UART, attr(4)).unwrap();
        assert!(!host.access(DEV));
        let own = guard.own().unwrap();
        assert_eq!(own.version(), 0x1_0000);
        let hint = Hint { index: 4, mair: 0, preset: false };
        assert_eq!(own.query(UART + 8), Ok(Page { state: Some(PageState::Declared), hint }));
        let page = |state| Ok(Page { state: Some(state), hint: Hint::default() });
        assert_eq!(own.query(DEV), page(PageState::Undeclared));
        assert_eq!(own.query(RAM.start), page(PageState::Ram));
        let ipa = 1 << 40;
        let code = Code::InvalidParameter;
        assert_eq!(own.query(ipa), Err(CallError::Refused { call: Call::QueryPage, ipa, code }));
        host.forget();
        let counters = own.counters().unwrap();
        assert_eq!(counters, Counters { refused: 1, declared: 1, hypercalls: 0 });
        assert_eq!(host.asked(), [(0xC600_F002, [0; 3])]);
    }
}

#[test]
fn own_calls_are_not_looked_for_in_vain() {
    let version = |result| Host::pkvm().answer(0xC600_F000, result);
    let found = |host: Host| host.guard().own().map(|own| own.version());
    assert_eq!(found(version([MINUS_1, 0, 0, 0])), None, "another host");
    assert_eq!(found(version([0x2_0000, 7, 0, 0])), None, "another major version");
    assert_eq!(found(version([0xFFFF, 7, 0, 0])), None);
    assert_eq!(found(version([0x1_0000_0000_0000, 7, 0, 0])), None);
    assert_eq!(found(version([0x1_0005, 7, 0, 0])), Some(0x1_0005), "a later minor version");

    let host = version([0x1_0000, 0b101, 0, 0]);
    let guard = host.guard();
    let own = guard.own().unwrap();
    assert_eq!(own.query(UART), Err(CallError::NotOffered(Call::QueryPage)));
    assert!(own.counters().is_ok());
    let host = version([0x1_0000, 0b011, 0, 0]);
    let guard = host.guard();
    let own = guard.own().unwrap();
    assert!(own.query(UART).is_ok());
    assert_eq!(own.counters(), Err(CallError::NotOffered(Call::Counters)));
}

#[test]
fn a_page_state_of_a_later_version_is_no_error() {
    let host = Host::pkvm().answer(0xC600_F001, [0, 9, 0x1_0410, 0]);
    let guard = host.guard();
    let hint = Hint { index: 4, mair: 4, preset: true };
    assert_eq!(guard.own().unwrap().query(0), Ok(Page { state: None, hint }));
}

#[test]
fn errors_name_call_address_and_reason() {
    let error = CallError::Refused { call: Call::Map, ipa: UART, code: Code::InvalidParameter };
    assert_eq!(error.to_string(), "Map of 0x9000000: invalid parameter (-3)");
    let failed = RangeError { done: 3, error };
    assert_eq!(failed.to_string(), "after 3 granules: Map of 0x9000000: invalid parameter (-3)");
    assert_eq!(failed.source().unwrap().to_string(), error.to_string());
    assert_eq!(CallError::NotOffered(Call::Unmap).to_string(), "the host does not offer Unmap");
    assert_eq!(CallError::Unaligned(5).to_string(), "0x5 is not aligned to the granule");
    assert_eq!(
        CallError::BadRange { ipa: 0, granules: 0 }.to_string(),
        "no range: 0 granules from 0x0"
    );
    assert_eq!(
        CallError::BadProgress { ipa: 0x1000, asked: 2, claimed: 3 }.to_string(),
        "3 granules done from 0x1000, of 2 asked for"
    );
    assert_eq!(Code::NotSupported.to_string(), "not supported (-1)");
    assert_eq!(Code::NotRequired.to_string(), "not required (-2)");
    assert_eq!(Code::Other(0xFFFF_FFFD).to_string(), "unexpected result 0xfffffffd");
}
