// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixed windows: on the grid, without drift, and each VM in its own.

use crate::cpu::*;

const FRAME: u64 = 10 * MS;

/// VM 1 has the first 4 ms of a frame, VM 2 the next 2 ms, others the rest.
fn frame(cpu: &mut Cpu, open: bool) {
    let windows = [(4 * MS, Some(1), open), (2 * MS, Some(2), false)];
    cpu.sched.set_windows(FRAME, windows.into_iter());
}

#[test]
fn ten_thousand_frames_do_not_drift() {
    let mut cpu = Cpu::new();
    let first = cpu.add_windowed(1, 0, spin());
    let second = cpu.add_windowed(2, 1, spin());
    let others = [cpu.add(3, spin()), cpu.add(4, spin())];
    frame(&mut cpu, false);
    cpu.watch(first, FRAME, 0..4 * MS);
    cpu.watch(second, FRAME, 4 * MS..6 * MS);
    for other in others {
        cpu.watch(other, FRAME, 6 * MS..FRAME);
    }
    cpu.run(10_000 * FRAME);
    for (number, window) in [(0, 4 * MS), (1, 2 * MS)] {
        let ran = &cpu.periods[number].ran;
        assert_eq!(ran.len(), 10_000);
        // All of it but for the switch, in each frame, the last as the first.
        for (frame, ran) in ran.iter().enumerate() {
            let late = window - ran;
            assert!(late <= 2 * US, "frame {frame}: {late} ns are missing");
        }
    }
    for other in others {
        assert!((1_980..=2_001).contains(&cpu.share(other)), "{}", cpu.share(other));
    }
    // No time is lost: charged or idle.
    assert_eq!(cpu.charged.iter().sum::<u64>() + cpu.idle, cpu.now);
}

#[test]
fn an_idle_window_is_for_others_only_where_its_owner_lets_them() {
    for open in [false, true] {
        let mut cpu = Cpu::new();
        let owner = cpu.add_windowed(1, 0, naps(100 * US, 900 * US));
        let other = cpu.add(3, spin());
        frame(&mut cpu, open);
        cpu.watch(owner, FRAME, 0..4 * MS);
        cpu.run(1000 * MS);
        // 4 ms are its own, 2 ms have no owner, and of the first 4 ms a tenth is used.
        let expected = if open { 7_500..=7_700 } else { 3_950..=4_000 };
        assert!(expected.contains(&cpu.share(other)), "{open}: {}", cpu.share(other));
        // In its own window the owner is there at once.
        let worst = cpu.guests[owner].late.iter().filter(|late| **late < MS).max();
        assert!(worst.is_some_and(|worst| *worst <= 10 * US), "{worst:?}");
    }
}

#[test]
fn a_window_without_a_name_is_for_all_others() {
    let mut cpu = Cpu::new();
    let owner = cpu.add_windowed(1, 0, spin());
    let other = cpu.add(3, spin());
    cpu.sched.set_windows(FRAME, [(3 * MS, None, false), (6 * MS, Some(1), false)].into_iter());
    cpu.watch(owner, FRAME, 3 * MS..9 * MS);
    cpu.run(100 * FRAME);
    assert!((5_990..=6_000).contains(&cpu.share(owner)), "{}", cpu.share(owner));
    assert!((3_980..=4_000).contains(&cpu.share(other)), "{}", cpu.share(other));
}

#[test]
fn the_epochs_of_one_window_give_the_others_nothing() {
    // Two equals in the rest of the frame, one of which steals; the window's owner wakes and sleeps meanwhile.
    let mut cpu = Cpu::new();
    cpu.add_windowed(1, 0, naps(30 * US, 50 * US));
    let victim = cpu.add(3, spin());
    cpu.add(4, naps(QUANTUM * 92 / 100, 5 * US));
    frame(&mut cpu, false);
    cpu.run(2000 * MS);
    assert!(cpu.share(victim) >= 1_900, "{}", cpu.share(victim));
}

#[test]
fn a_cpu_without_vcpus_sleeps_for_ever() {
    for windows in [false, true] {
        let mut cpu = Cpu::new();
        if windows {
            frame(&mut cpu, false);
        }
        assert_eq!(cpu.sched.choose(7), None);
        assert_eq!(cpu.sched.until(7), u64::MAX);
    }
}

#[test]
fn an_idle_cpu_has_nothing_to_do_at_an_edge() {
    let mut cpu = Cpu::new();
    let owner = cpu.add_windowed(1, 0, naps(100 * US, 50 * MS));
    frame(&mut cpu, false);
    cpu.watch(owner, FRAME, 0..4 * MS);
    cpu.run(1000 * MS);
    assert!(cpu.looks <= 200, "{} looks", cpu.looks);
}
