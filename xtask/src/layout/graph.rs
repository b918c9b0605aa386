// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which file imports which, and the cycles among them.

use std::collections::BTreeSet;

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use super::module::{Module, ModuleId, Tree};

/// How many re-exports a path may go through.
const MAX_HOPS: usize = 16;

/// One file needs another; numbers of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The file that imports.
    pub from: usize,
    /// The file that defines what is imported.
    pub to: usize,
}

impl Import {
    /// The import, in words.
    pub fn shown(&self, tree: &Tree) -> String {
        format!("{} imports {}", tree.file(self.from), tree.file(self.to))
    }
}

/// The imports of a crate.
#[derive(Debug)]
pub struct Graph {
    imports: Vec<Import>,
}

impl Graph {
    /// The imports between the files of `tree`. A path that goes through re-exports leads to the file that defines
    /// the item; a re-export itself is no import, and neither is the name of a module without an item of it.
    pub fn of(tree: &Tree) -> Self {
        let mut imports = BTreeSet::new();
        for (id, module) in tree.modules() {
            let used = module.names.uses.iter().filter(|u| !u.public).map(|u| &u.path);
            for path in used.chain(&module.names.paths) {
                if let Some(file) = defining_file(tree, id, path)
                    && file != module.file
                {
                    imports.insert(Import { from: module.file, to: file });
                }
            }
        }
        Self { imports: imports.into_iter().collect() }
    }

    /// All imports, in order.
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// Groups of files that import each other, directly or through others.
    pub fn cycles(&self, tree: &Tree) -> Vec<Vec<String>> {
        let edges = self
            .imports
            .iter()
            .filter_map(|i| Some((u32::try_from(i.from).ok()?, u32::try_from(i.to).ok()?)));
        let graph = DiGraph::<(), ()>::from_edges(edges);
        let groups = tarjan_scc(&graph).into_iter().filter(|g| g.len() > 1);
        groups.map(|g| g.into_iter().map(|f| tree.file(f.index())).collect()).collect()
    }
}

/// Where a path leads: a module of the crate, and whether an item of it is named.
#[derive(Debug, Clone, Copy)]
enum Place {
    Module(ModuleId),
    Item(ModuleId),
}

/// The file that defines what `path` names in module `here`; `None` where that is no item of this crate.
fn defining_file(tree: &Tree, here: ModuleId, path: &[String]) -> Option<usize> {
    match resolve(tree, here, path, MAX_HOPS)? {
        Place::Item(module) => tree.module(module).map(|m| m.file),
        Place::Module(_) => None,
    }
}

fn resolve(tree: &Tree, here: ModuleId, path: &[String], hops: usize) -> Option<Place> {
    let hops = hops.checked_sub(1)?;
    let (first, rest) = path.split_first()?;
    let module = tree.module(here)?;
    let start = match first.as_str() {
        "crate" => 0,
        "self" => here,
        "super" => module.parent,
        name => {
            if let Some(child) = module.children.get(name) {
                *child
            } else {
                // A name that a `use` of this module brings in.
                let bound = module.names.uses.iter().find(|u| u.name.as_deref() == Some(name));
                let bound = bound.filter(|u| u.path.as_slice() != path)?;
                let whole: Vec<String> = bound.path.iter().chain(rest).cloned().collect();
                return resolve(tree, here, &whole, hops);
            }
        }
    };
    walk(tree, start, rest, hops)
}

fn walk(tree: &Tree, start: ModuleId, path: &[String], hops: usize) -> Option<Place> {
    let Some((name, rest)) = path.split_first() else { return Some(Place::Module(start)) };
    let module = tree.module(start)?;
    if name == "super" {
        return walk(tree, module.parent, rest, hops);
    }
    if let Some(child) = module.children.get(name) {
        return walk(tree, *child, rest, hops);
    }
    if module.names.items.contains(name) {
        return Some(Place::Item(start));
    }
    reexported(tree, start, module, name, rest, hops).or(Some(Place::Item(start)))
}

fn reexported(
    tree: &Tree,
    start: ModuleId,
    module: &Module,
    name: &str,
    rest: &[String],
    hops: usize,
) -> Option<Place> {
    let named = module.names.uses.iter().find(|u| u.name.as_deref() == Some(name));
    if let Some(named) = named {
        let whole: Vec<String> = named.path.iter().chain(rest).cloned().collect();
        return resolve(tree, start, &whole, hops);
    }
    for glob in module.names.uses.iter().filter(|u| u.name.is_none()) {
        let Some(Place::Module(target)) = resolve(tree, start, &glob.path, hops) else { continue };
        let inner = tree.module(target)?;
        if inner.names.items.iter().any(|i| i == name) || inner.children.contains_key(name) {
            let whole: Vec<String> =
                std::iter::once(name.to_owned()).chain(rest.iter().cloned()).collect();
            return walk(tree, target, &whole, hops);
        }
    }
    None
}
