//! What a thread is while it does not run: its registers, as the entry code stores them.
//!
//! A [`Block`] is 1 KiB: the vector registers first, the general ones last, so that RSP0 (the end of
//! the block) lets the processor push straight into it and the vector image is found from there.
//! [`Context::kind`] says how the thread came in, and so how it goes back.

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
    /// Processor vector, [`SYSTEM_CALL`] or [`NEW_THREAD`].
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

    /// The arguments of a trap other than `msg`, in order.
    pub(crate) fn arguments(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}

/// All registers of a thread.
#[derive(Clone)]
#[repr(C, align(64))]
pub(crate) struct Block {
    pub(crate) vector: [u8; VECTOR_IMAGE],
    /// FS base in ring 3.
    pub(crate) fs_base: u64,
    /// Physical address of the IPC buffer's frame.
    pub(crate) buffer: u64,
    pub(crate) context: Context,
}

const _: () = assert!(size_of::<Context>() == 176);
const _: () = assert!(size_of::<Block>() == 1024);
const _: () = assert!(core::mem::offset_of!(Block, context) == 1024 - 176);
