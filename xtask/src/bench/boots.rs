// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machines that are booted, and what their consoles say.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::figure::{Figure, Figures};
use super::sections;
use crate::build::Artifacts;
use crate::qemu::{Limits, Machine, Module, Session};
use anyhow::{Context, Result, anyhow, bail};

/// One boot: what it is called in logs, what lies behind the names of its figures, and the machine.
struct Boot {
    name: String,
    suffix: String,
    machine: Machine,
    plugin: Plugin,
}

/// What the plugin of QEMU measures.
#[derive(Clone, Copy)]
enum Plugin {
    /// It is not loaded.
    None,
    /// Sections with interrupts masked.
    Sections,
    /// What a CPU executes before its first guest.
    Boot,
}

/// Pages of the table pool in the boot that counts how many can be declared with them.
pub const DENSE_POOL: u64 = 516;
/// Boots whose log says what a VM takes of EL2's heap, and its vCPUs.
const HEAP_OF: [(&str, u64); 2] = [("bench-operations", 1), ("bench-vcpus", 8)];

/// Name of the figure: bytes of EL2's heap for a VM of so many vCPUs.
pub fn heap_of(vcpus: u64) -> String {
    format!("memory: heap of a VM with {vcpus} vCPU{}", if vcpus == 1 { "" } else { "s" })
}

/// Other VMs beside the one that is measured.
const OTHERS: [usize; 6] = [0, 1, 3, 7, 15, 31];
/// Most CPUs of a machine: from here on the others share all but the first.
const MOST_CPUS: usize = 8;

/// What others do on the CPU of a VM that sleeps and wakes, and how that is called.
const NEIGHBOURS: [(&[&str], &str); 9] = [
    (&["spin"], "spin"),
    (&["spin", "spin"], "2 spin"),
    (&["spin", "spin", "spin"], "3 spin"),
    (&["attack=steal"], "steal"),
    (&["attack=nap"], "nap"),
    (&["attack=ready vm.cpus=2"], "SGI storm"),
    (&["attack=reset"], "resets"),
    (&["attack=flood"], "UART flood"),
    (&["attack=share"], "share storm"),
];

fn machine(cpus: u32) -> Machine {
    let extra = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"];
    Machine { cpus, extra: extra.map(str::to_owned).to_vec(), ..Machine::default() }
}

fn boots(images: &Artifacts) -> Result<Vec<Boot>> {
    let on_portcullis = |name: &str, suffix: &str, cpus: u32, vms: &[String]| {
        let modules = vms.iter().map(|words| Module {
            kernel: images.guest_stub.clone(),
            bootargs: format!("{words} vm.guard=enforce"),
            ..Module::default()
        });
        Boot {
            name: format!("bench-{name}"),
            suffix: suffix.to_owned(),
            machine: Machine {
                kernel: Some(images.hypervisor.clone()),
                modules: modules.collect(),
                ..machine(cpus)
            },
            plugin: Plugin::None,
        }
    };
    let on_floor = |kind: &str| Boot {
        name: format!("bench-floor-{kind}"),
        suffix: format!(", floor {kind}"),
        machine: Machine {
            kernel: Some(images.guest_stub.clone()),
            append: Some(format!("bench=floor floor={kind}")),
            ..machine(1)
        },
        plugin: Plugin::None,
    };
    let vm = |what: &str| format!("vm.name=measured bench={what}");
    let mut all = vec![
        on_portcullis("vcpus", "", 8, &[format!("{} vm.cpus=8", vm("vcpus"))]),
        on_portcullis("operations", "", 1, &[vm("operations")]),
        on_portcullis("pingpong", "", 2, &[format!("{} vm.cpus=2", vm("pingpong"))]),
        on_portcullis("growth", "", 1, &[format!("{} vm.pool=1024", vm("growth"))]),
        on_portcullis("dense", "", 1, &[format!("{} vm.pool={DENSE_POOL}", vm("dense"))]),
        on_portcullis("switch", "", 1, &[vm("switch"), "vm.name=other bench=switch".to_owned()]),
        on_floor("bare"),
        on_floor("full"),
    ];
    for (cpus, suffix) in [(1, ", one CPU"), (2, ", two CPUs")] {
        let served = "vm.forward=server:0xc000000+0x4000 vm.devices=server:rng vm.affinity=0";
        let server = format!("vm.name=server bench=serve vm.role=device vm.affinity={}", cpus - 1);
        let vms = [format!("{} {served}", vm("served")), server];
        all.push(on_portcullis(&format!("served-{cpus}"), suffix, cpus, &vms));
    }
    for others in OTHERS {
        let count = others + 1;
        let (own, shared) = if count > MOST_CPUS {
            (" vm.affinity=0", format!(" vm.affinity=1-{}", MOST_CPUS - 1))
        } else {
            ("", String::new())
        };
        let mut vms = vec![format!("{} vm.mem=16M{own}", vm("vms"))];
        vms.extend((0..others).map(|n| format!("vm.name=quiet{n} vm.mem=16M{shared} bench=quiet")));
        all.push(on_portcullis(
            &format!("vms-{count}"),
            &format!(" with {count} VM{}", if count == 1 { "" } else { "s" }),
            count.min(MOST_CPUS) as u32,
            &vms,
        ));
    }
    for (words, neighbours) in NEIGHBOURS {
        for (priority, class) in [(" vm.priority=24", "higher"), ("", "equal")] {
            let mut vms = vec![format!("{} vm.mem=4M{priority}", vm("wakes"))];
            let others = words.iter().enumerate();
            vms.extend(others.map(|(n, words)| format!("vm.name=busy{n} vm.mem=4M {words}")));
            let name = format!("wakes-{class}-{}", neighbours.replace(' ', "-"));
            all.push(on_portcullis(&name, &format!(", {class}, {neighbours}"), 1, &vms));
        }
    }
    let plugin = sections::build()?;
    let flash = format!("{} vm.flash=0x4000000+16M", vm("sections"));
    let resetting = "vm.name=resetting attack=tables vm.mem=64M".to_owned();
    for (name, vms) in
        [("sections", vec![flash]), ("sections-beside", vec![vm("beside"), resetting])]
    {
        let mut boot = on_portcullis(name, "", 1, &vms);
        boot.machine.extra.extend(sections::arguments(&plugin, images, &boot.name)?);
        boot.plugin = Plugin::Sections;
        all.push(boot);
    }
    let mut start = vec![format!("{} vm.mem=128M", vm("start"))];
    start.extend((1..MOST_CPUS).map(|n| format!("vm.name=quiet{n} vm.mem=128M bench=quiet")));
    let mut boot = on_portcullis("start", "", MOST_CPUS as u32, &start);
    boot.machine.memory_mib = 2048;
    boot.machine.extra.extend(sections::arguments(&plugin, images, &boot.name)?);
    boot.plugin = Plugin::Boot;
    all.push(boot);
    Ok(all)
}

/// Boots all of them, two at a time: what else runs on the host changes nothing.
pub fn all(images: &Artifacts) -> Result<Figures> {
    let boots = boots(images)?;
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Ok(Figures::new()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(boot) = boots.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = measure(boot);
                    let Ok(mut all) = results.lock() else { return };
                    match (&mut *all, found) {
                        (Ok(all), Ok(found)) => all.extend(found),
                        (Ok(_), Err(error)) => *all = Err(error),
                        (Err(_), _) => {}
                    }
                }
            });
        }
    });
    results.into_inner().map_err(|_| anyhow!("a benchmark's thread has panicked"))?
}

fn measure(boot: &Boot) -> Result<Figures> {
    let limits = Limits { total: Duration::from_secs(300), silence: Duration::from_secs(200) };
    let mut session = Session::start(&boot.machine, &boot.name, limits, false)?;
    // Quiet VMs never end.
    session.wait_for("bench: done").with_context(|| boot.name.clone())?;
    let mut figures = read(session.lines(), &boot.suffix).with_context(|| boot.name.clone())?;
    if let Some(vcpus) = HEAP_OF.iter().find(|(name, _)| boot.name == *name).map(|(_, n)| n) {
        let heap = said(session.lines(), "more free, ")
            .context("the boot log does not say what a VM takes")?;
        figures.insert(heap_of(*vcpus), Figure::exact(heap));
    }
    match boot.plugin {
        Plugin::None => {}
        Plugin::Sections => figures.extend(sections::figures(&boot.name, session.lines())?),
        Plugin::Boot => {
            let most = sections::boot(&boot.name, boot.machine.cpus as usize)?;
            figures.insert("boot, most on one CPU of eight".into(), Figure::exact(most));
        }
    }
    let entered = figures.remove(&format!("entered at{}", boot.suffix));
    if boot.name == "bench-operations" {
        let entered = entered.context("the guest does not say when it was entered")?.median / 100;
        let loading = said(session.lines(), "loaded in ")
            .context("the boot log does not say how long loading took")?
            * 1000;
        let rest = entered.checked_sub(loading).context("loading took longer than all")?;
        figures.insert("boot, VM's memory zeroed and images copied".into(), Figure::exact(loading));
        figures.insert("boot, all else".into(), Figure::exact(rest));
    }
    Ok(figures)
}

/// Lines `bench;NAME;MEDIAN;MIN;MAX`, which with several VMs have the VM's name in front.
fn read(lines: &[String], suffix: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    for line in lines {
        if line.contains("FAIL") || line.contains("[hyp] error") {
            bail!(line.clone());
        }
        let Some((_, rest)) = line.split_once("bench;") else { continue };
        let fields: Vec<&str> = rest.trim_end().split(';').collect();
        let [name, median, min, max] = fields[..] else {
            bail!("no figure: {line}");
        };
        let number = |text: &str| text.parse().with_context(|| line.clone());
        let figure = Figure { median: number(median)?, min: number(min)?, max: number(max)? };
        // Two VMs that do the same: the first one to end counts.
        figures.entry(format!("{name}{suffix}")).or_insert(figure);
    }
    if figures.is_empty() {
        bail!("it has no figures");
    }
    Ok(figures)
}

/// The number behind `words` in the boot log, where they occur first.
fn said(lines: &[String], words: &str) -> Option<u64> {
    lines.iter().find_map(|line| line.split_once(words)?.1.split(' ').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_any_vms_lines() {
        let lines =
            ["[hyp] up", "bench;MAP;15800;15800;15812", "[a] bench;MAP;1;2;3", "bench;a, b;1;0;2"];
        let figures = read(&lines.map(str::to_owned), " x").unwrap();
        assert_eq!(figures["MAP x"], Figure { median: 15_800, min: 15_800, max: 15_812 });
        assert_eq!(figures["a, b x"], Figure { median: 1, min: 0, max: 2 });
        assert_eq!(figures.len(), 2);
    }

    #[test]
    fn a_failure_or_half_a_line_is_no_result() {
        assert!(read(&["FAIL bench: no guard".to_owned()], "").is_err());
        assert!(read(&["bench;MAP;1;2".to_owned()], "").is_err());
        assert!(read(&["bench: done".to_owned()], "").is_err());
    }

    #[test]
    fn what_the_boot_log_says_is_found() {
        let line = "[hyp] a: 128 MiB of RAM in 3 pieces; 163 table pages, 160 more free, 9000 bytes of heap; \
                    loaded in 6021 us"
            .to_owned();
        assert_eq!(said(std::slice::from_ref(&line), "loaded in "), Some(6021));
        assert_eq!(said(&[line], "more free, "), Some(9000));
        assert_eq!(said(&["[hyp] up".to_owned()], "loaded in "), None);
    }
}
