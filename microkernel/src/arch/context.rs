//! What a thread is while it does not run: its registers, as the entry code stores them.
//!
//! A [`Block`] is 1 KiB: the vector registers first, the general ones last, so that RSP0 (the end of
//! the block) lets the processor push straight into it and the vector image is found from there.
//! [`Context::kind`] says how the thread came in, and so how it goes back. Everybody but the entry
//! code works through [`Saved`], which names a block and lends it for the time of a closure.

use core::alloc::Layout;
use core::mem::offset_of;

use ipc_abi::Kern;
use kernel_core::addr::Frame;

use crate::frames::buffer::Buffer;

/// Bytes of the vector image: legacy area, header, upper halves of AVX registers.
pub(crate) const VECTOR_IMAGE: usize = 832;
/// Value of [`Context::kind`] after a system call; processor vectors are below.
pub(crate) const SYSTEM_CALL: u64 = 0x100;
/// Value of [`Context::kind`] of a thread that has not run yet.
pub(crate) const NEW_THREAD: u64 = 0x101;

/// RFLAGS of a new thread: interrupts on.
const FLAGS: u64 = 0x202;

/// General registers in the order in which the stubs push them, last pushed first.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Context {
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) rbp: u64,
    pub(crate) rbx: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) r10: u64,
    pub(crate) rdx: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) rax: u64,
    /// Not saved by a system call, which loses it.
    pub(crate) r11: u64,
    /// Not saved by a system call, which loses it.
    pub(crate) rcx: u64,
    /// How it came in: processor vector, [`SYSTEM_CALL`] or [`NEW_THREAD`]. Says [`SYSTEM_CALL`] as
    /// well while the thread runs, so that a system call need not.
    pub(crate) kind: u64,
    /// Error code of the vector; 0 without one, undefined after a system call.
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

impl Context {
    /// The registers of a thread that is to begin at `ip`.
    pub(crate) fn start(ip: u64, sp: u64, arguments: [u64; 2]) -> Context {
        let [rdi, rsi] = arguments;
        Context {
            rdi,
            rsi,
            kind: NEW_THREAD,
            rip: ip,
            cs: u64::from(super::gdt::USER_CODE),
            rflags: FLAGS,
            rsp: sp,
            ss: u64::from(super::gdt::USER_DATA),
            ..Context::default()
        }
    }

    /// The six words of a message, in ABI order.
    pub(crate) fn words(&self) -> [u64; 6] {
        [self.rbx, self.rbp, self.r12, self.r13, self.r14, self.r15]
    }

    /// Sets the six words of a message.
    pub(crate) fn set_words(&mut self, words: [u64; 6]) {
        [self.rbx, self.rbp, self.r12, self.r13, self.r14, self.r15] = words;
    }

    /// Whether the thread would go on outside the user half, where it must not.
    pub(crate) fn is_lost(&self) -> bool {
        self.rip >= super::layout::USER_HALF_END
    }

    /// The arguments of a trap other than `msg`, in order.
    pub(crate) fn arguments(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}

/// All registers of a thread.
#[repr(C, align(64))]
pub(crate) struct Block {
    /// Vector registers, in the format of XSAVE or FXSAVE.
    pub(crate) vector: [u8; VECTOR_IMAGE],
    /// FS base in ring 3.
    pub(crate) fs_base: u64,
    /// The IPC buffer's frame.
    pub(crate) buffer: Frame,
    /// The root table of the thread's space, which outlives the thread.
    pub(crate) root: Frame,
    pub(crate) context: Context,
}

const _: () = assert!(size_of::<Context>() == 176);
const _: () = assert!(size_of::<Block>() == 1024);
const _: () = assert!(offset_of!(Block, context) == 1024 - 176);

/// Names the block of a thread that exists and is in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved(*mut Block);

// SAFETY: a block is used by whoever holds the world's lock, or by the entry code of the processor
// that runs its thread.
unsafe impl Send for Saved {}

impl Saved {
    /// Allocates a block for a thread that will start with `context`.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn allocate(context: Context, buffer: Frame, root: Frame) -> Result<Saved, Kern> {
        // SAFETY: the layout's size is not zero.
        let block = unsafe { alloc::alloc::alloc(Layout::new::<Block>()) }.cast::<Block>();
        if block.is_null() {
            return Err(Kern::ResourceShortage);
        }
        // SAFETY: the block was just allocated with the layout of its type.
        unsafe { Block::begin(block, context, buffer, root) };
        Ok(Saved(block))
    }

    /// Frees the block. Nobody may use this name of it any more.
    pub(crate) fn free(self) {
        // SAFETY: `allocate` made the block with this layout; kernel-core frees a thread once.
        unsafe { alloc::alloc::dealloc(self.0.cast(), Layout::new::<Block>()) }
    }

    /// The block that a word of kernel-core names: one that [`Saved::word`] made.
    pub(crate) fn of(word: kernel_core::Context) -> Saved {
        Saved(word.0 as *mut Block)
    }

    /// The block that the entry code stored `context` in.
    pub(crate) fn containing(context: *mut Context) -> Saved {
        Saved(context.wrapping_byte_sub(offset_of!(Block, context)).cast())
    }

    /// What kernel-core is to call it.
    pub(crate) fn word(self) -> kernel_core::Context {
        kernel_core::Context(self.0 as u64)
    }

    /// Lends the general registers.
    pub(crate) fn with<R>(self, work: impl FnOnce(&mut Context) -> R) -> R {
        // SAFETY: the block exists (see the type); the reference ends with `work`, which has no
        // `Saved` to make another one from, and the processor stores here only from ring 3.
        work(unsafe { &mut (*self.0).context })
    }

    /// Lends the whole block of a thread that stands still.
    pub(super) fn with_block<R>(self, work: impl FnOnce(&mut Block) -> R) -> R {
        // SAFETY: as in `with`.
        work(unsafe { &mut *self.0 })
    }

    /// The IPC buffer, which exists as long as the block.
    pub(crate) fn buffer(self) -> Buffer {
        // SAFETY: the block exists, and its frame is a buffer's until the block is freed.
        unsafe { Buffer::new((*self.0).buffer) }
    }

    /// Physical address of the root table of its space.
    pub(crate) fn root(self) -> u64 {
        // SAFETY: the block exists.
        unsafe { (*self.0).root }.start().raw()
    }

    /// FS base in ring 3.
    pub(crate) fn fs_base(self) -> u64 {
        // SAFETY: the block exists.
        unsafe { (*self.0).fs_base }
    }

    /// Sets what [`Saved::fs_base`] gives.
    pub(crate) fn set_fs_base(self, base: u64) {
        // SAFETY: the block exists; no reference to it is held.
        unsafe { (*self.0).fs_base = base }
    }

    /// One past the block's last byte.
    pub(super) fn end(self) -> u64 {
        self.0 as u64 + size_of::<Block>() as u64
    }

    /// What the entry code goes on with.
    pub(crate) fn context(self) -> *mut Context {
        self.0.wrapping_byte_add(offset_of!(Block, context)).cast()
    }
}
