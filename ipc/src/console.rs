//! `print!` and `println!`: lines to the kernel's console.
//!
//! Text is gathered and written whole, so that lines of different tasks do not mix; only a piece
//! of more than [`LINE`] bytes is written in parts.

use core::fmt::{self, Write};

/// Bytes that are gathered before they are written.
pub const LINE: usize = 1024;

/// Gathers text and writes it when it is full or dropped.
struct Line {
    length: usize,
    bytes: [u8; LINE],
}

impl Line {
    fn flush(&mut self) {
        if let Some(text) = self.bytes.get(..self.length) {
            write_bytes(text);
        }
        self.length = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut text = text.as_bytes();
        while !text.is_empty() {
            let room = self.bytes.get_mut(self.length..).unwrap_or_default();
            let (now, later) = text.split_at(text.len().min(room.len()));
            if let Some(place) = room.get_mut(..now.len()) {
                place.copy_from_slice(now);
            }
            self.length += now.len();
            text = later;
            if self.length == LINE {
                self.flush();
            }
        }
        Ok(())
    }
}

/// Writes bytes to the console, up to the size of a message body at once.
pub fn write_bytes(text: &[u8]) {
    for piece in text.chunks(ipc_abi::buffer::BODY_SIZE) {
        let mut body = crate::buffer::Body::borrow();
        if let Some(place) = body.get_mut(..piece.len()) {
            place.copy_from_slice(piece);
        }
        drop(body);
        let _ = crate::trap::console_write(piece.len());
    }
}

/// Formats and writes. For the macros.
#[doc(hidden)]
pub fn print(arguments: fmt::Arguments<'_>) {
    write(arguments, "");
}

/// Formats and writes a line. For the macros.
#[doc(hidden)]
pub fn print_line(arguments: fmt::Arguments<'_>) {
    write(arguments, "\n");
}

fn write(arguments: fmt::Arguments<'_>, end: &str) {
    let mut line = Line {
        length: 0,
        bytes: [0; LINE],
    };
    // A `Display` that fails has printed what it could.
    let _ = line.write_fmt(arguments);
    let _ = line.write_str(end);
    line.flush();
}

/// Formats and writes a line whatever state the buffer is in: for the last words of a task.
pub(crate) fn last_words(arguments: fmt::Arguments<'_>) {
    drop(crate::buffer::seize());
    print_line(arguments);
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {
        $crate::console::print(::core::format_args!($($argument)*))
    };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => {
        $crate::console::write_bytes(b"\n")
    };
    ($($argument:tt)+) => {
        $crate::console::print_line(::core::format_args!($($argument)+))
    };
}
