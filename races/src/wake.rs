// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wake word of a CPU: a sender, the kick, and a CPU that looks and sleeps.

use crate::{at_once, explore};
use sched::{Reason, Wake};
use shuttle::sync::{Condvar, Mutex};
use std::sync::Arc;

/// A CPU, as its interrupt controller and two VMs see it.
struct Cpu {
    wake: Wake,
    /// Interrupts that wait for each vCPU.
    vgic: [Mutex<u32>; 2],
    /// Kicks that are pending here, one bit as in a GIC; and how many were sent.
    kicked: Mutex<(bool, u32)>,
    arrived: Condvar,
}

impl Cpu {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            wake: Wake::new(),
            vgic: [Mutex::new(0), Mutex::new(0)],
            kicked: Mutex::new((false, 0)),
            arrived: Condvar::new(),
        })
    }

    /// What a sender does.
    fn send(&self, vcpu: usize) {
        *self.vgic[vcpu].lock().unwrap() += 1;
        if self.wake.signal(1 << vcpu, Reason::Interrupt) {
            let mut kicked = self.kicked.lock().unwrap();
            *kicked = (true, kicked.1 + 1);
            self.arrived.notify_one();
        }
    }

    /// Takes what the bits are about; how much that was.
    fn look(&self) -> u32 {
        let bits = self.wake.take();
        (0..2)
            .filter(|vcpu| bits & 1 << vcpu != 0)
            .map(|vcpu| core::mem::take(&mut *self.vgic[vcpu].lock().unwrap()))
            .sum()
    }

    /// WFI: until a kick is pending, which is acknowledged.
    fn wait(&self) {
        let mut kicked = self.kicked.lock().unwrap();
        while !kicked.0 {
            kicked = self.arrived.wait(kicked).unwrap();
        }
        kicked.0 = false;
    }
}

const SENT: u32 = 3;

fn senders(cpu: &Arc<Cpu>) -> Vec<Box<dyn FnOnce() -> u32 + Send>> {
    (0..2)
        .map(|vcpu| {
            let cpu = cpu.clone();
            let send = move || {
                for _ in 0..SENT {
                    cpu.send(vcpu);
                }
                0_u32
            };
            Box::new(send) as Box<dyn FnOnce() -> u32 + Send>
        })
        .collect()
}

/// A lost wake-up would leave the CPU asleep for ever: the model ends in a deadlock then.
#[test]
fn no_wake_up_is_lost() {
    explore(|| {
        let cpu = Cpu::new();
        let mut threads = senders(&cpu);
        let me = cpu.clone();
        threads.push(Box::new(move || {
            let mut seen = 0;
            while seen < 2 * SENT {
                // vCPU 0 runs, and vCPU 1 may not interrupt it.
                let _ = me.wake.listen(1);
                seen += me.look();
                // Nothing to do: both may.
                if seen < 2 * SENT && !me.wake.listen(3) {
                    me.wait();
                }
            }
            seen
        }));
        assert_eq!(at_once(threads).iter().sum::<u32>(), 2 * SENT);
    });
}

/// Between two looks a vCPU's senders kick once; for one that the CPU does not listen for, never.
#[test]
fn at_most_one_kick_is_outstanding() {
    explore(|| {
        let cpu = Cpu::new();
        let _ = cpu.wake.listen(1);
        at_once(senders(&cpu));
        assert!(cpu.kicked.lock().unwrap().1 == 1, "vCPU 0 has one, vCPU 1 none");
        assert_eq!(cpu.look(), 2 * SENT);
    });
}
