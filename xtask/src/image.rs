// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels out of the containers that Linux distributions ship them in: gzip, zstd, xz, lzma, and EFI zboot images with
//! one of these inside. EL2 unpacks nothing; `scripts/bundle` does it with this.
//!
//! Source: Linux's drivers/firmware/efi/libstub/zboot-header.S and Makefile.zboot.

use std::io::{Read, Write};

use anyhow::{Context, Result, anyhow, bail};
use platform::{HEAD_BYTES, ImageKind};

/// Containers in containers: a zboot image holds a compressed Image.
const MOST_LAYERS: usize = 3;
/// Largest kernel that comes out, in bytes.
const MOST_BYTES: u64 = 1 << 30;

/// What was in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// A kernel as EL2 takes it, or something that EL2 will refuse by name.
    pub bytes: Vec<u8>,
    /// What it was packed in, from the outside: `an EFI zboot image`, `a gzip file`. Empty: it was not packed.
    pub layers: Vec<&'static str>,
}

/// Takes a kernel out of what can be unpacked; everything else comes back as it is.
///
/// # Errors
///
/// A container that is damaged, or packed in a way that is not known here.
pub fn unpack(bytes: Vec<u8>) -> Result<Unpacked> {
    let mut found = Unpacked { bytes, layers: Vec::new() };
    while let Some((name, inner)) = layer(&found.bytes)? {
        if found.layers.len() == MOST_LAYERS {
            bail!("{name} in {}: too many layers", found.layers.join(" in "));
        }
        found.layers.push(name);
        found.bytes = inner;
    }
    Ok(found)
}

/// `bytes` as a gzip file.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing into a vector does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// What is in the outermost container, and the container's name; nothing where there is none that is known here.
fn layer(bytes: &[u8]) -> Result<Option<(&'static str, Vec<u8>)>> {
    let head = bytes.get(..HEAD_BYTES).unwrap_or(bytes);
    let ImageKind::Other(container) = ImageKind::of(head) else { return Ok(None) };
    let name = container.name();
    let inner = match name {
        "a gzip file" => read(flate2::read::GzDecoder::new(bytes)),
        "a zstd file" => match ruzstd::decoding::StreamingDecoder::new(bytes) {
            Ok(decoder) => read(decoder),
            Err(error) => Err(anyhow!("{error}")),
        },
        "an xz file" => read(lzma_rust2::XzReader::new(bytes, true)),
        "an lzma file" => match lzma_rust2::LzmaReader::new_mem_limit(bytes, u32::MAX, None) {
            Ok(decoder) => read(decoder),
            Err(error) => Err(anyhow!("{error}")),
        },
        "an EFI zboot image" => zboot(bytes),
        _ => return Ok(None),
    };
    let inner = inner.with_context(|| format!("{name} that cannot be unpacked"))?;
    Ok(Some((name, inner)))
}

/// All that `reader` gives, up to what a kernel may have.
fn read(reader: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("it has more than 1 GiB");
    }
    Ok(bytes)
}

/// The payload of an EFI zboot image, which is packed itself.
fn zboot(image: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| {
        let bytes = image.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map(|bytes| u32::from_le_bytes(*bytes) as usize)
    };
    let payload = word(8).zip(word(12)).and_then(|(start, size)| {
        image.get(start..start.checked_add(size)?).filter(|payload| !payload.is_empty())
    });
    let payload = payload.context("its header names a payload that is not there")?;
    let method = image.get(24..56).unwrap_or_default();
    let method = method.split(|byte| *byte == 0).next().unwrap_or_default();
    match ImageKind::of(payload.get(..HEAD_BYTES).unwrap_or(payload)) {
        ImageKind::Other(inner) if layered(inner.name()) => Ok(payload.to_vec()),
        _ => bail!(
            "its payload is packed with {}; gzip, zstd, xz and lzma are known here",
            String::from_utf8_lossy(method).escape_debug()
        ),
    }
}

/// Whether the container called `name` is one that [`layer`] opens and a zboot image may hold.
fn layered(name: &str) -> bool {
    matches!(name, "a gzip file" | "a zstd file" | "an xz file" | "an lzma file")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `zstd -19`, `xz --check=crc32 --arm64 --lzma2` and `lzma` make of [`kernel`], and gzip's is made here.
    fn kernel() -> Vec<u8> {
        let mut bytes = vec![0; 300];
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    fn packed() -> [(&'static str, Vec<u8>); 4] {
        [
            ("a gzip file", gzip(&kernel())),
            ("a zstd file", include_bytes!("../fixtures/image.zst").to_vec()),
            ("an xz file", include_bytes!("../fixtures/image.xz").to_vec()),
            ("an lzma file", include_bytes!("../fixtures/image.lzma").to_vec()),
        ]
    }

    fn zboot_of(payload: &[u8], method: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 0x200];
        bytes[..8].copy_from_slice(b"MZ\0\0zimg");
        bytes[8..12].copy_from_slice(&0x200_u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes[24..24 + method.len()].copy_from_slice(method);
        bytes.extend(payload);
        // The size of what is packed follows most payloads.
        bytes.extend((kernel().len() as u32).to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_packed_comes_out() {
        for (name, bytes) in packed() {
            let found = unpack(bytes.clone()).unwrap();
            assert_eq!(found, Unpacked { bytes: kernel(), layers: vec![name] });
            let found = unpack(zboot_of(&bytes, b"method")).unwrap();
            let layers = vec!["an EFI zboot image", name];
            assert_eq!(found, Unpacked { bytes: kernel(), layers });
        }
    }

    #[test]
    fn what_is_not_packed_stays() {
        for bytes in [kernel(), b"\x7fELF".to_vec(), vec![], b"\x27\x05\x19\x56".to_vec()] {
            assert_eq!(unpack(bytes.clone()).unwrap(), Unpacked { bytes, layers: vec![] });
        }
    }

    #[test]
    fn damaged_containers_are_named() {
        for (name, bytes) in packed() {
            for len in [bytes.len() / 2, bytes.len() - 1] {
                let error = unpack(bytes[..len].to_vec()).unwrap_err();
                assert!(format!("{error:#}").contains(name), "{error:#}");
            }
        }
        let error = unpack(zboot_of(b"\x04\x22\x4d\x18", b"lz4")).unwrap_err();
        assert!(format!("{error:#}").contains("packed with lz4"), "{error:#}");
        let mut far = zboot_of(&gzip(b"x"), b"gzip");
        far[12..16].copy_from_slice(&[0xff; 4]);
        assert!(format!("{:#}", unpack(far).unwrap_err()).contains("not there"));
    }

    #[test]
    fn layers_end() {
        let mut bytes = kernel();
        for _ in 0..4 {
            bytes = gzip(&bytes);
        }
        assert!(unpack(bytes).unwrap_err().to_string().contains("too many layers"));
    }
}
