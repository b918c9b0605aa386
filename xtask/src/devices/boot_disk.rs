// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk from which firmware boots Linux: one FAT partition with kernels, a ramdisk, and the files by which U-Boot and EDK2 find
//! them.

use std::io::{Cursor, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

/// Bytes of a sector, of virtio-blk's and of FAT's.
const SECTOR: usize = 512;
/// Sectors before the partition: 1 MiB, as partitioning tools align it.
const START: usize = 2048;
/// Sectors of the partition.
const SECTORS: usize = 63 * 2048;
/// Serial number of the file system, so that the same files give the same bytes.
const VOLUME: u32 = 0x5043_4442;

/// Boots `guarded.img` with the ramdisk: what U-Boot's distro boot looks for (doc/develop/distro.rst).
const EXTLINUX: &str = "default linux\ntimeout 1\nlabel linux\n  kernel /guarded.img\n  initrd /initrd\n  \
                        append console=ttyAMA0 quiet panic=-1\n";
/// Boots `vmlinuz.efi` with the ramdisk: the UEFI shell runs it after five seconds.
const STARTUP: &str = "FS0:\\vmlinuz.efi initrd=\\initrd console=ttyAMA0 quiet panic=-1\r\n";

/// The disk's bytes, with a client of the guard for U-Boot, a kernel that is an EFI application for EDK2, and a ramdisk for both.
///
/// # Errors
///
/// They do not fit.
pub fn image(guarded: &[u8], efi: &[u8], ramdisk: &[u8]) -> Result<Vec<u8>> {
    let mut partition = Cursor::new(vec![0; SECTORS * SECTOR]);
    let options = FormatVolumeOptions::new().volume_id(VOLUME);
    fatfs::format_volume(&mut partition, options).context("FAT")?;
    {
        let volume = FileSystem::new(&mut partition, FsOptions::new()).context("FAT")?;
        let root = volume.root_dir();
        root.create_dir("extlinux").context("FAT")?;
        for (name, content) in [
            ("guarded.img", guarded),
            ("vmlinuz.efi", efi),
            ("initrd", ramdisk),
            ("extlinux/extlinux.conf", EXTLINUX.as_bytes()),
            ("startup.nsh", STARTUP.as_bytes()),
        ] {
            let mut file = root.create_file(name).context(name)?;
            file.write_all(content).with_context(|| format!("{name} does not fit"))?;
        }
    }
    let mut disk = vec![0; START * SECTOR];
    table(&mut disk)?;
    partition.seek(SeekFrom::Start(0))?;
    partition.read_to_end(&mut disk)?;
    Ok(disk)
}

/// The partition table of an MBR: UEFI 2.10, 5.2.1.
fn table(disk: &mut [u8]) -> Result<()> {
    // Active; no CHS addresses; FAT32 by LBA.
    let entry = [0x80, 0xff, 0xff, 0xff, 0x0c, 0xff, 0xff, 0xff];
    let (first, count) = ((START as u32).to_le_bytes(), (SECTORS as u32).to_le_bytes());
    let mut at = disk.get_mut(446..).context("a sector")?;
    for part in [&entry[..], &first, &count] {
        at.write_all(part)?;
    }
    disk.get_mut(510..512).context("a sector")?.copy_from_slice(&[0x55, 0xaa]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_finds_the_files_in_the_first_partition() {
        let disk = image(b"guarded", &[7; 10_000], b"ramdisk").unwrap();
        assert!(disk == image(b"guarded", &[7; 10_000], b"ramdisk").unwrap(), "the bytes differ");
        assert_eq!(disk.len(), (START + SECTORS) * SECTOR);
        assert_eq!(disk[446 + 8..446 + 12], 2048_u32.to_le_bytes());
        let partition = Cursor::new(disk[START * SECTOR..].to_vec());
        let volume = FileSystem::new(partition, FsOptions::new()).unwrap();
        let read = |name: &str| {
            let mut content = Vec::new();
            volume.root_dir().open_file(name).unwrap().read_to_end(&mut content).unwrap();
            content
        };
        assert_eq!(read("vmlinuz.efi"), [7; 10_000]);
        assert_eq!(read("startup.nsh"), STARTUP.as_bytes());
        assert_eq!(read("extlinux/extlinux.conf"), EXTLINUX.as_bytes());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = image(b"", &vec![1; SECTORS * SECTOR], b"").unwrap_err();
        assert!(error.to_string().contains("vmlinuz.efi"), "{error}");
    }
}
