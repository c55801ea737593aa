//! Finding a virtio device on the PCI bus, and making it reachable.
//!
//! Configuration space is reached by a trap, since the two I/O ports behind it can be used by one driver
//! at a time; no table of the firmware is needed.
//! Firmware has usually given the registers their addresses. Where it has not, [`prepare`] does, in
//! the window below the interrupt controllers that PC firmware uses itself.

use heapless::Vec;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, PciRoot,
};
use virtio_drivers::transport::pci::virtio_device_type;

use crate::Error;
use crate::hal::{self, DevicePort};

/// What a read of nothing gives.
const NOTHING: u32 = u32::MAX;

/// Registers may lie here: above all memory of a PC below 4 GiB, below its interrupt controllers.
const WINDOW: core::ops::Range<u64> = 0xE000_0000..0xFEC0_0000;
/// Functions of one kind that are looked at.
const DEVICES_MAX: usize = 8;
/// Register ranges that are known to be taken.
const TAKEN_MAX: usize = 64;

/// Configuration space.
pub struct Config {
    device: DevicePort,
}

impl Config {
    /// Configuration space, reached by the right to the device port.
    #[must_use]
    pub const fn new(device: DevicePort) -> Config {
        Config { device }
    }
}

/// A function as the kernel numbers them: its bus, device and function number, 8, 5 and 3 bits.
#[must_use]
pub fn number(function: DeviceFunction) -> u16 {
    u16::from(function.bus) << 8 | u16::from(function.device) << 3 | u16::from(function.function)
}

impl ConfigurationAccess for Config {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        let word = self.device.read_config(number(function), register);
        word.unwrap_or(NOTHING)
    }

    // A write that fails is found out by what is read afterwards.
    fn write_word(&mut self, function: DeviceFunction, register: u8, data: u32) {
        let _ = self.device.write_config(number(function), register, data);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Config {
            device: self.device,
        }
    }
}

/// The PCI bus, as far as this crate uses it: bus 0.
pub type Root = PciRoot<Config>;

/// The bus, reached by the right to the device port.
#[must_use]
pub fn root(device: DevicePort) -> Root {
    PciRoot::new(Config::new(device))
}

/// The virtio devices of this kind.
#[must_use]
pub fn find(root: &Root, kind: DeviceType) -> Vec<DeviceFunction, DEVICES_MAX> {
    root.enumerate_bus(0)
        .filter(|(_, info)| virtio_device_type(info) == Some(kind))
        .map(|(function, _)| function)
        .take(DEVICES_MAX)
        .collect()
}

/// Takes the device over, gives its register ranges addresses where they have none, maps them, and lets the
/// device answer and reach memory.
///
/// # Errors
/// [`Error::NoAddress`]: no room in the window. [`Error::Pci`]: the device contradicts itself.
/// [`Error::Kern`]: the registers cannot be mapped.
pub fn prepare(root: &mut Root, function: DeviceFunction) -> Result<(), Error> {
    hal::attach(function)?;
    let mut bar: u8 = 0;
    while bar < 6 {
        let info = root.bar_info(function, bar)?;
        let entries = match &info {
            Some(info) if info.takes_two_entries() => 2,
            _ => 1,
        };
        if let Some(info @ BarInfo::Memory { address, size, .. }) = &info {
            let address = match *address {
                0 => place(root, function, bar, info)?,
                address => address,
            };
            hal::map_registers(address, *size)?;
        }
        bar += entries;
    }
    let (_, command) = root.get_status_command(function);
    let needed = Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
    root.set_command(function, command | needed);
    Ok(())
}

/// Chooses an address for a register range that has none, and writes it.
fn place(root: &mut Root, function: DeviceFunction, bar: u8, info: &BarInfo) -> Result<u64, Error> {
    let BarInfo::Memory { size, .. } = *info else {
        return Err(Error::NoAddress);
    };
    let taken = taken(root)?;
    let address = free_place(&taken, size).ok_or(Error::NoAddress)?;
    if info.takes_two_entries() {
        root.set_bar_64(function, bar, address);
    } else {
        let low = u32::try_from(address).map_err(|_| Error::NoAddress)?;
        root.set_bar_32(function, bar, low);
    }
    Ok(address)
}

type Taken = Vec<(u64, u64), TAKEN_MAX>;

/// The register ranges of all functions of the bus.
fn taken(root: &mut Root) -> Result<Taken, Error> {
    let functions: Vec<DeviceFunction, TAKEN_MAX> = root
        .enumerate_bus(0)
        .map(|(function, _)| function)
        .take(TAKEN_MAX)
        .collect();
    let mut taken = Taken::new();
    for function in functions {
        for info in root.bars(function)?.into_iter().flatten() {
            let range = info
                .memory_address_size()
                .filter(|(address, _)| *address != 0);
            if let Some(range) = range {
                taken.push(range).map_err(|_| Error::NoAddress)?;
            }
        }
    }
    Ok(taken)
}

/// The lowest place in the window for `size` bytes (a power of two, and its own alignment).
fn free_place(taken: &Taken, size: u64) -> Option<u64> {
    // Registers are mapped by pages: two devices must not share one.
    let size = size.max(4096);
    let mut at = WINDOW.start.checked_next_multiple_of(size)?;
    loop {
        let end = at.checked_add(size).filter(|end| *end <= WINDOW.end)?;
        let obstacle = taken
            .iter()
            .filter_map(|(start, length)| Some((*start, start.checked_add(*length)?)))
            .find(|(start, stop)| *start < end && at < *stop);
        match obstacle {
            None => return Some(at),
            Some((_, stop)) => at = stop.checked_next_multiple_of(size)?,
        }
    }
}
