// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random changes of a window, compared with a set of granules.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug)]
enum Op {
    Share(u64),
    Unshare(u64),
    Clear,
    Reset,
}

/// Granules about borders of 2 MiB and 1 GiB, and about the end of the RAM.
fn granules() -> impl Strategy<Value = u64> {
    let chunk = prop_oneof![Just(0_u64), Just(1), Just(2), Just(511), Just(512), Just(513)];
    let page = prop_oneof![4 => 0..3_u64, 1 => Just(511_u64), 1 => 0..512_u64];
    (chunk, page).prop_map(|(chunk, page)| chunk * MIB2 + page * KIB4)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => granules().prop_map(Op::Share),
        5 => granules().prop_map(Op::Unshare),
        1 => Just(Op::Clear),
        1 => Just(Op::Reset),
    ];
    proptest::collection::vec(op, 1..40)
}

/// The end of the RAM: a part of 2 MiB, and of 1 GiB.
const MODEL_SIZE: u64 = GIB + MIB2 + 2 * KIB4;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn changes_agree_with_a_set(ops in ops(), repeat: bool) {
        let served = with_fault(40, MODEL_SIZE, repeat, Fault::None);
        served.server.add_window(&served.order, &served.window).unwrap();
        let mut shared: BTreeMap<u64, Pa> = BTreeMap::new();
        let mut tables: BTreeSet<u64> = BTreeSet::new();
        for op in &ops {
            let before = served.bytes();
            let mut same = false;
            match *op {
                Op::Share(offset) => {
                    let granule = (offset, Pa::new(PEER + offset));
                    let chunk = offset / MIB2;
                    // The page goes back where it is not used, so that memory is bit-identical after a refusal.
                    let room = served.free() > 0;
                    let allowed = !shared.contains_key(&offset);
                    let mut spare = None;
                    let mut asked = 0;
                    let mut share = |spare: &mut Option<Pa>| {
                        let claim = || {
                            asked += 1;
                            allowed
                        };
                        let (order, window) = (&served.order, &served.window);
                        served.server.window_share(order, window, granule, spare, claim)
                    };
                    let mut done = share(&mut spare);
                    if done == Err(NeedsTable) {
                        spare = served.client.take_spare(&served.order);
                        done = share(&mut spare);
                    }
                    if let Some(page) = spare {
                        served.client.refill(&served.order, page);
                    }
                    let known = tables.contains(&chunk);
                    let expected = if offset >= MODEL_SIZE {
                        Ok(Windowed::Refused)
                    } else if !known && !room {
                        Err(NeedsTable)
                    } else if allowed {
                        shared.insert(offset, granule.1);
                        tables.insert(chunk);
                        Ok(Windowed::Done)
                    } else {
                        Ok(Windowed::Refused)
                    };
                    prop_assert_eq!(done, expected);
                    let decided = offset < MODEL_SIZE && expected != Err(NeedsTable);
                    prop_assert_eq!(asked, u32::from(decided));
                    same = expected != Ok(Windowed::Done);
                }
                Op::Unshare(offset) => {
                    let release = || shared.remove(&offset).is_some();
                    let (order, window) = (&served.order, &served.window);
                    let done = served.server.window_unshare(order, window, offset, release);
                    same = done == Windowed::Refused;
                    let inside = offset < MODEL_SIZE;
                    prop_assert!(!same || !inside || !shared.contains_key(&offset));
                }
                Op::Clear => {
                    prop_assert_eq!(served.clear(), tables.len());
                    shared.clear();
                    tables.clear();
                }
                Op::Reset => served.server.reset(&served.order),
            }
            if same {
                prop_assert!(served.bytes() == before, "{:x?} was refused and changed memory", op);
            }
            prop_assert_eq!(served.free() + tables.len(), POOL, "no page is lost");
            prop_assert_eq!(served.server.pool_free(&served.order), 8);
            prop_assert_eq!(served.visible(), Vec::from_iter(shared.clone()));
            for chunk in [0, 1, 2, 511, 512, 513] {
                for page in [0, 1, 2, 3, 511] {
                    let offset = chunk * MIB2 + page * KIB4;
                    let right = shared.get(&offset).copied().unwrap_or(served.window.scratch());
                    prop_assert_eq!(served.at(offset), Some(right));
                }
            }
            prop_assert_eq!(served.complaint(), None);
        }
        // In the end, every granule of both GiB.
        served.resolves(&shared);
    }
}
