//! I/O ports, by the device port.

use guest_test::{Outcome, check_eq};
use ipc::abi::right::Name;
use ipc::{Kern, trap};
use virtio::hal::DevicePort;

/// Where the PCI bus takes the register to look at; all 32 bits of it can be read back.
const ADDRESS: u16 = 0xCF8;

fn read(device: Name, port: u16, width: u32) -> Result<u32, Kern> {
    // SAFETY: reading these ports has no effect on memory.
    unsafe { trap::device_port_read(device, port, width) }
}

pub(crate) fn ports_are_read_and_written_in_every_width() -> Outcome {
    let device = DevicePort::open()?;
    let name = device.right().name();
    let address = 0x8000_0000;
    // SAFETY: it selects the host bridge's first register, and changes nothing.
    unsafe { trap::device_port_write(name, ADDRESS, 4, address)? };
    check_eq!(read(name, ADDRESS, 4)?, address);
    let identity = read(name, 0xCFC, 4)?;
    check_eq!(read(name, 0xCFC, 2)?, identity & 0xFFFF);
    check_eq!(read(name, 0xCFE, 2)?, identity >> 16);
    check_eq!(read(name, 0xCFD, 1)?, identity >> 8 & 0xFF);
    for (port, width) in [(ADDRESS, 0), (ADDRESS, 3), (ADDRESS, 8), (0xFFFF, 2)] {
        check_eq!(read(name, port, width), Err(Kern::InvalidArgument));
    }
    check_eq!(read(0, ADDRESS, 4), Err(Kern::InvalidHost));
    Ok(())
}

pub(crate) fn ports_of_the_kernel_are_refused() -> Outcome {
    let device = DevicePort::open()?;
    let name = device.right().name();
    // The serial line, the timer, the interrupt controllers, also by a neighbour's width.
    for (port, width) in [
        (0x3F8, 1),
        (0x40, 1),
        (0x43, 1),
        (0x21, 1),
        (0xA1, 1),
        (0x1F, 2),
    ] {
        check_eq!(read(name, port, width), Err(Kern::NoAccess));
    }
    Ok(())
}
