// SPDX-License-Identifier: MIT OR Apache-2.0
//! One exit, given to both sides.

use crate::compare;
use crate::guest::Guest;
use arch::{DataAbort, Errata, Exit, ExitInfo, GuestRegs, InstructionAbort, Ipa};
use spec::Conduit;
use vm::{FastPath, Outcome};

/// What happens.
#[derive(Clone, Debug)]
pub enum Action {
    /// HVC or SMC.
    Call { smc: bool, imm: u16, x: [u64; 5], mair: u64, entropy: Option<[u64; 3]> },
    /// Data or instruction abort; the IPA that EL2 would find where it has to ask; what a store's register has.
    Abort { info: ExitInfo, found: u64, aarch32: bool, sctlr: u64, value: Option<u64> },
    /// An exit that is not in the specification, and changes nothing of what is.
    Other(ExitInfo),
    /// Time passes; then a vCPU that waits for its server looks whether its access has ended.
    Finish(u64),
    /// The vCPU looks whether it was turned on.
    Start,
    /// Stopped from outside, and begun again.
    Restart,
    /// Requests from outside that are not possible while the VM runs.
    Refused,
    /// A holder pauses the VM.
    Pause(vm::Holder),
    /// Holders let go.
    Resume(Vec<vm::Holder>),
}

/// In a call of a server: the client's life, or the number of the access that its vCPU waits for; one less is the one before.
pub const NOW: u64 = 0x7e57_0000_0001;
/// In COMPLETE: the first vCPU that waits.
pub const WAITS: u64 = 99;

/// Bytes of pages; interrupts, lines and wake-ups of other VMs; registers of transports.
type Outside = (Vec<(u64, u8)>, [usize; 3], Vec<u64>);

/// One step of a scenario.
#[derive(Clone, Debug)]
pub struct Step {
    pub vm: usize,
    pub vcpu: usize,
    /// Leave the fast path out.
    pub slow: bool,
    /// Try it first with too few table pages.
    pub starved: bool,
    pub action: Action,
}

impl Guest {
    /// Does `action`; whether it did anything.
    pub fn act(&mut self, vcpu: usize, action: &Action, starved: bool) -> Result<bool, String> {
        match action {
            Action::Start => {
                self.take_start(vcpu)?;
                return Ok(true);
            }
            Action::Restart => {
                let real = self.vm.stop(&self.order, vm::StopReason::SError, None);
                let spec = self.spec.stop(spec::StopReason::Other);
                let parked = self.spec.phase == spec::Phase::Parked;
                if spec.is_some() && parked {
                    self.leave_peers();
                }
                if real.map(|stop| (oracle::stop_reason(stop.reason), stop.parked))
                    != spec.map(|reason| (reason, parked))
                {
                    return Err(format!("stop: {real:?}, {spec:?}"));
                }
                return self.next_life(starved).map(|()| true);
            }
            Action::Refused => {
                self.refused(vcpu)?;
                return Ok(true);
            }
            Action::Finish(later) => return self.finish(vcpu, *later),
            Action::Pause(holder) => {
                let real = self.vm.pause(&self.order, *holder, None);
                let spec = self.spec.pause(*holder as u8);
                let same = real == spec;
                return if same { Ok(true) } else { Err(format!("pause: {real}, {spec}")) };
            }
            Action::Resume(holders) => {
                let set = holders.iter().fold(vm::Holders::NONE, |set, holder| set.with(*holder));
                let real = self.vm.resume(&self.order, set);
                let numbers: Vec<u8> = holders.iter().map(|holder| *holder as u8).collect();
                let spec = self.spec.resume(&numbers);
                let same = real == spec;
                return if same { Ok(true) } else { Err(format!("resume: {real}, {spec}")) };
            }
            _ => {}
        }
        // Only who is on can exit, and waits for nothing: the first of them, where this one is not.
        let exits = || self.spec.on().filter(|n| self.vcpus[*n].forwarded.is_none());
        let Some(vcpu) = exits().find(|n| *n >= vcpu).or_else(|| exits().next()) else {
            return Ok(false);
        };
        match action {
            Action::Call { smc, imm, x, mair, entropy } => {
                self.call(vcpu, *smc, *imm, self.timely(*x), *mair, *entropy, starved)?;
            }
            Action::Abort { info, found, aarch32, sctlr, value } => {
                self.machine.log().sctlr = *sctlr;
                let regs = &mut self.vcpus[vcpu].regs;
                if let (Some(value), Exit::DataAbort(DataAbort { access: Some(access), .. })) =
                    (value, arch::decode(*info, &Errata::NONE))
                {
                    regs.set(access.reg, *value);
                }
                regs.spsr = if *aarch32 { 0x10 } else { 0x3c5 };
                self.abort(vcpu, *info, *found, *sctlr)?;
            }
            Action::Other(info) => {
                self.real(vcpu, *info, None);
            }
            Action::Start
            | Action::Finish(_)
            | Action::Restart
            | Action::Refused
            | Action::Pause(_)
            | Action::Resume(_) => {}
        }
        Ok(true)
    }

    /// The VM cannot start or end, and no vCPU can park, while it runs.
    fn refused(&mut self, vcpu: usize) -> Result<(), String> {
        let real = (
            self.vm.start(&self.order, Ipa::new(crate::guest::RAM), 1),
            self.vm.lifecycle().finish(&self.order),
            self.vm.park(&self.vcpus[vcpu]) != vm::Parked::Others,
            self.vm.lifecycle().rest(&self.order),
            self.vm.revive(&self.order),
        );
        let spec = &mut self.spec;
        let park = |spec: &mut spec::Vm| spec.park(vcpu) != spec::Parked::Others;
        let start = spec.start(crate::guest::RAM, 1);
        let spec = (start, spec.finish(), park(spec), spec.rest(), spec.revive());
        let what = "start, finish, park, rest, revive";
        if real == spec { Ok(()) } else { Err(format!("{what}: {real:?}, {spec:?}")) }
    }

    /// An exit on the real side, as EL2 handles it: the fast path first.
    fn real(&mut self, vcpu: usize, info: ExitInfo, exit: Option<Exit>) -> Outcome {
        let me = &mut self.vcpus[vcpu];
        let exit = match exit {
            Some(exit) => exit,
            None if self.slow => arch::decode(info, &Errata::NONE),
            None => {
                let mut path = vm::try_fast_path(&info, &Errata::NONE, me, &self.vm);
                while let FastPath::Deferred(deferred) = path {
                    path = vm::run_deferred(deferred, me, &self.vm);
                }
                if let FastPath::Done(outcome) = path {
                    return outcome;
                }
                arch::decode(info, &Errata::NONE)
            }
        };
        vm::on_exit(exit, me, &self.vm)
    }

    #[allow(clippy::too_many_arguments)]
    fn call(
        &mut self,
        vcpu: usize,
        smc: bool,
        imm: u16,
        x: [u64; 5],
        mair_el1: u64,
        entropy: Option<[u64; 3]>,
        starved: bool,
    ) -> Result<(), String> {
        let conduit = if smc { Conduit::Smc } else { Conduit::Hvc };
        let call = made(vcpu, conduit, imm, x, (mair_el1, entropy), self.now());
        {
            let mut log = self.machine.log();
            (log.mair, log.random) = (mair_el1, entropy);
        }
        if starved {
            self.call_starved(&call)?;
        }
        let stopped = self.call_once(&call)?;
        compare::quickly(self)?;
        if stopped { self.next_life(starved) } else { Ok(()) }
    }

    /// The same call with 0, 1, 2 ... table pages left, as long as that is too few for anything: each fails, and
    /// leaves everything as it was.
    fn call_starved(&mut self, call: &spec::Call) -> Result<(), String> {
        // No other calls take any, and copies of the state cost more than an exit.
        if call.id() >> 16 != 0xc600 {
            return Ok(());
        }
        let mut trial = self.spec.clone();
        trial.call(call);
        let takes = self.spec.tables.free().saturating_sub(trial.tables.free());
        for pages in 0..takes {
            trial.clone_from(&self.spec);
            trial.tables.set_free(pages);
            if matches!(trial.call(call), spec::Outcome::Answer([0, ..])) {
                // It does a part: that is another scenario.
                return Ok(());
            }
            let before = (self.machine.fake.marks(), self.spec.clone());
            let taken = self.starve(pages);
            self.machine.fake.take_stores();
            self.call_once(call)?;
            if self.machine.fake.take_stores() != 0 && !self.is_about_flash(call) {
                return Err(format!("failed with {pages} table pages, and wrote descriptors"));
            }
            compare::quickly(self)?;
            self.feed(taken);
            let counters = self.spec.counters;
            if self.machine.fake.marks() != before.0
                || self.spec != (spec::Vm { counters, ..before.1 })
            {
                return Err(format!("failed with {pages} table pages, and changed something"));
            }
        }
        Ok(())
    }

    /// A bank of flash is mapped as a whole or not: what fails for one page of it has taken all of it away for a while.
    fn is_about_flash(&self, call: &spec::Call) -> bool {
        self.spec.config.flash.iter().any(|bank| bank.at.contains(call.x[1]))
    }

    /// A call on both sides; whether it stopped the VM.
    pub fn call_once(&mut self, call: &spec::Call) -> Result<bool, String> {
        let smc = call.conduit == Conduit::Smc;
        let class = if smc { 0x17 } else { 0x16 };
        let esr = class << 26 | 1 << 25 | u64::from(call.imm);
        let regs = &mut self.vcpus[call.vcpu].regs;
        for n in 5..31 {
            regs.x[n] = 0xca_0000 + n as u64;
        }
        regs.x[..4].copy_from_slice(&call.x);
        regs.x[4] = call.x4;
        let before = regs.clone();
        let outside = self.outside(call);
        self.machine.fake.take_stores();
        let info = ExitInfo { esr, far: !0, hpfar: !0 };
        let real = self.real(call.vcpu, info, None);
        let exit = arch::decode(info, &Errata::NONE);
        let (mair_el1, entropy) = (call.mair_el1, call.entropy);
        let machine = oracle::Machine { mair_el1, entropy, sctlr_el1: 0, now: self.now() };
        let scratch = self.scratch(call);
        let judged = self.judge(call.vcpu, exit, &before, real, &machine)?;
        let Some(spec) = judged else {
            return Err("a call that is in no specification".into());
        };
        if matches!(spec, spec::Outcome::Stop(_)) {
            return Ok(true);
        }
        if matches!(spec, spec::Outcome::Answer([x0, ..]) if x0 as i64 == -3 || x0 as i64 == -1)
            && self.machine.fake.take_stores() != 0
            && !self.is_about_flash(call)
        {
            return Err("it failed, and wrote descriptors".into());
        }
        if matches!(spec, spec::Outcome::Answer([x0, ..]) if x0 != 0)
            || self.vcpus[call.vcpu].regs.x[0] != 0
        {
            let after = self.outside(call);
            if outside != after {
                return Err(format!("it failed, and changed {outside:x?} to {after:x?}"));
            }
        }
        let wiped = std::mem::take(&mut self.machine.log().wiped);
        let wipes: Vec<_> = self
            .spec
            .wipes(call, spec)
            .map(|ipa| match self.spec.tables.at(ipa) {
                spec::Found { base, entry: spec::Entry::Leaf { pa, .. }, .. } => pa + (ipa - base),
                other => panic!("RAM is {other:?}"),
            })
            .or(if spec == spec::Outcome::Answer([0; 4]) { scratch } else { None })
            .map(|pa| (arch::Pa::new(pa), 4096))
            .into_iter()
            .collect();
        if wiped != wipes {
            return Err(format!("wiped {wiped:x?}, should have {wipes:x?}"));
        }
        if call.x[0] as u32 & !7 == 0xc600_0000 {
            compare::shares(self)?;
        }
        Ok(false)
    }

    fn abort(
        &mut self,
        vcpu: usize,
        info: ExitInfo,
        found: u64,
        sctlr_el1: u64,
    ) -> Result<(), String> {
        let exit = arch::decode(info, &Errata::NONE);
        let now = self.now();
        let machine = oracle::Machine { sctlr_el1, now, ..oracle::Machine::default() };
        if !self.abort_once(vcpu, info, None, &machine)? {
            return Ok(());
        }
        // As EL2 does: with the IPA that it found, once more.
        let ipa = Some(Ipa::new(found));
        let exit = match exit {
            Exit::DataAbort(abort) => Exit::DataAbort(DataAbort { ipa, ..abort }),
            Exit::InstructionAbort(abort) => {
                Exit::InstructionAbort(InstructionAbort { ipa, ..abort })
            }
            other => other,
        };
        match self.abort_once(vcpu, info, Some(exit), &machine)? {
            true => Err("asked for the IPA again".into()),
            false => Ok(()),
        }
    }

    /// An abort on both sides; whether the IPA is asked for.
    fn abort_once(
        &mut self,
        vcpu: usize,
        info: ExitInfo,
        exit: Option<Exit>,
        machine: &oracle::Machine,
    ) -> Result<bool, String> {
        let decoded = exit.unwrap_or_else(|| arch::decode(info, &Errata::NONE));
        let before = self.vcpus[vcpu].regs.clone();
        let real = self.real(vcpu, info, exit);
        if self.judge(vcpu, decoded, &before, real, machine)? == Some(spec::Outcome::Asks) {
            oracle::told(&self.vm, &self.spec, vcpu)?;
            self.asked[vcpu] = self.spec.link.told(vcpu).map(|told| told.number);
        }
        Ok(real == Outcome::ResolveIpa)
    }

    fn judge(
        &mut self,
        vcpu: usize,
        exit: Exit,
        before: &GuestRegs,
        real: Outcome,
        machine: &oracle::Machine,
    ) -> Result<Option<spec::Outcome>, String> {
        let me = std::mem::replace(&mut self.vcpus[vcpu], vm::Vcpu::new(vcpu));
        let judged =
            self.together(|vms, n| oracle::judge(vms, n, exit, before, &me, real, machine));
        self.vcpus[vcpu] = me;
        judged
    }

    fn now(&self) -> spec::Moment {
        spec::Moment::at(self.machine.log().counter)
    }

    /// The arguments with [`NOW`] replaced by what the specification knows of it.
    fn timely(&self, mut x: [u64; 5]) -> [u64; 5] {
        let Some(client) = self.peer.as_ref().filter(|_| self.number == 0) else { return x };
        if x[1] >> 16 == WAITS {
            let first = client.link.outstanding().trailing_zeros() & 7;
            x[1] = x[1] & 0xffff | u64::from(first) << 16;
        }
        let vcpu = (x[1] >> 16) as usize % client.config.vcpus;
        let number = client.link.told(vcpu).map_or(0, |told| told.number);
        for (n, now) in [(2, number), (3, client.life)] {
            if x[n] == NOW || x[n] == NOW - 1 {
                x[n] = now.wrapping_sub(NOW - x[n]);
            }
        }
        x
    }

    /// What a call of a device VM changes outside both VMs: the control page, interrupts, who is woken, and the transports.
    fn outside(&self, call: &spec::Call) -> Option<Outside> {
        let link = self.link.filter(|_| call.id() >> 4 == 0xc60_0f01 && self.number == 0)?;
        let registers =
            (0..link.setup().transports.len()).flat_map(|d| (0..0x26).map(move |n| (d, n)));
        let registers = registers.map(|(d, n)| {
            link.register(&self.machine, &self.order, d, [0, n, 0]).unwrap_or(u64::MAX)
        });
        let registers = registers.collect();
        let log = self.machine.log();
        let pages = log.pages.iter().map(|(at, byte)| (*at, *byte)).collect();
        Some((pages, [log.pulses.len(), log.levels.len(), log.woken.len()], registers))
    }

    /// The page that this ATTACH wipes, if it is answered with success: what is behind the window where nothing is shared.
    fn scratch(&self, call: &spec::Call) -> Option<u64> {
        let client = self.peer.as_ref().filter(|_| self.number == 0)?;
        let begins = call.id() == 0xc600_f011 && call.x[2] == 1 && !client.link.is_attached();
        begins.then(|| self.link.unwrap().setup().window.scratch().raw())
    }

    /// `later` ticks pass, and the access of a vCPU that waits ends, or not yet.
    fn finish(&mut self, vcpu: usize, later: u64) -> Result<bool, String> {
        let counter = {
            let mut log = self.machine.log();
            log.counter += later;
            log.counter
        };
        let waits = |n: &usize| self.vcpus[*n].forwarded.is_some();
        let count = self.vcpus.len();
        let Some(vcpu) = (vcpu..count).chain(0..vcpu).find(waits) else { return Ok(false) };
        // One that has left its VM ends nothing: it begins anew.
        if !self.spec.on().any(|n| n == vcpu) {
            return Ok(false);
        }
        let before = self.vcpus[vcpu].regs.clone();
        // It is asked for its deadline first, which changes nothing.
        let _ = self.vm.waits_for_server(&self.vcpus[vcpu], counter);
        let real = self.vm.finish_forwarded(&mut self.vcpus[vcpu], counter);
        oracle::finish(&mut self.spec, &before, &self.vcpus[vcpu], counter, real)?;
        if matches!(real, Some(Outcome::Advance { .. } | Outcome::Abort(_)))
            && self.asked[vcpu].take().is_none()
        {
            return Err(format!("vCPU {vcpu} has an answer, and asked nothing"));
        }
        if real.is_some() && self.vm.finish_forwarded(&mut self.vcpus[vcpu], u64::MAX).is_some() {
            return Err(format!("the access of vCPU {vcpu} has ended twice"));
        }
        Ok(true)
    }
}

/// A call with x0 to x4.
pub fn made(
    vcpu: usize,
    conduit: Conduit,
    imm: u16,
    x: [u64; 5],
    (mair_el1, entropy): (u64, Option<[u64; 3]>),
    now: spec::Moment,
) -> spec::Call {
    let [x0, x1, x2, x3, x4] = x;
    spec::Call { vcpu, conduit, imm, x: [x0, x1, x2, x3], x4, now, mair_el1, entropy }
}
