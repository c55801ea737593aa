//! The same server a second time: as a task of another VM server, with frames that it asks that one for.
//!
//! Such a server is started like any task, with the right to the host control port. Its arguments: how
//! many frames it shall have, and a name under which a port is registered that it gives to its own tasks in
//! the place of the device port. Its code, its stack and its copy of these arguments are memory that the
//! server above serves; everything that it hands out lies in its own frames.

use core::ptr;

use ipc::args::Args;
use ipc::protocol::memory_entry::MemoryEntryDescribe;
use ipc::protocol::vm_wire::GIVE_MAX;
use ipc::right::{SendRight, Untyped};
use ipc::{bootstrap, mapping, vm};
use ipc_abi::Kern;
use ipc_abi::boot::FrameRange;
use ipc_abi::layout::{PAGE_SIZE, PHYSICAL_WINDOW};
use ipc_abi::right::{NULL, SpecialPort};

use crate::boot::Given;

/// Fewest frames that are asked for at a time.
const LEAST: u32 = 64;

fn arguments(address: u64) -> Args {
    // SAFETY: whoever starts this program other than the kernel does it as for any task.
    unsafe { Args::at(address) }
}

/// Asks the server above for memory. Allocates nothing.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: the arguments. KERN_INVALID_HOST: no right to be a server. Others of the kernel.
pub(crate) fn take_memory(address: u64) -> Result<Given, Kern> {
    let wanted = arguments(address).nth(1);
    let mut left: u32 = wanted
        .and_then(|word| word.parse().ok())
        .ok_or(Kern::InvalidArgument)?;
    let host = SendRight::<Untyped>::special(SpecialPort::HostControl)?;
    let mut free = heapless::Vec::<FrameRange, { ipc_abi::boot::RANGES_MAX }>::new();
    let mut memory = None;
    let mut piece = GIVE_MAX;
    while left > 0 && piece >= LEAST {
        match vm::own().give_frames(&host, piece.min(left)) {
            Ok((range, right)) => {
                memory = Some(right);
                left -= range.count;
                if let Some(last) = free.last_mut()
                    && last.first + last.count == range.first
                {
                    last.count += range.count;
                } else if free.push(range).is_err() {
                    // What does not fit the list comes back when this server ends.
                    break;
                }
            }
            Err(Kern::ResourceShortage) => piece /= 2,
            Err(code) => return Err(code),
        }
    }
    let ends = free.iter().map(|range| range.first + range.count);
    Ok(Given {
        image: (0, 0),
        frame_limit: ends.max().unwrap_or(0),
        host_memory: memory.ok_or(Kern::ResourceShortage)?.into_name(),
        host_control: host.into_name(),
        device: NULL,
        free,
    })
}

/// Copies the boot image to frames of this server's, and finds the port that it gives to its tasks.
///
/// # Errors
/// KERN_RESOURCE_SHORTAGE; those of the name service and of mapping the image.
pub(crate) fn take_image(given: &mut Given, address: u64) -> Result<(), Kern> {
    let entry = bootstrap::image()?;
    let size = entry.call(&MemoryEntryDescribe {})?.size;
    let image = mapping::Options::new(size)
        .entry(&entry)
        .read_only()
        .map()?;
    let pages = size.div_ceil(PAGE_SIZE);
    let count = u32::try_from(pages).map_err(|_| Kern::ResourceShortage)?;
    let run = given.take_run(count).ok_or(Kern::ResourceShortage)?;
    let start = u64::from(run.first) * PAGE_SIZE;
    let target = ptr::with_exposed_provenance_mut::<u8>((PHYSICAL_WINDOW + start) as usize);
    // SAFETY: the image is mapped, and nobody may write it; the frames are this server's, in the window,
    // as many as the image has pages, and nobody else's, since they were taken from the free ones.
    unsafe { ptr::copy_nonoverlapping(image.bytes().as_ptr(), target, size as usize) };
    given.image = (start, size);
    if let Some(name) = arguments(address).nth(2) {
        given.device = bootstrap::wait_for::<Untyped>(name)?.into_name();
    }
    Ok(())
}
