// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees for tests: edited fixtures, and blobs written token by token, as wrong as one likes.
#![allow(dead_code)]
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

pub mod drive;

use arch::{Ipa, Pa, Range};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use platform::{
    Board, Error, HEAD_BYTES, HostResources, Module, ModuleKind, ReservedRegion, VmConfig,
};
use std::sync::LazyLock;

pub const VIRT_G2: &[u8] = include_bytes!("../fixtures/virt-g2.dtb");
pub const VIRT_G3: &[u8] = include_bytes!("../fixtures/virt-g3.dtb");
pub const VIRT_SECURE: &[u8] = include_bytes!("../fixtures/virt-secure.dtb");
pub const VIRT_NUMA: &[u8] = include_bytes!("../fixtures/virt-numa.dtb");
pub const BOARD_SOC: &[u8] = include_bytes!("../fixtures/board-soc.dtb");
pub const ALL: [&[u8]; 5] = [VIRT_G2, VIRT_G3, VIRT_SECURE, VIRT_NUMA, BOARD_SOC];

pub fn pa(start: u64, size: u64) -> Range<Pa> {
    Range::<Pa>::new(Pa::new(start), size).unwrap()
}

pub fn ipa(start: u64, size: u64) -> Range<Ipa> {
    Range::<Ipa>::new(Ipa::new(start), size).unwrap()
}

/// A fixture for editing. dtoolkit refuses long names, so BOARD_SOC is not for this.
pub fn model(blob: &[u8]) -> DeviceTree {
    DeviceTree::from_fdt(&Fdt::new(blob).unwrap())
}

/// The fixture with one change.
pub fn edited(blob: &[u8], change: impl FnOnce(&mut DeviceTree)) -> Vec<u8> {
    let mut tree = model(blob);
    change(&mut tree);
    tree.to_dtb()
}

/// The fixture with one property set to these cells.
pub fn with_cells(blob: &[u8], path: &str, name: &str, cells: &[u32]) -> Vec<u8> {
    let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
    with_bytes(blob, path, name, bytes)
}

/// The fixture with one property set to these bytes.
pub fn with_bytes(blob: &[u8], path: &str, name: &str, bytes: Vec<u8>) -> Vec<u8> {
    edited(blob, |tree| {
        let node = tree.find_node_mut(path).unwrap();
        node.add_property(DeviceTreeProperty::new_unchecked(name, bytes));
    })
}

/// The fixture without one node.
pub fn without_node(blob: &[u8], parent: &str, name: &str) -> Vec<u8> {
    edited(blob, |tree| {
        tree.find_node_mut(parent).unwrap().remove_child(name).unwrap();
    })
}

/// The fixture without one property.
pub fn without_property(blob: &[u8], path: &str, name: &str) -> Vec<u8> {
    edited(blob, |tree| {
        tree.find_node_mut(path).unwrap().remove_property(name).unwrap();
    })
}

/// A node with cells as its properties.
pub fn node(name: &str, properties: &[(&str, &[u32])]) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    for (name, cells) in properties {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        node.add_property(DeviceTreeProperty::new_unchecked(*name, bytes));
    }
    node
}

/// The message of a tree that must be refused.
pub fn refusal(blob: &[u8]) -> String {
    match Board::from_tree(blob) {
        Ok(board) => panic!("accepted: {board:?}"),
        Err(error) => error.to_string(),
    }
}

/// A flattened tree written token by token; nothing is checked.
#[derive(Clone, Default)]
pub struct Raw {
    pub structure: Vec<u8>,
    pub strings: Vec<u8>,
    pub reservations: Vec<u8>,
}

impl Raw {
    pub fn token(mut self, token: u32) -> Self {
        self.structure.extend(token.to_be_bytes());
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.structure.extend(bytes);
        while !self.structure.len().is_multiple_of(4) {
            self.structure.push(0);
        }
        self
    }

    pub fn begin(self, name: &str) -> Self {
        self.token(1).bytes(&[name.as_bytes(), &[0]].concat())
    }

    pub fn end(self) -> Self {
        self.token(2)
    }

    pub fn nop(self) -> Self {
        self.token(4)
    }

    pub fn finish(self) -> Self {
        self.token(9)
    }

    pub fn prop(mut self, name: &str, value: &[u8]) -> Self {
        let at = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        self.prop_at(at, value.len() as u32, value)
    }

    pub fn prop_at(self, name: u32, len: u32, value: &[u8]) -> Self {
        self.token(3).token(len).token(name).bytes(value)
    }

    pub fn reserve(mut self, address: u64, size: u64) -> Self {
        self.reservations.extend(address.to_be_bytes());
        self.reservations.extend(size.to_be_bytes());
        self
    }

    /// The blob; the reservation block is ended unless `open`.
    pub fn blob(self) -> Vec<u8> {
        let mut raw = self.reserve(0, 0);
        let reservations = 40;
        let structure = reservations + raw.reservations.len() as u32;
        let strings = structure + raw.structure.len() as u32;
        let total = strings + raw.strings.len() as u32;
        let header = [
            0xd00d_feed,
            total,
            structure,
            strings,
            reservations,
            17,
            16,
            0,
            raw.strings.len() as u32,
            raw.structure.len() as u32,
        ];
        let mut blob: Vec<u8> = header.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
        blob.append(&mut raw.reservations);
        blob.append(&mut raw.structure);
        blob.append(&mut raw.strings);
        blob
    }
}

/// The blob with one word of its header replaced.
pub fn with_header(blob: &[u8], word: usize, value: u32) -> Vec<u8> {
    let mut blob = blob.to_vec();
    blob[word * 4..word * 4 + 4].copy_from_slice(&value.to_be_bytes());
    blob
}

/// A header of an arm64 Image.
pub fn image_header(text_offset: u64, image_size: u64, flags: u64) -> [u8; 64] {
    let mut header = [0; 64];
    header[8..16].copy_from_slice(&text_offset.to_le_bytes());
    header[16..24].copy_from_slice(&image_size.to_le_bytes());
    header[24..32].copy_from_slice(&flags.to_le_bytes());
    header[56..60].copy_from_slice(b"ARM\x64");
    header
}

/// A machine of 4 CPUs with 1 GiB at 0x40000000 and these modules; the image at 0x40080000.
pub struct Bench {
    pub board: Board,
    pub tree: Vec<u8>,
    pub own: Vec<(&'static str, Range<Pa>)>,
    pub cpus: usize,
    pub pa_bits: u8,
    pub headers: Vec<(u64, Vec<u8>)>,
    /// Where the bundle is behind the image.
    pub appended: Option<Range<Pa>>,
    /// A bundle's bytes, and where they are.
    pub bundle: Option<(u64, Vec<u8>)>,
}

impl Bench {
    pub fn new() -> Self {
        // Read once: property tests make many of these.
        static BOARD: LazyLock<Board> = LazyLock::new(|| Board::from_tree(VIRT_G3).unwrap());
        let mut board = BOARD.clone();
        board.ram = vec![pa(0x4000_0000, 1 << 30)];
        board.modules.clear();
        let own = vec![
            ("Portcullis's image", pa(0x4008_0000, 0x20_0000)),
            ("the device tree", pa(0x4800_0000, 0x10_0000)),
        ];
        Self {
            board,
            tree: VIRT_G3.into(),
            own,
            cpus: 4,
            pa_bits: 44,
            headers: Vec::new(),
            appended: None,
            bundle: None,
        }
    }

    pub fn module(mut self, kind: ModuleKind, start: u64, size: u64, bootargs: &str) -> Self {
        let module = Module {
            name: format!("/chosen/module@{start:#x}"),
            kind,
            range: pa(start, size),
            bootargs: bootargs.into(),
        };
        self.board.modules.push(module);
        // As Board::from_tree leaves them.
        self.board.modules.sort_by_key(|module| (module.range.start(), module.range.size()));
        self
    }

    pub fn kernel(self, start: u64, size: u64, bootargs: &str) -> Self {
        self.module(ModuleKind::Kernel, start, size, bootargs)
    }

    pub fn ramdisk(self, start: u64, size: u64) -> Self {
        self.module(ModuleKind::Ramdisk, start, size, "")
    }

    /// Bytes that lie at the start of the module at `start`; zeros follow them.
    pub fn header(self, start: u64, header: [u8; 64]) -> Self {
        self.file(start, &header)
    }

    /// The same for any number of bytes.
    pub fn file(mut self, start: u64, bytes: &[u8]) -> Self {
        let size = bytes.len().max(HEAD_BYTES);
        let mut whole = bytes.to_vec();
        whole.resize(size, 0);
        self.headers.push((start, whole));
        self
    }

    /// These bytes as the initrd at `start`.
    pub fn initrd(mut self, start: u64, bytes: Vec<u8>) -> Self {
        self.board.initrd = Some(pa(start, bytes.len() as u64));
        self.bundle = Some((start, bytes));
        self
    }

    pub fn vms(&self) -> Result<Vec<VmConfig>, Error> {
        let zeros = vec![0; HEAD_BYTES];
        let read = |range: Range<Pa>| {
            if let Some((start, bytes)) = &self.bundle
                && let Some(offset) = range.start().raw().checked_sub(*start)
                && let Some(rest) = bytes.get(offset as usize..)
            {
                return rest.get(..range.size() as usize);
            }
            let found = self.headers.iter().find(|(start, _)| *start == range.start().raw());
            found.map_or(&zeros, |(_, bytes)| bytes).get(..range.size() as usize)
        };
        let own: Vec<ReservedRegion<'_>> =
            self.own.iter().map(|(name, range)| ReservedRegion { name, range: *range }).collect();
        platform::vms(&HostResources {
            board: &self.board,
            tree: &self.tree,
            own: &own,
            appended: self.appended,
            cpus: self.cpus,
            pa_bits: self.pa_bits,
            read: &read,
        })
    }

    /// The message of VMs that must be refused.
    pub fn refusal(&self) -> String {
        match self.vms() {
            Ok(vms) => panic!("accepted: {vms:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// The only VM.
    pub fn vm(&self) -> VmConfig {
        let mut vms = self.vms().unwrap();
        assert_eq!(vms.len(), 1);
        vms.remove(0)
    }
}

/// One kernel of 4 KiB with these bootargs.
pub fn one(bootargs: &str) -> Bench {
    Bench::new().kernel(0x5000_0000, 4096, bootargs)
}
