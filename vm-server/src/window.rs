//! The physical window: every frame that the server owns, mapped at a fixed place.
//!
//! The one module of the server that turns a number into a pointer. A frame number comes from the
//! core, which knows only frames that the kernel listed as the server's; the bound is checked all
//! the same, so that a mistake is a report and not a stray write.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, _xgetbv};
use core::ptr;

use ipc_abi::layout::{PAGE_SIZE, PHYSICAL_WINDOW};
use vm_core::object::page::Frame;

/// Words of a page.
const WORDS: usize = PAGE_SIZE as usize / 8;

/// The window, up to the end of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    limit: u32,
    /// The vector registers have 32 bytes.
    wide: bool,
}

impl Window {
    /// The window over frames below `limit`.
    pub(crate) fn new(limit: u32) -> Window {
        Window {
            limit,
            wide: has_wide_registers(),
        }
    }

    /// Where a frame is seen.
    fn page(&self, frame: Frame) -> *mut u64 {
        assert!(frame.0 < self.limit, "frame {} is beyond memory", frame.0);
        ptr::with_exposed_provenance_mut(
            (PHYSICAL_WINDOW + u64::from(frame.0) * PAGE_SIZE) as usize,
        )
    }

    /// Where a byte of a frame is seen; `offset + count` must stay inside the page.
    fn bytes(&self, (frame, offset): (Frame, usize), count: usize) -> *mut u8 {
        let inside = offset
            .checked_add(count)
            .is_some_and(|end| end <= PAGE_SIZE as usize);
        assert!(inside, "{count} bytes at {offset} leave the page");
        self.page(frame).cast::<u8>().wrapping_add(offset)
    }

    /// Fills a frame with zeros.
    #[inline]
    pub(crate) fn zero(&self, frame: Frame) {
        let page = self.page(frame);
        if self.wide {
            // SAFETY: `page` is a whole frame of the server's window, mapped read-write and aligned;
            // nothing in the server keeps a reference into a frame of the core. There is AVX.
            unsafe { zero_wide(page) }
        } else {
            // SAFETY: as above.
            unsafe { zero_narrow(page) }
        }
    }

    /// Copies a whole frame.
    #[inline]
    pub(crate) fn copy(&self, from: Frame, to: Frame) {
        let (from, to) = (self.page(from).cast_const(), self.page(to));
        if self.wide {
            // SAFETY: as in `zero`, for both; it does no harm if they are the same.
            unsafe { copy_wide(from, to) }
        } else {
            // SAFETY: as above.
            unsafe { copy_narrow(from, to) }
        }
    }

    /// Reads bytes of a frame.
    pub(crate) fn load(&self, frame: Frame, offset: usize, bytes: &mut [u8]) {
        let from = self.bytes((frame, offset), bytes.len());
        // SAFETY: `from` is `bytes.len()` readable bytes of one frame, which are not part of the
        // server's own memory, to which `bytes` belongs.
        unsafe { ptr::copy_nonoverlapping(from.cast_const(), bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Writes bytes of a frame.
    pub(crate) fn store(&self, frame: Frame, offset: usize, bytes: &[u8]) {
        let to = self.bytes((frame, offset), bytes.len());
        // SAFETY: as in `load`, the other way.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }

    /// Copies bytes from frame to frame.
    pub(crate) fn copy_bytes(&self, from: (Frame, usize), to: (Frame, usize), count: usize) {
        let (from, to) = (self.bytes(from, count), self.bytes(to, count));
        // SAFETY: both are `count` bytes inside one frame; `copy` allows that they overlap.
        unsafe { ptr::copy(from.cast_const(), to, count) }
    }

    /// Whether a frame holds nothing but zeros.
    pub(crate) fn is_zero(&self, frame: Frame) -> bool {
        let page = self.page(frame).cast_const();
        // SAFETY: `page` is a whole frame, and each word is read by itself: a client that writes
        // it meanwhile makes the answer old, not undefined.
        (0..WORDS).all(|index| unsafe { page.wrapping_add(index).read_volatile() } == 0)
    }
}

/// Whether the processor has AVX, and the kernel keeps its registers.
fn has_wide_registers() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    if __cpuid(1).ecx & (OSXSAVE | AVX) != OSXSAVE | AVX {
        return false;
    }
    // SAFETY: OSXSAVE says that the instruction is there.
    unsafe { xcr0() & 6 == 6 }
}

#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: the feature is enabled; register 0 always exists.
    unsafe { _xgetbv(0) }
}

/// Zeros, 32 bytes a store, of which a kibibyte goes between two jumps.
///
/// # Safety
/// A whole page, mapped read-write and aligned, to which nobody has a reference; and there is AVX.
#[inline]
unsafe fn zero_wide(page: *mut u64) {
    // SAFETY: the caller's word. What VZEROUPPER clears, code without AVX does not use.
    unsafe {
        asm!(
            "vxorps {zero}, {zero}, {zero}",
            "2:",
            ".irp at, 0,32,64,96,128,160,192,224,256,288,320,352,384,416,448,480",
            "vmovaps [{to} + \\at], {zero:y}",
            "vmovaps [{to} + \\at + 512], {zero:y}",
            ".endr",
            "add {to}, 1024",
            "cmp {to}, {end}",
            "jne 2b",
            "vzeroupper",
            to = inout(reg) page => _,
            end = in(reg) page.wrapping_add(WORDS),
            zero = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// As [`zero_wide`], 16 bytes a store: half the instructions of a string store of words.
///
/// # Safety
/// As there, but for AVX.
#[inline(never)]
unsafe fn zero_narrow(page: *mut u64) {
    // SAFETY: the caller's word.
    unsafe {
        asm!(
            "xorps {zero}, {zero}",
            "2:",
            ".irp at, 0,16,32,48,64,80,96,112,128,144,160,176,192,208,224,240",
            "movaps [{to} + \\at], {zero}",
            ".endr",
            "add {to}, 256",
            "cmp {to}, {end}",
            "jne 2b",
            to = inout(reg) page => _,
            end = in(reg) page.wrapping_add(WORDS),
            zero = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Copies, 32 bytes a load and a store.
///
/// # Safety
/// As in [`zero_wide`], for both pages.
#[inline]
unsafe fn copy_wide(from: *const u64, to: *mut u64) {
    // SAFETY: as in `zero_wide`.
    unsafe {
        asm!(
            "2:",
            ".irp at, 0,32,64,96,128,160,192,224,256,288,320,352,384,416,448,480",
            "vmovaps {a:y}, [{from} + \\at]",
            "vmovaps {b:y}, [{from} + \\at + 512]",
            "vmovaps [{to} + \\at], {a:y}",
            "vmovaps [{to} + \\at + 512], {b:y}",
            ".endr",
            "add {from}, 1024",
            "add {to}, 1024",
            "cmp {to}, {end}",
            "jne 2b",
            "vzeroupper",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            end = in(reg) to.wrapping_add(WORDS),
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Copies words.
///
/// # Safety
/// As in [`zero_narrow`], for both pages.
#[inline(never)]
unsafe fn copy_narrow(from: *const u64, to: *mut u64) {
    // SAFETY: the caller's word.
    unsafe {
        asm!(
            "rep movsq",
            inout("rcx") WORDS => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}
