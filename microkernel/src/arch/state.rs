//! A thread's registers in its block, read and set by others while it stands still.
//!
//! A thread in a system call has lost RCX, R11 and its vector registers: read, they are as the call
//! leaves them. Once it is in no call any more it can be made to go back by IRETQ with all of them. The
//! debug registers lie in the part of the vector image that the processor leaves to software.

use core::arch::asm;

use ipc_abi::state::{Debug, General, VECTOR_HEADER};
use kernel_core::state::{VECTOR_SOFTWARE, Vector, VectorLimits, settle_vector};
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::xcontrol::XCr0;

use super::context::{Block, NEW_THREAD, SYSTEM_CALL, Saved};
use super::vector::CLEARED;

/// MXCSR bits of a processor that does not say which it has.
const MXCSR_OLD: u32 = 0xFFBF;
/// Offset of the mask of MXCSR in an image.
const MXCSR_MASK: usize = 28;

/// What vector registers can be set to.
pub(crate) fn vector_limits() -> VectorLimits {
    #[repr(C, align(16))]
    struct Image([u8; 512]);
    let mut image = Image([0; 512]);
    // SAFETY: FXSAVE writes 512 bytes at an aligned address, and changes no register.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut image, options(nostack, preserves_flags)) };
    let mask = image
        .0
        .get(MXCSR_MASK..)
        .and_then(|bytes| bytes.first_chunk());
    let mask = mask.map_or(0, |bytes| u32::from_le_bytes(*bytes));
    VectorLimits {
        components: components(),
        mxcsr: if mask == 0 { MXCSR_OLD } else { mask },
    }
}

/// The components of vector state that are switched on: x87 and SSE at least.
fn components() -> u64 {
    if Cr4::read().contains(Cr4Flags::OSXSAVE) {
        XCr0::read().bits() & 7
    } else {
        3
    }
}

/// Sets the vector image, but for what is software's.
fn set_image(block: &mut Block, image: &Vector) {
    let software = block.vector.get(VECTOR_SOFTWARE);
    let software: [u8; Debug::SIZE] = software
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; Debug::SIZE]);
    block.vector = *image;
    if let Some(place) = block.vector.get_mut(VECTOR_SOFTWARE) {
        place.copy_from_slice(&software);
    }
}

impl Saved {
    /// Has it, which is in no system call any more, go on with all of its registers.
    pub(crate) fn make_whole(self) {
        self.with_block(|block| {
            if block.context.kind == SYSTEM_CALL {
                block.context.kind = NEW_THREAD;
                block.context.rcx = block.context.rip;
                block.context.r11 = block.context.rflags;
                set_image(block, &CLEARED);
            }
        });
    }

    /// Its general registers.
    pub(crate) fn general(self) -> General {
        self.with_block(|block| {
            let c = &block.context;
            let lost = c.kind == SYSTEM_CALL;
            General {
                rax: c.rax,
                rbx: c.rbx,
                rcx: if lost { c.rip } else { c.rcx },
                rdx: c.rdx,
                rdi: c.rdi,
                rsi: c.rsi,
                rbp: c.rbp,
                rsp: c.rsp,
                r8: c.r8,
                r9: c.r9,
                r10: c.r10,
                r11: if lost { c.rflags } else { c.r11 },
                r12: c.r12,
                r13: c.r13,
                r14: c.r14,
                r15: c.r15,
                rip: c.rip,
                flags: c.rflags,
                fs_base: block.fs_base,
            }
        })
    }

    /// Sets its general registers.
    pub(crate) fn set_general(self, state: &General) {
        self.with_block(|block| {
            block.fs_base = state.fs_base;
            let c = &mut block.context;
            c.rax = state.rax;
            c.rbx = state.rbx;
            c.rcx = state.rcx;
            c.rdx = state.rdx;
            c.rdi = state.rdi;
            c.rsi = state.rsi;
            c.rbp = state.rbp;
            c.rsp = state.rsp;
            c.r8 = state.r8;
            c.r9 = state.r9;
            c.r10 = state.r10;
            c.r11 = state.r11;
            c.r12 = state.r12;
            c.r13 = state.r13;
            c.r14 = state.r14;
            c.r15 = state.r15;
            c.rip = state.rip;
            c.rflags = state.flags;
        });
    }

    /// Its vector registers.
    pub(crate) fn vector(self) -> Vector {
        self.with_block(|block| {
            let lost = block.context.kind == SYSTEM_CALL;
            let mut image = if lost { CLEARED } else { block.vector };
            let components = components();
            let mut present = components;
            if let Some(header) = image
                .get_mut(VECTOR_HEADER..)
                .and_then(|h| h.first_chunk_mut())
                && Cr4::read().contains(Cr4Flags::OSXSAVE)
            {
                present = u64::from_le_bytes(*header) & components;
            } else if let Some(header) = image.get_mut(VECTOR_HEADER..)
                && let Some(header) = header.first_chunk_mut()
            {
                *header = components.to_le_bytes();
            }
            settle_vector(&mut image, present);
            image
        })
    }

    /// Sets its vector registers.
    pub(crate) fn set_vector(self, image: &Vector) {
        self.with_block(|block| set_image(block, image));
    }

    /// Its debug registers.
    pub(crate) fn debug(self) -> Debug {
        self.with_block(|block| {
            let bytes = block.vector.get(VECTOR_SOFTWARE).unwrap_or(&[]);
            Debug::from_bytes(bytes).unwrap_or_default()
        })
    }

    /// Sets its debug registers.
    pub(crate) fn set_debug(self, state: &Debug) {
        self.with_block(|block| {
            if let Some(place) = block.vector.get_mut(VECTOR_SOFTWARE) {
                place.copy_from_slice(&state.to_bytes());
            }
        });
    }
}

/// Loads what a thread watches.
pub(crate) fn load_debug(state: &Debug) {
    let [a0, a1, a2, a3] = state.addresses();
    // SAFETY: the addresses are of the user half, which the kernel does not touch, and the control
    // word watches memory alone (`checked_debug`); it is cleared first, so that no half is in force.
    unsafe {
        asm!(
            "mov dr7, {zero}",
            "mov dr0, {a0}",
            "mov dr1, {a1}",
            "mov dr2, {a2}",
            "mov dr3, {a3}",
            "mov dr7, {control}",
            zero = in(reg) 0x400_u64,
            a0 = in(reg) a0,
            a1 = in(reg) a1,
            a2 = in(reg) a2,
            a3 = in(reg) a3,
            control = in(reg) state.control | 0x400,
            options(nostack, preserves_flags),
        );
    }
}

/// Watches nothing.
pub(crate) fn clear_debug() {
    // SAFETY: nothing is watched any more.
    unsafe { asm!("mov dr7, {}", in(reg) 0x400_u64, options(nostack, preserves_flags)) };
}

/// Takes what the last debug exception was about, in the bits of [`Debug::STATUS`].
pub(crate) fn take_debug_status() -> u64 {
    let status: u64;
    // SAFETY: reads the status, and clears it: the processor only adds to it.
    unsafe {
        asm!(
            "mov {status}, dr6",
            "mov dr6, {clear}",
            status = out(reg) status,
            clear = in(reg) 0xFFFF_0FF0_u64,
            options(nostack, preserves_flags),
        );
    }
    status & Debug::STATUS
}
