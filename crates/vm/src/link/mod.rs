// SPDX-License-Identifier: MIT OR Apache-2.0
//! A served VM (the *client*) and the device VM that serves it (the *server*): what both sides share.
//!
//! A link knows no [`Vm`](crate::Vm): both have a reference to it, and what must reach the other VM goes through
//! [`Host`]. No word of it is memory that a VM can write.

pub(crate) mod control_page;
mod doorbell;
mod server;
mod setup;
mod slot;
mod transports;

pub use control_page::Request;
pub use doorbell::{Bell, Doorbells};
pub use setup::{LinkSetup, MAX_FORWARDS, ShareLimit, ring_limits};
pub use slot::{Answer, Slot};

use crate::Host;
use arch::guest_map::{TRANSPORT_SIZE, transport_ipa};
use arch::{Ipa, MAX_VCPUS, OnLoss, Range, VcpuSet, Width};
use control_page::{ControlPage, Peer};
use lock::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use lock::{Lock, Order, Rank};
use mmio_guard::abi::device::map;
pub(crate) use transports::Accessed;
pub use transports::TransportState;
use transports::{Moved, Transports};
use virtio_mmio::Refused;

/// Who serves, changed under one lock.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// How often the client was reset.
    life: u64,
    /// This life is ending: no server attaches to it any more.
    ends: bool,
}

/// The shared state of a served VM and its server.
pub struct Link {
    setup: LinkSetup,
    /// Held by the server's calls, and when the client or the server starts or stops. The client's accesses take no lock.
    session: Lock<Session>,
    /// The server serves.
    attached: AtomicBool,
    /// It has served before, in this or another life.
    known: AtomicBool,
    /// How often a server has attached.
    attachment: AtomicU64,
    /// The attachment in which an access was not answered in time, [`NONE`] if there was none: until the next one no access is
    /// forwarded.
    lost: AtomicU64,
    /// The client has been started.
    running: AtomicBool,
    /// CNTPCT_EL0 at the last ATTACH.
    attached_at: AtomicU64,
    slots: [Slot; MAX_VCPUS],
    bells: Doorbells,
    transports: Transports,
    /// vCPUs that wait for a transport (bits).
    waiting: AtomicU8,
    /// The log says that the client waits for its server.
    reported: AtomicBool,
}

/// No attachment: [`Link::lost`].
const NONE: u64 = u64::MAX;

/// The number of the transport that would be at `ipa`, beyond all others for an address below them, and the offset in it.
#[inline(always)]
const fn transport_place(ipa: Ipa) -> (usize, u64) {
    let offset = ipa.raw().wrapping_sub(transport_ipa(0).raw());
    ((offset / TRANSPORT_SIZE) as usize, offset & TRANSPORT_SIZE.wrapping_sub(1))
}

/// What became of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It rang a doorbell: done.
    Rung,
    /// It waits for an answer.
    Waits,
    /// No server will answer.
    Lost,
}

/// Why the vCPU of an access to a transport waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportWait {
    transport: u8,
    /// The event; none before the server is ready.
    seq: Option<u32>,
    /// CNTPCT_EL0 at which it began.
    since: u64,
}

/// A call that the link does not allow now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotNow;

impl From<Refused> for NotNow {
    fn from(_: Refused) -> Self {
        Self
    }
}

impl core::fmt::Debug for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Link").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl Link {
    /// A link that no server has attached yet.
    pub fn new(setup: LinkSetup) -> Self {
        Self {
            transports: Transports::new(setup.transports),
            waiting: AtomicU8::new(0),
            reported: AtomicBool::new(false),
            setup,
            session: Lock::new(Rank::Device, Session::default()),
            attached: AtomicBool::new(false),
            known: AtomicBool::new(false),
            attachment: AtomicU64::new(0),
            lost: AtomicU64::new(NONE),
            running: AtomicBool::new(false),
            attached_at: AtomicU64::new(0),
            slots: Default::default(),
            bells: Doorbells::default(),
        }
    }

    /// What is fixed of it.
    pub const fn setup(&self) -> &LinkSetup {
        &self.setup
    }

    fn page(&self) -> ControlPage {
        ControlPage(self.setup.control)
    }

    /// The interrupt in the server that this client raises.
    fn intid(&self) -> u32 {
        map::INTID.wrapping_add(self.setup.peer.into())
    }

    fn slot(&self, vcpu: usize) -> &Slot {
        let [first, ..] = &self.slots;
        self.slots.get(vcpu).unwrap_or(first)
    }

    /// Tells the server that there is something on the control page.
    fn notify<H: Host>(&self, host: &H, order: &Order) {
        host.pulse_of(order, self.setup.server, self.intid());
    }

    /// Whether an access of `width` at `ipa` goes to the server.
    pub fn forwards(&self, ipa: Ipa, width: Width) -> bool {
        let within = |range: &Range<Ipa>| {
            range.contains(ipa)
                && ipa.checked_add(width.bytes()).is_some_and(|end| end <= range.end())
        };
        self.setup.forwards.iter().any(within)
    }

    /// An access of `vcpu`, which runs on this CPU. The guard has let it pass.
    pub fn send<H: Host>(&self, host: &H, order: &Order, vcpu: usize, request: &Request) -> Sent {
        if let Some(value) = request.store
            && let Some((n, count)) = self.bells.ring(request.ipa, request.width, value)
        {
            self.page().doorbell(host, n, count);
            self.notify(host, order);
            return Sent::Rung;
        }
        if self.lost.load(Ordering::SeqCst) == self.attachment.load(Ordering::SeqCst) {
            return Sent::Lost;
        }
        let slot = self.slot(vcpu);
        let number = slot.send(host.counter());
        // A server that leaves now sees the access above, or is seen here.
        if self.gone() && slot.give_up() {
            return Sent::Lost;
        }
        self.page().request(host, vcpu, number, request);
        self.notify(host, order);
        Sent::Waits
    }

    /// Whether accesses are aborted because the server has left.
    fn gone(&self) -> bool {
        self.setup.on_loss == OnLoss::Abort
            && self.known.load(Ordering::SeqCst)
            && !self.attached.load(Ordering::SeqCst)
    }

    /// CNTPCT_EL0 until which the access of `vcpu` waits: `u64::MAX` for ever; `None` if it waits no longer.
    pub fn waits_until(&self, vcpu: usize, now: u64) -> Option<u64> {
        let slot = self.slot(vcpu);
        if !slot.is_outstanding() {
            return None;
        }
        self.deadline(slot.since(), self.attached.load(Ordering::Acquire), now)
    }

    /// The deadline of a wait that began at `since`, `u64::MAX` where it has none or is not `limited`; `None` if it has passed at
    /// `now`. It counts from the last ATTACH if that was later.
    fn deadline(&self, since: u64, limited: bool, now: u64) -> Option<u64> {
        if self.setup.timeout == 0 || !limited {
            return Some(u64::MAX);
        }
        let from = since.max(self.attached_at.load(Ordering::Relaxed));
        let until = from.saturating_add(self.setup.timeout);
        (until > now).then_some(until)
    }

    /// How the access of `vcpu` ended; `None` if it waits.
    pub fn take_answer(&self, vcpu: usize, now: u64) -> Option<Answer> {
        let slot = self.slot(vcpu);
        if let Some(answer) = slot.take() {
            return Some(answer);
        }
        // Before the deadline is looked at: a server that attaches meanwhile is another one, and not lost.
        let attachment = self.attachment.load(Ordering::SeqCst);
        if self.waits_until(vcpu, now).is_some() {
            return None;
        }
        if slot.give_up() {
            self.lost.store(attachment, Ordering::SeqCst);
            return Some(Answer::Lost);
        }
        // It came just now.
        Some(slot.take().unwrap_or(Answer::Lost))
    }

    /// vCPUs whose access waits.
    fn outstanding(&self) -> VcpuSet {
        let mut set = VcpuSet::EMPTY;
        for (vcpu, slot) in self.slots.iter().enumerate() {
            if slot.is_outstanding() {
                set.insert(vcpu);
            }
        }
        set
    }

    /// The server is gone: returns vCPUs to wake, whose accesses wait. Under the lock.
    fn leave(&self) -> VcpuSet {
        self.attached.store(false, Ordering::SeqCst);
        self.bells.clear();
        let waiting = self.outstanding();
        if self.gone() {
            for slot in &self.slots {
                slot.lose();
            }
        }
        waiting
    }

    /// The server stops, or is reset.
    pub fn server_stops<H: Host>(&self, host: &H, order: &Order) {
        let session = self.session.lock(order);
        let wake = self.leave();
        drop(session);
        self.leave_transports(host, order, wake);
    }

    /// The rest of [`Link::leave`], without its lock: ends the waits for transports, and wakes these vCPUs as well.
    fn leave_transports<H: Host>(&self, host: &H, order: &Order, wake: VcpuSet) {
        self.transports.all(
            order,
            |registers| {
                let _ = registers.detach();
            },
            |moved| self.set_line(host, order, moved),
        );
        // Read only now: a vCPU that says later that it waits sees that it does not have to.
        host.wake_of(self.setup.client, wake.union(self.waiting()));
    }

    /// The line of a transport follows its level.
    fn set_line<H: Host>(&self, host: &H, order: &Order, moved: Moved<'_>) {
        host.level_of(order, self.setup.client, moved.intid, moved.level);
    }

    /// The client stops, or is reset: nothing of its life is left but the number.
    pub fn client_stops<H: Host>(&self, host: &H, order: &Order) {
        let mut session = self.session.lock(order);
        session.ends = true;
        self.attached.store(false, Ordering::SeqCst);
        self.known.store(false, Ordering::SeqCst);
        self.reported.store(false, Ordering::Relaxed);
        self.lost.store(NONE, Ordering::SeqCst);
        self.running.store(false, Ordering::SeqCst);
        self.bells.clear();
        for slot in &self.slots {
            if !slot.give_up() {
                let _ = slot.take();
            }
        }
        drop(session);
        // Before the next life is known: what its server sets stays.
        self.waiting.store(0, Ordering::SeqCst);
        // The vGIC is reset as well: its lines are low.
        self.transports.all(
            order,
            |registers| {
                let _ = registers.reset();
            },
            |_| {},
        );
        let mut session = self.session.lock(order);
        session.ends = false;
        session.life = session.life.wrapping_add(1);
        let life = session.life;
        let peer = Peer {
            name: &self.setup.name,
            ram: self.setup.ram,
            vcpus: self.setup.vcpus,
            transports: self.setup.transports.len(),
            window: self.setup.window.base(),
        };
        self.page().describe(host, &peer, life);
        drop(session);
        self.notify(host, order);
    }

    /// The client starts.
    pub fn client_starts<H: Host>(&self, host: &H, order: &Order) {
        self.running.store(true, Ordering::SeqCst);
        self.notify(host, order);
    }

    /// The transport at `ipa`, and the offset in its registers.
    pub fn transport_at(&self, ipa: Ipa) -> Option<(usize, u64)> {
        let (d, offset) = transport_place(ipa);
        (d < self.setup.transports.len()).then_some((d, offset))
    }

    /// What a load of four bytes at `ipa` reads, if that is InterruptStatus of a transport that answers.
    #[inline(always)]
    pub(crate) fn interrupt_status(&self, ipa: Ipa) -> Option<u64> {
        let (d, offset) = transport_place(ipa);
        self.transports.interrupt_status(d, offset)
    }

    /// An access of `vcpu`, to a transport where `wait` says so, waits without a deadline at CNTPCT_EL0 `now`. Whether the log is to
    /// say so, once in a life, `after` ticks from its beginning: now (`Ok`) or not before then (`Err`).
    ///
    /// # Errors
    /// When to ask again: `u64::MAX` for never.
    pub fn report_wait(
        &self,
        vcpu: usize,
        wait: Option<TransportWait>,
        now: u64,
        after: u64,
    ) -> Result<(), u64> {
        if self.reported.load(Ordering::Relaxed) {
            return Err(u64::MAX);
        }
        let since = wait.map_or_else(|| self.slot(vcpu).since(), |wait| wait.since);
        let at = since.saturating_add(after);
        if at > now {
            return Err(at);
        }
        if self.reported.swap(true, Ordering::Relaxed) { Err(u64::MAX) } else { Ok(()) }
    }

    /// vCPUs that wait for a transport.
    fn waiting(&self) -> VcpuSet {
        VcpuSet::from_bits(self.waiting.load(Ordering::SeqCst))
    }

    /// An access of `vcpu`, which runs on this CPU, to a transport: what a load reads, or why it waits.
    ///
    /// # Errors
    /// The vCPU waits, and then executes the access again.
    pub(crate) fn access_transport<H: Host>(
        &self,
        host: &H,
        order: &Order,
        vcpu: usize,
        at: (usize, u64),
        request: &Request,
    ) -> Result<Option<Accessed<'_>>, TransportWait> {
        let accessed = match request.store {
            Some(value) => {
                self.transports.store(host, order, self.page(), at, (request.width, value))
            }
            None => self.transports.load(host, order, at, request.width),
        };
        if let Some(Accessed::Told(_) | Accessed::Wait { told: true, .. }) = accessed {
            self.notify(host, order);
        }
        if let Some(Accessed::Wait { seq, .. }) = accessed {
            // Before it looks again whether it has to wait: who ends the wait sees the bit.
            self.waiting.fetch_or(VcpuSet::single(vcpu).bits(), Ordering::SeqCst);
            return Err(TransportWait { transport: at.0 as u8, seq, since: host.counter() });
        }
        Ok(accessed)
    }

    /// As [`Link::waits_until`], for an access to a transport.
    pub fn transport_waits_until(
        &self,
        order: &Order,
        wait: TransportWait,
        now: u64,
    ) -> Option<u64> {
        if !self.transports.waits(order, usize::from(wait.transport), wait.seq) {
            return None;
        }
        self.deadline(wait.since, wait.seq.is_some(), now)
    }

    /// The wait of `vcpu` ends, in time or by its deadline. `false`: it waits on.
    pub fn end_transport_wait<H: Host>(
        &self,
        host: &H,
        order: &Order,
        vcpu: usize,
        wait: TransportWait,
        now: u64,
    ) -> bool {
        if self.transport_waits_until(order, wait, now).is_some() {
            return false;
        }
        if let Some(seq) = wait.seq {
            let moved = self.transports.expire(order, usize::from(wait.transport), seq);
            if let Some(moved) = moved {
                self.set_line(host, order, moved);
            }
        }
        self.waiting.fetch_and(!VcpuSet::single(vcpu).bits(), Ordering::SeqCst);
        true
    }
}
