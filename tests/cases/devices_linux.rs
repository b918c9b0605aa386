// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's stock kernel serves devices to a protected Linux: what `./scripts/run devices` shows.

use anyhow::anyhow;
use xtask::devices;
use xtask::guests::boot::judge;

use crate::fixture::{Checked, Fixture, ensure, one};

cases_with![
    all_as_promised: &devices::setup::ALL_FILES, true;
    firmware_boots_from_a_served_disk: &devices::firmware::FILES, true;
];

fn all_as_promised(fixture: &Fixture) -> Checked {
    let mut failed = Vec::new();
    let mut say = |line: &str| {
        if line.starts_with("FAIL") {
            failed.push(line.to_owned());
        }
    };
    let report = devices::judge(&fixture.images, &fixture.name, &mut say)?;
    let (kept, closing) = (report.all_kept(), report.closing());
    if kept { Ok(()) } else { Err(anyhow!("{closing}:\n{}", failed.join("\n"))) }
}

/// U-Boot loads a client of the guard, and EDK2 Debian's stock kernel as an EFI application, both from FAT on virtio-blk. No
/// access of theirs is refused, and neither sees the other's server.
fn firmware_boots_from_a_served_disk(fixture: &Fixture) -> Checked {
    let machine = devices::firmware::machine(&fixture.images)?;
    let mut session = fixture.boot(&machine)?;
    let wanted = [
        "[u-boot] Retrieving file: /guarded.img",
        "FS0:\\vmlinuz.efi initrd=",
        "-guarded in userspace",
        "-cloud-arm64 in userspace",
        "[u-boot] guest: shell",
        "[edk2] guest: shell",
    ];
    // They run side by side: in any order.
    for line in wanted {
        while !session.lines().iter().any(|said| said.contains(line)) {
            if session.next_line().is_none() {
                // Says why.
                session.wait_for(line)?;
            }
        }
    }
    for (number, name) in [(0, "u-boot"), (1, "edk2"), (2, "store")] {
        session.send(&format!("\x1d{number}"))?;
        session.send("\npoweroff\n")?;
        session.wait_for(&format!("[hyp] {name}: stopped (power off)"))?;
    }
    let run = session.finish();
    judge(&run, 3, false)?;
    for name in ["u-boot", "edk2"] {
        let line = one(&run, &format!("[hyp] {name}: stopped (power off)")).map(str::to_owned)?;
        ensure(line.ends_with(", 0 refused"), "an access was refused", &run)?;
    }
    Ok(())
}
