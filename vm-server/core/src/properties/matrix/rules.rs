//! What has to come of a call, by the rules of the protocol's documentation, from a list of pages.

extern crate std;

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::layout::{USER_MAX, USER_MIN};
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::{vm_advice, vm_share, vm_wire};

use super::P;

/// A page that is mapped.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) current: Prot,
    pub(super) most: Prot,
    pub(super) inheritance: Inherit,
    pub(super) bytes: Vec<u8>,
}

impl Page {
    /// As `vm_allocate` makes it.
    pub(super) const fn new(bytes: Vec<u8>) -> Page {
        Page {
            current: Prot::DEFAULT,
            most: Prot::ALL,
            inheritance: Inherit::Copy,
            bytes,
        }
    }
}

/// By page number.
pub(super) type Pages = BTreeMap<u64, Page>;

/// What a call that succeeds does.
#[derive(Clone, Debug)]
pub(super) enum Done {
    Nothing,
    /// This is mapped then.
    Pages(Pages),
    /// So many pages like this are mapped where the answer says.
    Mapped(Page, u64),
    /// More than is compared.
    Else,
}

type Tried = (Request, Result<Done, Kern>);

/// The most pages that are gone over.
const FEW: u64 = 64;

/// The pages of a range, first and one past the last, if neither end nor rounding overflows.
fn covering(address: u64, size: u64) -> Option<(u64, u64)> {
    let end = address.checked_add(size)?.checked_add(P - 1)?;
    Some((address / P, end / P))
}

const fn inside((first, end): (u64, u64)) -> bool {
    first >= USER_MIN / P && end <= USER_MAX / P
}

/// Each page in order of address: the first that is missing, or that `look` refuses, decides.
fn each(
    pages: &Pages,
    (first, end): (u64, u64),
    look: impl Fn(&Page) -> Option<Kern>,
) -> Result<(), Kern> {
    for number in first..end {
        let page = pages.get(&number).ok_or(Kern::InvalidAddress)?;
        if let Some(code) = look(page) {
            return Err(code);
        }
    }
    Ok(())
}

fn changed(pages: &Pages, (first, end): (u64, u64), change: impl Fn(&mut Page)) -> Done {
    let mut pages = pages.clone();
    if first < end {
        pages
            .range_mut(first..end)
            .for_each(|(_, page)| change(page));
    }
    Done::Pages(pages)
}

fn taken(pages: &Pages, (first, end): (u64, u64)) -> bool {
    first < end && pages.range(first..end).next().is_some()
}

fn zeros() -> Vec<u8> {
    vec![0; P as usize]
}

/// Where a mapping of whole pages goes, by a truncated address, with all that can be wrong with that.
fn placed(
    pages: &Pages,
    (address, mask, flags): (u64, u64, u32),
    count: u64,
) -> Result<Option<(u64, u64)>, Kern> {
    if flags & 1 != 0 {
        // From the hint up. Masks here are all ones from a bit down, or one bit.
        let from = (address / P).max(USER_MIN / P);
        let first = fits(pages, from, mask, count);
        return first.map(|_| None).ok_or(Kern::NoSpace);
    }
    let first = address / P;
    let at = first * P;
    if at & mask != 0 {
        return Err(Kern::NoSpace);
    }
    let end = first.checked_add(count).ok_or(Kern::InvalidAddress)?;
    if !inside((first, end)) {
        return Err(Kern::InvalidAddress);
    }
    if flags & 0x4000 == 0 && taken(pages, (first, end)) {
        return Err(Kern::NoSpace);
    }
    Ok(Some((first, end)))
}

/// The first page from a hint on, with no bit of `mask` in its address, where so many fit.
fn fits(pages: &Pages, from: u64, mask: u64, count: u64) -> Option<u64> {
    let mask = mask / P;
    let mut first = from;
    loop {
        // Over the lowest bit that is in the way, until none is.
        while first & mask != 0 {
            let bit = first & mask & (first & mask).wrapping_neg();
            first = (first & !(bit - 1)).checked_add(bit)?;
        }
        let end = first.checked_add(count)?;
        if end > USER_MAX / P {
            return None;
        }
        match pages.range(first..end).next_back() {
            None => return Some(first),
            Some((number, _)) => first = number + 1,
        }
    }
}

/// The pages of a fixed mapping are these now.
fn mapped(pages: &Pages, (first, end): (u64, u64), with: impl Fn(u64) -> Page) -> Done {
    if end - first > FEW {
        return Done::Else;
    }
    let mut pages = pages.clone();
    for number in first..end {
        pages.insert(number, with(number - first));
    }
    Done::Pages(pages)
}

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
    (request, wanted())
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
    (request, wanted())
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
    (request, wanted())
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
    (request, wanted())
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
    (request, wanted())
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
    (Request::Advice(request), wanted())
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
    (request, wanted())
}

fn unreadable(page: &Page) -> Option<Kern> {
    (!page.current.contains(Prot::READ)).then_some(Kern::ProtectionFailure)
}

/// R50-58.
pub(super) fn copyin(pages: &Pages, address: u64, size: u64, src_destroy: bool) -> Tried {
    let request = Request::VmCopyin(vm_map::VmCopyin {
        address,
        size,
        src_destroy,
    });
    let wanted = || {
        if size == 0 {
            return Ok(Done::Nothing);
        }
        let (first, end) = covering(address, size).ok_or(Kern::InvalidAddress)?;
        each(pages, (first, end), unreadable)?;
        let mut pages = pages.clone();
        pages.retain(|number, _| !src_destroy || *number < first || *number >= end);
        Ok(Done::Pages(pages))
    };
    (request, wanted())
}

/// R63-75, by `vm_copy` or by `vm_read_overwrite`.
pub(super) fn copy(pages: &Pages, source: u64, size: u64, to: u64, overwrites: bool) -> Tried {
    let request = match overwrites {
        false => Request::VmCopy(vm_map::VmCopy {
            source,
            size,
            destination: to,
        }),
        true => Request::VmReadOverwrite(vm_map::VmReadOverwrite {
            address: source,
            size,
            data: to,
        }),
    };
    let wanted = || {
        if size == 0 {
            return Ok(Done::Nothing);
        }
        let from = covering(source, size).ok_or(Kern::InvalidAddress)?;
        each(pages, from, unreadable)?;
        let over = covering(to, size).ok_or(Kern::InvalidAddress)?;
        each(pages, over, |page| {
            (!page.current.contains(Prot::WRITE)).then_some(Kern::ProtectionFailure)
        })?;
        let mut after = pages.clone();
        for at in 0..size {
            let (from, to) = (source + at, to + at);
            let byte = pages[&(from / P)].bytes[(from % P) as usize];
            let page = after.get_mut(&(to / P)).ok_or(Kern::Failure)?;
            page.bytes[(to % P) as usize] = byte;
        }
        Ok(Done::Pages(after))
    };
    (request, wanted())
}

/// R131-144.
pub(super) fn wire(pages: &Pages, address: u64, size: u64, access: u32) -> Tried {
    let request = vm_wire::Request::VmWire(vm_wire::VmWire {
        address,
        size,
        access,
    });
    let wanted = || {
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
    (Request::Wire(request), wanted())
}

/// R100-103.
pub(super) fn entry(pages: &Pages, (address, size): (u64, u64), kind: u32, rights: u32) -> Tried {
    let request = Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
        size,
        offset: address,
        permission: kind | rights,
    });
    let wanted = || {
        let asked = Prot::from_bits_truncate(rights as u8);
        let range = covering(address, size).filter(|_| size > 0);
        let (first, end) = range.ok_or(Kern::InvalidArgument)?;
        // The first entry cuts it.
        let end = if kind == 0 { first + 1 } else { end };
        each(pages, (first, end), |page| {
            let has = match kind {
                vm_map::MAP_MEM_VM_COPY => page.current.contains(Prot::READ),
                _ => page.most.contains(asked),
            };
            (!has).then_some(Kern::ProtectionFailure)
        })?;
        Ok(Done::Else)
    };
    (request, wanted())
}

/// A fresh one: the offset does not matter.
pub(super) fn created(size: u64, offset: u64) -> Tried {
    let request = Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
        size,
        offset,
        permission: vm_map::MAP_MEM_NAMED_CREATE | 3,
    });
    let wanted = || {
        let (_, count) = covering(0, size).ok_or(Kern::InvalidArgument)?;
        match u32::try_from(count) {
            Ok(_) => Ok(Done::Nothing),
            Err(_) => Err(Kern::Failure),
        }
    };
    (request, wanted())
}

/// R82-104, of anonymous memory. `words`: protection, maximum, inheritance.
pub(super) fn map(
    pages: &Pages,
    (address, size): (u64, u64),
    (mask, flags): (u64, u32),
    words: [u32; 3],
    offset: u64,
) -> Tried {
    let [protection, max_protection, inheritance] = words;
    let request = Request::VmMap(vm_map::VmMap {
        address,
        size,
        mask,
        flags,
        offset,
        copy: false,
        protection,
        max_protection,
        inheritance,
    });
    let wanted = || {
        let bad = flags & 0x100 != 0
            || protection | max_protection > 7
            || protection & !max_protection != 0
            || inheritance > 2
            || !offset.is_multiple_of(P);
        let pages_of = covering(0, size).filter(|_| size > 0 && !bad);
        let (_, count) = pages_of.ok_or(Kern::InvalidArgument)?;
        let fixed = flags & 1 == 0;
        let wraps = fixed && covering(address, size).is_none();
        if wraps || offset.checked_add(count * P).is_none() {
            return Err(Kern::InvalidArgument);
        }
        let page = Page {
            current: Prot::from_bits_truncate(protection as u8),
            most: Prot::from_bits_truncate(max_protection as u8),
            inheritance: Inherit::from_raw(inheritance).ok_or(Kern::InvalidArgument)?,
            bytes: zeros(),
        };
        match placed(pages, (address, mask, flags), count)? {
            Some(range) => Ok(mapped(pages, range, |_| page.clone())),
            None if count > FEW => Ok(Done::Else),
            None => Ok(Done::Mapped(page, count)),
        }
    };
    (request, wanted())
}

/// Rows 72 and 73 of the seed.
pub(super) fn remap(
    pages: &Pages,
    (source, size): (u64, u64),
    (address, mask, flags): (u64, u64, u32),
    copy: bool,
    inheritance: u32,
) -> Tried {
    let request = vm_share::Request::VmRemap(vm_share::VmRemap {
        address,
        size,
        mask,
        flags,
        source,
        copy,
        inheritance,
    });
    let wanted = || {
        let bad = flags & 0x100 != 0 || inheritance > 2 || size == 0;
        let rounded = covering(0, size).filter(|_| !bad);
        let (_, count) = rounded.ok_or(Kern::InvalidArgument)?;
        let wraps = covering(address, size).is_none();
        if covering(source, size).is_none() || flags & 1 == 0 && wraps {
            return Err(Kern::InvalidArgument);
        }
        let range = (source / P, source / P + count);
        each(pages, range, |page| {
            let can = !copy || page.most.contains(Prot::READ);
            (!can).then_some(Kern::ProtectionFailure)
        })?;
        match placed(pages, (address, mask, flags), count)? {
            Some(to) => Ok(mapped(pages, to, |number| Page {
                inheritance: Inherit::Copy,
                ..pages[&(range.0 + number)].clone()
            })),
            None if count == 1 => {
                let page = pages[&range.0].clone();
                let inheritance = Inherit::Copy;
                Ok(Done::Mapped(
                    Page {
                        inheritance,
                        ..page
                    },
                    1,
                ))
            }
            None => Ok(Done::Else),
        }
    };
    (Request::Share(request), wanted())
}
