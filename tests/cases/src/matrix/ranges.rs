//! The calls that make, remove, change and advise ranges of a map.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::{vm_advice, vm_wire};

use super::{
    Done, FEW, P, Page, Pages, Right, Tried, changed, covering, each, inside, mapped, placed, zeros,
};

/// R82-85, R87-92.
pub(super) fn allocate(pages: &Pages, address: u64, size: u64, flags: u32) -> Tried {
    let request = Request::VmAllocate(vm_map::VmAllocate {
        address,
        size,
        flags,
    });
    let wanted = || {
        if flags & 0x100 != 0 {
            return Err(Kern::InvalidArgument);
        }
        if size == 0 {
            return Ok(Done::Nothing);
        }
        let (_, count) = covering(0, size).ok_or(Kern::InvalidArgument)?;
        let hint = if flags & 1 != 0 { 0 } else { address };
        match placed(pages, (hint, 0, flags), count)? {
            Some(range) => Ok(mapped(pages, range, |_| Page::new(zeros()))),
            None if count > FEW => Ok(Done::Else),
            None => Ok(Done::Mapped(Page::new(zeros()), count)),
        }
    };
    Tried::new(request, wanted)
}

/// R142, R146.
pub(super) fn deallocate(pages: &Pages, address: u64, size: u64) -> Tried {
    let request = Request::VmDeallocate(vm_map::VmDeallocate { address, size });
    let wanted = || {
        if size == 0 {
            return Ok(Done::Nothing);
        }
        let (first, end) = covering(address, size).ok_or(Kern::InvalidArgument)?;
        let mut pages = pages.clone();
        pages.retain(|number, _| *number < first || *number >= end);
        Ok(Done::Pages(pages))
    };
    Tried::new(request, wanted)
}

/// R110-116.
pub(super) fn protect(
    pages: &Pages,
    (address, size): (u64, u64),
    set_maximum: bool,
    protection: u32,
) -> Tried {
    let request = Request::VmProtect(vm_map::VmProtect {
        address,
        size,
        set_maximum,
        protection,
    });
    let wanted = || {
        if size == 0 {
            return Ok(Done::Nothing);
        }
        if protection > 7 {
            return Err(Kern::InvalidArgument);
        }
        let rights = Prot::from_bits_truncate(protection as u8);
        // All there is, so to say, and a hole comes first (C0016, C0017).
        let range = match covering(address, size) {
            None if address < P && address.checked_add(size).is_some() => (0, 1),
            range => range.ok_or(Kern::InvalidArgument)?,
        };
        each(pages, range, |page| {
            (!page.most.contains(rights)).then_some(Kern::ProtectionFailure)
        })?;
        Ok(changed(pages, range, |page| {
            if set_maximum {
                page.most = rights;
                page.current &= rights;
            } else {
                page.current = rights;
            }
        }))
    };
    Tried::new(request, wanted)
}

/// R118, R127.
pub(super) fn inherit(pages: &Pages, address: u64, size: u64, inheritance: u32) -> Tried {
    let request = Request::VmInherit(vm_map::VmInherit {
        address,
        size,
        inheritance,
    });
    let wanted = || {
        let inheritance = Inherit::from_raw(inheritance).ok_or(Kern::InvalidArgument)?;
        if size == 0 {
            return Ok(Done::Nothing);
        }
        let range = covering(address, size).ok_or(Kern::InvalidArgument)?;
        Ok(changed(pages, range, |page| page.inheritance = inheritance))
    };
    Tried::new(request, wanted)
}

/// R202.
pub(super) fn behavior(pages: &Pages, address: u64, size: u64, behavior: u32) -> Tried {
    let request = Request::VmBehaviorSet(vm_map::VmBehaviorSet {
        address,
        size,
        behavior,
    });
    let wanted = || {
        if behavior > 12 || address.checked_add(size).is_none() {
            return Err(Kern::InvalidArgument);
        }
        if size == 0 {
            return Ok(Done::Nothing);
        }
        let range = covering(address, size).filter(|range| inside(*range));
        let range = range.ok_or(Kern::NoSpace)?;
        let writes = matches!(behavior, 7 | 12);
        each(pages, range, |page| {
            let may = !writes || page.current.contains(Prot::WRITE);
            (!may).then_some(Kern::ProtectionFailure)
        })?;
        Ok(match behavior {
            12 => changed(pages, range, |page| page.bytes = zeros()),
            _ => Done::Nothing,
        })
    };
    Tried::new(request, wanted)
}

/// R198.
pub(super) fn attribute(
    pages: &Pages,
    (address, size): (u64, u64),
    attribute: u32,
    value: u32,
) -> Tried {
    let request = vm_advice::Request::VmMachineAttribute(vm_advice::VmMachineAttribute {
        address,
        size,
        attribute,
        value,
    });
    let wanted = || {
        if size == 0 {
            return Ok(Done::Nothing);
        }
        if address.checked_add(size).is_none() {
            return Err(Kern::InvalidArgument);
        }
        let range = covering(address, size).filter(|range| inside(*range));
        let range = range.ok_or(Kern::InvalidAddress)?;
        if attribute != 1 || !matches!(value, 2 | 6..=8) {
            return Err(Kern::InvalidArgument);
        }
        each(pages, range, |_| None).map_err(|_| Kern::Failure)?;
        Ok(Done::Nothing)
    };
    Tried::new(Request::Advice(request), wanted)
}

/// R199-201.
pub(super) fn sync(pages: &Pages, address: u64, size: u64, flags: u32) -> Tried {
    let request = Request::VmMsync(vm_map::VmMsync {
        address,
        size,
        flags,
    });
    let wanted = || {
        if size == 0 {
            return Ok(Done::Nothing);
        }
        if flags & 3 == 3 {
            return Err(Kern::InvalidArgument);
        }
        let range = covering(address, size).ok_or(Kern::InvalidAddress)?;
        if flags & vm_map::VM_SYNC_CONTIGUOUS != 0 {
            each(pages, range, |_| None)?;
        }
        Ok(Done::Nothing)
    };
    Tried::new(request, wanted)
}

/// R131-144.
pub(super) fn wire(pages: &Pages, (address, size): (u64, u64), access: u32, right: Right) -> Tried {
    let request = vm_wire::Request::VmWire(vm_wire::VmWire {
        address,
        size,
        access,
    });
    let wanted = || {
        if right != Right::Host {
            return Err(Kern::InvalidHost);
        }
        if access > 7 {
            return Err(Kern::InvalidArgument);
        }
        if size == 0 {
            return Ok(Done::Nothing);
        }
        let range = covering(address, size).ok_or(Kern::InvalidArgument)?;
        if access == 0 {
            let there = pages.contains_key(&range.0);
            return there.then_some(Done::Nothing).ok_or(Kern::InvalidAddress);
        }
        let access = Prot::from_bits_truncate(access as u8);
        each(pages, range, |page| {
            (!page.current.contains(access)).then_some(Kern::ProtectionFailure)
        })?;
        Ok(Done::Nothing)
    };
    Tried::new(Request::Wire(request), wanted).with(right)
}
