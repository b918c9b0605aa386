// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's stock kernels with the modules of `linux/guest/`: their disk sees a pool and nothing else, and they enrol while they
//! run. docs/linux.md says how.

use anyhow::{Context, anyhow};
use xtask::guests::Guest;
use xtask::qemu::{Machine, Module, Run, Start};

use crate::console::Console;
use crate::fixture::{Checked, Fixture, ensure, one};
use crate::strict_disk::{StrictDisk, What};

const STOCK: &[Guest] = &[Guest::Linux, Guest::GuestModules];
const STOCK_6_12: &[Guest] = &[Guest::Linux612, Guest::GuestModules612];
const STRICT: &[Guest] = &[Guest::Linux, Guest::GuestModules, Guest::ClientRoot];
const STRICT_6_12: &[Guest] = &[Guest::Linux612, Guest::GuestModules612, Guest::ClientRoot];

cases_with![
    confined: STOCK, true;
    confined_6_12: STOCK_6_12, true;
    pool_after_the_driver: STOCK, true;
    device_that_takes_any_address: STOCK, true;
    all_that_a_disk_is_told: STRICT, true;
    all_that_a_disk_is_told_6_12: STRICT_6_12, true;
    enrols: STOCK, true;
    enrols_6_12: STOCK_6_12, true;
    does_not_enrol_without_a_guard: STOCK, true;
];

/// Exit status of a process that died of SIGBUS.
const SIGBUS: u32 = 128 + 7;

/// What insmod ends with: EBUSY, and ENODEV.
const BUSY: u32 = 16;
const NO_DEVICE: u32 = 19;

/// The server: the test guest, with its disks of 12 sectors.
const SERVER: &str = "serve vm.name=server vm.role=device vm.mem=8M";

/// What the stock kernel reaches before a module can declare it: the interrupt controller and the UART.
const PRESET: &str = "vm.preset=0x8000000+64K:0x80a0000+256K:0x9000000+4K";

/// Loads the drivers of a disk.
const DRIVERS: &str = "for m in $(cat /lib/modules/order); do insmod /lib/modules/$m; done";

/// A stock kernel with its root.
fn stock(needs: &[Guest], words: &str) -> anyhow::Result<Module> {
    let [kernel, root, ..] = needs else { return Err(anyhow!("a kernel and its root")) };
    Ok(Module {
        kernel: kernel.existing()?,
        bootargs: format!("vm.name=stock vm.mem=256M console=ttyAMA0 panic=-1 quiet {words}"),
        ramdisk: Some(root.existing()?),
        address: None,
    })
}

/// Boots these, and waits for the stock kernel's shell.
fn boot(fixture: &Fixture, modules: Vec<Module>) -> anyhow::Result<Console> {
    let mut console = Console { session: fixture.boot(&Machine { modules, ..fixture.machine() })? };
    console.shell()?;
    Ok(console)
}

/// A stock kernel with a disk that it shares a pool with.
fn client(fixture: &Fixture, needs: &[Guest]) -> anyhow::Result<Console> {
    let words = format!("vm.devices=server:blk vm.share=pool:8M {PRESET}");
    boot(fixture, vec![stock(needs, &words)?, fixture.guest(SERVER)])
}

/// The value behind `name` in a file of debugfs.
fn figure(console: &mut Console, file: &str, name: &str) -> anyhow::Result<u64> {
    let command = format!("sed -n 's/^{name} /figure /p' /sys/kernel/debug/{file}");
    let said = console.run(&command, 0)?.unwrap_or_default();
    let number = said.rsplit(' ').next().and_then(|word| word.parse().ok());
    number.ok_or_else(|| anyhow!("{file} has no {name}: {said}"))
}

/// The 8 bytes at `offset` of sector `number`, as guest-stub's `served` has them.
fn word(number: u64, offset: u64) -> u64 {
    let value = number << 32 | offset | 1 << 63;
    let value = (value ^ value >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (value ^ value >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ value >> 32
}

/// Reads words of the disk, the first and the last among them, from the device itself.
fn read_disk(console: &mut Console) -> Checked {
    console.run("echo 1 > /proc/sys/vm/drop_caches", 0)?;
    for (sector, offset) in [(0, 0), (5, 256), (7, 504), (8, 0), (11, 504)] {
        let skip = (sector * 512 + offset) / 8;
        let command = format!("dd if=/dev/vda bs=8 skip={skip} count=1 2>/dev/null | od -An -tx8");
        let said = console.run(&command, 0)?.unwrap_or_default();
        if !said.contains(&format!("{:016x}", word(sector, offset))) {
            return Err(anyhow!("sector {sector}, byte {offset}: {said}"));
        }
    }
    Ok(())
}

/// Powers the stock kernel off; the server follows.
fn finish(mut console: Console, vms: usize) -> anyhow::Result<Run> {
    console.send("poweroff\n")?;
    let run = console.session.finish();
    xtask::guests::boot::judge(&run, vms, false)?;
    ensure(run.with("panicked").chain(run.with("Call trace")).count() == 0, "an oops", &run)?;
    Ok(run)
}

fn confined_on(fixture: &Fixture, needs: &[Guest]) -> Checked {
    const DRIVER: &str = "/sys/bus/platform/drivers/virtio-mmio";
    let mut console = client(fixture, needs)?;
    console.run("insmod /lib/modules/portcullis-pool.ko", 0)?;
    console
        .run("dmesg | grep 'portcullis_pool: 8192 KiB at 0x.*4f800000, reserved by the tree'", 0)?;
    console.run(DRIVERS, 0)?;
    console.run("dmesg | grep 'a000000.virtio_mmio: confined to the pool'", 0)?;
    console.run("mount -t debugfs debugfs /sys/kernel/debug", 0)?;
    read_disk(&mut console)?;
    let used = figure(&mut console, "portcullis_pool", "used")?;
    console.run(&format!("echo a000000.virtio_mmio > {DRIVER}/unbind"), 0)?;
    // An empty page of slots may stay.
    let left = figure(&mut console, "portcullis_pool", "used")?;
    if left > 1 || used <= left {
        return Err(anyhow!("{used} pages with a disk, {left} without"));
    }
    console.run(&format!("echo a000000.virtio_mmio > {DRIVER}/bind"), 0)?;
    read_disk(&mut console)?;
    for (name, expected) in [("pages", 2048), ("used", used), ("failed", 0)] {
        let value = figure(&mut console, "portcullis_pool", name)?;
        if value != expected {
            return Err(anyhow!("{value} {name} and not {expected}"));
        }
    }
    let run = finish(console, 2)?;
    one(&run, "[server] serve: done, 0 wrong").map(drop)
}

fn confined(fixture: &Fixture) -> Checked {
    confined_on(fixture, STOCK)
}

fn confined_6_12(fixture: &Fixture) -> Checked {
    confined_on(fixture, STOCK_6_12)
}

/// The driver has the device, so that the pool is refused. Nothing is shared: the server finds no ring.
fn pool_after_the_driver(fixture: &Fixture) -> Checked {
    let mut console = client(fixture, STOCK)?;
    console.run(&DRIVERS.replace("order)", "order | grep -v blk)"), 0)?;
    console.run("insmod /lib/modules/portcullis-pool.ko", BUSY)?;
    console.run("dmesg | grep 'portcullis_pool: too late: a device is bound to virtio-mmio'", 0)?;
    console.run("test -e /sys/kernel/debug/portcullis_pool", 1)?;
    finish(console, 2).map(drop)
}

/// A machine with a stock kernel and nothing below it.
fn without_portcullis(needs: &[Guest], extra: Vec<String>) -> anyhow::Result<Machine> {
    let [kernel, root, ..] = needs else { return Err(anyhow!("a kernel and its root")) };
    Ok(Machine {
        kernel: Some(kernel.existing()?),
        initrd: Some(root.existing()?),
        append: Some("console=ttyAMA0 panic=-1 quiet".into()),
        start: Start::El1,
        extra,
        ..Machine::default()
    })
}

/// QEMU's own disk, which does not offer VIRTIO_F_ACCESS_PLATFORM, on a machine without Portcullis.
fn device_that_takes_any_address(fixture: &Fixture) -> Checked {
    let disk = fixture.file("disk", &[0; 1 << 20])?;
    let drive = format!("file={},format=raw,if=none,id=disk", disk.display());
    let words = ["-global", "virtio-mmio.force-legacy=false", "-drive", &drive];
    let device = ["-device", "virtio-blk-device,drive=disk"];
    let extra = words.into_iter().chain(device).map(str::to_owned).collect();
    let machine = without_portcullis(STOCK, extra)?;
    let mut console = Console { session: fixture.boot(&machine)? };
    console.shell()?;
    console.run("insmod /lib/modules/portcullis-pool.ko", 0)?;
    console.run("dmesg | grep 'no hypervisor that memory can be shared with'", 0)?;
    console.run("dmesg | grep 'portcullis_pool: 8192 KiB at 0x.*, allocated'", 0)?;
    console.run(DRIVERS, 0)?;
    console.run("dmesg | grep 'device must provide VIRTIO_F_ACCESS_PLATFORM'", 0)?;
    console.run("test -b /dev/vda", 1)?;
    finish(console, 0).map(drop)
}

/// Direct and buffered requests, a file system with writers side by side, and more requests than the pool has room for: all
/// is right, and rings, tables and buffers are in the pool.
fn strict_on(fixture: &Fixture, needs: &[Guest]) -> Checked {
    let disk = StrictDisk::start(&Guest::ClientRoot.existing()?)?;
    let machine = without_portcullis(needs, disk.arguments(Machine::default().memory_mib))?;
    let mut console = Console { session: fixture.boot(&machine)? };
    console.shell()?;
    console.run("insmod /lib/modules/portcullis-pool.ko mib=4", 0)?;
    let pool = console.run("dmesg | grep -o '4096 KiB at 0x[0-9a-f]*'", 0)?.unwrap_or_default();
    console.run(DRIVERS, 0)?;
    console.run("mount -t debugfs debugfs /sys/kernel/debug; mkdir /mnt", 0)?;

    console.run("mount -t ext4 /dev/vda /mnt", 0)?;
    let write = "dd if=/dev/urandom of=/mnt/f$i bs=16k count=64 2>/dev/null";
    console.run(
        &format!("for i in 1 2 3 4 5 6; do ({write}; md5sum /mnt/f$i > /tmp/$i) & done; wait"),
        0,
    )?;
    console.run("umount /mnt && echo 3 > /proc/sys/vm/drop_caches", 0)?;
    console.run("mount -t ext4 /dev/vda /mnt", 0)?;
    console.run("cat /tmp/[1-6] > /tmp/sums; md5sum -c /tmp/sums", 0)?;
    console.run("umount /mnt; dmesg | grep -i -e error -e corrupt", 1)?;

    console.run("dd if=/dev/vda bs=64k 2>/dev/null | md5sum > /tmp/buffered", 0)?;
    let read = "dd if=/dev/vda bs=4M iflag=direct 2>/dev/null | md5sum > /tmp/direct$i";
    console.run(&format!("for i in 1 2 3 4 5 6 7 8; do ({read}) & done; wait"), 0)?;
    console.run("for i in 1 2 3 4 5 6 7 8; do cmp /tmp/buffered /tmp/direct$i || exit; done", 0)?;
    let failed = figure(&mut console, "portcullis_pool", "failed")?;
    console.run("dd if=/tmp/1 of=/dev/vda bs=512 conv=sync count=1 2>/dev/null; sync", 0)?;
    finish(console, 0)?;

    let base =
        pool.split("0x").nth(1).and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    let base = base.with_context(|| format!("no address of a pool: {pool}"))?;
    let seen = disk.seen()?;
    for (what, least) in
        [(What::Ring, 100), (What::Table, 100), (What::Read, 200), (What::Written, 500)]
    {
        let (count, range) = seen.get(&what).cloned().unwrap_or_default();
        if count < least || range.start < base || range.end > base + (4 << 20) {
            return Err(anyhow!("{count} of {what:?} in {range:x?}, and the pool is at {base:#x}"));
        }
    }
    if failed == 0 {
        return Err(anyhow!("the pool always had room"));
    }
    Ok(())
}

fn all_that_a_disk_is_told(fixture: &Fixture) -> Checked {
    strict_on(fixture, STRICT)
}

fn all_that_a_disk_is_told_6_12(fixture: &Fixture) -> Checked {
    strict_on(fixture, STRICT_6_12)
}

fn enrols_on(fixture: &Fixture, needs: &[Guest]) -> Checked {
    const RTC: &str = "/sys/bus/amba/drivers/rtc-pl031";
    let words = format!("vm.cpus=2 vm.guard=enrol vm.dev=/pl031@9010000 {PRESET}");
    let mut console = boot(fixture, vec![stock(needs, &words)?])?;
    console.run("mount -t debugfs debugfs /sys/kernel/debug", 0)?;
    console.run("insmod /lib/modules/portcullis-guard.ko", 0)?;
    console.run("dmesg | grep 'portcullis_guard: enrolled, 82 pages of 4 mappings declared'", 0)?;
    console.run("cat /sys/class/rtc/rtc*/time", 0)?;
    // The driver's was the last mapping.
    console.run(&format!("echo 9010000.pl031 > {RTC}/unbind"), 0)?;
    let gone = figure(&mut console, "portcullis_guard", "granules")?;
    console.run("devmem 0x9010fe0 32", SIGBUS)?;
    console.run(&format!("echo 9010000.pl031 > {RTC}/bind"), 0)?;
    console.run("cat /sys/class/rtc/rtc*/time", 0)?;
    let back = figure(&mut console, "portcullis_guard", "granules")?;
    let refused = figure(&mut console, "portcullis_guard", "refused")?;
    if (gone, back, refused) != (81, 82, 0) {
        return Err(anyhow!("{gone} granules, then {back}, {refused} refused"));
    }
    console.run("rmmod portcullis-guard", 1)?;
    let run = finish(console, 1)?;
    one(&run, "refused load of 4 bytes at IPA 0x9010fe0 ")?;
    ensure(run.with("MMIO exits, 1 refused").count() == 1, "not one access was refused", &run)
}

fn enrols(fixture: &Fixture) -> Checked {
    enrols_on(fixture, STOCK)
}

fn enrols_6_12(fixture: &Fixture) -> Checked {
    enrols_on(fixture, STOCK_6_12)
}

/// The calls are not there, or mean something else.
fn does_not_enrol_without_a_guard(fixture: &Fixture) -> Checked {
    let modules = vec![stock(STOCK, "vm.guard=enrol vm.dialect=series")?];
    let mut console = boot(fixture, modules)?;
    console.run("insmod /lib/modules/portcullis-guard.ko", NO_DEVICE)?;
    console.run("insmod /lib/modules/portcullis-pool.ko", 0)?;
    console.run(
        "dmesg | grep 'portcullis_guard: no hypervisor with an MMIO guard, dialect pkvm'",
        0,
    )?;
    console.run("dmesg | grep 'no hypervisor that memory can be shared with'", 0)?;
    let run = finish(console, 1)?;
    ensure(run.with("MMIO exits, 0 refused").count() == 1, "it has enrolled", &run)
}
