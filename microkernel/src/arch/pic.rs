//! The legacy interrupt controllers: moved out of the way of the exceptions, and masked.

use super::port_io::write8;

/// Vector of the first legacy interrupt; spurious ones can arrive even when all are masked.
pub(crate) const BASE: u8 = 0x20;

/// Whether a port is one of the controllers'.
pub(crate) fn has_port(port: u16) -> bool {
    matches!(port, 0x20 | 0x21 | 0xA0 | 0xA1)
}

/// Programs both controllers and masks every line.
pub(crate) fn mask_all() {
    for (command, base, cascade) in [(0x20, BASE, 4), (0xA0, BASE + 8, 2)] {
        write8(command, 0x11);
        write8(command + 1, base);
        write8(command + 1, cascade);
        write8(command + 1, 1);
        write8(command + 1, 0xFF);
    }
}
