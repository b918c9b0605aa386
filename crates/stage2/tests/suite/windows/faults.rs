// SPDX-License-Identifier: MIT OR Apache-2.0
//! Without a barrier or an invalidation, or with one of something else, the judge complains.

use super::*;

type Call = (&'static str, fn(&Served), fn(&Served));

/// Every kind of change: what goes before it, and itself, with the use of what it gives back.
const CALLS: [Call; 6] = [
    ("add", |_| {}, |s| s.server.add_window(&s.order, &s.window).unwrap()),
    (
        "first share",
        |s| s.server.add_window(&s.order, &s.window).unwrap(),
        |s| {
            s.share(KIB4).unwrap();
        },
    ),
    (
        "second share",
        |s| {
            s.server.add_window(&s.order, &s.window).unwrap();
            s.share(KIB4).unwrap();
        },
        |s| {
            s.share(0).unwrap();
        },
    ),
    (
        "unshare",
        |s| {
            s.server.add_window(&s.order, &s.window).unwrap();
            s.share(KIB4).unwrap();
        },
        |s| {
            s.unshare(KIB4);
        },
    ),
    (
        "clear",
        |s| {
            s.server.add_window(&s.order, &s.window).unwrap();
            s.share(KIB4).unwrap();
        },
        |s| {
            assert_eq!(s.clear(), 1);
        },
    ),
    (
        "show all",
        |s| s.server.add_window(&s.order, &s.window).unwrap(),
        |s| {
            let all = [(0, Pa::new(PEER), 2 * MIB2)];
            s.server.window_show_all(&s.order, &s.window, &all.into_iter());
        },
    ),
];

/// Runs a call under `fault`; returns what the judges say, and how many barriers and invalidations there were.
fn under(call: &Call, repeat: bool, fault: Fault) -> (Option<String>, usize) {
    // What goes before is done without it.
    let right = with_fault(40, 4 * MIB2, repeat, Fault::None);
    let (_, before, change) = call;
    before(&right);
    right.quiet();
    let Served { fakes, server, client, window, order } = right;
    let host = Host { fake: server.host().fake.clone(), fault, count: Arc::default() };
    let count = host.count.clone();
    let server = Stage2::new(host, *server.geometry(), server.root(), Pool::new());
    let wrong = Served { fakes, server, client, window, order };
    change(&wrong);
    (wrong.complaint(), count.load(Relaxed))
}

/// THREATS 3.4, for windows: not one barrier, not one invalidation, is there for nothing.
#[test]
fn each_barrier_and_invalidation_of_a_change_is_needed() {
    for call in &CALLS {
        for repeat in [false, true] {
            let (complaint, steps) = under(call, repeat, Fault::None);
            assert_eq!(complaint, None, "{}", call.0);
            assert!(steps >= 2, "{}", call.0);
            for step in 0..steps {
                let (complaint, _) = under(call, repeat, Fault::Missing(step));
                assert!(complaint.is_some(), "{}: without step {step} of {steps}", call.0);
            }
        }
    }
}

#[test]
fn an_invalidation_of_another_address_or_level_is_noted() {
    for call in &CALLS {
        if !matches!(call.0, "first share" | "second share" | "unshare") {
            continue;
        }
        for fault in [
            Fault::Address(KIB4),
            Fault::Address(MIB2),
            Fault::Address(GIB),
            Fault::Level(1),
            Fault::Level(2),
        ] {
            assert!(under(call, false, fault).0.is_some(), "{} {fault:?}", call.0);
        }
        assert_eq!(under(call, false, Fault::Level(3)).0, None);
    }
}
