// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reset and release of the device VM.

use super::*;

/// The device VM starts again: what others share with it stays, and its pool gets what is its own and no more.
#[test]
fn a_reset_leaves_windows_alone() {
    for bits in [40, 48] {
        let served = with_fault(bits, GIB, false, Fault::None);
        served.server.add_window(&served.order, &served.window).unwrap();
        served.share(KIB4).unwrap();
        served.share(MIB2).unwrap();
        served.server.declare(&served.order, range(RAM, KIB4), NOTE, BUDGET).unwrap();
        served.server.reset(&served.order);
        served.quiet();
        let of_its_own = usize::from(bits == 48);
        assert_eq!(served.server.pool_free(&served.order), 8 - of_its_own);
        assert!(served.is_shared(KIB4) && served.is_shared(MIB2) && served.is_scratch(0));
        served.unshare(KIB4);
        assert_eq!(served.clear(), 2);
        assert_eq!(served.free(), POOL);
        served.quiet();
    }
}

#[test]
fn a_release_gives_nothing_of_a_window_to_the_device_vm() {
    for bits in [40, 48] {
        let served = with_fault(bits, GIB, false, Fault::None);
        served.server.add_window(&served.order, &served.window).unwrap();
        for offset in [KIB4, 2 * KIB4, MIB2] {
            served.share(offset).unwrap();
        }
        served.server.release(&served.order);
        served.quiet();
        assert_eq!(served.server.pool_free(&served.order), 8);
        let found = served.server.lookup(Ipa::new(BASE + KIB4)).unwrap();
        assert_eq!(found.entry, Entry::Empty);
        // Its sharer may still take back what it gave, and give no more.
        assert_eq!(served.share(3 * KIB4), Some(Windowed::Refused));
        assert_eq!(served.unshare(KIB4), Windowed::Done);
        assert_eq!(served.visible().len(), 2);
        let show = [(0, Pa::new(PEER), GIB)];
        let shown = served.server.window_show_all(&served.order, &served.window, &show.into_iter());
        assert_eq!(shown, Windowed::Refused);
        assert_eq!(served.clear(), 2);
        assert_eq!(served.free(), POOL);
        assert_eq!(served.visible(), []);
        served.quiet();
    }
}
