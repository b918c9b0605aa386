// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names that an item defines, and the paths in it.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Expr, Item, Lit, UseTree, Visibility};

/// One name that a `use` declaration brings in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The name here; `None` for a glob.
    pub name: Option<String>,
    /// The path that it stands for, without the glob.
    pub path: Vec<String>,
    /// Whether it is a re-export.
    pub public: bool,
}

/// What the items of a module define and name.
#[derive(Debug, Default)]
pub struct Names {
    /// Names of the items.
    pub items: Vec<String>,
    /// `use` declarations.
    pub uses: Vec<Use>,
    /// Every other path.
    pub paths: Vec<Vec<String>>,
}

/// Adds what `item` defines and names to `names`.
pub fn collect(item: &Item, names: &mut Names) {
    if let Item::Use(item) = item {
        let public = !matches!(item.vis, Visibility::Inherited);
        flatten(&item.tree, &mut Vec::new(), public, &mut names.uses);
        return;
    }
    if let Some(name) = name(item) {
        names.items.push(name);
    }
    Collector { names }.visit_item(item);
}

/// The string of a literal.
pub fn text(value: &Expr) -> Option<String> {
    match value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

fn name(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(i) => i.ident.to_string(),
        Item::Enum(i) => i.ident.to_string(),
        Item::Fn(i) => i.sig.ident.to_string(),
        Item::Macro(i) => i.ident.as_ref()?.to_string(),
        Item::Static(i) => i.ident.to_string(),
        Item::Struct(i) => i.ident.to_string(),
        Item::Trait(i) => i.ident.to_string(),
        Item::Type(i) => i.ident.to_string(),
        Item::Union(i) => i.ident.to_string(),
        _ => return None,
    })
}

fn flatten(tree: &UseTree, prefix: &mut Vec<String>, public: bool, uses: &mut Vec<Use>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, public, uses);
            prefix.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, prefix, public, uses);
            }
        }
        UseTree::Glob(_) => uses.push(Use { name: None, path: prefix.clone(), public }),
        UseTree::Name(name) => named(name.ident.to_string(), None, prefix, public, uses),
        UseTree::Rename(rename) => {
            let alias = Some(rename.rename.to_string());
            named(rename.ident.to_string(), alias, prefix, public, uses);
        }
    }
}

fn named(
    name: String,
    alias: Option<String>,
    prefix: &[String],
    public: bool,
    uses: &mut Vec<Use>,
) {
    let mut path = prefix.to_vec();
    if name != "self" {
        path.push(name);
    }
    let name = alias.or_else(|| path.last().cloned());
    uses.push(Use { name, path, public });
}

struct Collector<'a> {
    names: &'a mut Names,
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if path.leading_colon.is_none() {
            self.names.paths.push(parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, code: &'ast syn::Macro) {
        self.visit_path(&code.path);
        in_tokens(code.tokens.clone(), &mut self.names.paths);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // A `use` in a function.
        flatten(&item.tree, &mut Vec::new(), false, &mut self.names.uses);
    }
}

/// The paths in a macro's tokens: names with `::` between.
fn in_tokens(tokens: TokenStream, paths: &mut Vec<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    // Colons since the last name.
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                if colons != 2 {
                    paths.push(std::mem::take(&mut path));
                }
                path.push(name.to_string());
                colons = 0;
            }
            TokenTree::Punct(p) if p.as_char() == ':' && !path.is_empty() => colons += 1,
            TokenTree::Group(group) => {
                paths.push(std::mem::take(&mut path));
                colons = 0;
                in_tokens(group.stream(), paths);
            }
            _ => {
                paths.push(std::mem::take(&mut path));
                colons = 0;
            }
        }
    }
    paths.push(path);
}
