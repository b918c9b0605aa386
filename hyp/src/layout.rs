// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses of the image's sections, from the linker.

unsafe extern "C" {
    static image_start: u8;
    static text_end: u8;
    static rodata_start: u8;
    static rodata_end: u8;
    static file_end: u8;
    static bss_start: u8;
    static bss_end: u8;
    static image_end: u8;
}

/// A half-open range of addresses; EL2 maps its image one to one, so they are physical as well.
pub type Span = core::ops::Range<usize>;

/// The whole image, stacks, heap and .bss included.
pub fn image() -> Span {
    (&raw const image_start) as usize..(&raw const image_end) as usize
}

/// Code.
pub fn text() -> Span {
    (&raw const image_start) as usize..(&raw const text_end) as usize
}

/// Constants.
pub fn rodata() -> Span {
    (&raw const rodata_start) as usize..(&raw const rodata_end) as usize
}

/// Everything behind the code that the file holds.
pub fn constants_and_data() -> Span {
    (&raw const rodata_start) as usize..(&raw const file_end) as usize
}

/// .bss, which the entry code zeroes. It holds neither heap nor stacks.
pub fn bss() -> Span {
    (&raw const bss_start) as usize..(&raw const bss_end) as usize
}

/// Data, heap, stacks, .bss.
pub fn data() -> Span {
    (&raw const rodata_end) as usize..(&raw const image_end) as usize
}

/// Data appended to the image: from the image's end to the end by the size in its header. Empty if both are the same.
pub fn appended() -> Span {
    let image = image();
    // SAFETY: the header is the image's first 64 bytes, mapped and never written; the size is at byte 16.
    let size = unsafe { (image.start as *const u64).add(2).read_volatile() } as usize;
    image.end..image.start.saturating_add(size).max(image.end)
}
