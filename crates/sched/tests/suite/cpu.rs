// SPDX-License-Identifier: MIT OR Apache-2.0
//! One CPU with a fake clock: guests that run and sleep, EL2's costs, kicks from another CPU. Times are in ns.

use sched::{Budget, DEFAULT_PRIORITY, Reason, Scheduler, Wake};

pub const US: u64 = 1_000;
pub const MS: u64 = 1_000_000;
/// The quantum that a VM has by default.
pub const QUANTUM: u64 = 4 * MS;
pub const TURN: u64 = 50 * US;
/// One vCPU out, another in.
pub const SWITCH: u64 = 550;
/// An interrupt to EL2 that changes nothing; half of it is over before EL2 reads the counter.
pub const LOOK: u64 = 670;

/// What a guest does next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Run(u64),
    Sleep(u64),
    /// Until an interrupt from another CPU.
    Wait,
    Off,
    Yield,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Ready,
    Waiting,
    Off,
}

pub struct Guest {
    script: Box<dyn FnMut() -> Step>,
    state: State,
    /// What is left of a `Run`.
    run: u64,
    deadline: Option<u64>,
    /// An interrupt that it takes has come.
    pending: bool,
    /// It takes no interrupts: what is sent to it changes nothing.
    pub masked: bool,
    pub vm: u16,
    number: usize,
    /// Time in the guest.
    pub ran: u64,
    /// Since when it wants the CPU.
    wants: Option<u64>,
    /// The longest time for which it wanted the CPU.
    pub gap: u64,
    /// From each deadline or interrupt to running.
    pub late: Vec<u64>,
    woken_at: Option<u64>,
}

/// Interrupts sent from another CPU.
#[derive(Clone, Copy)]
pub struct Storm {
    pub to: usize,
    pub every: u64,
    pub end: u64,
}

pub struct Cpu {
    pub sched: Scheduler,
    wake: Wake,
    pub now: u64,
    pub guests: Vec<Guest>,
    loaded: Option<usize>,
    timer: u64,
    pub storm: Option<Storm>,
    next_kick: u64,
    mark: u64,
    /// Kicks that interrupted this CPU, those of the guest that they were for left out.
    pub kicks: u64,
    pub switches: u64,
    /// Choices with nothing loaded.
    pub looks: u64,
    pub idle: u64,
    /// What each VM was charged.
    pub charged: [u64; 32],
    /// What VMs with a budget ran in each of their periods.
    pub periods: Vec<Periods>,
}

/// What a guest ran in each period.
pub struct Periods {
    pub guest: usize,
    pub period: u64,
    pub within: std::ops::Range<u64>,
    pub ran: Vec<u64>,
}

impl Cpu {
    pub fn new() -> Self {
        let mut sched = Scheduler::new();
        sched.set_turn(TURN);
        Self {
            sched,
            wake: Wake::new(),
            now: 0,
            guests: Vec::new(),
            loaded: None,
            timer: u64::MAX,
            storm: None,
            next_kick: 0,
            mark: 0,
            kicks: 0,
            switches: 0,
            looks: 0,
            idle: 0,
            charged: [0; 32],
            periods: Vec::new(),
        }
    }

    /// Adds a vCPU of `vm`, which is on.
    pub fn add(&mut self, vm: u16, script: impl FnMut() -> Step + 'static) -> usize {
        self.add_with(vm, DEFAULT_PRIORITY, QUANTUM, script)
    }

    pub fn add_with(
        &mut self,
        vm: u16,
        priority: u8,
        quantum: u64,
        script: impl FnMut() -> Step + 'static,
    ) -> usize {
        let number = self.sched.add(vm, priority, quantum).expect("room");
        self.push(vm, number, script)
    }

    /// Adds a vCPU of a VM that has windows of its own, as number `own` of such VMs.
    pub fn add_windowed(
        &mut self,
        vm: u16,
        own: u8,
        script: impl FnMut() -> Step + 'static,
    ) -> usize {
        let number = self.sched.add_windowed(vm, own, QUANTUM).expect("room");
        self.push(vm, number, script)
    }

    fn push(&mut self, vm: u16, number: usize, script: impl FnMut() -> Step + 'static) -> usize {
        self.sched.wake(number);
        self.guests.push(Guest {
            script: Box::new(script),
            state: State::Ready,
            run: 0,
            deadline: None,
            pending: false,
            masked: false,
            vm,
            number,
            ran: 0,
            wants: Some(0),
            gap: 0,
            late: Vec::new(),
            woken_at: None,
        });
        self.guests.len() - 1
    }

    /// Limits a guest's VM, and records what it runs in each period.
    pub fn limit(&mut self, guest: usize, ticks: u64, period: u64) {
        let number = self.guests[guest].number;
        self.sched.set_budget(number, Budget { ticks, period }, self.now);
        self.watch(guest, period, 0..period);
    }

    /// Records what a guest runs in each period, and checks that it runs in this part of it alone.
    pub fn watch(&mut self, guest: usize, period: u64, within: std::ops::Range<u64>) {
        self.periods.push(Periods { guest, period, within, ran: Vec::new() });
    }

    /// A guest runs from `now` to `until`.
    fn record(&mut self, guest: usize, until: u64) {
        for periods in self.periods.iter_mut().filter(|periods| periods.guest == guest) {
            let mut from = self.now;
            while from < until {
                let number = (from / periods.period) as usize;
                let to = until.min((number as u64 + 1) * periods.period);
                let start = number as u64 * periods.period;
                assert!(
                    periods.within.contains(&(from - start)) && to - start <= periods.within.end,
                    "it runs from {} to {} us of its period",
                    (from - start) / US,
                    (to - start) / US
                );
                periods.ran.resize(periods.ran.len().max(number + 1), 0);
                periods.ran[number] += to - from;
                from = to;
            }
        }
    }

    /// Share of the CPU that a guest had, in parts of 10,000.
    pub fn share(&self, guest: usize) -> u64 {
        self.guests[guest].ran * 10_000 / self.now
    }

    fn account(&mut self, guest: Option<usize>) {
        let ticks = self.sched.account(self.now);
        match guest {
            Some(guest) if ticks != 0 => self.charged[usize::from(self.guests[guest].vm)] += ticks,
            _ => self.idle += self.now - self.mark,
        }
        self.mark = self.now;
    }

    fn woke(&mut self, index: usize, at: u64) {
        let guest = &mut self.guests[index];
        guest.state = State::Ready;
        guest.deadline = None;
        guest.pending = false;
        guest.wants = Some(self.now);
        guest.woken_at = Some(at);
        self.sched.wake(guest.number);
    }

    /// Acts on the wake word and on deadlines; returns the vCPU of a bit that was looked at while another one runs.
    fn look_at_bits(&mut self) -> Option<usize> {
        let mut cause = None;
        let mut bits = self.wake.take();
        bits |= bits >> 32;
        for index in 0..self.guests.len() {
            if bits & 1 << self.guests[index].number == 0 || self.loaded == Some(index) {
                continue;
            }
            cause = Some(index);
            if self.guests[index].state == State::Waiting && self.guests[index].pending {
                self.woke(index, self.now);
            }
        }
        let due = self.sched.take_due(self.now);
        for index in 0..self.guests.len() {
            if due & 1 << self.guests[index].number != 0 {
                let deadline = self.guests[index].deadline.expect("a deadline");
                assert!(deadline <= self.now, "due too early");
                self.woke(index, deadline);
            }
        }
        cause
    }

    /// Nothing is loaded: until something is, or `end`. `last` is charged until then.
    fn next(&mut self, mut last: Option<usize>, end: u64) {
        while self.now < end {
            self.account(last);
            self.look_at_bits();
            self.looks += 1;
            assert!(self.looks < 50_000_000, "it never sleeps");
            let chosen = self.sched.choose(self.now);
            let heard = self.wake.listen(self.sched.heed(self.now));
            if heard {
                continue;
            }
            self.timer = self.sched.until(self.now);
            last = chosen.map(|number| self.guest_of(number));
            if let Some(index) = last {
                self.now += SWITCH;
                self.switches += 1;
                let guest = &mut self.guests[index];
                assert_eq!(guest.state, State::Ready, "chosen, but does not want the CPU");
                let since = guest.wants.take().expect("wants the CPU");
                guest.gap = guest.gap.max(self.now - since);
                if let Some(at) = guest.woken_at.take() {
                    guest.late.push(self.now - at);
                }
                self.loaded = last;
                return;
            }
            self.now = self.timer.min(self.kick_at()).min(end).max(self.now);
            self.deliver_kick();
        }
    }

    fn guest_of(&self, number: usize) -> usize {
        self.guests.iter().position(|guest| guest.number == number).expect("a guest")
    }

    fn kick_at(&self) -> u64 {
        match self.storm {
            Some(storm) if self.next_kick < storm.end => self.next_kick,
            _ => u64::MAX,
        }
    }

    /// Sends what is due; whether it interrupts this CPU.
    fn deliver_kick(&mut self) -> bool {
        if self.now < self.kick_at() {
            return false;
        }
        let Some(storm) = self.storm else { return false };
        self.next_kick = self.now + storm.every;
        let guest = &mut self.guests[storm.to];
        guest.pending = !guest.masked;
        let kick = self.wake.signal(1 << guest.number, Reason::Interrupt);
        if self.loaded != Some(storm.to) {
            self.kicks += u64::from(kick);
        }
        kick
    }

    /// An interrupt while a guest runs.
    fn look(&mut self, loaded: usize, end: u64) {
        self.now += LOOK / 2;
        self.account(Some(loaded));
        let cause = self.look_at_bits();
        if self.sched.wants_switch(self.now) {
            self.guests[loaded].wants = Some(self.now);
            self.loaded = None;
            // What comes now is the next one's.
            let next = self.sched.choose(self.now).map(|number| self.guest_of(number));
            return self.next(next, end);
        }
        self.now += LOOK / 2;
        if let Some(cause) = cause {
            let number = self.guests[cause].number;
            let ticks = self.sched.account_to(number, self.now, LOOK / 2);
            self.charged[usize::from(self.guests[cause].vm)] += ticks;
            self.mark = self.now;
            self.sched.be_quiet(self.now);
        }
        self.timer = self.sched.until(self.now);
        if self.wake.listen(self.sched.heed(self.now)) {
            self.timer = self.now;
        }
    }

    /// The loaded guest's next step, where it has nothing to do.
    fn step(&mut self, loaded: usize, end: u64) {
        let step = (self.guests[loaded].script)();
        let number = self.guests[loaded].number;
        if let Step::Run(ns) = step {
            self.guests[loaded].run = ns.max(1);
            return;
        }
        self.now += SWITCH / 2;
        self.account(Some(loaded));
        self.loaded = None;
        let now = self.now;
        let guest = &mut self.guests[loaded];
        match step {
            Step::Run(_) => {}
            Step::Yield => {
                guest.wants = Some(now);
                self.sched.give_way();
            }
            Step::Off => {
                guest.state = State::Off;
                self.sched.turn_off(number);
            }
            Step::Sleep(_) | Step::Wait => {
                guest.state = State::Waiting;
                guest.deadline = match step {
                    Step::Sleep(ns) => Some(now + ns),
                    _ => None,
                };
                self.sched.sleep(number, guest.deadline);
                if guest.pending {
                    self.woke(loaded, now);
                }
            }
        }
        self.next(None, end);
    }

    pub fn run(&mut self, end: u64) {
        while self.now < end {
            let Some(loaded) = self.loaded else {
                self.next(None, end);
                continue;
            };
            if self.now >= self.timer {
                self.look(loaded, end);
            } else if self.guests[loaded].run == 0 {
                self.step(loaded, end);
            } else if self.now >= self.kick_at() {
                if self.deliver_kick() {
                    self.look(loaded, end);
                }
            } else {
                let left = self.guests[loaded].run;
                let until = (self.now + left).min(self.timer).min(self.kick_at()).min(end);
                self.record(loaded, until);
                let guest = &mut self.guests[loaded];
                guest.ran += until - self.now;
                guest.run -= until - self.now;
                self.now = until;
            }
        }
        // So that all time is accounted to a vCPU.
        let loaded = self.loaded;
        self.account(loaded);
        for guest in &mut self.guests {
            if let Some(since) = guest.wants {
                guest.gap = guest.gap.max(self.now.saturating_sub(since));
            }
        }
    }
}

pub fn spin() -> impl FnMut() -> Step {
    || Step::Run(1000 * MS)
}

/// Runs and sleeps by turns.
pub fn naps(run: u64, sleep: u64) -> impl FnMut() -> Step {
    let mut asleep = true;
    move || {
        asleep = !asleep;
        if asleep { Step::Sleep(sleep) } else { Step::Run(run) }
    }
}

/// Whatever comes, of these in turn.
pub fn script(steps: Vec<Step>) -> impl FnMut() -> Step {
    let mut at = 0;
    move || {
        at += 1;
        steps[(at - 1) % steps.len()]
    }
}
