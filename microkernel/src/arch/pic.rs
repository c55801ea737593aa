//! The legacy interrupt controllers: moved out of the way of the exceptions, and masked.

use super::port_io::write8;

/// Vector of the first legacy interrupt; spurious ones can arrive even when all are masked.
pub(crate) const BASE: u8 = 0x20;

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
