// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device VM: it serves what `served` describes to each of its peers, and misbehaves as they ask it to.
//!
//! It sleeps until an interrupt of a peer comes, answers all that is new on the control pages, and ends when all peers
//! have said goodbye or stopped. Whatever it sees that should not be is a line `FAIL serve: ..`, and the peer is told.

mod answers;
mod disk;
mod hostile;
mod peer;
mod spy;

use arrayvec::ArrayVec;
use mmio_guard::abi::device::map;

use crate::device_calls::peer_info;
use crate::{gic, guard, time};
use peer::Peer;

/// Milliseconds after which it looks without an interrupt: peers start and stop without one.
const LOOK: u64 = 50;
/// Most VMs that can be peers: all but this one.
const MOST: usize = 31;

type Peers = ArrayVec<Peer, MOST>;

/// Serves all peers until the last one is done.
pub fn run() {
    guard::declare_own();
    gic::init();
    gic::init_cpu();
    let mut peers = Peers::new();
    for number in 0..MOST as u64 {
        if peer_info(number).is_none() {
            break;
        }
        gic::give_edge_spi(map::INTID + number as u32, 0);
        peers.push(Peer::new(number));
    }
    let none_beyond = (peers.len() as u64..map::PEERS as u64 + 8).all(|n| peer_info(n).is_none());
    if !none_beyond || peer_info(0xffff).is_some() || peer_info(u64::MAX).is_some() {
        say!("FAIL serve: there are peers beyond the last one");
    }
    say!("serve: {} peers", peers.len());
    let mut wrong = 0;
    while !peers.iter().all(Peer::is_done) {
        let mut busy = false;
        for peer in &mut peers {
            busy |= peer.poll();
        }
        if !busy {
            rest();
        }
    }
    for peer in &peers {
        wrong += peer.wrong();
        peer.report();
    }
    say!("serve: done, {wrong} wrong");
}

/// Sleeps until an interrupt has come, or for a while.
fn rest() {
    msr!("cntv_cval_el0", time::now() + time::ticks(LOOK));
    msr!("cntv_ctl_el0", 1);
    plain!("isb");
    plain!("wfi");
    gic::let_in();
}
