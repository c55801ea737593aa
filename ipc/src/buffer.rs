//! This thread's IPC buffer: its body as a borrowed slice, its right slots by number.
//!
//! The last 24 bytes of the page are unused by the kernel. The runtime keeps the thread's own
//! words there, and points FS at the buffer, so that finding it is one load:
//!
//! ```text
//! 4072  u64  address of this buffer
//! 4080  u64  1 while the body is borrowed
//! 4088  u32  name of the port that this thread parks on, or 0
//! ```
//!
//! A [`Body`] is the only way to bytes of the body, and there is at most one at a time: borrowing it
//! twice is a panic, and so is sending or receiving while it is borrowed. Thus no arriving message
//! can change bytes that somebody looks at.

use core::arch::asm;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use ipc_abi::buffer::{BODY_SIZE, KINDS, RIGHTS_MAX, VALUES};
use ipc_abi::right::{ArrivedKind, Disposition, Name};

/// Offset of the word that holds the buffer's own address.
pub(crate) const SELF: usize = 4072;
/// Offset of the word that says whether the body is borrowed.
pub(crate) const LENT: usize = 4080;
/// Offset of the name of the thread's parking port.
const PARK: usize = 4088;

const _: () = assert!(KINDS + RIGHTS_MAX <= SELF);

/// The address of this thread's buffer.
#[inline(always)]
pub(crate) fn base() -> *mut u8 {
    let base;
    // SAFETY: FS base is the thread's buffer from its first instructions on; the word is written
    // there once and never changes.
    unsafe {
        asm!(
            "mov {}, fs:[{offset}]",
            out(reg) base,
            offset = const SELF,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    base
}

/// Whether the body is borrowed.
#[inline(always)]
pub(crate) fn is_lent() -> bool {
    let lent: u64;
    // SAFETY: reads a word of this thread's own buffer.
    unsafe {
        asm!(
            "mov {}, fs:[{offset}]",
            out(reg) lent,
            offset = const LENT,
            options(readonly, nostack, preserves_flags),
        );
    }
    lent != 0
}

#[inline(always)]
fn set_lent(lent: bool) {
    // SAFETY: writes a word of this thread's own buffer that only this module uses.
    unsafe {
        asm!(
            "mov fs:[{offset}], {}",
            in(reg) u64::from(lent),
            offset = const LENT,
            options(nostack, preserves_flags),
        );
    }
}

/// The body of this thread's IPC buffer, borrowed.
#[derive(Debug)]
pub struct Body {
    // Of this thread: neither Send nor Sync.
    own: PhantomData<*mut u8>,
}

impl Body {
    /// Borrows the body.
    ///
    /// # Panics
    /// If it is borrowed already.
    #[inline]
    #[must_use]
    pub fn borrow() -> Body {
        assert!(!is_lent(), "the IPC buffer is borrowed twice");
        set_lent(true);
        Body { own: PhantomData }
    }
}

impl Deref for Body {
    type Target = [u8; BODY_SIZE];

    #[inline]
    fn deref(&self) -> &[u8; BODY_SIZE] {
        // SAFETY: the body is readable memory of this thread as long as the thread lives, and
        // nothing writes it while a `Body` exists.
        unsafe { &*base().cast() }
    }
}

impl DerefMut for Body {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8; BODY_SIZE] {
        // SAFETY: as above; there is one `Body` at a time, and it is borrowed mutably.
        unsafe { &mut *base().cast() }
    }
}

impl Drop for Body {
    #[inline]
    fn drop(&mut self) {
        set_lent(false);
    }
}

/// Takes the body whoever has borrowed it: for the last words of a task.
pub(crate) fn seize() -> Body {
    Body { own: PhantomData }
}

/// Fills a right slot of the message to send. Slots beyond the eighth wrap.
#[inline]
pub fn set_right(slot: usize, name: Name, disposition: Disposition) {
    let slot = slot & (RIGHTS_MAX - 1);
    // SAFETY: both places lie in this thread's buffer, beside the body; nobody borrows them.
    unsafe {
        base()
            .add(VALUES + 8 * slot)
            .cast::<u64>()
            .write(name.into());
        base().add(KINDS + slot).write(disposition as u8);
    }
}

/// Reads a right slot of the message received: the name, or for one's own port its payload. Slots
/// beyond the eighth wrap.
#[inline]
pub fn right(slot: usize) -> (u64, ArrivedKind) {
    let slot = slot & (RIGHTS_MAX - 1);
    // SAFETY: as in `set_right`; volatile, because the kernel wrote them.
    let (value, kind) = unsafe {
        (
            base().add(VALUES + 8 * slot).cast::<u64>().read_volatile(),
            base().add(KINDS + slot).read_volatile(),
        )
    };
    (
        value,
        ArrivedKind::from_raw(kind).unwrap_or(ArrivedKind::None),
    )
}

/// The port that this thread parks on, or 0.
pub(crate) fn park_port() -> Name {
    // SAFETY: a word of this thread's own buffer that only this module uses.
    unsafe { base().add(PARK).cast::<u32>().read() }
}

/// Remembers the port that this thread parks on.
pub(crate) fn set_park_port(name: Name) {
    // SAFETY: as in `park_port`.
    unsafe { base().add(PARK).cast::<u32>().write(name) }
}
