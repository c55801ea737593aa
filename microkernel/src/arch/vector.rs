//! Vector registers: how they are saved at a trap, restored after it, and cleared after a system
//! call. The instructions are in `entry`; this says which of them, and builds images. Between, the
//! registers are the kernel's own: it clears memory with them.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

use super::context::{Block, VECTOR_IMAGE};
use super::cpu::Features;
use super::percpu;
use kernel_core::addr::Frame;

/// What the processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Mode {
    /// FXSAVE: x87 and SSE.
    Fxsave = 0,
    /// XSAVE.
    Xsave = 1,
    /// XSAVEOPT.
    Xsaveopt = 2,
    /// XSAVEOPT, and XGETBV tells whether x87 registers are in use.
    XsaveoptInUse = 3,
}

impl Mode {
    /// The best that there is.
    pub(crate) fn of(features: Features) -> Mode {
        match (
            features.xsave,
            features.xsaveopt,
            features.xgetbv1 && features.avx,
        ) {
            (true, true, true) => Mode::XsaveoptInUse,
            (true, true, false) => Mode::Xsaveopt,
            (true, false, _) => Mode::Xsave,
            (false, _, _) => Mode::Fxsave,
        }
    }
}

/// MXCSR with every exception masked.
const MXCSR: u32 = 0x1F80;
/// x87 control word with every exception masked, extended precision.
const X87_CONTROL: u16 = 0x037F;

/// The image of cleared registers: state bitmap zero, so that XRSTOR takes initial values; the
/// legacy area says the same for FXRSTOR. MXCSR is always taken from memory.
pub(crate) const CLEARED: [u8; VECTOR_IMAGE] = {
    let mut image = [0; VECTOR_IMAGE];
    let control = X87_CONTROL.to_le_bytes();
    let mxcsr = MXCSR.to_le_bytes();
    image[0] = control[0];
    image[1] = control[1];
    image[24] = mxcsr[0];
    image[25] = mxcsr[1];
    image[26] = mxcsr[2];
    image[27] = mxcsr[3];
    image
};

/// What of that image is not zero lies in so many bytes.
const CLEARED_HEAD: usize = 32;
const _: () = {
    let mut index = CLEARED_HEAD;
    while index < VECTOR_IMAGE {
        assert!(CLEARED[index] == 0);
        index += 1;
    }
};

/// The image that the exit path loads after a system call.
#[repr(C, align(64))]
pub(super) struct Aligned(pub(super) [u8; VECTOR_IMAGE]);
pub(super) static CLEARED_IMAGE: Aligned = Aligned(CLEARED);

/// What [`zero`] clears between two branches.
const PIECE: usize = 1024;

/// Fills memory with zeros, 32 bytes a store where there is AVX: a quarter of the instructions of a
/// string store of words.
///
/// # Safety
/// `length` bytes from `start` on can be written and are the caller's alone. `start` is a multiple of
/// 32, `length` one of 1024.
pub(crate) unsafe fn zero(start: *mut u8, length: usize) {
    if percpu::here().vector_mode.load(Relaxed) != Mode::XsaveoptInUse as u64 {
        // SAFETY: the caller's word.
        return unsafe { ptr::write_bytes(start, 0, length) };
    }
    // SAFETY: the caller's word. The mode says that there is AVX. The way in has stored the registers if
    // somebody still needs them, and each way out loads or clears them all; what VZEROUPPER clears, code
    // without AVX does not use.
    unsafe {
        asm!(
            "vxorps {zero}, {zero}, {zero}",
            "2:",
            ".irp at, 0,32,64,96,128,160,192,224,256,288,320,352,384,416,448,480",
            "vmovaps [{to} + \\at], {zero:y}",
            "vmovaps [{to} + \\at + 512], {zero:y}",
            ".endr",
            "add {to}, {piece}",
            "cmp {to}, {end}",
            "jb 2b",
            "vzeroupper",
            to = inout(reg) start => _,
            end = in(reg) start.wrapping_add(length),
            piece = const PIECE,
            zero = out(xmm_reg) _,
            options(nostack),
        );
    }
}

impl Block {
    /// Makes a block of a thread that has not run, in place: nothing of any other thread is in it.
    ///
    /// # Safety
    /// `place` is aligned for a block and the caller's alone.
    pub(super) unsafe fn begin(
        place: *mut Block,
        context: super::context::Context,
        buffer: Frame,
        root: Frame,
    ) {
        // SAFETY: the caller's word; zeros are an FS base, and what is not written again of an image.
        unsafe {
            zero(place.cast(), size_of::<Block>());
            let image = (&raw mut (*place).vector).cast();
            ptr::copy_nonoverlapping(CLEARED.as_ptr(), image, CLEARED_HEAD);
            (&raw mut (*place).buffer).write(buffer);
            (&raw mut (*place).root).write(root);
            (&raw mut (*place).context).write(context);
        }
    }
}
