// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the start, the stop and the reset of a VM mean to the VMs that it serves, and to the one that serves it.

use crate::{Host, Vm};
use lock::Order;

impl<H: Host> Vm<H> {
    /// The VM has stopped or is reset: it serves none, and its server reaches nothing of its memory.
    pub(crate) fn leave_links(&self, order: &Order) {
        self.close_window(order);
        if let Some(link) = self.served {
            link.client_stops(self.host(), order);
        }
        for link in self.peers.into_iter().flatten() {
            link.server_stops(self.host(), order);
        }
    }

    /// The VM starts: its server is told.
    pub(crate) fn enter_links(&self, order: &Order) {
        if let Some(link) = self.served {
            link.client_starts(self.host(), order);
        }
    }
}
