// SPDX-License-Identifier: MIT OR Apache-2.0
//! `hyp.schedule=FRAME/NAME+US[/NAME+US..]`: fixed windows of CPU time, in microseconds.

use crate::error::{Error, err};
use crate::vm::parse_number::number;
use alloc::vec::Vec;

/// The option on the hypervisor's own command line.
const OPTION: &str = "hyp.schedule=";
/// Most windows of a frame.
pub const MAX_WINDOWS: usize = 8;
/// Least and most microseconds of a frame.
const FRAMES: core::ops::RangeInclusive<u64> = 500..=1_000_000;
/// Least microseconds of a window: less is used up by the switches at its edges.
const MIN_WINDOW: u64 = 50;

/// A window of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Number of the VM that has it; `None`: all VMs that have no window of their own.
    pub vm: Option<usize>,
    /// Its length.
    pub us: u64,
    /// Whether VMs without a window may use what its VM leaves idle.
    pub open: bool,
}

/// Windows that follow each other from the beginning of each frame, on all CPUs. The rest of a frame is for VMs without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Length of a frame in microseconds. Frames begin at multiples of it of the counter.
    pub frame: u64,
    /// The windows.
    pub windows: Vec<Window>,
}

impl Schedule {
    /// The schedule in `bootargs`, of VMs with these `names`; `None` without the option.
    ///
    /// # Errors
    /// One line that names what is wrong with the option, and what it takes.
    pub fn parse(bootargs: &str, names: &[&str]) -> Result<Option<Self>, Error> {
        let Some(value) = bootargs.split_ascii_whitespace().find_map(|w| w.strip_prefix(OPTION))
        else {
            return Ok(None);
        };
        let mut parts = value.split('/');
        let frame = parts.next().and_then(number).filter(|frame| FRAMES.contains(frame));
        let Some(frame) = frame else {
            return Err(err!(
                Option,
                "{OPTION}{value}: it takes FRAME/NAME+US[/NAME+US..] in microseconds, a frame from 500 \
                 to 1000000"
            ));
        };
        let mut windows = Vec::new();
        let mut left = frame;
        for part in parts {
            let window = window(value, part, names)?;
            let Some(rest) = left.checked_sub(window.us) else {
                return Err(err!(
                    Option,
                    "{OPTION}{value}: its windows are longer than the frame of {frame} us; shorten one"
                ));
            };
            left = rest;
            windows.push(window);
        }
        if windows.is_empty() || windows.len() > MAX_WINDOWS {
            return Err(err!(
                Option,
                "{OPTION}{value}: it has {} windows; 1 to {MAX_WINDOWS} are possible",
                windows.len()
            ));
        }
        Ok(Some(Self { frame, windows }))
    }

    /// Which of the VMs with windows of their own VM `vm` is, if it is one.
    pub fn number(&self, vm: usize) -> Option<usize> {
        self.windows.iter().position(|window| window.vm == Some(vm))
    }

    /// The longest time, in microseconds, from the end of a window of VM `vm` to the beginning of its next one: a frame, if it has
    /// none.
    pub fn longest_gap(&self, vm: usize) -> u64 {
        // Twice the list: the last gap of a frame goes on in the next.
        let windows = self.windows.iter().map(Some);
        let used = self.windows.iter().fold(0_u64, |sum, window| sum.saturating_add(window.us));
        let rest = self.frame.saturating_sub(used);
        let frame = || windows.clone().chain([None]);
        let (mut gap, mut longest) = (0_u64, 0);
        for window in frame().chain(frame()) {
            gap = match window {
                Some(window) if window.vm == Some(vm) => 0,
                Some(window) => gap.saturating_add(window.us),
                None => gap.saturating_add(rest),
            };
            longest = gap.max(longest);
        }
        longest.min(self.frame)
    }

    /// How many microseconds of a frame may be kept from VMs without a window on a CPU: its windows but those for all, and
    /// the open ones of VMs that are not there, as `here` says.
    pub fn kept(&self, here: impl Fn(usize) -> bool) -> u64 {
        let kept = |window: &&Window| window.vm.is_some_and(|vm| !window.open || here(vm));
        self.windows.iter().filter(kept).fold(0, |sum, window| sum.saturating_add(window.us))
    }
}

/// `NAME+US` or `NAME+US+`.
fn window(value: &str, part: &str, names: &[&str]) -> Result<Window, Error> {
    let (rest, open) = match part.strip_suffix('+') {
        Some(rest) => (rest, true),
        None => (part, false),
    };
    let split = rest.split_once('+');
    let us = split.and_then(|(_, us)| number(us)).filter(|us| *us >= MIN_WINDOW);
    let (Some((name, _)), Some(us)) = (split, us) else {
        return Err(err!(
            Option,
            "{OPTION}{value}: bad window '{part}': it takes NAME+US, or NAME+US+ to let others use what \
             NAME leaves idle, of at least {MIN_WINDOW} us"
        ));
    };
    let vm = names.iter().position(|known| *known == name);
    if vm.is_none() && name != "*" {
        return Err(err!(
            Option,
            "{OPTION}{value}: there is no VM '{name}'; there are {}, and * for all without a window",
            names.join(" ")
        ));
    }
    Ok(Window { vm, us, open })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec;

    const NAMES: [&str; 3] = ["rtos", "linux", "a.b-c_d"];

    fn parsed(value: &str) -> Schedule {
        let bootargs = format!("quiet hyp.schedule={value} hyp.debug");
        Schedule::parse(&bootargs, &NAMES).unwrap().unwrap()
    }

    fn refused(value: &str) -> String {
        Schedule::parse(&format!("hyp.schedule={value}"), &NAMES).unwrap_err().to_string()
    }

    #[test]
    fn windows_in_their_order() {
        let window = |vm, us, open| Window { vm, us, open };
        assert_eq!(
            parsed("10000/rtos+4000/*+1000/linux+2000+/rtos+500"),
            Schedule {
                frame: 10_000,
                windows: vec![
                    window(Some(0), 4000, false),
                    window(None, 1000, false),
                    window(Some(1), 2000, true),
                    window(Some(0), 500, false),
                ],
            }
        );
        assert_eq!(parsed("500/a.b-c_d+500").number(2), Some(0));
        assert_eq!(parsed("500/a.b-c_d+500").number(0), None);
    }

    #[test]
    fn without_the_option_there_is_no_schedule() {
        assert_eq!(Schedule::parse("quiet hyp.debug xhyp.schedule=1", &NAMES), Ok(None));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_is_possible() {
        for (value, why) in [
            ("", "a frame from 500"),
            ("499/rtos+100", "a frame from 500"),
            ("1000001/rtos+100", "a frame from 500"),
            ("10ms/rtos+100", "a frame from 500"),
            ("1000", "it has 0 windows"),
            ("1000/rtos", "bad window 'rtos'"),
            ("1000/rtos+", "bad window 'rtos+'"),
            ("1000/rtos+49", "bad window 'rtos+49'"),
            ("1000/rtos+x", "bad window 'rtos+x'"),
            ("1000/", "bad window ''"),
            ("1000/zephyr+100", "there is no VM 'zephyr'; there are rtos linux a.b-c_d"),
            ("1000/rtos+600/linux+401", "longer than the frame of 1000 us"),
            ("1000/*+50/*+50/*+50/*+50/*+50/*+50/*+50/*+50/*+50", "it has 9 windows"),
        ] {
            let error = refused(value);
            assert!(error.contains(why) && error.contains(value), "{value}: {error}");
        }
    }

    #[test]
    fn a_vm_waits_longest_between_the_two_windows_that_are_furthest_apart() {
        let parsed = |value: &str| {
            Schedule::parse(&format!("hyp.schedule={value}"), &NAMES).unwrap().unwrap()
        };
        let one = parsed("10000/rtos+4000/linux+2000");
        assert_eq!([0, 1, 2].map(|vm| one.longest_gap(vm)), [6000, 8000, 10_000]);
        let two = parsed("10000/rtos+1000/linux+2000/rtos+1000/*+500");
        assert_eq!([0, 1].map(|vm| two.longest_gap(vm)), [6000, 8000]);
    }

    #[test]
    fn what_is_kept_from_others_leaves_out_what_is_theirs_or_open() {
        let windows = Schedule::parse("hyp.schedule=10000/rtos+4000/linux+2000+/*+500", &NAMES);
        let windows = windows.unwrap().unwrap();
        assert_eq!(windows.kept(|_| true), 6000);
        assert_eq!(windows.kept(|vm| vm == 0), 4000);
        assert_eq!(windows.kept(|_| false), 4000);
    }
}
