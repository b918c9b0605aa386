// SPDX-License-Identifier: MIT OR Apache-2.0
//! Panics and unexpected exceptions.

use core::panic::PanicInfo;

use crate::frame::Frame;
use crate::{cpu, psci};

/// ESR of the `svc` that a panic ends a run with.
pub const PANICKED: u64 = 0x5600_0077;

/// A panic ends the test it happened in; outside of one it ends the VM.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say!("stub: vCPU {} {}", cpu::index(), info);
    // SAFETY: reads this vCPU's own record.
    if unsafe { (*cpu::own()).run.is_null() } {
        die("panic", None);
    }
    loop {
        // The run in progress ends with this syndrome.
        plain!("svc #0x77");
    }
}

/// Says why and switches the VM off.
pub fn die(why: &str, frame: Option<&Frame>) -> ! {
    if let Some(frame) = frame {
        say!(
            "stub: vCPU {} died: {why}: vector {:#x} ESR {:#x} FAR {:#x} ELR {:#x} SPSR {:#x} LR {:#x}",
            cpu::index(),
            frame.vector,
            frame.esr,
            frame.far,
            frame.elr,
            frame.spsr,
            frame.x[30],
        );
    } else {
        say!("stub: vCPU {} died: {why}", cpu::index());
    }
    psci::system_off()
}
