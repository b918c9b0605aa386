// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links the guest at the address where it is loaded, without anything to relocate.

fn main() {
    println!("cargo:rerun-if-changed=guest.ld");
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into());
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in [&format!("-T{root}/guest.ld"), "--no-pie", "--no-dynamic-linker"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
