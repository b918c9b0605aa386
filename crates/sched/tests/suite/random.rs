// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mixes of guests by chance: what must hold in each of them.

use crate::cpu::*;
use proptest::prelude::*;

const END: u64 = 150 * MS;

/// What a VM does.
#[derive(Clone, Debug)]
enum Kind {
    Spin,
    Nap {
        run: u64,
        sleep: u64,
    },
    Bursts(Vec<(u64, u64)>),
    /// Several vCPUs.
    Several(u32, u64, u64),
    /// Gives way now and then.
    Yields(u64),
}

fn kind() -> impl Strategy<Value = Kind> {
    let bursts = prop::collection::vec((US..3 * MS, US..6 * MS), 1..9);
    prop_oneof![
        2 => Just(Kind::Spin),
        // Just before the quantum ends, a moment's sleep.
        2 => (1..1000_u64, US..400 * US)
            .prop_map(|(part, sleep)| Kind::Nap { run: QUANTUM * part / 1000, sleep }),
        2 => (US..300 * US, US..100 * US).prop_map(|(run, sleep)| Kind::Nap { run, sleep }),
        2 => bursts.prop_map(Kind::Bursts),
        1 => (2..5_u32, US..MS, US..MS).prop_map(|(count, run, sleep)| Kind::Several(count, run, sleep)),
        1 => (US..MS).prop_map(Kind::Yields),
    ]
}

fn add(cpu: &mut Cpu, vm: u16, kind: &Kind) {
    match kind {
        Kind::Spin => drop(cpu.add(vm, spin())),
        Kind::Nap { run, sleep } => drop(cpu.add(vm, naps(*run, *sleep))),
        Kind::Bursts(bursts) => {
            let steps =
                bursts.iter().flat_map(|(run, sleep)| [Step::Run(*run), Step::Sleep(*sleep)]);
            cpu.add(vm, script(steps.collect()));
        }
        Kind::Several(count, run, sleep) => {
            for n in 0..u64::from(*count) {
                cpu.add(vm, naps(run * (n + 1), sleep * n + US));
            }
        }
        Kind::Yields(run) => drop(cpu.add(vm, script(vec![Step::Run(*run), Step::Yield]))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_neighbours_do(
        others in prop::collection::vec(kind(), 1..6),
        sleeper in any::<bool>(),
        storm in prop_oneof![Just(None), (156..50 * US, any::<bool>()).prop_map(Some)],
    ) {
        let mut cpu = Cpu::new();
        let spinner = cpu.add(0, spin());
        for (n, kind) in others.iter().enumerate() {
            add(&mut cpu, n as u16 + 1, kind);
        }
        let sleeper = sleeper.then(|| cpu.add(20, naps(5 * US, MS)));
        let mut kicked = 0;
        if let Some((every, masked)) = storm {
            let to = cpu.add(21, script(vec![Step::Run(US), Step::Wait]));
            cpu.guests[to].masked = masked;
            cpu.storm = Some(Storm { to, every, end: END });
            kicked = 1;
        }
        cpu.run(END);
        let vms = others.len() as u64 + 1 + u64::from(sleeper.is_some()) + kicked;

        // All time is charged once.
        prop_assert_eq!(cpu.charged.iter().sum::<u64>() + cpu.idle, cpu.now);

        // No VM gets more than one that never sleeps, but for two quanta.
        let mine = cpu.charged[0];
        let most = cpu.charged.iter().max().unwrap();
        prop_assert!(*most <= mine + 2 * QUANTUM, "{} us beside {} us", most / US, mine / US);
        prop_assert!(mine + 2 * QUANTUM >= cpu.now / vms, "{} us of {vms}", mine / US);

        // And that one waits at most two quanta of each other.
        let gap = cpu.guests[spinner].gap;
        prop_assert!(gap <= 2 * (vms - 1) * QUANTUM + 100 * US, "{} us", gap / US);

        // One that uses little is soon there: 50 us, and as much for each other one that has just woken.
        if let Some(sleeper) = sleeper {
            let limit = 60 * US + 51 * US * (vms - 2);
            let late = &cpu.guests[sleeper].late;
            let worst = late.iter().skip(30).max().copied().unwrap_or(0);
            prop_assert!(worst <= limit, "{} us of {}", worst / US, limit / US);
        }
        prop_assert!(cpu.kicks <= END / TURN + 1, "{} kicks", cpu.kicks);
    }
}
