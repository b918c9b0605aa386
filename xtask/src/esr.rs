// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask esr VALUE`: the fields of an exception syndrome.

use std::fmt::Write;

use aarch64_esr_decoder::{FieldInfo, decode, parse_number};

use anyhow::{Context, Result};

/// The fields of the syndrome in `text` (decimal, or hexadecimal behind 0x), one per line, inner ones indented.
///
/// # Errors
///
/// No number, or a syndrome in which reserved bits are set.
pub fn explain(text: &str) -> Result<String> {
    let value = parse_number(text).with_context(|| format!("`{text}`"))?;
    let fields = decode(value).with_context(|| format!("ESR {value:#x}"))?;
    let mut out = format!("ESR {value:#010x}\n");
    print(&fields, 0, &mut out);
    Ok(out)
}

fn print(fields: &[FieldInfo], level: usize, out: &mut String) {
    for field in fields {
        let last = field.start + field.width.saturating_sub(1);
        let bits =
            if field.width == 1 { last.to_string() } else { format!("{last}:{}", field.start) };
        let _ = writeln!(out, "{}{bits:>5}  {field}", "  ".repeat(level));
        if let Some(description) = &field.description {
            let _ = writeln!(out, "{}       {description}", "  ".repeat(level));
        }
        print(&field.subfields, level + 1, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_abort_that_a_guest_gets() {
        let text = explain("0x96000010").unwrap();
        assert!(text.contains("Data Abort taken without a change in Exception level"), "{text}");
        assert!(text.contains("Synchronous External abort"), "{text}");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert!(explain("x").is_err());
    }
}
