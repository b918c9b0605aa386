// SPDX-License-Identifier: MIT OR Apache-2.0
//! The modules of a crate, read from its source files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::spanned::Spanned;
use syn::{Attribute, Item, ItemMod, Meta};

use super::paths::{self, Names};

/// Place of a module in its [`Tree`].
pub type ModuleId = usize;

/// One module: a file, or a `mod` block in one.
#[derive(Debug, Default)]
pub struct Module {
    /// Place of its file among the tree's files.
    pub file: usize,
    /// The module that declares it; the root has itself.
    pub parent: ModuleId,
    /// First part of its path below the crate, or the name of the root's file.
    pub folder: String,
    /// Modules declared in it.
    pub children: BTreeMap<String, ModuleId>,
    /// What it defines and names.
    pub names: Names,
}

/// A source file.
#[derive(Debug)]
struct File {
    path: PathBuf,
    lines: usize,
}

/// All modules of a crate. Module 0 is the root.
#[derive(Debug, Default)]
pub struct Tree {
    top: PathBuf,
    modules: Vec<Module>,
    files: Vec<File>,
}

impl Tree {
    /// Reads the crate with this root file, modules under `#[cfg(test)]` left out. Files are named as seen from `top`.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, a module without a file.
    pub fn read(top: &Path, root: &Path) -> Result<Self> {
        let mut tree = Self { top: top.to_owned(), ..Self::default() };
        let folder = root.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        tree.read_file(root, 0, folder)?;
        Ok(tree)
    }

    /// The module with this id.
    pub fn module(&self, id: ModuleId) -> Option<&Module> {
        self.modules.get(id)
    }

    /// All modules with their ids.
    pub fn modules(&self) -> impl Iterator<Item = (ModuleId, &Module)> {
        self.modules.iter().enumerate()
    }

    /// Names of all files.
    pub fn files(&self) -> impl Iterator<Item = String> {
        self.files.iter().map(|f| self.shown(&f.path))
    }

    /// Name of a file.
    pub fn file(&self, file: usize) -> String {
        self.files().nth(file).unwrap_or_default()
    }

    /// Folder below the crate's root of a file.
    pub fn folder(&self, file: usize) -> &str {
        self.modules.iter().find(|m| m.file == file).map_or("", |m| m.folder.as_str())
    }

    /// Files with more than `limit` lines, tests not counted.
    pub fn longer_than(&self, limit: usize) -> Vec<(String, usize)> {
        let long = self.files.iter().filter(|f| f.lines > limit);
        long.map(|f| (self.shown(&f.path), f.lines)).collect()
    }

    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.top).unwrap_or(path).display().to_string()
    }

    fn read_file(&mut self, path: &Path, parent: ModuleId, folder: String) -> Result<ModuleId> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let parsed = syn::parse_file(&text).with_context(|| path.display().to_string())?;
        let file = self.files.len();
        let tests: usize = parsed.items.iter().map(test_lines).sum();
        let lines = text.lines().count().saturating_sub(tests);
        self.files.push(File { path: path.to_owned(), lines });
        self.read_items(&parsed.items, file, parent, folder, path)
    }

    fn read_items(
        &mut self,
        items: &[Item],
        file: usize,
        parent: ModuleId,
        folder: String,
        path: &Path,
    ) -> Result<ModuleId> {
        let id = self.modules.len();
        self.modules.push(Module { file, parent, folder: folder.clone(), ..Module::default() });
        let mut read = Module { file, parent, folder: folder.clone(), ..Module::default() };
        for item in items {
            if is_test(attributes(item)) {
                continue;
            }
            let Item::Mod(module) = item else {
                paths::collect(item, &mut read.names);
                continue;
            };
            let name = module.ident.to_string();
            let below = if id == 0 { name.clone() } else { folder.clone() };
            let child = match &module.content {
                Some((_, items)) => self.read_items(items, file, id, below, path)?,
                None => self.read_file(&file_of(path, module)?, id, below)?,
            };
            read.children.insert(name, child);
        }
        if let Some(module) = self.modules.get_mut(id) {
            *module = read;
        }
        Ok(id)
    }
}

/// The file of `mod name;` in the file `path`.
fn file_of(path: &Path, module: &ItemMod) -> Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // `#[path]`, and the one that holds by default of `#[cfg_attr(..., path = "...")]`.
    for attribute in &module.attrs {
        let text = match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("path") => {
                paths::text(&pair.value).unwrap_or_default()
            }
            Meta::List(list) if list.path.is_ident("cfg_attr") => {
                let tokens = list.tokens.to_string();
                let Some((_, rest)) = tokens.split_once("path = \"") else { continue };
                rest.split('"').next().unwrap_or_default().to_owned()
            }
            _ => continue,
        };
        return Ok(folder.join(text));
    }
    let name = module.ident.to_string();
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let below = if ["lib", "main", "mod"].contains(&stem.as_str()) {
        folder.to_owned()
    } else {
        folder.join(stem)
    };
    let choices = [below.join(format!("{name}.rs")), below.join(&name).join("mod.rs")];
    let found = choices.iter().find(|c| c.exists());
    let Some(found) = found else { bail!("no file for module {name} of {}", path.display()) };
    Ok(found.clone())
}

/// Lines of an item that is for tests alone.
fn test_lines(item: &Item) -> usize {
    if !is_test(attributes(item)) {
        return 0;
    }
    let span = item.span();
    span.end().line.saturating_sub(span.start().line).saturating_add(1)
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| match &a.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let tokens = list.tokens.to_string();
            tokens == "test" || tokens.starts_with("all (test")
        }
        _ => false,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}
