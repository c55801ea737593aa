//! The calls that read and write ranges.

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::vm_map::{self, Request};

use super::{AREA, Done, GIVEN, P, Page, Pages, Right, Tried, covering, each};

fn unreadable(page: &Page) -> Option<Kern> {
    (!page.current.contains(Prot::READ)).then_some(Kern::ProtectionFailure)
}

/// What can be wrong with a range that is written.
pub(super) fn writable(pages: &Pages, address: u64, size: u64) -> Result<(), Kern> {
    let range = covering(address, size).ok_or(Kern::InvalidAddress)?;
    each(pages, range, |page| {
        (!page.current.contains(Prot::WRITE)).then_some(Kern::ProtectionFailure)
    })
}

/// The pages after bytes were copied, all of which are mapped.
fn copied(pages: &Pages, source: u64, size: u64, to: u64) -> Result<Done, Kern> {
    let mut after = pages.clone();
    for at in 0..size {
        let (from, to) = (source + at, to + at);
        let read = pages.get(&(from / P)).ok_or(Kern::Failure)?;
        let written = after.get_mut(&(to / P)).ok_or(Kern::Failure)?;
        written.bytes[(to % P) as usize] = read.bytes[(from % P) as usize];
    }
    Ok(Done::Pages(after))
}

/// R50-58.
pub(super) fn copyin(pages: &Pages, address: u64, size: u64, src_destroy: bool) -> Tried {
    let request = Request::VmCopyin(vm_map::VmCopyin {
        address,
        size,
        src_destroy,
    });
    Tried::new(request, || {
        if size == 0 {
            return Ok(Done::Nothing);
        }
        let (first, end) = covering(address, size).ok_or(Kern::InvalidAddress)?;
        each(pages, (first, end), unreadable)?;
        let mut pages = pages.clone();
        pages.retain(|number, _| !src_destroy || *number < first || *number >= end);
        Ok(Done::Pages(pages))
    })
}

/// R63-75.
pub(super) fn copy(pages: &Pages, source: u64, size: u64, to: u64) -> Tried {
    let request = Request::VmCopy(vm_map::VmCopy {
        source,
        size,
        destination: to,
    });
    Tried::new(request, || overwritten(pages, source, size, to))
}

fn overwritten(pages: &Pages, source: u64, size: u64, to: u64) -> Result<Done, Kern> {
    if size == 0 {
        return Ok(Done::Nothing);
    }
    let from = covering(source, size).ok_or(Kern::InvalidAddress)?;
    each(pages, from, unreadable)?;
    writable(pages, to, size)?;
    copied(pages, source, size, to)
}

/// R63-75, A12.
pub(super) fn read_overwrite(
    pages: &Pages,
    source: u64,
    size: u64,
    to: u64,
    right: Right,
) -> Tried {
    let request = Request::VmReadOverwrite(vm_map::VmReadOverwrite {
        address: source,
        size,
        data: to,
    });
    let wanted = || match right {
        _ if size == 0 => Ok(Done::Count(0)),
        Right::Map => overwritten(pages, source, size, to),
        _ => Err(Kern::InvalidArgument),
    };
    Tried::new(request, wanted).with(right)
}

/// R63-76, A12. The copy holds the first pages of the ground.
pub(super) fn write(pages: &Pages, address: u64, size: u64, right: Right) -> Tried {
    let request = Request::VmWrite(vm_map::VmWrite { address, size });
    let wanted = || {
        if size == 0 {
            return Ok(Done::Nothing);
        }
        if right != Right::Copy || size > GIVEN {
            return Err(Kern::InvalidArgument);
        }
        writable(pages, address, size)?;
        copied(pages, AREA, size, address)
    };
    Tried::new(request, wanted).with(right)
}
