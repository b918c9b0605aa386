// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs everything that follows from an input, and checks what is promised of what is accepted.

use super::{Bench, VIRT_G3, pa};
use arch::{Pa, Range, guest_map};
use platform::{
    Board, GuestHardware, HEAD_BYTES, HostResources, ImageHeader, ImageKind, PeerConfig,
    ReservedRegion, StartMethod, TREE_SPACE, UART_SPI, VmConfig, guest_tree, vms,
};

/// A device tree, and what the modules in it say.
pub fn drive(blob: &[u8], head: &[u8; 64]) {
    let (console, board) = Board::with_console(blob);
    let board = match board {
        Ok(board) => board,
        Err(error) => {
            let message = error.to_string();
            assert!(!message.is_empty() && message.len() < 500);
            assert!(!message.contains(char::is_control), "{message:?}");
            return;
        }
    };
    assert_eq!(console, board.uart);
    assert!(!board.ram.is_empty() && !board.cpus.is_empty());
    for pair in board.ram.windows(2) {
        assert!(pair[0].end() < pair[1].start(), "sorted and joined");
    }
    assert!(board.ram.iter().all(|bank| bank.size() > 0 && bank.end().raw() <= 1 << 52));
    for (index, cpu) in board.cpus.iter().enumerate() {
        assert!(board.cpus[..index].iter().all(|other| other.mpidr != cpu.mpidr));
        if let StartMethod::SpinTable(release) = cpu.start {
            assert!(release.is_aligned(8));
        }
    }
    let own = [ReservedRegion { name: "the image", range: pa(0x4008_0000, 0x20_0000) }];
    let free = board.free_ram(&[own[0].range]);
    for range in &free {
        assert!(!range.overlaps(&own[0].range));
        assert!(board.reserved.iter().all(|reserved| !reserved.range.overlaps(range)));
        assert!(board.modules.iter().all(|module| !module.range.overlaps(range)));
    }
    let mut file = head.to_vec();
    file.resize(HEAD_BYTES, 0);
    let read = |range: Range<Pa>| file.get(..range.size() as usize);
    let machine = HostResources {
        board: &board,
        tree: blob,
        own: &own,
        appended: None,
        cpus: 4,
        pa_bits: 44,
        read: &read,
    };
    let Ok(configs) = vms(&machine) else { return };
    for (index, config) in configs.iter().enumerate() {
        assert!(configs[..index].iter().all(|other| other.name != config.name));
        assert!(board.ram.iter().any(|bank| bank.encloses(&config.kernel)));
        let seeds = board.seeds.for_guest(index, &config.name, 0);
        let tree = guest_tree(config, &GuestHardware::of(&board), seeds.as_ref()).unwrap();
        assert!(tree.len() as u64 <= TREE_SPACE);
    }
}

/// Nothing in a VM's address space overlaps, and no interrupt has two sources.
pub fn assert_no_conflict(vm: &VmConfig) {
    let map = vm.memory_map();
    for pair in map.regions().windows(2) {
        assert!(pair[0].range.end() <= pair[1].range.start(), "{}: {pair:?}", vm.name);
    }
    let end = 1_u64 << vm.ipa_bits;
    assert!(map.regions().iter().all(|region| region.range.end().raw() <= end), "{}", vm.name);
    let passed = vm.devices.iter().flat_map(|device| &device.interrupts).map(|one| one.intid);
    let transports = 0..vm.served.as_ref().map_or(0, |served| served.transports.len());
    let transports = transports.map(guest_map::transport_intid);
    let peers = vm.peers.iter().map(PeerConfig::intid);
    let mut intids: Vec<u32> =
        [UART_SPI + 32].into_iter().chain(passed).chain(transports).chain(peers).collect();
    intids.sort_unstable();
    assert!(intids.windows(2).all(|pair| pair[0] != pair[1]), "{}: {intids:?}", vm.name);
    assert!(
        intids.iter().all(|intid| (*intid as usize) < 32 + vm.spis()),
        "{}: {intids:?}",
        vm.name
    );
    if let Some(pool) = vm.served.as_ref().and_then(|served| served.share.pool()) {
        let place = &vm.placement;
        let placed =
            place.parts.iter().map(|part| part.to).chain(place.ramdisk).chain([place.tree]);
        assert!(vm.ram.encloses(&pool) && pool.end() == vm.ram.end());
        for range in placed {
            assert!(!range.overlaps(&pool), "{}: {range} in the pool {pool}", vm.name);
        }
    }
}

/// The boot arguments and headers of `bench`'s modules. Returns the trees of the VMs, if there are any.
pub fn try_words(bench: &Bench) -> Vec<Vec<u8>> {
    match bench.vms() {
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains(char::is_control), "{message:?}");
            Vec::new()
        }
        Ok(vms) => vms
            .iter()
            .map(|vm| {
                assert_no_conflict(vm);
                // Words begin where white space ends, outside quotes.
                if !vm.bootargs.contains('"') {
                    let mut left = vm.bootargs.split_ascii_whitespace();
                    assert!(left.all(|word| !word.starts_with("vm.")));
                }
                guest_tree(vm, &GuestHardware::of(&bench.board), None).unwrap()
            })
            .collect(),
    }
}

/// The header of an arm64 Image.
pub fn try_header(bytes: &[u8]) {
    if let Ok(Some(header)) = ImageHeader::parse(bytes) {
        assert!(bytes.len() >= 64 && header.flags & 1 == 0 && header.text_offset % 4 == 0);
        assert_eq!(ImageKind::of(bytes), ImageKind::Image);
    }
}

/// A file as the kernel of a VM: it is refused, or all that is copied out of it lies inside the file and in the VM's
/// memory, apart from all else.
pub fn try_image(bytes: &[u8], words: &str) {
    let bench =
        Bench::new().kernel(0x5000_0000, bytes.len() as u64, words).ramdisk(0x5800_0000, 0x1000);
    let bench = bench.file(0x5000_0000, bytes);
    match bench.vms() {
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains(char::is_control), "{message:?}");
        }
        Ok(vms) => {
            assert!(!matches!(ImageKind::of(bytes), ImageKind::Other(_)), "a container is taken");
            let vm = &vms[0];
            let place = &vm.placement;
            let homes = || vm.roms.iter().chain(&vm.flash).chain([&vm.ram]);
            for part in &place.parts {
                let end = part.offset.checked_add(part.to.size()).unwrap();
                assert!(end <= bytes.len() as u64, "bytes that the file has not");
                assert!(homes().any(|home| home.encloses(&part.to)), "outside the VM's memory");
                assert!(!part.to.overlaps(&place.tree), "over the tree");
                assert!(place.ramdisk.is_none_or(|ramdisk| !ramdisk.overlaps(&part.to)));
                assert!(place.image.encloses(&part.to));
            }
            assert!(place.image.contains(place.entry) && place.entry.is_aligned(4));
            assert!(vm.ram.encloses(&place.tree));
            assert!(
                place.ramdisk.is_none_or(|it| vm.ram.encloses(&it) && !it.overlaps(&place.tree))
            );
        }
    }
}

/// A bundle, passed as the initrd of QEMU's board; `blob` is what lies behind its magic.
pub fn try_bundle(blob: &[u8]) {
    let blob = [platform::BUNDLE_MAGIC, blob].concat();
    let mut bench = Bench::new();
    bench.board.modules.clear();
    let place = pa(0x6000_0000, blob.len() as u64);
    bench.board.initrd = Some(place);
    let read = |range: Range<Pa>| {
        let from = range.start().raw().checked_sub(place.start().raw())?;
        blob.get(from as usize..)?.get(..range.size() as usize)
    };
    let own = [ReservedRegion { name: "the image", range: pa(0x4008_0000, 0x20_0000) }];
    let machine = HostResources {
        board: &bench.board,
        tree: VIRT_G3,
        own: &own,
        appended: None,
        cpus: 4,
        pa_bits: 44,
        read: &read,
    };
    match vms(&machine) {
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains(char::is_control), "{message:?}");
        }
        Ok(configs) => {
            assert!(!configs.is_empty());
            for config in &configs {
                assert!(place.encloses(&config.kernel), "an image outside its bundle");
                guest_tree(config, &GuestHardware::of(&bench.board), None).unwrap();
            }
        }
    }
}
