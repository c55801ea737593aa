//! Vector registers: how they are saved at a trap, restored after it, and cleared after a system
//! call. The instructions are in `entry`; this says which of them, and builds images.

use super::context::{Block, VECTOR_IMAGE};
use super::cpu::Features;
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

/// The image that the exit path loads after a system call.
#[repr(C, align(64))]
pub(super) struct Aligned(pub(super) [u8; VECTOR_IMAGE]);
pub(super) static CLEARED_IMAGE: Aligned = Aligned(CLEARED);

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
        // SAFETY: the caller's word; each field is written once.
        unsafe {
            (&raw mut (*place).vector).write(CLEARED);
            (&raw mut (*place).fs_base).write(0);
            (&raw mut (*place).buffer).write(buffer);
            (&raw mut (*place).root).write(root);
            (&raw mut (*place).context).write(context);
        }
    }
}
