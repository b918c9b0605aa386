// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs from bundles: the same VMs as words make, images used where they lie, and whatever is wrong refused by name.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use arch::Ipa;
use mmio_guard::{Dialect, Policy};
use platform::{ErrorKind, OPTIONS, Reserved, VmConfig};
use proptest::prelude::*;
use std::collections::BTreeSet;
use support::*;

const AT: u64 = 0x5000_0000;
const MIB: u64 = 1 << 20;

/// Asserts that the message has all of `parts`.
#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{message}' does not say '{part}'");
    }
}

type Property = (&'static str, Vec<u8>);

fn cells(cells: &[u32]) -> Vec<u8> {
    cells.iter().flat_map(|cell| cell.to_be_bytes()).collect()
}

fn long(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn kernel() -> Property {
    ("kernel", vec![0xaa; 4096])
}

/// A bundle with these nodes.
fn bundle(nodes: &[(&str, &[Property])]) -> Vec<u8> {
    let mut raw = Raw::default().begin("").prop("compatible", b"portcullis,bundle\0");
    for (name, properties) in nodes {
        raw = raw.begin(name);
        for (name, value) in *properties {
            raw = raw.prop(name, value);
        }
        raw = raw.end();
    }
    file(raw.end().finish())
}

fn file(raw: Raw) -> Vec<u8> {
    [&b"PCBUNDLE"[..], &raw.blob()].concat()
}

/// A bundle of one VM `x` with a kernel and these properties.
fn one_of(properties: &[Property]) -> Bench {
    let all: Vec<Property> = [kernel()].into_iter().chain(properties.iter().cloned()).collect();
    Bench::new().initrd(AT, bundle(&[("x", &all)]))
}

#[test]
fn every_property_arrives_in_the_vm() {
    let bench = one_of(&[
        ("ramdisk", vec![0xbb; 1001]),
        ("bootargs", b"a  \"b c\"\0".to_vec()),
        ("mem", cells(&[4 << 20])),
        ("cpus", cells(&[3])),
        ("guard", b"off\0".to_vec()),
        ("dialect", b"series\0".to_vec()),
        ("allow", cells(&[0, 0x800_0000, 0, 0x1_0000, 0, 0x900_0000, 0, 0x1000])),
        ("preset", cells(&[0, 0x900_0000, 0, 0x1000])),
        ("rom", cells(&[0, 0x400_0000, 0, 0x4_0000])),
        ("load", long(0x400_0000)),
        ("dtb", cells(&[0x4030_0000])),
        ("ipa", cells(&[32])),
        ("pool", cells(&[3])),
        ("slice", cells(&[8000])),
        ("testdev", cells(&[0xb00_0000])),
        ("flash", cells(&[0, 0x20_0000, 0, 0x8_0000])),
        ("dev", b"/pl061@9030000:/pl031@9010000\0".to_vec()),
    ]);
    let vm = bench.vm();
    assert_eq!((vm.name.as_str(), vm.node.as_str()), ("x", "bundle:/x"));
    assert_eq!((vm.ram_size(), vm.vcpus(), vm.policy), (4 * MIB, 3, Policy::Off));
    assert_eq!((vm.dialect, vm.share.slice), (Dialect::Series, 8000));
    assert_eq!(vm.allow, [ipa(0x800_0000, 0x1_0000), ipa(0x900_0000, 0x1000)]);
    assert_eq!(vm.preset, [ipa(0x900_0000, 0x1000)]);
    assert_eq!(vm.roms, [ipa(0x400_0000, 0x4_0000)]);
    assert_eq!(vm.flash, [ipa(0x20_0000, 0x8_0000)]);
    let devices: Vec<&str> = vm.devices.iter().map(|device| device.node.as_str()).collect();
    assert_eq!(devices, ["/pl061@9030000", "/pl031@9010000"]);
    assert_eq!((vm.placement.entry, vm.placement.image_rom), (Ipa::new(0x400_0000), Some(0)));
    assert_eq!(vm.placement.tree, ipa(0x4030_0000, 0x1_0000));
    assert_eq!((vm.ipa_bits, vm.pool_pages), (32, 3));
    assert_eq!(vm.test_device, Some(Ipa::new(0xb00_0000)));
    assert_eq!(vm.bootargs, "a  \"b c\"");
    // Both images lie where the bundle has them.
    let blob = &bench.bundle.as_ref().unwrap().1;
    let at = |start: u64, size: u64| &blob[(start - AT) as usize..][..size as usize];
    assert_eq!(at(vm.kernel.start().raw(), vm.kernel.size()), [0xaa; 4096]);
    let ramdisk = vm.ramdisk.unwrap();
    assert_eq!(at(ramdisk.start().raw(), ramdisk.size()), [0xbb; 1001]);
}

#[test]
fn without_properties_the_defaults_are_those_of_words() {
    let vm = one_of(&[]).vm();
    let mut other = one("vm.name=x").vm();
    (other.kernel, other.node) = (vm.kernel, vm.node.clone());
    assert_eq!(vm, other);
}

#[test]
fn vms_come_in_the_order_of_their_nodes() {
    let small = [kernel(), ("mem", cells(&[4 << 20]))];
    let blob = bundle(&[("web", &small), ("db", &small), ("a", &small)]);
    let names: Vec<String> =
        Bench::new().initrd(AT, blob).vms().unwrap().into_iter().map(|vm| vm.name).collect();
    assert_eq!(names, ["web", "db", "a"]);
}

#[test]
fn thirty_three_vms_and_two_of_one_name_are_refused() {
    let small = [kernel(), ("mem", cells(&[4 << 20]))];
    let names: Vec<String> = (0..33).map(|number| format!("n{number}")).collect();
    let nodes: Vec<(&str, &[Property])> =
        names.iter().map(|name| (name.as_str(), &small[..])).collect();
    let message = Bench::new().initrd(AT, bundle(&nodes)).refusal();
    assert_says(&message, &["33 VMs, at most 32", "bundle:/n32"]);
    assert_eq!(Bench::new().initrd(AT, bundle(&nodes[..32])).vms().unwrap().len(), 32);
    let twins = bundle(&[("twin", &small), ("twin", &small)]);
    assert_says(&Bench::new().initrd(AT, twins).refusal(), &["named 'twin'", "bundle:/twin"]);
}

#[test]
fn the_image_header_is_read_in_place() {
    let mut image = image_header(0, 31 * MIB, 0).to_vec();
    image.resize(4096, 0);
    let big = [("kernel", image), ("mem", cells(&[32 << 20]))];
    let message = Bench::new().initrd(AT, bundle(&[("x", &big)])).refusal();
    assert_says(&message, &["VM 'x' (bundle:/x)", "0x1f00000 bytes at 0x40200000"]);
}

#[test]
fn a_bundle_may_be_appended_and_stand_above_4_gib_and_be_shorter_than_its_place() {
    let mut blob = bundle(&[("x", &[kernel()])]);
    blob.resize(blob.len() + 100, 0xff);
    let mut bench = Bench::new().initrd(AT, blob.clone());
    assert!(bench.vms().is_ok());
    bench.board.initrd = None;
    bench.appended = Some(pa(AT, blob.len() as u64));
    // It is part of the image.
    bench.own[0].1 = pa(0x4008_0000, AT + blob.len() as u64 - 0x4008_0000);
    bench.own[1].1 = pa(0x7000_0000, 0x1000);
    assert_eq!(bench.vm().name, "x");
    let mut high = Bench::new().initrd(0x1_0000_0000, blob);
    high.board.ram.push(pa(0x1_0000_0000, MIB));
    assert!(high.vm().kernel.start().raw() > 0x1_0000_0000);
}

#[test]
fn two_descriptions_are_refused_with_both() {
    let blob = bundle(&[("x", &[kernel()])]);
    let with_module = Bench::new().kernel(0x6000_0000, 4096, "").initrd(AT, blob.clone());
    assert_says(&with_module.refusal(), &["twice", "/chosen/module@0x60000000", "by the initrd"]);
    let mut both = Bench::new().initrd(AT, blob.clone());
    both.appended = Some(pa(0x4100_0000, 0x1000));
    assert_says(&both.refusal(), &["twice", "by the bundle behind the image", "by the initrd"]);
    let mut appended = Bench::new().kernel(0x6000_0000, 4096, "");
    appended.appended = Some(pa(AT, blob.len() as u64));
    appended.bundle = Some((AT, blob));
    let parts = ["twice", "/chosen/module@0x60000000", "by the bundle behind the image"];
    assert_says(&appended.refusal(), &parts);
}

#[test]
fn an_initrd_that_is_no_bundle_is_refused_unless_something_else_describes_vms() {
    let message = Bench::new().initrd(AT, vec![0x1f; 4096]).refusal();
    assert_says(&message, &["the initrd at 0x50000000+0x1000: it is no bundle", "scripts/bundle"]);
    assert_says(&Bench::new().initrd(AT, vec![1]).refusal(), &["the initrd at 0x50000000+0x1:"]);
    assert!(Bench::new().kernel(0x6000_0000, 4096, "").initrd(AT, vec![0x1f; 4096]).vms().is_ok());
    // Not even the tree of a machine.
    assert_says(&Bench::new().initrd(AT, VIRT_G3.to_vec()).refusal(), &["it is no bundle"]);
    let machine = [&b"PCBUNDLE"[..], VIRT_G3].concat();
    let message = Bench::new().initrd(AT, machine).refusal();
    assert_says(&message, &["not compatible with portcullis,bundle"]);
}

#[test]
fn a_bundle_over_anything_or_beyond_ram_is_refused_with_both_ranges() {
    let blob = bundle(&[("x", &[kernel()])]);
    let at = |start| Bench::new().initrd(start, blob.clone());
    assert_says(&at(0x4008_1000).refusal(), &["the initrd at 0x40081000", "Portcullis's image"]);
    assert_says(&at(0x480f_f000).refusal(), &["overlaps the device tree at 0x48000000+0x100000"]);
    assert_says(&at(0x8000_0000).refusal(), &["the initrd at 0x80000000", "not inside RAM"]);
    let reserved = |name: &str| {
        let mut bench = at(AT);
        bench.board.reserved = vec![Reserved { name: name.into(), range: pa(AT, 0x2000) }];
        bench
    };
    assert_says(&reserved("/reserved-memory/fw@0").refusal(), &["overlaps /reserved-memory/fw@0"]);
    // U-Boot enters what it loads into the reservation block.
    assert!(reserved("/memreserve/").vms().is_ok());
    // An appended one that is not all of the image's is no part of it.
    let mut bench = at(AT);
    bench.board.initrd = None;
    bench.appended = Some(pa(AT, blob.len() as u64));
    bench.own[1].1 = pa(AT + 0x100, 0x1000);
    assert_says(&bench.refusal(), &["the bundle behind the image", "overlaps the device tree"]);
}

#[test]
fn what_a_bundle_may_not_have_is_refused_by_node_and_property() {
    let refused = |properties: &[Property]| one_of(properties).refusal();
    let text = |text: &str| [text.as_bytes(), &[0]].concat();
    let cases: [(Property, &[&str]); 25] = [
        (("kernal", vec![1]), &["bundle:/x: unknown property 'kernal'; did you mean kernel?"]),
        (("memm", cells(&[0])), &["bundle:/x: unknown property 'memm'; did you mean mem?"]),
        (("vm.mem", cells(&[0])), &["bundle:/x: unknown property 'vm.mem'"]),
        (
            ("clocks", cells(&[0])),
            &["unknown property 'clocks'", "there are kernel ramdisk bootargs mem cpus"],
        ),
        (("phandle", cells(&[1])), &["bundle:/x: unknown property 'phandle'"]),
        (("name", text("y")), &["bundle:/x: 'name' is given twice"]),
        (("kernel", vec![0]), &["bundle:/x: 'kernel' is given twice"]),
        (("ramdisk", vec![]), &["bundle:/x: ramdisk is empty"]),
        (("bootargs", vec![b'a']), &["bundle:/x: bootargs is not a string"]),
        (("bootargs", text("quiet vm.mem=64M")), &["bootargs has 'vm.mem=64M'", "bundle:/x"]),
        (("bootargs", text("\"vm.cpus=2\"")), &["bootargs has '\"vm.cpus=2\"'"]),
        (("mem", cells(&[3 << 20])), &["bundle:/x: bad value in 'mem'", "multiple of 2M", "cells"]),
        (("mem", cells(&[0])), &["bad value in 'mem'"]),
        (("mem", text("64M")), &["bad value in 'mem'"]),
        (("mem", vec![]), &["bad value in 'mem'"]),
        (("mem", cells(&[0, 0, 64 << 20])), &["bad value in 'mem'"]),
        (("cpus", cells(&[9])), &["bad value in 'cpus'", "1 to 8"]),
        (("cpus", cells(&[1, 1])), &["bad value in 'cpus'"]),
        (("guard", cells(&[1])), &["bad value in 'guard'", "off, enrol or enforce"]),
        (("guard", b"enforce".to_vec()), &["bad value in 'guard'"]),
        (("dialect", text("linux")), &["bad value in 'dialect'", "pkvm or series"]),
        (("allow", cells(&[0, 0x900_0000, 0])), &["bad value in 'allow'", "two for its address"]),
        (("allow", vec![]), &["bad value in 'allow'"]),
        (("rom", cells(&[0, 0x4000, 0, 0x800])), &["bad value in 'rom'", "multiples of 4K"]),
        (("preset", cells(&[!0, !0xfff, 0, 0x2000])), &["bad value in 'preset'"]),
    ];
    for (property, parts) in cases {
        assert_says(&refused(&[property]), parts);
    }
    let many: Vec<u32> = (0..17).flat_map(|n| [0, n << 12, 0, 0x1000]).collect();
    assert_says(&refused(&[("allow", cells(&many))]), &["at most 16 ranges"]);
    let twice = [("mem", cells(&[2 << 20])), ("mem", cells(&[4 << 20]))];
    assert_says(&refused(&twice), &["bundle:/x: 'mem' is given twice"]);
    // What follows from properties is checked as what follows from words is.
    let over = [("preset", cells(&[0, 0x4000_0000, 0, 0x1000]))];
    assert_says(&refused(&over), &["VM 'x' (bundle:/x)", "vm.preset", "overlaps its RAM"]);
}

#[test]
fn nodes_that_are_no_vms_are_refused_by_name() {
    let refused = |raw: Raw| {
        let error = Bench::new().initrd(AT, file(raw)).vms().unwrap_err();
        error.to_string()
    };
    let root = || Raw::default().begin("").prop("compatible", b"portcullis,bundle\0");
    let vm = |name: &str| root().begin(name).prop("kernel", b"k");
    assert_says(&refused(root().end().finish()), &["the initrd at", "no guest"]);
    assert_says(&refused(root().begin("x").end().end().finish()), &["bundle:/x", "no kernel"]);
    let child = vm("x").begin("cpu").end().end().end().finish();
    assert_says(&refused(child), &["bundle:/x: unknown node 'cpu'"]);
    for name in ["hyp", "HYP", "web@1", "a,b", "a+b", "0123456789012345678901234567890x"] {
        let message = refused(vm(name).end().end().finish());
        assert_says(&message, &[&format!("bundle:/{name}: bad value in 'its name'")]);
    }
    let model = root().prop("model", b"x\0").begin("x").end().end().finish();
    assert_says(&refused(model), &["bundle:/: unknown property 'model'"]);
    let none = Raw::default().begin("").begin("x").end().end().finish();
    assert_says(&refused(none), &["not compatible with portcullis,bundle"]);
}

#[test]
fn truncation_at_each_byte_is_refused() {
    let blob = bundle(&[("x", &[("kernel", vec![1; 64]), ("mem", cells(&[4 << 20]))])]);
    assert!(Bench::new().initrd(AT, blob.clone()).vms().is_ok());
    for len in 0..blob.len() {
        let error = Bench::new().initrd(AT, blob[..len].to_vec()).vms().unwrap_err();
        let expected = if len < 8 { ErrorKind::Module } else { ErrorKind::Tree };
        assert_eq!(error.kind(), expected, "at {len}: {error}");
        if len < 48 {
            continue;
        }
        // The header says that it is all there.
        let blob = with_header(&blob[..len], 3, len as u32 - 8);
        let error = Bench::new().initrd(AT, blob).vms().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tree, "at {len}");
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let blob = bundle(&[("x", &[kernel()])]);
    for (word, values) in [
        (0, vec![0, 0xd00d_feee]),
        (1, vec![0, 39, blob.len() as u32 + 1, u32::MAX]),
        (2, vec![0, 1, blob.len() as u32, u32::MAX]),
        (3, vec![0, blob.len() as u32, u32::MAX]),
        (4, vec![0, 36, u32::MAX]),
        (5, vec![0, 16]),
        (6, vec![18]),
        (8, vec![u32::MAX]),
        (9, vec![0, u32::MAX]),
    ] {
        for value in values {
            // Behind the two words of the bundle's own magic.
            let blob = with_header(&blob, word + 2, value);
            let error = Bench::new().initrd(AT, blob).vms().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tree, "word {word} = {value:#x}: {error}");
            assert_says(error.message(), &["the initrd at 0x50000000"]);
        }
    }
}

/// A bundle holds images: the limit of a machine's tree is none of its own.
#[test]
fn a_bundle_may_be_larger_than_a_machines_tree() {
    let large = [("kernel", vec![0; platform::MAX_TREE_BYTES + 1])];
    assert!(Bench::new().initrd(AT, bundle(&[("x", &large)])).vms().is_ok());
}

/// Names of the properties that the schema gives a VM.
fn schema() -> BTreeSet<String> {
    let text = include_str!("../../../docs/bindings/portcullis,bundle.yaml");
    let vm = text.split("\npatternProperties:").nth(1).unwrap();
    let vm = vm.split("\n    required:").next().unwrap().split("\n    properties:").nth(1).unwrap();
    let names = vm.lines().filter_map(|line| line.strip_prefix("      "));
    names
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.strip_suffix(':'))
        .map(String::from)
        .collect()
}

#[test]
fn the_schema_has_what_a_bundle_may_have() {
    let words = OPTIONS.iter().map(|word| word.strip_prefix("vm.").unwrap());
    let expected: BTreeSet<String> = words
        .filter(|word| *word != "name")
        .chain(["kernel", "ramdisk", "bootargs"])
        .map(String::from)
        .collect();
    assert_eq!(schema(), expected);
}

/// A VM in both forms: a module's words, and a bundle's properties.
#[derive(Clone, Debug)]
struct Both {
    words: String,
    properties: Vec<Property>,
}

fn number(name: &'static str, values: impl Strategy<Value = u64> + 'static) -> BoxedStrategy<Both> {
    (values, any::<bool>())
        .prop_map(move |(value, wide)| Both {
            words: format!("vm.{name}={value:#x}"),
            properties: vec![(
                name,
                match u32::try_from(value) {
                    Ok(short) if !wide => cells(&[short]),
                    _ => long(value),
                },
            )],
        })
        .boxed()
}

fn text(name: &'static str, values: &'static [&str]) -> BoxedStrategy<Both> {
    prop::sample::select(values)
        .prop_map(move |value| Both {
            words: format!("vm.{name}={value}"),
            properties: vec![(name, [value.as_bytes(), &[0]].concat())],
        })
        .boxed()
}

fn ranges(name: &'static str) -> BoxedStrategy<Both> {
    let start = prop_oneof![
        (0_u64..0x5_0000).prop_map(|page| page << 12),
        any::<u64>(),
        Just(0x900_0000),
        Just(0x4000_0000),
    ];
    let size = prop_oneof![(0_u64..8).prop_map(|pages| pages << 12), any::<u64>()];
    prop::collection::vec((start, size), 1..18)
        .prop_map(move |ranges| Both {
            words: format!(
                "vm.{name}={}",
                ranges.iter().map(|(a, s)| format!("{a:#x}+{s:#x}")).collect::<Vec<_>>().join(":")
            ),
            properties: vec![(
                name,
                ranges.iter().flat_map(|(a, s)| [long(*a), long(*s)].concat()).collect(),
            )],
        })
        .boxed()
}

fn anything() -> impl Strategy<Value = Both> {
    let maybe = |one: BoxedStrategy<Both>| prop::option::weighted(0.4, one);
    let page = || prop_oneof![(0_u64..0x5_0000).prop_map(|page| page << 12), any::<u64>()];
    vec![
        maybe(number("mem", prop_oneof![(0_u64..300).prop_map(|n| n << 21), any::<u64>()])),
        maybe(number("cpus", 0_u64..10)),
        maybe(text("guard", &["off", "enrol", "enforce", "on", ""])),
        maybe(text("dialect", &["pkvm", "series", "PKVM"])),
        maybe(ranges("allow")),
        maybe(ranges("preset")),
        maybe(ranges("rom")),
        maybe(number("load", page())),
        maybe(number("dtb", page())),
        maybe(number("ipa", 30_u64..50)),
        maybe(number("pool", prop_oneof![0_u64..200, any::<u64>()])),
        maybe(number("testdev", page())),
        maybe(number("slice", 0_u64..200_000)),
        maybe(text("affinity", &["0", "1:0", "0-1", "9", "0-0:0", ""])),
        maybe(number("priority", 0_u64..40)),
        maybe(text("budget", &["100/1000", "900/1000", "1/1000", "100", ""])),
        maybe(text("oncrash", &["stop", "restart", "pause", "halt"])),
    ]
    .prop_map(|all| {
        let all = all.into_iter().flatten();
        all.fold(Both { words: "vm.name=x".into(), properties: vec![] }, |sum, one| Both {
            words: format!("{} {}", sum.words, one.words),
            properties: [sum.properties, one.properties].concat(),
        })
    })
}

proptest! {
    /// One way: what a bundle says is the VM that the same words make, or is refused as they are.
    #[test]
    fn properties_are_words(both in anything()) {
        let from_words = one(&both.words).vms();
        let from_bundle = one_of(&both.properties).vms();
        match (from_words, from_bundle) {
            (Ok(words), Ok(bundle)) => {
                let same = VmConfig {
                    kernel: words[0].kernel,
                    node: words[0].node.clone(),
                    ..bundle[0].clone()
                };
                prop_assert_eq!(&words[0], &same);
            }
            (Err(words), Err(bundle)) => prop_assert_eq!(words.kind(), bundle.kind()),
            (words, bundle) => prop_assert!(false, "{:?} but {:?}: {:?}", words, bundle, both),
        }
    }

    /// Damage of any kind: nothing panics, and the images of what is accepted lie inside the bundle.
    #[test]
    fn damaged_bundles_are_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>(), 0_u8..5), 1..8),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let vm = |mem: u32| [("kernel", vec![0; 48]), ("ramdisk", vec![0; 9]), ("mem", cells(&[mem])), ("bootargs", b"a\0".to_vec())];
        let mut blob = bundle(&[("a", &vm(4 << 20)), ("b", &vm(6 << 20))]);
        for (place, word, kind) in damage {
            let at = place.index(blob.len() / 4) * 4;
            let word = [word, word % 12, u32::MAX, (word % 512) & !3, 0][usize::from(kind)];
            blob[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        if let Some(cut) = cut {
            blob.truncate(cut.index(blob.len()));
        }
        let whole = pa(AT, blob.len() as u64);
        match Bench::new().initrd(AT, blob).vms() {
            Ok(vms) => for vm in vms {
                prop_assert!(whole.encloses(&vm.kernel) && vm.kernel.size() != 0);
                prop_assert!(vm.ramdisk.is_none_or(|ramdisk| whole.encloses(&ramdisk)));
            },
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.is_empty() && message.len() < 500);
                prop_assert!(!message.contains(char::is_control), "{:?}", message);
            }
        }
    }
}
