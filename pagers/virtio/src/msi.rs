//! Message-signalled interrupts of PCI functions (PCI Local Bus 3.0, 6.8), and of virtio queues.
//!
//! A function has MSI, MSI-X, both, or neither. One message is used; of a virtio device the queue
//! that interrupts is told which entry of the table is its own (virtio 1.2, 4.1.5.1.2).

use ipc::abi::device::InterruptMessage;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction, PciRoot};

use crate::Error;
use crate::hal::{DevicePort, Registers};
use crate::pci::{self, Config, Root};

/// Capabilities by their numbers.
const MSI: u8 = 0x05;
const VENDOR: u8 = 0x09;
const MSI_X: u8 = 0x11;

/// Bits of the upper half of the first word of a capability.
const MSI_ENABLE: u32 = 1 << 16;
const MSI_WIDE: u32 = 1 << 23;
const MSI_X_MASK: u32 = 1 << 30;
const MSI_X_ENABLE: u32 = 1 << 31;

/// Bytes of an entry of the table of messages.
const ENTRY: usize = 16;

/// Where virtio's registers of the queues are, among its capabilities.
const COMMON: u32 = 1;
const COMMON_BYTES: usize = 0x1C;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_VECTOR: usize = 0x1A;

/// Lets a function signal by its MSI capability. `false`: it has none.
pub fn enable_msi(device: DevicePort, function: DeviceFunction, message: InterruptMessage) -> bool {
    let mut config = Config::new(device);
    let Some((at, control)) = capability(&pci::root(device), function, MSI) else {
        return false;
    };
    config.write_word(function, at + 4, message.address);
    let data = if control & MSI_WIDE != 0 {
        config.write_word(function, at + 8, 0);
        at + 12
    } else {
        at + 8
    };
    config.write_word(function, data, message.data);
    // One message of those that it could send.
    config.write_word(function, at, control & !(7 << 20) | MSI_ENABLE);
    true
}

/// Has a function signal by its line again, if it has an MSI capability.
pub fn disable_msi(device: DevicePort, function: DeviceFunction) {
    if let Some((at, control)) = capability(&pci::root(device), function, MSI) {
        Config::new(device).write_word(function, at, control & !MSI_ENABLE);
    }
}

/// Lets a function signal by entry 0 of its MSI-X table. Its registers are mapped ([`pci::prepare`]).
///
/// # Errors
/// [`Error::Missing`]: it has no MSI-X. [`Error::NoAddress`]: its table lies in no mapped register
/// range. [`Error::Pci`]: it contradicts itself.
pub fn enable_msix(
    device: DevicePort,
    function: DeviceFunction,
    message: InterruptMessage,
) -> Result<(), Error> {
    let mut root = pci::root(device);
    let mut config = Config::new(device);
    let (at, control) = capability(&root, function, MSI_X).ok_or(Error::Missing)?;
    let place = config.read_word(function, at + 4);
    let start = place & !7;
    let table = registers(&mut root, function, (place & 7) as u8, start, ENTRY)?;
    config.write_word(function, at, control | MSI_X_ENABLE | MSI_X_MASK);
    table.write32(0, message.address);
    table.write32(4, 0);
    table.write32(8, message.data);
    table.write32(12, 0);
    config.write_word(function, at, control & !MSI_X_MASK | MSI_X_ENABLE);
    Ok(())
}

/// Has a queue of a virtio device use entry 0 of the table. Before the queue is made.
///
/// # Errors
/// As [`enable_msix`]; [`Error::NoAddress`] as well if the device has no room for one more vector.
pub fn signal_queue(device: DevicePort, function: DeviceFunction, queue: u16) -> Result<(), Error> {
    let mut root = pci::root(device);
    let config = Config::new(device);
    let mut all = root.capabilities(function);
    let common =
        all.find(|found| found.id == VENDOR && u32::from(found.private_header >> 8) == COMMON);
    let at = common.ok_or(Error::Missing)?.offset;
    let bar = (config.read_word(function, at + 4) & 0xFF) as u8;
    let start = config.read_word(function, at + 8);
    let common = registers(&mut root, function, bar, start, COMMON_BYTES)?;
    common.write16(QUEUE_SELECT, queue);
    common.write16(QUEUE_VECTOR, 0);
    if common.read16(QUEUE_VECTOR) == 0 {
        Ok(())
    } else {
        Err(Error::NoAddress)
    }
}

/// Where a capability lies, and its first word.
fn capability<C: ConfigurationAccess>(
    root: &PciRoot<C>,
    function: DeviceFunction,
    id: u8,
) -> Option<(u8, u32)> {
    let found = root
        .capabilities(function)
        .find(|capability| capability.id == id)?;
    Some((
        found.offset,
        u32::from(found.private_header) << 16 | u32::from(id),
    ))
}

/// Part of a function's registers.
fn registers(
    root: &mut Root,
    function: DeviceFunction,
    bar: u8,
    start: u32,
    bytes: usize,
) -> Result<Registers, Error> {
    let info = root.bar_info(function, bar)?.ok_or(Error::NoAddress)?;
    let (address, size) = info.memory_address_size().ok_or(Error::NoAddress)?;
    let end = u64::from(start).checked_add(bytes as u64);
    let place = address.checked_add(start.into()).ok_or(Error::NoAddress)?;
    if address == 0 || end.is_none_or(|end| end > size) {
        return Err(Error::NoAddress);
    }
    Registers::at(place, bytes)
}
