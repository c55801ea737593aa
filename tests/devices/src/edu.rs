//! The device `edu` (QEMU, docs/specs/edu.rst): its registers, and a driver for them.

use guest_test::Failure;
use ipc::abi::device::InterruptMessage;
use ipc::interrupt::Interrupt;
use ipc::{Kern, SendRight, Untyped};
use virtio::hal::{DevicePort, Memory, Registers};
use virtio::{msi, pci};
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction};

const VENDOR: u16 = 0x1234;
const DEVICE: u16 = 0x11E8;

/// Bytes of registers that this driver uses.
const BYTES: usize = 0xA0;
const FACTORIAL: usize = 0x08;
const STATUS: usize = 0x20;
const INTERRUPT_STATUS: usize = 0x24;
const INTERRUPT_RAISE: usize = 0x60;
const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
const DMA_SOURCE: usize = 0x80;
const DMA_DESTINATION: usize = 0x88;
const DMA_COUNT: usize = 0x90;
const DMA_COMMAND: usize = 0x98;

const COMPUTING: u32 = 1;
const INTERRUPT_WHEN_DONE: u32 = 0x80;

const START: u32 = 1;
const TO_MEMORY: u32 = 2;
const INTERRUPT_AT_END: u32 = 4;

/// Where the device's own buffer of 4096 bytes lies, as it sees it.
const BUFFER: u64 = 0x4_0000;
/// How much is moved at once: it refuses a transfer that ends with its buffer.
pub(crate) const BYTES_MOVED: usize = 2048;

/// PCI's Interrupt Line register lies in this word of configuration space.
const LINE: u8 = 0x3C;

/// The device, found and open.
pub(crate) struct Edu {
    device: DevicePort,
    function: DeviceFunction,
    registers: Registers,
}

impl Edu {
    /// Finds it, and lets it interrupt by its line and reach memory.
    pub(crate) fn open() -> Result<Edu, Failure> {
        let device = DevicePort::open()?;
        let mut root = pci::root(device);
        let mut found = root.enumerate_bus(0);
        let found = found.find(|(_, info)| info.vendor_id == VENDOR && info.device_id == DEVICE);
        let (function, _) = found.ok_or("the machine has no edu device")?;
        pci::prepare(&mut root, function).map_err(|_| "edu cannot be reached")?;
        let (_, command) = root.get_status_command(function);
        root.set_command(function, command - Command::INTERRUPT_DISABLE);
        let info = root.bar_info(function, 0).ok().flatten();
        let place = info.and_then(|info| info.memory_address_size());
        let (address, _) = place.ok_or("edu has no registers")?;
        let registers = Registers::at(address, BYTES).map_err(|_| "edu is not mapped")?;
        let edu = Edu {
            device,
            function,
            registers,
        };
        edu.acknowledge();
        Ok(edu)
    }

    /// The right to the device port.
    pub(crate) fn right(&self) -> core::mem::ManuallyDrop<SendRight<Untyped>> {
        self.device.right()
    }

    /// The number of its function.
    pub(crate) fn number(&self) -> u16 {
        pci::number(self.function)
    }

    /// The number of its line.
    pub(crate) fn line(&self) -> u8 {
        pci::Config::new(self.device).read_word(self.function, LINE) as u8
    }

    /// Its line's interrupt.
    pub(crate) fn line_interrupt(&self) -> Result<Interrupt, Kern> {
        Interrupt::line(&self.right(), self.line())
    }

    /// Has it signal by messages from now on.
    pub(crate) fn signal(&self, message: InterruptMessage) -> Result<(), Failure> {
        if msi::enable_msi(self.device, self.function, message) {
            Ok(())
        } else {
            Err("edu has no MSI".into())
        }
    }

    /// Has it signal by its line again.
    pub(crate) fn signal_by_line(&self) {
        msi::disable_msi(self.device, self.function);
    }

    /// Raises an interrupt; the line is held until it is acknowledged.
    pub(crate) fn raise(&self) {
        self.registers.write32(INTERRUPT_RAISE, 1);
    }

    /// Serves the device: it stops holding its line. Gives why it interrupted; 0: it did not.
    pub(crate) fn acknowledge(&self) -> u32 {
        let status = self.registers.read32(INTERRUPT_STATUS);
        self.registers.write32(INTERRUPT_ACKNOWLEDGE, status);
        status
    }

    /// Has it compute a factorial, and interrupt when it is done.
    pub(crate) fn compute(&self, number: u32) {
        self.registers.write32(STATUS, INTERRUPT_WHEN_DONE);
        self.registers.write32(FACTORIAL, number);
    }

    /// The factorial, if it is done.
    pub(crate) fn computed(&self) -> Option<u32> {
        let done = self.registers.read32(STATUS) & COMPUTING == 0;
        done.then(|| self.registers.read32(FACTORIAL))
    }

    /// Moves bytes from memory at a physical address to the device's buffer.
    pub(crate) fn take(&self, from: u64, bytes: usize) {
        self.transfer(from, BUFFER, bytes, 0);
    }

    /// Moves bytes from the device's buffer to memory at a physical address.
    pub(crate) fn give(&self, to: u64, bytes: usize) {
        self.transfer(BUFFER, to, bytes, TO_MEMORY);
    }

    fn transfer(&self, from: u64, to: u64, bytes: usize, direction: u32) {
        // The suite's machine has no memory that 32 bits cannot reach.
        self.registers.write32(DMA_SOURCE, from as u32);
        self.registers.write32(DMA_DESTINATION, to as u32);
        self.registers.write32(DMA_COUNT, bytes as u32);
        let command = START | direction | INTERRUPT_AT_END;
        self.registers.write32(DMA_COMMAND, command);
    }
}

/// Memory for a device.
pub(crate) fn memory(bytes: usize) -> Result<Memory, Failure> {
    Memory::new(bytes).map_err(|_| "no memory for a device".into())
}
