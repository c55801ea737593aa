//! I/O ports and PCI's configuration space, by the device port.

use guest_test::{Outcome, check, check_eq};
use ipc::abi::device::LINE_NONE;
use ipc::abi::right::Name;
use ipc::{Kern, SendRight, Untyped, thread, trap, vm};
use virtio::hal::DevicePort;

use crate::edu::Edu;

/// Where QEMU takes the number of what it is to say of the machine, 16 bits.
const SELECTOR: u16 = 0x510;
/// Where it says it, byte by byte.
const DATA: u16 = 0x511;
/// What it says under number 0.
const SIGNATURE: [u8; 4] = *b"QEMU";
/// The same as a word.
const SIGNATURE_WORD: u16 = 0x514;
/// The function that every machine has: the host bridge.
const BRIDGE: u16 = 0;
/// The register of a function that says who made it, and what it is.
const IDENTITY: u8 = 0;
/// PCI's Interrupt Line register, which holds what is written to it.
const LINE: u8 = 0x3C;

fn read(device: Name, port: u16, width: u32) -> Result<u32, Kern> {
    // SAFETY: reading these ports has no effect on memory.
    unsafe { trap::device_port_read(device, port, width) }
}

fn write_config(device: Name, at: (u16, u8), value: (u32, u32)) -> Result<(), Kern> {
    // SAFETY: what is written to has no effect on memory.
    unsafe { trap::device_config_write(device, at.0, at.1, value) }
}

pub(crate) fn configuration_space_is_read_and_written_in_every_width() -> Outcome {
    let edu = Edu::open()?;
    let (device, function) = (edu.right().name(), edu.number());
    let read = |register, width| trap::device_config_read(device, function, register, width);
    let identity = read(IDENTITY, 4)?;
    check_eq!(read(IDENTITY, 2)?, identity & 0xFFFF);
    check_eq!(read(IDENTITY + 2, 2)?, identity >> 16);
    check_eq!(read(IDENTITY + 1, 1)?, identity >> 8 & 0xFF);
    let line = read(LINE, 4)?;
    let other = line ^ 0x55;
    for width in [1, 2, 4] {
        write_config(device, (function, LINE), (width, other))?;
        check_eq!(read(LINE, 4)?, other);
        write_config(device, (function, LINE), (width, line))?;
        check_eq!(read(LINE, 4)?, line);
    }
    let refused = Err(Kern::InvalidArgument);
    for (register, width) in [(0, 0), (0, 3), (0, 8), (1, 2), (2, 4), (255, 2)] {
        check_eq!(read(register, width), refused);
        let written = write_config(device, (function, register), (width, 0));
        check_eq!(written.err(), refused.err());
    }
    let bridge = trap::device_config_read(0, BRIDGE, IDENTITY, 4);
    check_eq!(bridge, Err(Kern::InvalidHost));
    // Nobody answers.
    check_eq!(
        trap::device_config_read(device, u16::MAX, IDENTITY, 4)?,
        u32::MAX
    );
    Ok(())
}

pub(crate) fn two_threads_that_read_configuration_space_do_not_disturb_each_other() -> Outcome {
    const TIMES: usize = 2000;
    let edu = Edu::open()?;
    let (device, function) = (edu.right().name(), edu.number());
    let read = move |function| trap::device_config_read(device, function, IDENTITY, 4);
    let all_equal = move |function| -> Result<bool, Kern> {
        let first = read(function)?;
        for _ in 0..TIMES {
            if read(function)? != first {
                return Ok(false);
            }
        }
        Ok(true)
    };
    check!(read(function)? != read(BRIDGE)?);
    let other = thread::spawn(move || all_equal(BRIDGE))?;
    check!(all_equal(function)?);
    check!(other.join()?);
    Ok(())
}

pub(crate) fn ports_are_read_and_written_in_every_width() -> Outcome {
    let device = DevicePort::open()?;
    let name = device.right().name();
    let [first, second, ..] = SIGNATURE.map(u32::from);
    for _ in 0..2 {
        // SAFETY: it only selects what is read.
        unsafe { trap::device_port_write(name, SELECTOR, 2, 0)? };
        check_eq!(read(name, DATA, 1)?, first);
        check_eq!(read(name, DATA, 1)?, second);
    }
    check_eq!(read(name, SIGNATURE_WORD, 1)?, first);
    check_eq!(read(name, SIGNATURE_WORD, 2)?, second << 8 | first);
    check_eq!(
        read(name, SIGNATURE_WORD, 4)?,
        u32::from_le_bytes(SIGNATURE)
    );
    for (port, width) in [(DATA, 0), (DATA, 3), (DATA, 8), (0xFFFF, 2)] {
        check_eq!(read(name, port, width), Err(Kern::InvalidArgument));
    }
    check_eq!(read(0, DATA, 1), Err(Kern::InvalidHost));
    Ok(())
}

pub(crate) fn ports_of_the_kernel_are_refused() -> Outcome {
    let device = DevicePort::open()?;
    let name = device.right().name();
    // The serial line, the timer, the interrupt controllers, configuration space with the reset
    // register in it, also by a neighbour's width.
    for (port, width) in [
        (0x3F8, 1),
        (0x40, 1),
        (0x43, 1),
        (0x21, 1),
        (0xA1, 1),
        (0x1F, 2),
        (0xCF8, 4),
        (0xCF9, 1),
        (0xCFF, 1),
        (0xCF6, 4),
    ] {
        check_eq!(read(name, port, width), Err(Kern::NoAccess));
    }
    Ok(())
}

pub(crate) fn a_right_to_a_range_is_good_for_its_ports_alone() -> Outcome {
    let device = DevicePort::open()?;
    let whole = device.right().name();
    let [first, second, ..] = SIGNATURE.map(u32::from);
    let select = |name| {
        // SAFETY: it only selects what is read.
        unsafe { trap::device_port_write(name, SELECTOR, 2, 0) }
    };
    // Of the device's ports the last three: the selector's first byte is outside.
    let data = Right(trap::device_restrict(whole, DATA, 3)?);
    select(whole)?;
    check_eq!(read(data.0, DATA, 1)?, first);
    check_eq!(select(data.0), Err(Kern::NoAccess));
    for (port, width) in [
        (SELECTOR, 1),
        (SELECTOR, 4),
        (DATA + 2, 2),
        (DATA, 4),
        (SIGNATURE_WORD, 1),
    ] {
        check_eq!(read(data.0, port, width), Err(Kern::NoAccess));
    }
    // A right of a right, and nothing wider.
    let one = Right(trap::device_restrict(data.0, DATA, 1)?);
    check_eq!(read(one.0, DATA, 1)?, second);
    check_eq!(read(one.0, DATA, 2), Err(Kern::NoAccess));
    check_eq!(trap::device_restrict(one.0, DATA, 2), Err(Kern::NoAccess));
    check_eq!(
        trap::device_restrict(data.0, SELECTOR, 2),
        Err(Kern::NoAccess)
    );
    check_eq!(
        trap::device_restrict(data.0, DATA, 0),
        Err(Kern::InvalidArgument)
    );
    // The kernel's ports are nobody's, and a range is nothing but ports.
    let all = Right(trap::device_restrict(whole, 0, 0x1_0000)?);
    check_eq!(read(all.0, 0x3F8, 1), Err(Kern::NoAccess));
    check_eq!(read(all.0, SIGNATURE_WORD, 1)?, first);
    let refused = Err(Kern::InvalidHost);
    check_eq!(
        trap::device_config_read(all.0, BRIDGE, IDENTITY, 4),
        refused
    );
    check_eq!(trap::device_attach(all.0, 0x4F00), Err(Kern::InvalidHost));
    let bell = trap::port_allocate(0)?;
    let made = trap::interrupt_create(all.0, LINE_NONE, bell);
    check_eq!(made.err(), Some(Kern::InvalidHost));
    trap::port_destroy(bell)?;
    let right = core::mem::ManuallyDrop::new(SendRight::<Untyped>::from_name(all.0));
    let memory = vm::own().device_memory_allocate(&right, 4096);
    check_eq!(memory.err(), Some(Kern::InvalidHost));
    Ok(())
}

/// A right that is given back.
struct Right(Name);

impl Drop for Right {
    fn drop(&mut self) {
        // It is there, and counted once.
        let _ = trap::port_deallocate(self.0, 1);
    }
}
