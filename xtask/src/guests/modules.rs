// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules of Debian's kernel package, with all that they need, in the order in which they are loaded.
//!
//! The package has no modules.dep, which depmod makes when it is installed. What a module needs is in the module itself:
//! `depends=` in its section .modinfo, by the kernel's own modpost.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

use super::folders::below;

/// A module: its file's name and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelModule {
    /// `NAME.ko`.
    pub file: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
}

/// The modules `wanted` of the tree `folder`, each behind those that it needs.
///
/// # Errors
///
/// One of them is not there, damaged, or no ELF file.
pub fn with_dependencies(folder: &Path, wanted: &[&str]) -> Result<Vec<KernelModule>> {
    let named = |file: PathBuf| {
        let name = file.file_name()?.to_str()?;
        let name = name.strip_suffix(".xz").unwrap_or(name).strip_suffix(".ko")?;
        Some((name.replace('-', "_"), file))
    };
    let files: BTreeMap<String, PathBuf> = below(folder)?.into_iter().filter_map(named).collect();
    let read = |name: &str| -> Result<Vec<u8>> {
        let file = files.get(name).with_context(|| format!("the package has no {name}.ko"))?;
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        if file.extension().is_none_or(|it| it != "xz") {
            return Ok(bytes);
        }
        let mut plain = Vec::new();
        let mut reader = lzma_rust2::XzReader::new(bytes.as_slice(), true);
        reader.read_to_end(&mut plain).with_context(|| file.display().to_string())?;
        Ok(plain)
    };
    let mut order = Vec::new();
    for name in wanted {
        add(name, &mut order, &|name| {
            needed(&modinfo(&read(name)?).with_context(|| format!("{name}.ko"))?)
        })?;
    }
    let module = |name: String| {
        let bytes = read(&name)?;
        Ok(KernelModule { file: format!("{name}.ko"), bytes })
    };
    order.into_iter().map(module).collect()
}

/// Puts `name` into `order`, behind what it needs. (What needs itself, modpost refuses.)
fn add(
    name: &str,
    order: &mut Vec<String>,
    needed: &impl Fn(&str) -> Result<Vec<String>>,
) -> Result<()> {
    if order.iter().any(|other| other == name) {
        return Ok(());
    }
    for other in needed(name)? {
        add(&other, order, needed)?;
    }
    order.push(name.to_owned());
    Ok(())
}

/// The section .modinfo of the module `bytes`.
fn modinfo(bytes: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(bytes).context("it is no ELF file")?;
    let section = file.section_by_name(".modinfo").context("it has no section .modinfo")?;
    Ok(section.data().context("its section .modinfo is damaged")?.to_vec())
}

/// What a module with this .modinfo, `KEY=VALUE` each with a zero behind it, needs.
fn needed(modinfo: &[u8]) -> Result<Vec<String>> {
    let mut fields =
        modinfo.split(|byte| *byte == 0).filter_map(|field| str::from_utf8(field).ok());
    let Some(names) = fields.find_map(|field| field.strip_prefix("depends=")) else {
        bail!("it does not say what it needs");
    };
    let names = names.split(',').filter(|name| !name.is_empty());
    Ok(names.map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        let tree = |name: &str| match name {
            "bridge" => needed(b"license=GPL\0depends=stp,llc\0name=bridge\0"),
            "stp" => needed(b"depends=llc\0"),
            "tun" | "llc" => needed(b"depends=\0"),
            "vhost_vsock" => needed(b"depends=no-such\0"),
            name => bail!("the package has no {name}.ko"),
        };
        let mut order = Vec::new();
        for name in ["bridge", "tun", "llc"] {
            add(name, &mut order, &tree).unwrap();
        }
        assert_eq!(order, ["llc", "stp", "bridge", "tun"]);
        let error = add("vhost_vsock", &mut order, &tree).unwrap_err();
        assert!(error.to_string().contains("no_such.ko"), "{error}");
    }

    #[test]
    fn what_is_missing_or_no_module_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = with_dependencies(folder.path(), &["stp"]).unwrap_err();
        assert!(format!("{error:#}").contains("no stp.ko"), "{error:#}");
        fs::write(folder.path().join("stp.ko"), "a script").unwrap();
        let error = with_dependencies(folder.path(), &["stp"]).unwrap_err();
        assert!(format!("{error:#}").contains("stp.ko: it is no ELF file"), "{error:#}");
        assert!(needed(b"license=GPL\0").is_err());
    }
}
