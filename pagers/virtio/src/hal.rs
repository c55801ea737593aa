//! Where DMA memory and registers lie: the one module of this crate that deals in addresses.
//!
//! `virtio-drivers` asks for memory, registers and translations through functions without a
//! receiver, so that what they need is kept in a static. Registers are mapped before the library
//! asks for them ([`map_registers`]), because its question has no answer for "no".
//!
//! Invariants: `STATE` lists each range that the VM server mapped for this task by
//! `device_memory_allocate` or `device_map` and that was not given back, and nothing else; ranges
//! of memory are physically contiguous and belong to one [`Memory`] or one queue each.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use heapless::Vec;
use ipc::abi::right::{Name, SpecialPort};
use ipc::sync::Lock;
use ipc::{Kern, SendRight, Untyped, trap, vm};
use virtio_drivers::transport::pci::bus::DeviceFunction;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::{Error, pci};

/// Ranges of one kind that can be in use.
const RANGES_MAX: usize = 32;
/// Pages that are shown to devices at once.
const SHOWN_MAX: usize = 512;

static STATE: Lock<State> = Lock::new(State {
    device: None,
    confined: false,
    memory: Vec::new(),
    registers: Vec::new(),
});

struct State {
    device: Option<DevicePort>,
    /// Whether devices reach only what they are shown.
    confined: bool,
    memory: Vec<Range, RANGES_MAX>,
    registers: Vec<Range, RANGES_MAX>,
}

#[derive(Clone, Copy)]
struct Range {
    virt: usize,
    phys: u64,
    bytes: usize,
}

impl Range {
    /// The physical address of `bytes` at `virt`, if they lie in the range.
    fn to_phys(self, virt: usize, bytes: usize) -> Option<u64> {
        let offset = virt.checked_sub(self.virt)?;
        let inside = offset.checked_add(bytes)? <= self.bytes;
        inside.then(|| self.phys.checked_add(u64::try_from(offset).ok()?))?
    }

    /// The address of `bytes` at `phys`, if they lie in the range.
    fn to_virt(self, phys: u64, bytes: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(phys.checked_sub(self.phys)?).ok()?;
        let inside = offset.checked_add(bytes)? <= self.bytes;
        let address = self.virt.checked_add(offset).filter(|_| inside)?;
        NonNull::new(core::ptr::with_exposed_provenance_mut(address))
    }
}

/// A right to the device port, held for as long as the task runs.
#[derive(Clone, Copy, Debug)]
pub struct DevicePort(Name);

impl DevicePort {
    /// The task's own right, which its manifest gave it.
    ///
    /// # Errors
    /// KERN_INVALID_NAME: it has none.
    pub fn open() -> Result<DevicePort, Kern> {
        let port = DevicePort(trap::task_get_special_port(SpecialPort::Device)?);
        STATE.lock().device = Some(port);
        Ok(port)
    }

    /// The right, for calls; its reference stays with the task.
    #[must_use]
    pub fn right(self) -> ManuallyDrop<SendRight<Untyped>> {
        ManuallyDrop::new(SendRight::from_name(self.0))
    }

    /// Reads 32 bits of a function's configuration space.
    pub(crate) fn read_config(self, function: u16, register: u8) -> Result<u32, Kern> {
        trap::device_config_read(self.0, function, register, 4)
    }

    /// Writes 32 bits of a function's configuration space.
    pub(crate) fn write_config(self, function: u16, register: u8, value: u32) -> Result<(), Kern> {
        // SAFETY: what a device may do to memory once its command register lets it is the business
        // of its queues, whose memory is this module's; the firmware left no queue running.
        unsafe { trap::device_config_write(self.0, function, register, (4, value)) }
    }
}

/// Maps registers, so that the library finds them when it asks.
///
/// # Errors
/// [`Error::Kern`]: what the VM server says; KERN_RESOURCE_SHORTAGE: too many ranges.
pub fn map_registers(phys: u64, bytes: u64) -> Result<(), Error> {
    let bytes = usize::try_from(bytes).map_err(|_| Kern::InvalidArgument)?;
    if find(|state| &state.registers, |range| range.to_virt(phys, bytes)).is_some() {
        return Ok(());
    }
    let device = device()?;
    let virt = vm::own().device_map(&device.right(), phys, bytes as u64)? as usize;
    remember(|state| &mut state.registers, Range { virt, phys, bytes })
}

/// Registers of a device that [`map_registers`] has mapped, by offset; a width of 16 or 32 bits.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    virt: usize,
    bytes: usize,
}

impl Registers {
    /// The `bytes` of registers at a physical address.
    ///
    /// # Errors
    /// [`Error::NoAddress`]: they are not mapped.
    pub fn at(phys: u64, bytes: usize) -> Result<Registers, Error> {
        let virt = find(|state| &state.registers, |range| range.to_virt(phys, bytes));
        let virt = virt.ok_or(Error::NoAddress)?.addr().get();
        Ok(Registers { virt, bytes })
    }

    /// Reads 32 bits.
    ///
    /// # Panics
    /// If the offset is not aligned or lies outside.
    #[must_use]
    pub fn read32(self, offset: usize) -> u32 {
        let register = self.pointer::<u32>(offset);
        // SAFETY: the registers are mapped for the life of the task, and `pointer` has checked that
        // this one lies inside and is aligned.
        unsafe { register.read_volatile() }
    }

    /// Writes 32 bits. What a device does then to memory is the business of its driver, which gives
    /// it only [`Memory`].
    ///
    /// # Panics
    /// If the offset is not aligned or lies outside.
    pub fn write32(self, offset: usize, value: u32) {
        let register = self.pointer::<u32>(offset);
        // SAFETY: as in `read32`.
        unsafe { register.write_volatile(value) }
    }

    /// Reads 16 bits.
    ///
    /// # Panics
    /// If the offset is not aligned or lies outside.
    #[must_use]
    pub fn read16(self, offset: usize) -> u16 {
        let register = self.pointer::<u16>(offset);
        // SAFETY: as in `read32`.
        unsafe { register.read_volatile() }
    }

    /// Writes 16 bits; see [`Registers::write32`].
    ///
    /// # Panics
    /// If the offset is not aligned or lies outside.
    pub fn write16(self, offset: usize, value: u16) {
        let register = self.pointer::<u16>(offset);
        // SAFETY: as in `read32`.
        unsafe { register.write_volatile(value) }
    }

    fn pointer<T>(self, offset: usize) -> *mut T {
        let inside = offset
            .checked_add(size_of::<T>())
            .is_some_and(|end| end <= self.bytes);
        assert!(
            inside && offset.is_multiple_of(size_of::<T>()),
            "a register that the device has not"
        );
        core::ptr::with_exposed_provenance_mut(self.virt + offset)
    }
}

fn device() -> Result<DevicePort, Kern> {
    STATE.lock().device.ok_or(Kern::InvalidHost)
}

fn find<T>(
    list: impl Fn(&State) -> &Vec<Range, RANGES_MAX>,
    test: impl Fn(Range) -> Option<T>,
) -> Option<T> {
    let state = STATE.lock();
    list(&state).iter().find_map(|range| test(*range))
}

fn remember(
    list: impl Fn(&mut State) -> &mut Vec<Range, RANGES_MAX>,
    range: Range,
) -> Result<(), Error> {
    let mut state = STATE.lock();
    list(&mut state)
        .push(range)
        .map_err(|_| Error::Kern(Kern::ResourceShortage))
}

/// Makes this task the one that a function of a device works for. From then on the device reaches the
/// task's DMA memory and nothing else, if the machine can confine it; if not, it reaches everything,
/// and its driver is trusted.
///
/// # Errors
/// KERN_NO_ACCESS: another task drives it. KERN_RESOURCE_SHORTAGE.
pub fn attach(function: DeviceFunction) -> Result<(), Kern> {
    match trap::device_attach(device()?.0, pci::number(function)) {
        Err(Kern::NotSupported) => return Ok(()),
        attached => attached?,
    }
    STATE.lock().confined = true;
    let held: Vec<Range, RANGES_MAX> = STATE.lock().memory.clone();
    held.into_iter().try_for_each(show)
}

/// Lets confined devices reach DMA memory.
fn show(range: Range) -> Result<(), Kern> {
    let device = device()?;
    if !STATE.lock().confined {
        return Ok(());
    }
    let end = range.virt + range.bytes;
    for start in (range.virt..end).step_by(SHOWN_MAX * PAGE_SIZE) {
        let pages = (end - start).div_ceil(PAGE_SIZE).min(SHOWN_MAX);
        // SAFETY: the range is DMA memory, which is there for devices to write to.
        unsafe { trap::device_show(device.0, start as u64, pages as u64)? };
    }
    Ok(())
}

/// Allocates zeroed DMA memory and lists it.
fn allocate(bytes: usize) -> Result<Range, Error> {
    let device = device()?;
    let (virt, phys) = vm::own().device_memory_allocate(&device.right(), bytes as u64)?;
    let virt = virt as usize;
    let range = Range { virt, phys, bytes };
    // A page is there once it was touched.
    let touched = (virt..virt + bytes).step_by(PAGE_SIZE);
    for page in touched {
        // SAFETY: the memory was just mapped, and nobody else has it.
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(page).write_volatile(0) };
    }
    let listed = show(range)
        .map_err(Error::Kern)
        .and_then(|()| remember(|state| &mut state.memory, range));
    if listed.is_err() {
        let _ = deallocate(range);
    }
    listed.map(|()| range)
}

fn deallocate(range: Range) -> Result<(), Kern> {
    vm::own().deallocate(range.virt as u64, range.bytes as u64)
}

/// Takes DMA memory off the list and gives it back. Whether there was any at `virt`.
fn release(virt: usize) -> bool {
    let range = {
        let mut state = STATE.lock();
        let index = state.memory.iter().position(|range| range.virt == virt);
        index.map(|index| state.memory.swap_remove(index))
    };
    range.is_some_and(|range| deallocate(range).is_ok())
}

/// A buffer that a device can reach, zero at first, freed on drop.
pub struct Memory {
    range: Range,
}

impl Memory {
    /// Allocates `bytes`, rounded up to pages.
    ///
    /// # Errors
    /// [`Error::Kern`]: what the VM server says.
    pub fn new(bytes: usize) -> Result<Memory, Error> {
        let bytes = bytes
            .checked_next_multiple_of(PAGE_SIZE)
            .ok_or(Kern::InvalidArgument)?;
        let range = allocate(bytes)?;
        Ok(Memory { range })
    }

    /// Its physical address, for the device.
    #[must_use]
    pub const fn physical(&self) -> u64 {
        self.range.phys
    }

    /// The bytes. A driver must not look at them, nor change them, while a device may.
    pub fn bytes(&mut self) -> &mut [u8] {
        let start = core::ptr::with_exposed_provenance_mut(self.range.virt);
        // SAFETY: the range is mapped, readable and writable, and this value is its only owner; that
        // a device does not write to it meanwhile is what the driver that holds it sees to.
        unsafe { core::slice::from_raw_parts_mut(start, self.range.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        release(self.range.virt);
    }
}

/// What the driver library needs of a task.
#[derive(Debug)]
pub enum TaskHal {}

// SAFETY: `dma_alloc` gives memory that the VM server has just mapped here, zeroed, page-aligned
// and contiguous, and that nobody else has; `mmio_phys_to_virt` gives registers that were mapped by
// `map_registers`; `share` gives the true physical address of memory listed in `STATE`.
unsafe impl Hal for TaskHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let range = pages
            .checked_mul(PAGE_SIZE)
            .and_then(|bytes| allocate(bytes).ok());
        match range {
            Some(range) => (
                range.phys,
                NonNull::new(core::ptr::with_exposed_provenance_mut(range.virt))
                    .unwrap_or(NonNull::dangling()),
            ),
            // Physical address 0 is how this function says no.
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, vaddr: NonNull<u8>, _pages: usize) -> i32 {
        if release(vaddr.addr().get()) { 0 } else { -1 }
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        let found = find(|state| &state.registers, |range| range.to_virt(paddr, size));
        assert!(found.is_some(), "registers are used that were not mapped");
        found.unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        let virt = buffer.cast::<u8>().addr().get();
        let found = find(
            |state| &state.memory,
            |range| range.to_phys(virt, buffer.len()),
        );
        assert!(
            found.is_some(),
            "only DMA memory can be shared with a device"
        );
        found.unwrap_or(0)
    }

    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}
