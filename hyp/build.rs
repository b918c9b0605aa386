// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links the EL2 image: position independent, with its own linker script.

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into());
    let script = format!("{root}/../linker/hyp.ld");
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rerun-if-changed=build.rs");
    for arg in [
        format!("-T{script}").as_str(),
        "-pie",
        "--no-dynamic-linker",
        // The precompiled core keeps its vtables in .rodata; the entry code relocates them
        // before the MMU makes the section read-only.
        "-znotext",
        "-zmax-page-size=4096",
        // The image protects itself: hyp/src/memory/mmu.rs.
        "-znorelro",
        // Debug information of code that is not linked must not seem to lie at the image's start.
        "-zdead-reloc-in-nonalloc=.debug_ranges=0xffffffffffffffff",
        "-zdead-reloc-in-nonalloc=.debug_rnglists=0xffffffffffffffff",
        "-zdead-reloc-in-nonalloc=.debug_info=0xffffffffffffffff",
    ] {
        println!("cargo:rustc-link-arg={arg}");
    }
}
