//! Traps of drivers: I/O ports, configuration space, memory for devices, and interrupts.

use ipc_abi::Kern;
use ipc_abi::right::Name;
use ipc_abi::trap::Trap;

use super::{done, harmless, trap};

/// Reads an I/O port of `width` 1, 2 or 4 bytes. See [`Trap::DevicePortIo`].
///
/// # Safety
/// The device behind the port must not change this task's memory because of it.
pub unsafe fn device_port_read(device: Name, port: u16, width: u32) -> Result<u32, Kern> {
    // SAFETY: the caller's duty.
    unsafe {
        trap(
            Trap::DevicePortIo,
            [device.into(), port.into(), width.into(), 0, 0, 0],
        )
    }
    .map(|[value, _]| value as u32)
}

/// Writes an I/O port of `width` 1, 2 or 4 bytes. See [`Trap::DevicePortIo`].
///
/// # Safety
/// As [`device_port_read`].
pub unsafe fn device_port_write(
    device: Name,
    port: u16,
    width: u32,
    value: u32,
) -> Result<(), Kern> {
    // SAFETY: the caller's duty.
    unsafe {
        trap(
            Trap::DevicePortIo,
            [device.into(), port.into(), width.into(), 1, value.into(), 0],
        )
    }
    .map(|_| ())
}

/// Makes a right to `count` I/O ports from `first` on. See [`Trap::DeviceRestrict`].
pub fn device_restrict(device: Name, first: u16, count: u32) -> Result<Name, Kern> {
    let arguments = [device.into(), first.into(), count.into(), 0, 0, 0];
    harmless(Trap::DeviceRestrict, arguments).map(|[name, _]| name as Name)
}

/// Attaches a device's function to this task. See [`Trap::DeviceAttach`].
pub fn device_attach(device: Name, function: u16) -> Result<(), Kern> {
    done(
        Trap::DeviceAttach,
        [device.into(), function.into(), 0, 0, 0, 0],
    )
}

/// Reads `width` 1, 2 or 4 bytes of a PCI function's configuration space. See [`Trap::DeviceConfigIo`].
pub fn device_config_read(
    device: Name,
    function: u16,
    register: u8,
    width: u32,
) -> Result<u32, Kern> {
    let (function, register) = (function.into(), register.into());
    let arguments = [device.into(), function, register, width.into(), 0, 0];
    harmless(Trap::DeviceConfigIo, arguments).map(|[value, _]| value as u32)
}

/// Writes `width` 1, 2 or 4 bytes of a PCI function's configuration space. See [`Trap::DeviceConfigIo`].
///
/// # Safety
/// The device must not change this task's memory because of it.
pub unsafe fn device_config_write(
    device: Name,
    function: u16,
    register: u8,
    (width, value): (u32, u32),
) -> Result<(), Kern> {
    let arguments = [
        device.into(),
        function.into(),
        register.into(),
        width.into(),
        1,
        value.into(),
    ];
    done(Trap::DeviceConfigIo, arguments)
}

/// Shows memory to this task's devices. See [`Trap::DeviceShow`].
///
/// # Safety
/// A device may write to the memory from now on, as its driver tells it.
pub unsafe fn device_show(device: Name, address: u64, pages: u64) -> Result<(), Kern> {
    done(Trap::DeviceShow, [device.into(), address, pages, 0, 0, 0])
}

/// Makes an interrupt a message. See [`Trap::InterruptCreate`].
pub fn interrupt_create(device: Name, line: u64, notify: Name) -> Result<(Name, u64), Kern> {
    harmless(
        Trap::InterruptCreate,
        [device.into(), line, notify.into(), 0, 0, 0],
    )
    .map(|[name, message]| (name as Name, message))
}

/// Has an interrupt come to a processor; gives what the device is to write. See
/// [`Trap::InterruptSetProcessor`].
pub fn interrupt_set_processor(interrupt: Name, processor: u64) -> Result<u64, Kern> {
    let arguments = [interrupt.into(), processor, 0, 0, 0, 0];
    harmless(Trap::InterruptSetProcessor, arguments).map(|[message, _]| message)
}

/// Lets an interrupt be told once. See [`Trap::InterruptEnable`].
pub fn interrupt_enable(interrupt: Name) -> Result<(), Kern> {
    done(Trap::InterruptEnable, [interrupt.into(), 0, 0, 0, 0, 0])
}
