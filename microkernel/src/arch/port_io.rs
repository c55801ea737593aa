//! Reading and writing I/O ports: what this kernel's own devices need, and the device trap.

use x86_64::instructions::port::Port;

/// Writes a byte.
pub(crate) fn write8(port: u16, value: u8) {
    // SAFETY: port I/O reaches devices, not memory that Rust knows: no device of this kernel is
    // told to use DMA, and tasks get here only through the device right, which is trusted (law 6).
    unsafe { Port::new(port).write(value) }
}

/// Reads a byte.
pub(crate) fn read8(port: u16) -> u8 {
    // SAFETY: as in `write8`.
    unsafe { Port::new(port).read() }
}

/// Writes two bytes.
pub(crate) fn write16(port: u16, value: u16) {
    // SAFETY: as in `write8`.
    unsafe { Port::new(port).write(value) }
}

/// Reads two bytes.
pub(crate) fn read16(port: u16) -> u16 {
    // SAFETY: as in `write8`.
    unsafe { Port::new(port).read() }
}

/// Writes four bytes.
pub(crate) fn write32(port: u16, value: u32) {
    // SAFETY: as in `write8`.
    unsafe { Port::new(port).write(value) }
}

/// Reads four bytes.
pub(crate) fn read32(port: u16) -> u32 {
    // SAFETY: as in `write8`.
    unsafe { Port::new(port).read() }
}
