// SPDX-License-Identifier: MIT OR Apache-2.0
//! A: arguments of hypercalls. Every call answers what docs/abi.md says, to the last register, and one
//! that fails changes nothing.

use mmio_guard::{Call, abi};

use crate::guard::{self, State, UNKNOWN, hole};
use crate::hvc::hvc;
use crate::machine::canary;
use crate::verdict::Verdict;
use crate::{features, image_layout, probe, tree};

tests! {
    a00_services: "A9", "", "" => services;
    a00_services_series: "A9", "vm.dialect=series", "" => services;
    a01_map_unaligned: "A1", "", "" => map_unaligned;
    a01_map_unaligned_series: "A1", "vm.dialect=series", "" => map_unaligned;
    a02_map_beyond_ipa: "A2", "", "" => map_beyond;
    a02_map_beyond_ipa_series: "A2", "vm.dialect=series", "" => map_beyond;
    a02_map_beyond_ipa_32: "A2", "vm.ipa=32", "" => map_beyond;
    a02_map_beyond_ipa_36: "A2", "vm.ipa=36", "" => map_beyond;
    a08_garbage_arguments: "A8", "", "" => garbage_arguments;
    a08_garbage_arguments_series: "A8", "vm.dialect=series", "" => garbage_arguments_series;
    a16_info: "A16", "", "" => info;
    a16_info_series: "A16", "vm.dialect=series", "" => info_series;
    a17_map_ram: "A17", "", "" => map_ram;
    a17_map_ram_series: "A17", "vm.dialect=series", "" => map_ram;
    a18_map_devices: "A18", "", "" => map_devices;
    a18_map_devices_series: "A18", "vm.dialect=series", "" => map_devices;
    a19_map_twice: "A19", "", "" => map_twice;
    a19_map_twice_series: "A19", "vm.dialect=series", "" => map_twice;
    a20_unmap_never_mapped: "A20", "", "" => unmap_never_mapped;
    a20_unmap_never_mapped_series: "A20", "vm.dialect=series", "" => unmap_never_mapped;
    a20_unmap_unaligned: "A20", "", "" => unmap_unaligned;
    a20_unmap_unaligned_series: "A20", "vm.dialect=series", "" => unmap_unaligned;
    a21_share_and_guard: "A21,C12", "", "" => share_and_guard;
    a21_share_ranges: "A21,C12", "", "" => share_ranges;
    a21_relinquish: "A21", "", "" => relinquish;
    a23_policy_off: "A9,A16", "vm.guard=off", "" => policy_off;
    a23_policy_off_series: "A9,A16", "vm.guard=off vm.dialect=series", "" => policy_off;
    a24_attribute_hint: "A8", "", "" => attribute_hint;
    a25_allow_list: "A2,A18", "vm.allow=0x09000000+0x1000:0x08000000+0x1000000:0x10000000+0x2000", "" => allow_list;
    a26_query_and_counters: "A9", "", "" => query_and_counters;
}

/// UID and features, in the form that clients compare.
fn services() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    let uid = hvc(0x8600_ff01, [!0; 3]);
    equal!(uid, [0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d], "CALL_UID");
    let map = if guard::series() { 0x3d } else { 0xffd };
    equal!(hvc(0x8600_0000, [!0; 3]), [map, 0, 0, 0], "FEATURES");
    equal!(hvc(0x8000_0000, [0; 3])[0], 0x1_0001, "SMCCC_VERSION");
    Ok(())
}

fn map_unaligned() -> Verdict {
    guard::activate()?;
    for offset in [1, 8, 0x800, 4095] {
        equal!(guard::map(hole(0) + offset), guard::refused(), "MAP at +{offset}");
        equal!(guard::query(hole(0)), State::Undeclared, "page after MAP at +{offset}");
        probe::load(hole(0)).refused(hole(0))?;
    }
    if !guard::series() {
        equal!(guard::range_map(hole(0) + 8, 2), guard::refused(), "RGUARD_MAP");
        equal!(guard::range_unmap(hole(0) + 8, 2), guard::refused(), "RGUARD_UNMAP");
        equal!(guard::query(hole(0)), State::Undeclared, "page after RGUARD_MAP");
    }
    Ok(())
}

/// The last page of the IPA space is one like any other; the next and all others beyond are refused.
fn map_beyond() -> Verdict {
    guard::activate()?;
    let end = 1_u64 << guard::ipa_bits();
    equal!(end, 1 << features::pa_bits(), "IPA size against ID_AA64MMFR0_EL1.PARange");
    equal!(guard::map(end - 4096), guard::done(), "MAP of the last page");
    equal!(guard::unmap(end - 4096), guard::done(), "UNMAP of the last page");
    let before = guard::counters();
    for ipa in [end, end + 4096, end << 1, end << 4, 1 << 52, 1 << 63, u64::MAX - 4095] {
        equal!(guard::map(ipa), guard::refused(), "MAP of {ipa:#x}");
        equal!(guard::query(ipa), State::Beyond, "query of {ipa:#x}");
        // An address must not be cut: what it would alias must stay as it is.
        equal!(guard::query(ipa & (end - 1)), State::Undeclared, "query of its alias");
        let answer = guard::unmap(ipa);
        check!(
            answer == guard::refused() || !guard::series() && answer == guard::done(),
            "UNMAP of {ipa:#x}: {answer:x?}"
        );
    }
    equal!(guard::counters().declared, before.declared, "declared pages");
    Ok(())
}

/// MAP ignores x2 and x3 (old clients leave garbage there); the ranges are strict.
fn garbage_arguments() -> Verdict {
    guard::activate()?;
    let map = u64::from(abi::pkvm::MAP);
    equal!(hvc(map, [hole(4), !0, 0xdead_beef]), guard::done(), "MAP with garbage");
    equal!(guard::query(hole(4)), State::Declared, "the page");
    let unmap = u64::from(abi::pkvm::UNMAP);
    equal!(hvc(unmap, [hole(4), !0, 0xdead_beef]), guard::done(), "UNMAP with garbage");
    equal!(hvc(u64::from(abi::pkvm::ENROLL), [!0; 3]), [0; 4], "ENROLL with garbage");
    for x3 in [1, 1 << 31, 1 << 63, u64::MAX] {
        for id in [abi::pkvm::RANGE_MAP, abi::pkvm::RANGE_UNMAP] {
            equal!(hvc(id.into(), [hole(4), 1, x3]), guard::refused(), "{id:#x} with x3 = {x3:#x}");
        }
    }
    equal!(guard::query(hole(4)), State::Undeclared, "the page");
    Ok(())
}

fn garbage_arguments_series() -> Verdict {
    guard::activate()?;
    equal!(hvc(u64::from(abi::series::INFO), [!0; 3])[0], 4096, "INFO with garbage");
    equal!(hvc(u64::from(abi::series::ENROLL), [!0; 3]), [0; 4], "ENROLL with garbage");
    // What Linux passes: the whole protection word of a device mapping in x2.
    let map = hvc(u64::from(abi::series::MAP), [hole(4), 0x0068_0000_0000_0713, !0]);
    equal!(map, guard::done(), "MAP with a descriptor in x2");
    equal!(guard::query(hole(4)), State::Declared, "the page");
    let unmap = hvc(u64::from(abi::series::UNMAP), [hole(4), !0, !0]);
    equal!(unmap, guard::done(), "UNMAP with garbage");
    Ok(())
}

fn info() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    let ids = [u64::from(abi::pkvm::MEMINFO), u64::from(abi::pkvm::INFO)];
    for id in ids {
        equal!(hvc(id, [0; 3]), [4096, 1, 0, 0], "{id:#x}");
    }
    guard::activate()?;
    for id in ids {
        equal!(hvc(id, [0; 3]), [4096, 1, 0, 0], "{id:#x} after ENROLL");
        for args in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1 << 63]] {
            equal!(hvc(id, args), guard::refused(), "{id:#x} with {args:x?}");
        }
    }
    Ok(())
}

fn info_series() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    let id = u64::from(abi::series::INFO);
    equal!(hvc(id, [0; 3]), [4096, 0, 0, 0], "INFO");
    guard::activate()?;
    for args in [[0; 3], [1, 0, 0], [!0, !0, !0]] {
        equal!(hvc(id, args), [4096, 0, 0, 0], "INFO after ENROLL with {args:x?}");
    }
    Ok(())
}

/// RAM cannot be declared, and stays what it is.
fn map_ram() -> Verdict {
    guard::activate()?;
    let (base, size) = tree::get().ram;
    let own = image_layout::footprint();
    static WORD: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(7);
    WORD.store(0x1234_5678_9abc_def0, core::sync::atomic::Ordering::Relaxed);
    let word = &raw const WORD as u64;
    let before = guard::counters();
    let middle = (base + size / 2) & !0xfff;
    for ipa in [base, own.start, word & !0xfff, own.end, middle, base + size - 4096] {
        equal!(guard::map(ipa), guard::refused(), "MAP of RAM at {ipa:#x}");
        equal!(guard::query(ipa), State::Ram, "RAM at {ipa:#x}");
        let answer = guard::unmap(ipa);
        let expected = if guard::series() { guard::refused() } else { guard::done() };
        equal!(answer, expected, "UNMAP of RAM at {ipa:#x}");
        equal!(guard::query(ipa), State::Ram, "RAM at {ipa:#x} after UNMAP");
        probe::access(probe::ldr_x, ipa).completed(&[0])?;
    }
    equal!(WORD.load(core::sync::atomic::Ordering::Relaxed), 0x1234_5678_9abc_def0, "the word");
    equal!(guard::counters().declared, before.declared, "declared pages");
    Ok(())
}

/// The devices that the hypervisor itself emulates are declared like any other, and work then.
fn map_devices() -> Verdict {
    guard::activate()?;
    let uart = tree::get().uart;
    equal!(guard::map(uart), guard::done(), "MAP of the UART");
    let id = probe::load(uart + 0xfe0).loaded()?;
    equal!(id as u32, 0x11, "PL011 PeriphID0");
    let (distributor, register) = match tree::get().gic {
        tree::Gic::V2(distributor, _) => (distributor, 0xfe8),
        tree::Gic::V3(distributor, ..) => (distributor, 0xffe8),
        tree::Gic::None => return Ok(()),
    };
    equal!(guard::map(distributor & !0xfff), guard::done(), "MAP of the distributor");
    equal!(guard::map((distributor + register) & !0xfff), guard::done(), "MAP of its ID page");
    let pidr2 = probe::load(distributor + register).loaded()?;
    let version = if matches!(tree::get().gic, tree::Gic::V2(..)) { 2 } else { 3 };
    equal!(pidr2 >> 4 & 0xf, version, "ArchRev in GICD_PIDR2");
    Ok(())
}

fn map_twice() -> Verdict {
    guard::activate()?;
    equal!(guard::map(hole(14)), guard::done(), "first MAP");
    let before = guard::counters();
    for _ in 0..3 {
        equal!(guard::map(hole(14)), guard::done(), "MAP again");
    }
    equal!(guard::counters(), before, "counters");
    // There is no count of how often: one UNMAP takes it away.
    equal!(guard::unmap(hole(14)), guard::done(), "UNMAP");
    equal!(guard::query(hole(14)), State::Undeclared, "the page");
    probe::load(hole(14)).refused(hole(14))
}

fn unmap_never_mapped() -> Verdict {
    guard::activate()?;
    let before = guard::counters();
    for ipa in [hole(15), 0, 0x3fff_f000, 0x3000_0000] {
        let expected = if guard::series() { guard::refused() } else { guard::done() };
        equal!(guard::unmap(ipa), expected, "UNMAP of {ipa:#x}");
    }
    equal!(guard::counters(), before, "counters");
    probe::load(hole(15)).refused(hole(15))
}

fn unmap_unaligned() -> Verdict {
    guard::activate()?;
    equal!(guard::map(hole(16)), guard::done(), "MAP");
    if guard::series() {
        equal!(guard::unmap(hole(16) + 4095), guard::done(), "UNMAP inside the page");
        equal!(guard::query(hole(16)), State::Undeclared, "the page");
        equal!(guard::unmap(hole(16) + 1), guard::refused(), "UNMAP again");
    } else {
        for offset in [1, 8, 2048, 4095] {
            equal!(guard::unmap(hole(16) + offset), guard::refused(), "UNMAP at +{offset}");
            equal!(guard::query(hole(16)), State::Declared, "the page");
        }
        equal!(guard::unmap(hole(16)), guard::done(), "UNMAP");
    }
    Ok(())
}

fn share(ipa: u64, granules: u64, x3: u64) -> [u64; 4] {
    hvc(u64::from(abi::pkvm::MEM_SHARE), [ipa, granules, x3])
}

fn unshare(ipa: u64, granules: u64, x3: u64) -> [u64; 4] {
    hvc(u64::from(abi::pkvm::MEM_UNSHARE), [ipa, granules, x3])
}

/// A page of RAM, for the tests of sharing.
#[repr(align(4096))]
struct Pages(core::cell::UnsafeCell<[u64; 4 * 512]>);
// SAFETY: one vCPU uses it at a time.
unsafe impl Sync for Pages {}
static PAGES: Pages = Pages(core::cell::UnsafeCell::new([0; 4 * 512]));

/// A page is RAM, shared or not, or declared: never two of these.
fn share_and_guard() -> Verdict {
    guard::activate()?;
    let page = PAGES.0.get() as u64;
    let refused = guard::refused();
    equal!(share(page, 0, 0), [0, 1, 0, 0], "MEM_SHARE");
    equal!(share(page, 0, 0), refused, "MEM_SHARE again");
    equal!(guard::map(page), refused, "MAP of a shared page");
    let relinquish = u64::from(abi::pkvm::RELINQUISH);
    equal!(hvc(relinquish, [page, 0, 0]), refused, "RELINQUISH of a shared page");
    equal!(unshare(page, 0, 0), [0, 1, 0, 0], "MEM_UNSHARE");
    equal!(unshare(page, 0, 0), refused, "MEM_UNSHARE again");

    equal!(guard::map(hole(24)), guard::done(), "MAP");
    equal!(share(hole(24), 0, 0), refused, "MEM_SHARE of a declared page");
    equal!(share(hole(25), 0, 0), refused, "MEM_SHARE of a hole");
    equal!(unshare(hole(24), 0, 0), refused, "MEM_UNSHARE of a declared page");
    equal!(guard::query(hole(24)), State::Declared, "the declared page");
    equal!(guard::unmap(hole(24)), guard::done(), "UNMAP");
    let (base, size) = tree::get().ram;
    for ipa in [page + 1, page + 4095, base + size, base - 4096, 1 << 63, u64::MAX - 4095] {
        equal!(share(ipa, 0, 0), refused, "MEM_SHARE of {ipa:#x}");
        equal!(unshare(ipa, 0, 0), refused, "MEM_UNSHARE of {ipa:#x}");
    }
    equal!(share(page, 0, 1), refused, "MEM_SHARE with x3");
    equal!(unshare(page, 0, 1 << 63), refused, "MEM_UNSHARE with x3");
    Ok(())
}

/// Shares of ranges: x2 granules, 0 meaning 1, and how many were done.
fn share_ranges() -> Verdict {
    guard::activate()?;
    let page = PAGES.0.get() as u64;
    equal!(share(page, 4, 0), [0, 4, 0, 0], "MEM_SHARE of four pages");
    equal!(unshare(page + 4096, 1, 0), [0, 1, 0, 0], "MEM_UNSHARE of the second");
    equal!(share(page, 1, 0), guard::refused(), "MEM_SHARE of the first again");
    equal!(unshare(page + 8192, 2, 0), [0, 2, 0, 0], "MEM_UNSHARE of the last two");
    equal!(unshare(page, 0, 0), [0, 1, 0, 0], "MEM_UNSHARE of the first");
    let (base, size) = tree::get().ram;
    for granules in [1 << 52, u64::MAX, 1 << 63, (1 << 51) + 1] {
        equal!(share(base, granules, 0), guard::refused(), "MEM_SHARE of {granules:#x} granules");
        equal!(unshare(base, granules, 0), guard::refused(), "MEM_UNSHARE of as many");
    }
    equal!(share(base, 1, 0), [0, 1, 0, 0], "the first page is not shared by that");
    equal!(unshare(base, 1, 0), [0, 1, 0, 0], "MEM_UNSHARE");
    // A range that runs out of RAM is done up to there.
    let last = base + size - 4096;
    equal!(share(last, 3, 0), [0, 1, 0, 0], "MEM_SHARE over the end of RAM");
    equal!(unshare(last, 3, 0), [0, 1, 0, 0], "MEM_UNSHARE over the end of RAM");
    Ok(())
}

/// A page that is given up is wiped and stays; nothing else is touched.
fn relinquish() -> Verdict {
    guard::activate()?;
    let id = u64::from(abi::pkvm::RELINQUISH);
    let pages = PAGES.0.get().cast::<u64>();
    for word in 0..4 * 512 {
        // SAFETY: within the pages, which only this vCPU uses.
        unsafe { pages.add(word).write_volatile(canary(word)) };
    }
    let page = pages as u64 + 4096;
    equal!(hvc(id, [page + 8, 0, 0]), guard::refused(), "RELINQUISH unaligned");
    equal!(hvc(id, [page, 0, 0]), [0; 4], "RELINQUISH");
    for word in 0..4 * 512 {
        // SAFETY: as above.
        let value = unsafe { pages.add(word).read_volatile() };
        let expected = if (512..1024).contains(&word) { 0 } else { canary(word) };
        check!(value == expected, "word {word}: {value:#x}, expected {expected:#x}");
    }
    equal!(hvc(id, [hole(26), 0, 0]), [0; 4], "RELINQUISH of no RAM");
    equal!(guard::query(hole(26)), State::Undeclared, "that page");
    equal!(guard::query(page), State::Ram, "the page");
    Ok(())
}

/// Without a guard there is no service but the UID and its map.
fn policy_off() -> Verdict {
    need!(tree::get().psci_hvc, "no hypervisor");
    let uid = hvc(0x8600_ff01, [0; 3]);
    equal!(uid, [0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d], "CALL_UID");
    equal!(hvc(0x8600_0000, [0; 3]), [1, 0, 0, 0], "FEATURES");
    for function in 2..=11 {
        equal!(hvc(0xc600_0000 + function, [0; 3]), UNKNOWN, "function {function}");
        equal!(hvc(0xc600_0000 + function, [hole(0), 1, 0]), UNKNOWN, "function {function}");
    }
    // Devices are reached without a word, holes abort.
    check!(probe::load(tree::get().uart + 0x18).exit.done(), "the UART");
    probe::load(hole(0)).refused(hole(0))?;
    let counters = guard::counters();
    equal!((counters.refused, counters.declared), (0, 0), "counters");
    Ok(())
}

/// x2 of MAP is remembered as a hint: AttrIndx in bits 4:2, and that byte of MAIR_EL1.
fn attribute_hint() -> Verdict {
    guard::activate()?;
    let mair = mrs!("mair_el1");
    for index in 0..8 {
        let x2 = 0x0060_0000_0000_0703 & !0x1c | index << 2;
        equal!(hvc(guard::id(Call::Map), [hole(28), x2, 0]), guard::done(), "MAP");
        let [x0, x1, hint, _] = hvc(u64::from(abi::own::QUERY_PAGE), [hole(28), 0, 0]);
        equal!([x0, x1], [0, 3], "query");
        equal!(hint >> 2 & 7, index, "AttrIndx");
        equal!(hint >> 8 & 0xff, mair >> (8 * index) & 0xff, "MAIR byte {index}");
        equal!(guard::unmap(hole(28)), guard::done(), "UNMAP");
    }
    Ok(())
}

/// `vm.allow`: what the owner of the VM does not allow cannot be declared.
fn allow_list() -> Verdict {
    guard::activate()?;
    equal!(guard::map(hole(0)), guard::done(), "MAP of the first allowed page");
    equal!(guard::map(hole(1)), guard::done(), "MAP of the last allowed page");
    for page in [2, 3, 100] {
        equal!(guard::map(hole(page)), guard::refused(), "MAP of page {page}");
        equal!(guard::query(hole(page)), State::Undeclared, "page {page}");
        probe::load(hole(page)).refused(hole(page))?;
    }
    equal!(guard::map(guard::HOLE - 4096), guard::refused(), "MAP of the page before");
    guard::unmap(hole(0));
    guard::unmap(hole(1));
    equal!(guard::range_map(hole(0), 4), [0, 2, 0, 0], "RGUARD_MAP beyond the list");
    equal!(guard::query(hole(2)), State::Undeclared, "page 2");
    equal!(guard::range_map(hole(2), 4), guard::refused(), "RGUARD_MAP outside of the list");
    Ok(())
}

/// Portcullis' own calls.
fn query_and_counters() -> Verdict {
    guard::activate()?;
    equal!(hvc(0xc600_f000, [0; 3]), [0x1_0000, 7, 0, 0], "VERSION");
    equal!(hvc(0xc600_f003, [0; 3]), UNKNOWN, "the next number");
    equal!(guard::query(tree::get().ram.0), State::Ram, "RAM");
    equal!(guard::query(hole(29)), State::Undeclared, "a hole");
    let before = guard::counters();
    equal!(guard::map(hole(29)), guard::done(), "MAP");
    equal!(guard::query(hole(29)), State::Declared, "the page");
    equal!(guard::query(hole(29) + 4095), State::Declared, "its last byte");
    equal!(guard::counters().declared, before.declared + 1, "declared pages");
    equal!(guard::unmap(hole(29)), guard::done(), "UNMAP");
    probe::load(hole(29)).refused(hole(29))?;
    equal!(guard::counters().declared, before.declared, "declared pages");
    equal!(guard::counters().refused, before.refused + 1, "refused accesses");
    let [_, _, _, first] = hvc(u64::from(abi::own::COUNTERS), [0; 3]);
    let [_, _, _, second] = hvc(u64::from(abi::own::COUNTERS), [0; 3]);
    equal!(second, first + 1, "hypercalls");
    Ok(())
}
