//! Traps on devices: I/O ports and interrupts.

use ipc_abi::Kern;
use ipc_abi::device::{InterruptMessage, LINE_NONE};

use kernel_core::addr::PageRange;

use super::{Answer, Arguments, NOTHING};
use crate::arch::port_io::{read8, read16, read32, write8, write16, write32};
use crate::arch::{apic, clock, exit, pic, serial};
use crate::world::World;

/// `device_port_io(device, port, width, write, value) -> value`
pub(super) fn port_io(
    world: &mut World,
    [device, port, width, write, value, _]: Arguments,
) -> Answer {
    world.kernel.check_device(device)?;
    let (Ok(port), 1 | 2 | 4) = (u16::try_from(port), width) else {
        return Err(Kern::InvalidArgument.into());
    };
    // The last byte has to be a port as well.
    let Some(last) = port.checked_add(width as u16 - 1) else {
        return Err(Kern::InvalidArgument.into());
    };
    if (port..=last).any(is_kernels) {
        return Err(Kern::NoAccess.into());
    }
    let value = match (write != 0, width) {
        (false, 1) => u64::from(read8(port)),
        (false, 2) => u64::from(read16(port)),
        (false, _) => u64::from(read32(port)),
        (true, 1) => {
            write8(port, value as u8);
            0
        }
        (true, 2) => {
            write16(port, value as u16);
            0
        }
        (true, _) => {
            write32(port, value as u32);
            0
        }
    };
    Ok([value, 0])
}

/// `interrupt_create(device, line, notify) -> interrupt, message`
pub(super) fn interrupt_create(world: &mut World, [device, line, notify, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    let (name, id) = kernel.interrupt_create(hardware, device, line, notify)?;
    let message = match line {
        LINE_NONE => InterruptMessage {
            address: apic::MESSAGE_ADDRESS,
            data: u32::from(apic::device_vector(id.index())),
        }
        .to_word(),
        _ => 0,
    };
    Ok([u64::from(name), message])
}

/// `interrupt_enable(interrupt)`
pub(super) fn interrupt_enable(world: &mut World, [interrupt, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    kernel.interrupt_enable(hardware, interrupt)?;
    Ok(NOTHING)
}

/// `device_attach(device, function)`
pub(super) fn attach(world: &mut World, [device, function, ..]: Arguments) -> Answer {
    world.kernel.check_device(device)?;
    let function = u16::try_from(function).map_err(|_| Kern::InvalidArgument)?;
    let space = world.kernel.running().ok_or(Kern::Failure)?.space;
    world.hardware.memory.attach_device(space, function)?;
    Ok(NOTHING)
}

/// `device_show(device, address, pages)`
pub(super) fn show(world: &mut World, [device, address, pages, ..]: Arguments) -> Answer {
    world.kernel.check_device(device)?;
    let pages = PageRange::new(address, pages)?;
    let space = world.kernel.running().ok_or(Kern::Failure)?.space;
    world.hardware.memory.show_device(space, pages)?;
    Ok(NOTHING)
}

/// Whether the kernel uses this port itself.
fn is_kernels(port: u16) -> bool {
    serial::PORTS.contains(&port)
        || clock::PIT_PORTS.contains(&port)
        || pic::has_port(port)
        || exit::has_port(port)
        || port == clock::GATE_PORT
        || port == crate::trace::PORT
}
