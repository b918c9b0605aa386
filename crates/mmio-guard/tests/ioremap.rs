// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mappings with reference counts: who declares, who undeclares, and what happens when it fails.
#![allow(clippy::arithmetic_side_effects)]

mod common;

use common::{DEV, Host, PAGE, RAM, UART, attr, pages};
use mmio_guard::client::{CallError, Guard, Ioremap, IoremapError, Mapping};
use mmio_guard::{Dialect, Policy};
use std::error::Error as _;

#[test]
fn a_page_stays_until_its_second_mapping_is_gone() {
    for host in Host::both() {
        let mut devices = host.ioremap::<4>();
        devices.map(DEV, 0x200, attr(4)).unwrap();
        devices.map(DEV + 0x800, 0x200, attr(4)).unwrap();
        assert_eq!(host.calls().len(), 1, "one declaration");
        assert_eq!(devices.count(DEV + 0xFFF), 2);

        devices.unmap(DEV, 0x200).unwrap();
        assert_eq!(host.calls().len(), 1, "no call yet");
        assert!(host.access(DEV + 0x800));

        devices.unmap(DEV + 0x800, 0x200).unwrap();
        assert!(!host.access(DEV + 0x800));
        assert_eq!(devices.count(DEV), 0);
        assert_eq!(devices.mappings().count(), 0);
    }
}

#[test]
fn counts_are_per_page_of_overlapping_ranges() {
    for host in Host::both() {
        let mut devices = host.ioremap::<4>();
        devices.map(DEV, 4 * PAGE, attr(0)).unwrap();
        devices.map(DEV + 3 * PAGE, 4 * PAGE, attr(0)).unwrap();
        let counts: Vec<_> = pages(DEV, 8).into_iter().map(|ipa| devices.count(ipa)).collect();
        assert_eq!(counts, [1, 1, 1, 2, 1, 1, 1, 0]);
        assert_eq!(host.declared(), pages(DEV, 7));
        devices.unmap(DEV, 4 * PAGE).unwrap();
        assert_eq!(host.declared(), pages(DEV + 3 * PAGE, 4));
    }
}

#[test]
fn only_what_is_not_covered_is_declared() {
    let host = Host::pkvm();
    let mut devices = host.ioremap::<8>();
    devices.map(DEV + 2 * PAGE, 2 * PAGE, attr(0)).unwrap();
    devices.map(DEV + 6 * PAGE, PAGE, attr(0)).unwrap();
    host.forget();
    devices.map(DEV, 10 * PAGE, attr(0)).unwrap();
    assert_eq!(
        host.asked(),
        [
            (0xC600_000A, [DEV, 2, 0]),
            (0xC600_000A, [DEV + 4 * PAGE, 2, 0]),
            (0xC600_000A, [DEV + 7 * PAGE, 3, 0]),
        ]
    );
    host.forget();
    devices.unmap(DEV, 10 * PAGE).unwrap();
    assert_eq!(host.calls().len(), 3);
    assert_eq!(host.declared(), [DEV + 2 * PAGE, DEV + 3 * PAGE, DEV + 6 * PAGE]);
}

#[test]
fn the_same_range_may_be_mapped_many_times() {
    let host = Host::pkvm();
    let mut devices = host.ioremap::<1>();
    for _ in 0..5 {
        devices.map(UART, 8, attr(0)).unwrap();
    }
    let mapping = Mapping { ipa: UART, granules: 1, times: 5 };
    assert_eq!(devices.mappings().collect::<Vec<_>>(), [mapping]);
    for left in (0..5).rev() {
        assert_eq!(host.declared(), [UART]);
        devices.unmap(UART, 8).unwrap();
        assert_eq!(devices.count(UART), left);
    }
    assert_eq!(host.declared(), []);
    assert_eq!(host.calls().len(), 2);
}

#[test]
fn ranges_are_rounded_to_granules() {
    let host = Host::pkvm();
    let mut devices = host.ioremap::<4>();
    devices.map(DEV + 0xFFF, 2, attr(0)).unwrap();
    assert_eq!(host.declared(), pages(DEV, 2));
    // The same two granules, said otherwise.
    devices.unmap(DEV, 2 * PAGE).unwrap();
    assert_eq!(host.declared(), []);
}

#[test]
fn larger_granules_are_shared_by_neighbours() {
    let host = Host::series().answer(0xC600_0002, [0x1_0000, 0, 0, 0]);
    let mut devices = host.ioremap::<4>();
    devices.map(DEV, PAGE, attr(0)).unwrap();
    devices.map(DEV + 0xF000, PAGE, attr(0)).unwrap();
    assert_eq!(host.asked().len(), 1);
    assert_eq!(devices.count(DEV + 0x8000), 2);
    devices.unmap(DEV, PAGE).unwrap();
    assert_eq!(host.declared(), [DEV]);
}

#[test]
fn ram_is_refused_before_any_call() {
    for host in Host::both() {
        let mut devices = host.ioremap::<4>();
        for (ipa, bytes, first) in [
            (RAM.start, 1, RAM.start),
            (RAM.end - 1, 1, RAM.end - PAGE),
            (RAM.start + 0x12_3456, 4, RAM.start + 0x12_3000),
            (RAM.start - PAGE, PAGE + 1, RAM.start),
            (RAM.start - 1, 2, RAM.start),
            (RAM.end - PAGE, 2 * PAGE, RAM.end - PAGE),
            (RAM.start - PAGE, RAM.end - RAM.start + 2 * PAGE, RAM.start),
        ] {
            let result = devices.map(ipa, bytes, attr(0));
            assert_eq!(result, Err(IoremapError::Ram(first)), "{ipa:#x}+{bytes:#x}");
        }
        assert_eq!(host.asked(), []);
        assert_eq!(devices.mappings().count(), 0);
        // Its neighbours are none of it.
        devices.map(RAM.start - PAGE, PAGE, attr(0)).unwrap();
        devices.map(RAM.end, 1, attr(0)).unwrap();
    }
}

#[test]
fn ram_that_begins_or_ends_within_a_granule_claims_it() {
    let host = Host::pkvm();
    let ram = [DEV + 0x800..DEV + PAGE + 0x10, 0..0, UART + 0xFFF..UART + PAGE];
    let mut devices: Ioremap<_, 4> = Ioremap::new(host.enrolled(), &ram);
    let ram_from = |ipa| Err(IoremapError::Ram(ipa));
    assert_eq!(devices.map(DEV, 8, attr(0)), ram_from(DEV + 0x800));
    assert_eq!(devices.map(DEV + PAGE + 0x800, 8, attr(0)), ram_from(DEV + PAGE));
    assert_eq!(devices.map(UART, 8, attr(0)), ram_from(UART + 0xFFF));
    assert_eq!(devices.map(DEV + 2 * PAGE, 8, attr(0)), Ok(()));
    assert_eq!(devices.map(0, 8, attr(0)), Ok(()), "an empty range of RAM is none");
}

#[test]
fn all_banks_of_ram_count() {
    let host = Host::pkvm();
    let ram = [RAM, 0x8_0000_0000..0x8_1000_0000];
    let mut devices: Ioremap<_, 4> = Ioremap::new(host.enrolled(), &ram);
    let result = devices.map(0x8_0FFF_F000, PAGE, attr(0));
    assert_eq!(result, Err(IoremapError::Ram(0x8_0FFF_F000)));
}

#[test]
fn no_range_is_refused_before_any_call() {
    let host = Host::pkvm();
    let mut devices = host.ioremap::<4>();
    for (ipa, bytes) in [(DEV, 0), (u64::MAX, 2), (DEV, u64::MAX), (0, 0)] {
        let error = Err(IoremapError::BadRange { ipa, bytes });
        assert_eq!(devices.map(ipa, bytes, attr(0)), error);
        assert_eq!(devices.unmap(ipa, bytes), error);
    }
    assert_eq!(host.asked(), []);
}

#[test]
fn the_end_of_the_address_space_is_for_the_host_to_judge() {
    for host in Host::both() {
        let mut devices = host.ioremap::<4>();
        let result = devices.map(u64::MAX, 1, attr(0));
        assert!(matches!(result, Err(IoremapError::Host(CallError::Refused { .. }))), "{result:?}");
        assert_eq!(devices.count(u64::MAX), 0);
    }
}

#[test]
fn there_is_room_for_n_ranges() {
    let host = Host::pkvm();
    let mut devices = host.ioremap::<3>();
    for n in 0..3 {
        devices.map(DEV + n * PAGE, PAGE, attr(0)).unwrap();
    }
    host.forget();
    assert_eq!(devices.map(UART, 1, attr(0)), Err(IoremapError::Full));
    assert_eq!(host.asked(), []);
    // One that is there may be mapped again, and what is there can always go.
    devices.map(DEV + PAGE, PAGE, attr(0)).unwrap();
    devices.unmap(DEV + PAGE, PAGE).unwrap();
    devices.unmap(DEV + PAGE, PAGE).unwrap();
    assert_eq!(host.declared(), [DEV, DEV + 2 * PAGE]);
    devices.map(UART, 1, attr(0)).unwrap();
}

#[test]
fn what_is_not_mapped_cannot_be_unmapped() {
    for host in Host::both() {
        let mut devices = host.ioremap::<4>();
        devices.map(DEV, 4 * PAGE, attr(0)).unwrap();
        host.forget();
        for (ipa, bytes) in
            [(DEV, PAGE), (DEV + PAGE, 3 * PAGE), (DEV, 5 * PAGE), (UART, 1), (RAM.start, 1)]
        {
            let error = Err(IoremapError::NotMapped { ipa, bytes });
            assert_eq!(devices.unmap(ipa, bytes), error);
        }
        assert_eq!(host.asked(), []);
        devices.unmap(DEV, 4 * PAGE).unwrap();
        assert!(matches!(devices.unmap(DEV, 4 * PAGE), Err(IoremapError::NotMapped { .. })));
    }
}

/// Every call of a mapping with gaps fails once; each time all is as it was.
#[test]
fn a_mapping_that_fails_is_undone() {
    for (dialect, per_call, changes) in
        [(Dialect::Series, 512, 8), (Dialect::Pkvm, 512, 2), (Dialect::Pkvm, 2, 5)]
    {
        for nth in 0..=changes {
            let host = Host::new(dialect, Policy::Enrol).with(|state| state.per_call = per_call);
            let mut devices = host.ioremap::<4>();
            devices.map(DEV + 3 * PAGE, 2 * PAGE, attr(1)).unwrap();
            let before = (host.declared(), devices.mappings().collect::<Vec<_>>());

            host.fail_next([nth]);
            // Gaps of 3 and 5 pages.
            let result = devices.map(DEV, 10 * PAGE, attr(2));
            if nth == changes {
                assert_eq!(result, Ok(()), "{dialect}: not more than {changes} calls");
                assert_eq!(host.declared(), pages(DEV, 10));
                continue;
            }
            assert!(matches!(result, Err(IoremapError::Host(CallError::Refused { .. }))));
            let after = (host.declared(), devices.mappings().collect::<Vec<_>>());
            assert_eq!(after, before, "{dialect} {per_call} {nth}");
            // And it works when the host does.
            devices.map(DEV, 10 * PAGE, attr(2)).unwrap();
        }
    }
}

#[test]
fn an_unmapping_that_fails_is_undone() {
    for (dialect, per_call, changes) in
        [(Dialect::Series, 512, 8), (Dialect::Pkvm, 512, 2), (Dialect::Pkvm, 2, 5)]
    {
        for nth in 0..=changes {
            let host = Host::new(dialect, Policy::Enrol).with(|state| state.per_call = per_call);
            let mut devices = host.ioremap::<4>();
            devices.map(DEV, 10 * PAGE, attr(2)).unwrap();
            devices.map(DEV + 3 * PAGE, 2 * PAGE, attr(1)).unwrap();

            host.fail_next([nth]);
            let result = devices.unmap(DEV, 10 * PAGE);
            if nth == changes {
                assert_eq!(result, Ok(()));
                assert_eq!(host.declared(), pages(DEV + 3 * PAGE, 2));
                continue;
            }
            assert!(matches!(result, Err(IoremapError::Host(CallError::Refused { .. }))));
            assert_eq!(host.declared(), pages(DEV, 10), "{dialect} {per_call} {nth}");
            assert_eq!((devices.count(DEV), devices.count(DEV + 3 * PAGE)), (1, 2));
            devices.unmap(DEV, 10 * PAGE).unwrap();
            assert_eq!(host.declared(), pages(DEV + 3 * PAGE, 2));
        }
    }
}

#[test]
fn undoing_restores_the_attribute() {
    let host = Host::series();
    let mut devices = host.ioremap::<4>();
    devices.map(DEV, 2 * PAGE, attr(5)).unwrap();
    host.fail_next([1]);
    devices.unmap(DEV, 2 * PAGE).unwrap_err();
    let declared: Vec<_> = host.0.borrow().declared.values().copied().collect();
    assert_eq!(declared, [5 << 2, 5 << 2]);
}

#[test]
fn a_mapping_that_runs_into_ram_the_guest_does_not_know_of_is_undone() {
    for host in Host::both() {
        // The guest was told of less RAM than there is.
        let mut devices: Ioremap<_, 4> = Ioremap::new(host.enrolled(), &[]);
        let result = devices.map(RAM.start - 2 * PAGE, 4 * PAGE, attr(0));
        let Err(IoremapError::Host(CallError::Refused { ipa, .. })) = result else {
            panic!("{result:?}")
        };
        assert_eq!(ipa, RAM.start);
        assert_eq!(host.declared(), []);
    }
}

#[test]
fn an_empty_pool_leaves_nothing_half_done() {
    for host in Host::both() {
        host.change(|state| {
            state.pool = 20;
            state.per_call = 8;
        });
        let mut devices = host.ioremap::<4>();
        devices.map(UART, PAGE, attr(0)).unwrap();
        devices.map(DEV, 30 * PAGE, attr(0)).unwrap_err();
        assert_eq!(host.declared(), [UART]);
        devices.map(DEV, 19 * PAGE, attr(0)).unwrap();
    }
}

#[test]
fn a_host_that_refuses_to_undo_is_reported() {
    for host in Host::both() {
        let mut devices = host.ioremap::<4>();
        host.change(|state| state.per_call = 1);
        // The third page fails, and so does the first call that undoes.
        host.fail_next([2, 3]);
        let result = devices.map(DEV, 4 * PAGE, attr(0));
        let Err(IoremapError::Undo { cause, undo }) = result else { panic!("{result:?}") };
        assert!(
            matches!(cause, CallError::Refused { ipa, .. } if ipa == DEV + 2 * PAGE),
            "{cause}"
        );
        assert!(matches!(undo, CallError::Refused { ipa, .. } if ipa == DEV), "{undo}");
        assert_eq!(devices.mappings().count(), 0);
    }
}

#[test]
fn after_a_lie_all_that_may_have_been_declared_is_undone() {
    let host = Host::pkvm();
    let mut devices = host.ioremap::<4>();
    host.change(|state| {
        state.instead.insert(0xC600_000A, [0, 0, 0, 0]);
    });
    let result = devices.map(DEV, 4 * PAGE, attr(0));
    assert!(matches!(result, Err(IoremapError::Host(CallError::BadProgress { .. }))), "{result:?}");
    assert_eq!(host.asked().last(), Some(&(0xC600_000B, [DEV, 4, 0])));
}

#[test]
fn a_host_without_unmap_keeps_what_is_given_up() {
    // Linux' part of the pkvm table.
    let host = Host::new(Dialect::Pkvm, Policy::Enforce).answer(0x8600_0000, [0x9D, 0, 0, 0]);
    let mut devices: Ioremap<_, 2> = Ioremap::new(host.guard(), &[]);
    devices.map(DEV, 2 * PAGE, attr(0)).unwrap();
    host.forget();
    devices.unmap(DEV, 2 * PAGE).unwrap();
    assert_eq!(host.asked(), []);
    assert_eq!((devices.count(DEV), host.declared()), (0, pages(DEV, 2)));
    devices.map(DEV, 2 * PAGE, attr(0)).unwrap();
}

#[test]
fn a_huge_range_is_one_entry_and_one_call() {
    let host = Host::pkvm().with(|state| state.per_call = 1 << 20);
    let mut devices = host.ioremap::<1>();
    devices.map(0x10_0000_0000, 256 << 20, attr(0)).unwrap();
    assert_eq!(host.calls().len(), 1);
    assert_eq!(devices.mappings().next().unwrap().granules, 65536);
}

#[test]
fn errors_name_the_range() {
    let text = |error: IoremapError| error.to_string();
    assert_eq!(text(IoremapError::Ram(RAM.start)), "0x40000000 is RAM");
    assert_eq!(text(IoremapError::Full), "too many ranges are mapped");
    let error = IoremapError::NotMapped { ipa: UART, bytes: 8 };
    assert_eq!(text(error), "0x8 bytes from 0x9000000 are not mapped");
    assert!(error.source().is_none());
    let error = IoremapError::BadRange { ipa: UART, bytes: 0 };
    assert_eq!(text(error), "no range: 0x0 bytes from 0x9000000");
    let [cause, undo] = [CallError::Unaligned(1), CallError::Unaligned(2)];
    assert_eq!(text(IoremapError::Host(cause)), "0x1 is not aligned to the granule");
    assert_eq!(
        text(IoremapError::Undo { cause, undo }),
        "0x1 is not aligned to the granule; undoing it failed: 0x2 is not aligned to the granule"
    );
    assert_eq!(IoremapError::Host(cause).source().unwrap().to_string(), cause.to_string());
}

#[test]
fn a_guard_can_be_shared() {
    let host = Host::pkvm();
    let guard: Guard<&Host> = host.enrolled();
    let devices: Ioremap<_, 1> = Ioremap::new(guard, &[]);
    // The raw calls are still there.
    devices.guard().map(UART, attr(0)).unwrap();
    guard.unmap(UART).unwrap();
    assert_eq!(devices.guard().host().calls().len(), 2);
}
