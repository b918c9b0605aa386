// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the linker put things.

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

/// What is in the file behind the code.
pub fn constants_and_data() -> Span {
    (&raw const rodata_start) as usize..(&raw const file_end) as usize
}

/// What begins as zero. Heap and stacks are no part of it.
pub fn bss() -> Span {
    (&raw const bss_start) as usize..(&raw const bss_end) as usize
}

/// Data, heap, stacks, .bss.
pub fn data() -> Span {
    (&raw const rodata_end) as usize..(&raw const image_end) as usize
}

/// What was appended to the image: from its end to where the size in its own header ends. Empty where that is its end.
pub fn appended() -> Span {
    let image = image();
    // SAFETY: the header is the image's first 64 bytes, mapped and never written; the size stands at byte 16 of it.
    let size = unsafe { (image.start as *const u64).add(2).read_volatile() } as usize;
    image.end..image.start.saturating_add(size).max(image.end)
}
