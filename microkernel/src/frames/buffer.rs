//! IPC buffers: reading and writing a frame that a task may be writing to at the same time.
//!
//! Control words are read once, by volatile loads, and copied before anything looks at them. The
//! kernel never forms a reference to a buffer. Offsets are those of [`ipc_abi::buffer`].

use core::ptr;

use ipc_abi::buffer::{BODY, BODY_SIZE, KINDS, RIGHTS_MAX, VALUES};
use ipc_abi::layout::PAGE_SIZE;
use kernel_core::addr::Frame;
use kernel_core::paging::BatchBuffer;

use crate::pmap::direct_map;

/// The IPC buffer in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer(Frame);

impl Buffer {
    /// The buffer in `frame`.
    ///
    /// # Safety
    /// The frame is an IPC buffer's for as long as the value is used: the kernel's, in no table,
    /// heap or pool.
    pub(crate) const unsafe fn new(frame: Frame) -> Buffer {
        Buffer(frame)
    }

    /// Its frame.
    pub(crate) const fn frame(self) -> Frame {
        self.0
    }

    /// The right at this index (taken below [`RIGHTS_MAX`]): value and kind.
    pub(crate) fn right(self, index: usize) -> (u64, u8) {
        let index = index % RIGHTS_MAX;
        let value = self.at(VALUES + 8 * index).cast::<u64>();
        // SAFETY: inside the page, aligned, and the frame is a buffer's (`new`).
        let value = unsafe { ptr::read_volatile(value) };
        // SAFETY: as above.
        let kind = unsafe { ptr::read_volatile(self.at(KINDS + index)) };
        (value, kind)
    }

    /// Sets the right at this index (taken below [`RIGHTS_MAX`]).
    pub(crate) fn set_right(self, index: usize, (value, kind): (u64, u8)) {
        let index = index % RIGHTS_MAX;
        let place = self.at(VALUES + 8 * index).cast::<u64>();
        // SAFETY: inside the page, aligned, and the frame is a buffer's (`new`).
        unsafe { ptr::write_volatile(place, value) };
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.at(KINDS + index), kind) };
    }

    /// Copies the start of the body out; what is longer than a body stays as it is.
    pub(crate) fn read_body(self, into: &mut [u8]) {
        let length = into.len().min(BODY_SIZE);
        // SAFETY: the body lies inside the page; the target is the caller's and no buffer.
        unsafe { ptr::copy_nonoverlapping(self.at(BODY), into.as_mut_ptr(), length) };
    }

    /// Writes the start of the body; what is longer than a body is cut.
    pub(crate) fn write_body(self, bytes: &[u8]) {
        let length = bytes.len().min(BODY_SIZE);
        // SAFETY: the body lies inside the page; the source is the caller's and no buffer.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(BODY), length) };
    }

    /// Copies the first `length` bytes of the body (at most all) to another buffer; not a byte
    /// more, since what lies behind them is the sender's own.
    pub(crate) fn copy_body(self, to: Buffer, length: usize) {
        let length = length.min(BODY_SIZE);
        // SAFETY: both bodies lie inside their pages; the two may be one page.
        unsafe { ptr::copy(self.at(BODY), to.at(BODY), length) };
    }

    fn at(self, offset: usize) -> *mut u8 {
        direct_map::pointer(self.0).wrapping_add(offset % PAGE_SIZE as usize)
    }
}

const _: () = assert!(BODY == 0 && BODY_SIZE.is_multiple_of(8));

impl BatchBuffer for Buffer {
    fn load64(&self, offset: usize) -> u64 {
        let place = self.at(BODY + (offset & !7)).cast::<u64>();
        // SAFETY: inside the page, aligned, and the frame is a buffer's (`new`).
        unsafe { ptr::read_volatile(place) }
    }

    fn load32(&self, offset: usize) -> u32 {
        let place = self.at(BODY + (offset & !3)).cast::<u32>();
        // SAFETY: inside the page, aligned, and the frame is a buffer's (`new`).
        unsafe { ptr::read_volatile(place) }
    }

    fn store32(&mut self, offset: usize, value: u32) {
        let place = self.at(BODY + (offset & !3)).cast::<u32>();
        // SAFETY: inside the page, aligned, and the frame is a buffer's (`new`).
        unsafe { ptr::write_volatile(place, value) };
    }
}
