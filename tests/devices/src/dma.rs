//! Memory that a device can reach.

use guest_test::{Outcome, check, check_eq};
use ipc::abi::message::FOREVER;

use ipc::{Kern, Mapping, trap, vm};
use virtio::hal::DevicePort;

use crate::edu::{BYTES_MOVED, Edu, memory};

const PAGE: usize = 4096;

pub(crate) fn a_device_reads_and_writes_memory_that_was_allocated_for_it() -> Outcome {
    let edu = Edu::open()?;
    let interrupt = edu.line_interrupt()?;
    let (mut from, mut to) = (memory(BYTES_MOVED)?, memory(BYTES_MOVED)?);
    for (index, byte) in from.bytes().iter_mut().enumerate() {
        *byte = (index * 7 % 251) as u8;
    }
    interrupt.enable()?;
    edu.take(from.physical(), BYTES_MOVED);
    interrupt.wait(FOREVER)?;
    check!(edu.acknowledge() != 0);
    interrupt.enable()?;
    edu.give(to.physical(), BYTES_MOVED);
    interrupt.wait(FOREVER)?;
    check!(edu.acknowledge() != 0);
    check!(to.bytes()[..BYTES_MOVED] == from.bytes()[..BYTES_MOVED]);
    check!(to.bytes()[BYTES_MOVED..].iter().all(|byte| *byte == 0));
    Ok(())
}

pub(crate) fn memory_for_devices_is_contiguous_and_zero() -> Outcome {
    let edu = Edu::open()?;
    let interrupt = edu.line_interrupt()?;
    let mut dirty = memory(16 * PAGE)?;
    dirty.bytes().fill(0xA5);
    drop(dirty);
    let mut fresh = memory(16 * PAGE)?;
    check!(fresh.bytes().iter().all(|byte| *byte == 0));
    // What the task writes to the last page, the device finds 15 pages behind the first.
    let last = 15 * PAGE;
    fresh.bytes()[last..].fill(0x3C);
    let physical = fresh.physical();
    interrupt.enable()?;
    edu.take(physical + last as u64, BYTES_MOVED);
    interrupt.wait(FOREVER)?;
    check!(edu.acknowledge() != 0);
    interrupt.enable()?;
    edu.give(physical, BYTES_MOVED);
    interrupt.wait(FOREVER)?;
    check!(edu.acknowledge() != 0);
    check!(
        fresh.bytes()[..BYTES_MOVED]
            .iter()
            .all(|byte| *byte == 0x3C)
    );
    check_eq!(fresh.bytes()[BYTES_MOVED], 0);
    Ok(())
}

/// Has the device write zeros, from its empty buffer, and waits until it is through or was refused.
fn write_zeros(edu: &Edu, to: u64) -> Outcome {
    let interrupt = edu.line_interrupt()?;
    let mut zeros = memory(BYTES_MOVED)?;
    zeros.bytes().fill(0);
    for step in 0..2 {
        interrupt.enable()?;
        match step {
            0 => edu.take(zeros.physical(), BYTES_MOVED),
            _ => edu.give(to, BYTES_MOVED),
        }
        interrupt.wait(FOREVER)?;
        check!(edu.acknowledge() != 0);
    }
    Ok(())
}

pub(crate) fn a_device_does_not_reach_memory_that_it_was_not_shown() -> Outcome {
    let edu = Edu::open()?;
    let device = edu.right();
    // Memory of this very task, whose physical address it knows, but allocated behind the driver's
    // back: no device was shown it.
    let (address, physical) = vm::own().device_memory_allocate(&device, 4096)?;
    // SAFETY: the page was just allocated, and the device is kept from it, or the case fails.
    let page = unsafe { core::slice::from_raw_parts_mut(address as *mut u8, 4096) };
    page.fill(0x77);
    write_zeros(&edu, physical)?;
    check!(page.iter().all(|byte| *byte == 0x77));
    // The kernel's memory, the boot image's, everybody's.
    write_zeros(&edu, 0x10_0000)?;
    // Shown, it is reached; and no longer when its translation is taken back.
    // SAFETY: as above; what the device writes is what is looked for.
    unsafe { trap::device_show(device.name(), address, 1)? };
    write_zeros(&edu, physical)?;
    check!(page[..BYTES_MOVED].iter().all(|byte| *byte == 0));
    vm::own().deallocate(address, 4096)?;
    write_zeros(&edu, physical)
}

pub(crate) fn what_is_not_the_tasks_to_show_is_refused() -> Outcome {
    let edu = Edu::open()?;
    let device = edu.right().name();
    let show = |address, pages| {
        // SAFETY: each of these is refused.
        unsafe { trap::device_show(device, address, pages) }
    };
    let memory = Mapping::allocate(2 * 4096)?;
    let address = memory.address();
    check_eq!(show(address, 0), Err(Kern::InvalidArgument));
    check_eq!(show(address + 1, 1), Err(Kern::InvalidArgument));
    check_eq!(show(u64::MAX - 4095, 1), Err(Kern::InvalidAddress));
    check_eq!(show(address, 513), Err(Kern::InvalidArgument));
    // Never touched, so that there is no page.
    check_eq!(show(address, 1), Err(Kern::InvalidAddress));
    let text = what_is_not_the_tasks_to_show_is_refused as *const () as u64 & !4095;
    check_eq!(show(text, 1), Err(Kern::ProtectionFailure));
    check_eq!(trap::device_attach(0, 8), Err(Kern::InvalidHost));
    // The driver of the host's files has its device: the suite began when it served.
    let files = DevicePort::open()?;
    check_eq!(
        trap::device_attach(files.right().name(), files_function()?),
        Err(Kern::NoAccess)
    );
    Ok(())
}

/// The number of the function behind which the host's files are.
fn files_function() -> Result<u16, guest_test::Failure> {
    let root = virtio::pci::root(DevicePort::open()?);
    let found = virtio::pci::find(&root, virtio_drivers::transport::DeviceType::_9P);
    let function = found.first().ok_or("the machine shares no files")?;
    Ok(virtio::pci::number(*function))
}
