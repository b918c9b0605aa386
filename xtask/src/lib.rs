// SPDX-License-Identifier: MIT OR Apache-2.0
//! What builds Portcullis' images and drives them in QEMU, on the host.
//!
//! Everything that `scripts/` does beyond setting a machine up is here, so that the same code serves a
//! person at a shell (`cargo xtask ...`), the end-to-end tests in `tests/` and continuous integration.
//!
//! # Key types
//!
//! - [`assure::Step`]: a check beyond the tests.
//! - [`bench::Figure`]: benchmarks in executed instructions, and their limits.
//! - [`build::Artifacts`]: where the images are once built.
//! - [`bundle::make`]: VMs and their images in one file.
//! - [`flat::flatten`]: an ELF file as the bytes a boot loader puts into memory.
//! - [`qemu::Machine`], [`qemu::Session`]: a machine to boot, and its console.
//! - [`stub::Test`], [`stub::Report`]: the test guest's list, and what it reports.
//! - [`boards::check::Report`], [`boards::model::Board`]: vendors' trees, and boards that QEMU models.
//! - [`guests::Guest`]: guests from other projects.
//! - [`catalogue::Registry`]: which bugs and scenarios have a test.
//! - [`symbolize::Symbolizer`]: backtraces of EL2 with functions and lines.
//!
//! # Invariants
//!
//! - Nothing here needs the network once the crates in `Cargo.lock` have been fetched, but [`guests`] and [`boards`], once.
//! - No verdict rests on QEMU's exit status: it is 0 whatever happened inside.
#![forbid(unsafe_code)]

mod apt;
pub mod assure;
pub mod bench;
pub mod boards;
pub mod build;
pub mod bundle;
pub mod catalogue;
pub mod commits;
pub mod demo;
pub mod devices;
pub mod doc;
pub mod elf;
pub mod esr;
pub mod flat;
pub mod guests;
pub mod image;
pub mod installed;
pub mod layout;
pub mod paths;
pub mod progress;
pub mod qemu;
pub mod realtime;
pub mod show;
pub mod stub;
pub mod symbolize;
pub mod testing;
pub mod toolchain;
