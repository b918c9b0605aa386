// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask symbolize`: backtraces of EL2 with functions and lines.
//!
//! EL2 prints where it was as offsets into its image (`[hyp]   at image+0x1234`), as it neither knows its
//! symbols nor runs where it was linked. Return addresses have been moved back to their call before.

use std::fs;
use std::path::Path;

use crate::{elf, paths};
use addr2line::Loader;
use anyhow::{Context, Result, anyhow};

/// What lies before an offset.
const MARK: &str = "image+0x";

/// Resolves offsets into one image.
pub struct Symbolizer {
    loader: Loader,
    /// Where the image's first byte was linked.
    base: u64,
}

impl Symbolizer {
    /// For the image whose ELF file is `file`.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is no ELF file.
    pub fn new(file: &Path) -> Result<Self> {
        let name = || file.display().to_string();
        let bytes = fs::read(file).with_context(name)?;
        let base = elf::base(&bytes).with_context(name)?;
        let loader = Loader::new(file).map_err(|error| anyhow!("{}: {error}", name()))?;
        Ok(Self { loader, base })
    }

    /// `line`, and below it one line per function (inlined ones first) if it names a place in the image.
    #[must_use]
    pub fn line(&self, line: &str) -> String {
        let mut out = line.to_owned();
        if let Some(offset) = offset(line) {
            for frame in self.frames(offset) {
                out.push_str("\n           ");
                out.push_str(&frame);
            }
        }
        out
    }

    /// The functions at `offset`, innermost first, each with its source line.
    #[must_use]
    pub fn frames(&self, offset: u64) -> Vec<String> {
        let probe = self.base + offset;
        let mut all = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(probe) {
            while let Ok(Some(frame)) = frames.next() {
                let function = frame
                    .function
                    .as_ref()
                    .and_then(|function| function.demangle().ok().map(|name| name.into_owned()));
                let place = frame.location.map(|location| {
                    format!(
                        "{}:{}",
                        relative(location.file.unwrap_or("?")),
                        location.line.unwrap_or(0)
                    )
                });
                if function.is_some() || place.is_some() {
                    all.push(format!(
                        "{} ({})",
                        function.as_deref().unwrap_or("?"),
                        place.as_deref().unwrap_or("?")
                    ));
                }
            }
        }
        // Assembly has symbols but no functions.
        if all.is_empty()
            && let Some(symbol) = self.loader.find_symbol(probe)
        {
            all.push(symbol.to_owned());
        }
        all
    }
}

/// The offset that a line names.
fn offset(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(MARK)?;
    let end = rest.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(rest.len());
    u64::from_str_radix(rest.get(..end)?, 16).ok()
}

/// A source file below the repository without the path to it.
fn relative(file: &str) -> &str {
    let path = Path::new(file);
    path.strip_prefix(paths::root()).ok().and_then(Path::to_str).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offsets_into_the_image_count() {
        assert_eq!(offset("[hyp]   at image+0x12f0"), Some(0x12f0));
        assert_eq!(offset("[hyp]   at image+0x12f0, and more"), Some(0x12f0));
        assert_eq!(offset("[hyp] backtrace (image at 0x40200000):"), None);
        assert_eq!(offset("image+0x"), None);
        assert_eq!(offset("image+0x11111111111111111"), None);
    }

    #[test]
    fn a_function_of_this_very_program_is_found() {
        // Any ELF with debug information will do; this test's own is at hand, linked at 0 as it is a PIE.
        let here = std::env::current_exe().unwrap();
        let symbolizer = Symbolizer::new(&here).unwrap();
        let bytes = fs::read(&here).unwrap();
        // Its mangled name, which also has closures' names that begin with it.
        let address = elf::symbol(&bytes, |name| name.contains("12symbolize_me")).unwrap();
        let text = symbolizer.line(&format!("[hyp]   at image+{address:#x}"));
        assert!(text.contains("symbolize_me (xtask/src/symbolize.rs:"), "{text}");
        assert_eq!(symbolizer.line("[hyp] something else"), "[hyp] something else");
        assert_eq!(symbolize_me(1), 2);
    }

    #[inline(never)]
    fn symbolize_me(x: u32) -> u32 {
        std::hint::black_box(x) + 1
    }
}
