//! The calls that map: what, and where to.

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::vm_share;

use super::{Done, FEW, P, Page, Pages, Right, Tried, covering, each, mapped, placed, zeros};

/// Flags that a remapping takes, of those that are tried.
const REMAP: u32 = ANYWHERE | RANDOM_ADDR | CODESIGN | MEDIA | OVERWRITE | DATA_ADDR;
const ANYWHERE: u32 = 1;
const RANDOM_ADDR: u32 = 8;
const CODESIGN: u32 = 0x20;
const MEDIA: u32 = 0x40;
const OVERWRITE: u32 = 0x4000;
const DATA_ADDR: u32 = 0x10_0000;

/// R82-104, of anonymous memory. `words`: protection, maximum, inheritance.
pub(super) fn map(
    pages: &Pages,
    (address, size): (u64, u64),
    (mask, flags): (u64, u32),
    words: [u32; 3],
    (offset, right): (u64, Right),
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
        // Only what can never be mapped is tried.
        let bad = right != Right::None
            || flags & 0x100 != 0
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
    Tried::new(request, wanted).with(right)
}

/// A remapping: what is asked, but for the words that one of the two calls has alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remap {
    /// First address and size of the source.
    pub(super) source: (u64, u64),
    /// Address, mask and flags.
    pub(super) to: (u64, u64, u32),
    pub(super) copy: bool,
    pub(super) inheritance: u32,
    pub(super) right: Right,
}

impl Remap {
    /// Nothing special: to wherever there is room, shared, with children as well.
    pub(super) const fn anywhere(address: u64, size: u64) -> Remap {
        Remap {
            source: (address, size),
            to: (0, 0, 1),
            copy: false,
            inheritance: 1,
            right: Right::Map,
        }
    }
}

/// Rows 72 and 73 of the seed.
pub(super) fn remap(pages: &Pages, asked: Remap) -> Tried {
    let request = vm_share::Request::VmRemap(vm_share::VmRemap {
        address: asked.to.0,
        size: asked.source.1,
        mask: asked.to.1,
        flags: asked.to.2,
        source: asked.source.0,
        copy: asked.copy,
        inheritance: asked.inheritance,
    });
    let wanted = || {
        let to_byte = asked.to.2 & DATA_ADDR != 0;
        let range = asked.range(to_byte, asked.copy)?;
        each(pages, range, |page| {
            let can = !asked.copy || page.most.contains(Prot::READ);
            (!can).then_some(Kern::ProtectionFailure)
        })?;
        asked.placed(pages, range, None)
    };
    Tried::new(Request::Share(request), wanted).with(asked.right)
}

/// C0160-C0166, C0377: with these current and maximum rights.
pub(super) fn remap_new(pages: &Pages, asked: Remap, rights: (u32, u32)) -> Tried {
    let (protection, max_protection) = rights;
    let request = vm_share::Request::VmRemapNew(vm_share::VmRemapNew {
        address: asked.to.0,
        size: asked.source.1,
        mask: asked.to.1,
        flags: asked.to.2,
        source: asked.source.0,
        copy: asked.copy,
        protection,
        max_protection,
        inheritance: asked.inheritance,
    });
    let wanted = || {
        let bits = |raw: u32| u8::try_from(raw).ok().and_then(Prot::from_bits);
        let (current, most) = bits(protection)
            .zip(bits(max_protection))
            .ok_or(Kern::InvalidArgument)?;
        if !most.contains(current) {
            return Err(Kern::InvalidArgument);
        }
        let range = asked.range(true, asked.copy || max_protection & !1 == 0)?;
        each(pages, range, |page| {
            let can = match asked.copy {
                true => page.most.contains(Prot::READ),
                false => page.current.contains(current) && page.most.contains(most),
            };
            (!can).then_some(Kern::ProtectionFailure)
        })?;
        asked.placed(pages, range, Some((current, most)))
    };
    Tried::new(Request::Share(request), wanted).with(asked.right)
}

impl Remap {
    /// The pages of the source, by all that can be wrong before they are looked at.
    fn range(&self, to_byte: bool, only_reads: bool) -> Result<(u64, u64), Kern> {
        let ((source, size), (address, _, flags)) = (self.source, self.to);
        let is_map = match self.right {
            Right::Map => true,
            Right::ReadMap => only_reads,
            _ => false,
        };
        let bad = !is_map
            || flags & !REMAP != 0
            || self.inheritance > 2
            || size == 0
            || flags & MEDIA != 0 && !self.copy;
        let (first, end) = covering(source, size)
            .filter(|_| !bad)
            .ok_or(Kern::InvalidArgument)?;
        let end = match to_byte {
            true => end,
            // As many as the size needs, not all that are touched.
            false => first + covering(0, size).ok_or(Kern::InvalidArgument)?.1,
        };
        let pages = (address / P).checked_add(end - first);
        let wraps = covering(address, size).is_none() || pages.is_none_or(|end| end >= 1 << 52);
        if flags & ANYWHERE == 0 && wraps {
            return Err(Kern::InvalidArgument);
        }
        Ok((first, end))
    }

    /// The result: with rights of its own, or those that each page has.
    fn placed(
        &self,
        pages: &Pages,
        (first, end): (u64, u64),
        rights: Option<(Prot, Prot)>,
    ) -> Result<Done, Kern> {
        let inheritance = Inherit::from_raw(self.inheritance).ok_or(Kern::InvalidArgument)?;
        let again = |page: &Page| Page {
            current: rights.map_or(page.current, |rights| rights.0),
            most: rights.map_or(page.most, |rights| rights.1),
            inheritance,
            bytes: page.bytes.clone(),
        };
        let count = end - first;
        let source = pages.get(&first).ok_or(Kern::Failure)?;
        Ok(match placed(pages, self.to, count)? {
            Some(to) => mapped(pages, to, |number| {
                again(pages.get(&(first + number)).unwrap_or(source))
            }),
            None if count == 1 => Done::Mapped(again(source), 1),
            None => Done::Else,
        })
    }
}
