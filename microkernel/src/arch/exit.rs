//! Leaving the machine: QEMU's debug exit, else power-off ports, else a halt.

use super::port_io::{write8, write16};

const DEBUG_EXIT: u16 = 0xF4;
/// The ports of the debug exit, and the power-off ports.
pub(crate) fn has_port(port: u16) -> bool {
    matches!(port, 0xF4..0xF8 | 0x604 | 0x605 | 0xB004 | 0xB005)
}
/// QEMU's exit status is twice this plus one: 33.
const SUCCESS: u8 = 0x10;
/// Plus the code: QEMU's exit status is 65 and more.
const FAILURE: u8 = 0x20;
/// The largest code that fits QEMU's exit status.
const LARGEST: u32 = 0x5F;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All went well.
    Success,
    /// Something failed; what, is on the console. The code is 1 or more; one over 95 becomes 95.
    Failure(u32),
}

/// Ends the machine.
pub(crate) fn exit(end: End) -> ! {
    let value = match end {
        End::Success => SUCCESS,
        End::Failure(code) => FAILURE + code.clamp(1, LARGEST) as u8,
    };
    write8(DEBUG_EXIT, value);
    if end == End::Success {
        // ACPI soft-off where QEMU's `pc` and `q35` machines have it.
        write16(0x604, 0x2000);
        write16(0xB004, 0x2000);
    }
    super::cpu::halt()
}
