//! The UART at 0x3F8: output only, polled.

use super::port_io::{read8, write8};

const BASE: u16 = 0x3F8;
/// The ports that the UART takes: tasks may not touch them.
pub(crate) const PORTS: core::ops::Range<u16> = BASE..BASE + 8;
/// Tries before a byte is dropped: a machine without a UART must not hang.
const PATIENCE: u32 = 100_000;

/// Sets 115200 baud, 8N1, FIFOs on, interrupts off.
pub(crate) fn init() {
    write8(BASE + 1, 0);
    write8(BASE + 3, 0x80);
    write8(BASE, 1);
    write8(BASE + 1, 0);
    write8(BASE + 3, 3);
    write8(BASE + 2, 0xC7);
    write8(BASE + 4, 3);
}

/// Writes bytes; a line feed gets a carriage return before it.
pub(crate) fn write(bytes: &[u8]) {
    for &byte in bytes {
        if byte == b'\n' {
            put(b'\r');
        }
        put(byte);
    }
}

fn put(byte: u8) {
    for _ in 0..PATIENCE {
        if read8(BASE + 5) & 0x20 != 0 {
            break;
        }
    }
    write8(BASE, byte);
}
