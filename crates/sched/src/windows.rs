// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixed windows: in each frame of the counter, which VMs may have the CPU when.

/// Windows that a frame can have: one for each of up to eight names, and what is left between them.
pub const MAX_WINDOWS: usize = 9;

/// A window of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its length in ticks.
    pub ticks: u64,
    /// Seats that may have the CPU.
    pub seats: u32,
    /// Their vCPUs.
    pub vcpus: u32,
}

impl Window {
    const NONE: Self = Self { ticks: 0, seats: 0, vcpus: 0 };
    const ALWAYS: Self = Self { ticks: 0, seats: u32::MAX, vcpus: u32::MAX };
}

/// The windows of one CPU. Frames begin at multiples of their length of the counter, so that all CPUs have the same
/// edges, and none drifts.
pub(crate) struct Windows {
    list: [Window; MAX_WINDOWS],
    count: usize,
    /// Length of a frame; 0 without windows.
    frame: u64,
    /// When the current window ends.
    edge: u64,
    now: Window,
}

impl Windows {
    /// No windows. All bits are zero; the first [`Windows::roll`] completes it.
    pub const NONE: Self =
        Self { list: [Window::NONE; MAX_WINDOWS], count: 0, frame: 0, edge: 0, now: Window::NONE };

    /// Sets the windows of a frame, from its beginning. In what is left of the frame, `rest` may run.
    pub fn set(&mut self, frame: u64, windows: &[Window], rest: Window) {
        *self = Self::NONE;
        let mut left = frame;
        for (slot, window) in self.list.iter_mut().zip(windows) {
            let ticks = window.ticks.min(left);
            left = left.saturating_sub(ticks);
            *slot = Window { ticks, ..*window };
            self.count = self.count.saturating_add(1);
        }
        if let Some(slot) = self.list.get_mut(self.count) {
            *slot = Window { ticks: left, ..rest };
            self.count = self.count.saturating_add(1);
        }
        self.frame = frame;
    }

    /// Begins the window of `now`, if the last one has ended.
    #[inline(always)]
    pub fn roll(&mut self, now: u64) {
        if now >= self.edge {
            self.find(now);
        }
    }

    #[inline(never)]
    fn find(&mut self, now: u64) {
        let Some(at) = now.checked_rem(self.frame) else {
            (self.edge, self.now) = (u64::MAX, Window::ALWAYS);
            return;
        };
        let begun = now.wrapping_sub(at);
        let mut end = 0_u64;
        for window in self.list.iter().take(self.count) {
            end = end.saturating_add(window.ticks);
            if at < end {
                self.now = *window;
                break;
            }
        }
        self.edge = begun.saturating_add(end);
    }

    /// Seats that may have the CPU now.
    #[inline(always)]
    pub const fn seats(&self) -> u32 {
        self.now.seats
    }

    /// Their vCPUs.
    #[inline(always)]
    pub const fn vcpus(&self) -> u32 {
        self.now.vcpus
    }

    /// When the current window ends; `u64::MAX` without windows.
    #[inline(always)]
    pub const fn edge(&self) -> u64 {
        self.edge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(ticks: u64, seats: u32) -> Window {
        Window { ticks, seats, vcpus: seats }
    }

    #[test]
    fn without_windows_all_run_for_ever() {
        let mut windows = Windows::NONE;
        windows.roll(u64::MAX - 1);
        assert_eq!((windows.seats(), windows.edge()), (u32::MAX, u64::MAX));
    }

    #[test]
    fn edges_are_on_the_grid_of_frames() {
        let mut windows = Windows::NONE;
        windows.set(10, &[window(4, 1), window(2, 2)], window(0, 4));
        for (now, seats, edge) in [
            (0, 1, 4),
            (3, 1, 4),
            (4, 2, 6),
            (6, 4, 10),
            (9, 4, 10),
            (10, 1, 14),
            (1_000_000_000_005, 2, 1_000_000_000_006),
            (1_000_000_000_017, 4, 1_000_000_000_020),
        ] {
            windows.roll(now);
            assert_eq!((windows.seats(), windows.edge()), (seats, edge), "at {now}");
        }
    }

    #[test]
    fn windows_longer_than_the_frame_are_cut_and_a_full_frame_leaves_no_rest() {
        let mut windows = Windows::NONE;
        windows.set(10, &[window(7, 1), window(7, 2)], window(0, 4));
        for (now, seats, edge) in [(6, 1, 7), (7, 2, 10), (9, 2, 10), (10, 1, 17)] {
            windows.roll(now);
            assert_eq!((windows.seats(), windows.edge()), (seats, edge), "at {now}");
        }
    }
}
