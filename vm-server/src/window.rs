//! The physical window: every frame that the server owns, mapped at a fixed place.
//!
//! The one module of the server that turns a number into a pointer. A frame number comes from the
//! core, which knows only frames that the kernel listed as the server's; the bound is checked all
//! the same, so that a mistake is a report and not a stray write.

use core::arch::asm;
use core::ptr;

use ipc_abi::layout::{PAGE_SIZE, PHYSICAL_WINDOW};
use vm_core::object::page::Frame;

/// Words of a page.
const WORDS: usize = PAGE_SIZE as usize / 8;

/// The window, up to the end of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    limit: u32,
}

impl Window {
    /// The window over frames below `limit`.
    pub(crate) const fn new(limit: u32) -> Window {
        Window { limit }
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
    pub(crate) fn zero(&self, frame: Frame) {
        let page = self.page(frame);
        // SAFETY: `page` is a whole frame of the server's window, mapped read-write and aligned;
        // nothing in the server keeps a reference into a frame of the core. Sixteen bytes a store:
        // half the instructions of a string store of words.
        unsafe {
            asm!(
                "xorps {zero}, {zero}",
                "2:",
                "movaps [{at}], {zero}",
                "movaps [{at} + 16], {zero}",
                "movaps [{at} + 32], {zero}",
                "movaps [{at} + 48], {zero}",
                "movaps [{at} + 64], {zero}",
                "movaps [{at} + 80], {zero}",
                "movaps [{at} + 96], {zero}",
                "movaps [{at} + 112], {zero}",
                "movaps [{at} + 128], {zero}",
                "movaps [{at} + 144], {zero}",
                "movaps [{at} + 160], {zero}",
                "movaps [{at} + 176], {zero}",
                "movaps [{at} + 192], {zero}",
                "movaps [{at} + 208], {zero}",
                "movaps [{at} + 224], {zero}",
                "movaps [{at} + 240], {zero}",
                "add {at}, 256",
                "cmp {at}, {end}",
                "jne 2b",
                at = inout(reg) page => _,
                end = in(reg) page.wrapping_add(WORDS),
                zero = out(xmm_reg) _,
                options(nostack),
            );
        }
    }

    /// Copies a whole frame, by sixteen bytes as [`Window::zero`] does.
    pub(crate) fn copy(&self, from: Frame, to: Frame) {
        let (from, to) = (self.page(from).cast_const(), self.page(to));
        // SAFETY: as in `zero`, for both; it does no harm if they are the same.
        unsafe {
            asm!(
                "2:",
                "movaps {a}, [{from}]",
                "movaps {b}, [{from} + 16]",
                "movaps {c}, [{from} + 32]",
                "movaps {d}, [{from} + 48]",
                "movaps [{to}], {a}",
                "movaps [{to} + 16], {b}",
                "movaps [{to} + 32], {c}",
                "movaps [{to} + 48], {d}",
                "movaps {a}, [{from} + 64]",
                "movaps {b}, [{from} + 80]",
                "movaps {c}, [{from} + 96]",
                "movaps {d}, [{from} + 112]",
                "movaps [{to} + 64], {a}",
                "movaps [{to} + 80], {b}",
                "movaps [{to} + 96], {c}",
                "movaps [{to} + 112], {d}",
                "sub {from}, -128",
                "sub {to}, -128",
                "cmp {to}, {end}",
                "jne 2b",
                from = inout(reg) from => _,
                to = inout(reg) to => _,
                end = in(reg) to.wrapping_add(WORDS),
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack),
            );
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
