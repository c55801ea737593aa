//! Traps on devices: I/O ports, configuration space and interrupts.

use ipc_abi::Kern;
use ipc_abi::device::LINE_NONE;

use kernel_core::InterruptId;
use kernel_core::addr::PageRange;

use super::{Answer, Arguments, NOTHING};
use crate::arch::port_io::{read8, read16, read32, write8, write16, write32};
use crate::arch::{apic, clock, exit, percpu, pic, serial};
use crate::world::World;

/// Which register of which PCI function the data port is: a bit that says so, the function, the register.
const CONFIG_ADDRESS: u16 = 0xCF8;
const CONFIG_DATA: u16 = 0xCFC;
const CONFIG_ENABLE: u32 = 1 << 31;

/// `device_port_io(device, port, width, write, value) -> value`
pub(super) fn port_io(
    world: &mut World,
    [device, port, width, write, value, _]: Arguments,
) -> Answer {
    let held = world.kernel.io_ports(device)?;
    let (Ok(port), 1 | 2 | 4) = (u16::try_from(port), width) else {
        return Err(Kern::InvalidArgument.into());
    };
    // The last byte has to be a port as well.
    let Some(last) = port.checked_add(width as u16 - 1) else {
        return Err(Kern::InvalidArgument.into());
    };
    if (port..=last).any(|port| !held.contains(&port) || is_kernels(port)) {
        return Err(Kern::NoAccess.into());
    }
    Ok([access(port, width, (write != 0).then_some(value as u32)), 0])
}

/// `device_restrict(device, first, count) -> right`
pub(super) fn restrict(world: &mut World, [device, first, count, ..]: Arguments) -> Answer {
    let right = world.kernel.device_restrict(device, first, count)?;
    Ok([u64::from(right), 0])
}

/// `device_config_io(device, function, register, width, write, value) -> value`
pub(super) fn config_io(
    world: &mut World,
    [device, function, register, width, write, value]: Arguments,
) -> Answer {
    world.kernel.check_device(device)?;
    let (Ok(function), Ok(register), 1 | 2 | 4) =
        (u16::try_from(function), u8::try_from(register), width)
    else {
        return Err(Kern::InvalidArgument.into());
    };
    if u64::from(register) % width != 0 {
        return Err(Kern::InvalidArgument.into());
    }
    // The world is this processor's: nobody selects anything else in between.
    let place = u32::from(function) << 8 | u32::from(register & !3);
    write32(CONFIG_ADDRESS, CONFIG_ENABLE | place);
    let data = CONFIG_DATA + u16::from(register & 3);
    Ok([access(data, width, (write != 0).then_some(value as u32)), 0])
}

/// Reads `width` bytes from a port, or writes them.
fn access(port: u16, width: u64, value: Option<u32>) -> u64 {
    match (value, width) {
        (None, 1) => return read8(port).into(),
        (None, 2) => return read16(port).into(),
        (None, _) => return read32(port).into(),
        (Some(value), 1) => write8(port, value as u8),
        (Some(value), 2) => write16(port, value as u16),
        (Some(value), _) => write32(port, value),
    }
    0
}

/// `interrupt_create(device, line, notify) -> interrupt, message`
pub(super) fn interrupt_create(world: &mut World, [device, line, notify, ..]: Arguments) -> Answer {
    let World { kernel, hardware } = world;
    let (name, id) = kernel.interrupt_create(hardware, device, line, notify)?;
    let message = match line {
        LINE_NONE => message(0, id),
        _ => 0,
    };
    Ok([u64::from(name), message])
}

/// `interrupt_set_processor(interrupt, processor) -> message`
pub(super) fn interrupt_set_processor(
    world: &mut World,
    [interrupt, processor, ..]: Arguments,
) -> Answer {
    let World { kernel, hardware } = world;
    let signalled = kernel.interrupt_set_processor(hardware, interrupt, processor)?;
    let message = signalled.map_or(0, |id| message(processor as usize, id));
    Ok([message, 0])
}

/// What a device is to write to interrupt a processor.
fn message(processor: usize, interrupt: InterruptId) -> u64 {
    apic::message(percpu::apic_of(processor), interrupt.index()).to_word()
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
    let World { kernel, hardware } = world;
    let driver = kernel.running().ok_or(Kern::Failure)?;
    let payer = (driver.task, kernel.tables_left(Some(driver.task)));
    hardware
        .memory
        .attach_device(driver.space, function, payer)?;
    Ok(NOTHING)
}

/// `device_show(device, address, pages)`
pub(super) fn show(world: &mut World, [device, address, pages, ..]: Arguments) -> Answer {
    world.kernel.check_device(device)?;
    let pages = PageRange::new(address, pages)?;
    let World { kernel, hardware } = world;
    let driver = kernel.running().ok_or(Kern::Failure)?;
    let left = kernel.tables_left(Some(driver.task));
    hardware.memory.show_device(driver.space, pages, left)?;
    Ok(NOTHING)
}

/// Whether the kernel uses this port itself.
fn is_kernels(port: u16) -> bool {
    serial::PORTS.contains(&port)
        || clock::PIT_PORTS.contains(&port)
        || pic::has_port(port)
        || exit::has_port(port)
        || (CONFIG_ADDRESS..CONFIG_DATA + 4).contains(&port)
        || port == clock::GATE_PORT
        || port == crate::trace::PORT
}
