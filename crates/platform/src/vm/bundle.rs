// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs from a bundle: one device-tree blob with a node for each VM, which holds its images.
//!
//! The bundle stays where the boot loader put it, and VMs are loaded from there: nothing is copied out of it before.
//! docs/bundle.md describes it, docs/bindings/portcullis,bundle.yaml is its schema.

use crate::error::{Error, err};
use crate::fdt::{Node, Tree};
use crate::vm::description::{HostResources, VmDescription, check_place};
use crate::vm::options::{self, Options, Value};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Pa, Range};

/// What a bundle begins with, before its device tree. A boot loader that knows a tree by its magic (U-Boot) would take
/// a bare one for something of its own.
pub const BUNDLE_MAGIC: &[u8; 8] = b"PCBUNDLE";
const COMPATIBLE: &str = "portcullis,bundle";

/// The bundle that describes the VMs, with its name for messages; `None` where the modules do, or nothing does.
///
/// Exactly one may describe them. An initrd that is no bundle is ignored where another description exists.
pub(crate) fn find<'a>(
    host: &HostResources<'a>,
) -> Result<Option<(&'static str, Range<Pa>)>, Error> {
    let module = host.board.modules.first().map(|module| module.name.as_str());
    let alone = module.is_none() && host.appended.is_none();
    let initrd = host.board.initrd.filter(|range| alone || is_bundle(host, range));
    let initrd = initrd.map(|range| ("the initrd", range));
    let appended = host.appended.map(|range| ("the bundle behind the image", range));
    let found = appended.or(initrd);
    let names = module.into_iter().chain(appended.and(initrd).or(found).map(|it| it.0));
    let mut names = names.chain(initrd.and(appended).map(|it| it.0));
    if let (Some(one), Some(other)) = (names.next(), names.next()) {
        return Err(err!(
            Vm,
            "VMs are described twice, by {one} and by {other}; leave one of them out"
        ));
    }
    Ok(found)
}

fn is_bundle(host: &HostResources<'_>, range: &Range<Pa>) -> bool {
    // What lies over Portcullis itself, guard pages of its stacks included, is not looked at.
    let head = Range::<Pa>::new(range.start(), range.size().min(BUNDLE_MAGIC.len() as u64));
    let head = head.filter(|head| host.own.iter().all(|own| !own.range.overlaps(head)));
    head.and_then(host.read).is_some_and(|head| head == BUNDLE_MAGIC)
}

/// The VMs of the bundle at `range`.
#[inline(never)]
pub(crate) fn read(
    host: &HostResources<'_>,
    what: &str,
    range: Range<Pa>,
) -> Result<Vec<VmDescription>, Error> {
    check_place(host, what, range, &[], true)?;
    let who = |error: Error| Error::new(error.kind(), format_args!("{what} at {range}: {error}"));
    let blob = (host.read)(range)
        .ok_or_else(|| err!(Module, "{what} at {range} cannot be read; load it into RAM"))?;
    let tree = blob
        .strip_prefix(BUNDLE_MAGIC)
        .ok_or_else(|| err!(Module, "it is no bundle; make one with scripts/bundle"))
        .and_then(Tree::of_any_size)
        .map_err(who)?;
    let root = tree.root();
    if !root.is_compatible(&[COMPATIBLE]) {
        return Err(who(err!(
            Vm,
            "the root of its tree is not compatible with {COMPATIBLE}; give it that"
        )));
    }
    if let Some((name, _)) = root.properties().find(|(name, _)| *name != "compatible") {
        return Err(err!(
            Option,
            "bundle:/: unknown property '{name}'; the root has compatible and nodes, one for each VM"
        ));
    }
    let place = |image: &[u8]| {
        // Part of `blob`, which lies at `range`.
        let offset = image.as_ptr().addr().checked_sub(blob.as_ptr().addr())?;
        let start = range.start().raw().checked_add(offset as u64)?;
        Range::<Pa>::new(Pa::new(start), image.len() as u64)
    };
    let vms: Vec<VmDescription> =
        root.children().map(|node| vm(&node, &place)).collect::<Result<_, _>>()?;
    if vms.is_empty() {
        return Err(who(err!(Vm, "no guest: it has no node; give it one for each VM")));
    }
    Ok(vms)
}

/// The error about an unknown property.
fn unknown(path: &str, name: &str) -> Error {
    let options = options::OPTIONS.iter().filter_map(|word| word.strip_prefix("vm."));
    // The name is the node's.
    let options = options.filter(|word| *word != "name");
    let all: Vec<&str> = ["kernel", "ramdisk", "bootargs"].into_iter().chain(options).collect();
    options::unknown(path, "property", name, &all, "")
}

/// The VM that a node describes. `place` says where an image of the bundle lies.
#[inline(never)]
fn vm(node: &Node<'_>, place: &dyn Fn(&[u8]) -> Option<Range<Pa>>) -> Result<VmDescription, Error> {
    let path = format!("bundle:{}", node.path());
    if let Some(child) = node.children().next() {
        return Err(err!(
            Option,
            "{path}: unknown node '{}'; a VM has properties only",
            child.name()
        ));
    }
    let mut options = Options::default();
    // The node's name is the VM's.
    let mut seen = Vec::from(["name"]);
    options.take(&path, "vm.name", Value::Text(node.name()), &"its name")?;
    let image = |name: &str, value: &[u8]| {
        let image = place(value).filter(|image| image.size() != 0);
        image.ok_or_else(|| err!(Module, "{path}: {name} is empty; give a file that is not"))
    };
    let (mut kernel, mut ramdisk, mut bootargs) = (None, None, "");
    for (name, value) in node.properties() {
        options::once(&path, &mut seen, name)?;
        match name {
            "kernel" => kernel = Some(image(name, value)?),
            "ramdisk" => ramdisk = Some(image(name, value)?),
            "bootargs" => {
                let text = Value::Property(value).text();
                bootargs = text.ok_or_else(|| err!(Option, "{path}: bootargs is not a string"))?;
            }
            _ => {
                let word =
                    options::OPTIONS.iter().find(|word| word.strip_prefix("vm.") == Some(name));
                let word = *word.ok_or_else(|| unknown(&path, name))?;
                options.take(&path, word, Value::Property(value), &name)?;
            }
        }
    }
    if let Some(word) = options::split(bootargs).find(|word| options::is_ours(word)) {
        return Err(err!(
            Option,
            "{path}: bootargs has '{word}'; in a bundle it is a property of the node, without vm."
        ));
    }
    let kernel = kernel.ok_or_else(|| {
        err!(Module, "{path}: it has no kernel; give it one: kernel = /incbin/(\"FILE\");")
    })?;
    Ok(VmDescription { node: path, options, bootargs: String::from(bootargs), kernel, ramdisk })
}
