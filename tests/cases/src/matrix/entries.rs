//! mach_make_memory_entry: what the permission word, the range and the parent come to (R100-103, 2.2).

use ipc_abi::Kern;
use ipc_abi::types::Prot;
use ipc_protocol::vm_map::{
    self, MAP_MEM_4K_DATA_ADDR, MAP_MEM_NAMED_CREATE, MAP_MEM_NAMED_REUSE, MAP_MEM_ONLY,
    MAP_MEM_PURGABLE, MAP_MEM_USE_DATA_ADDR, MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE, Request,
    VM_PROT_IS_MASK,
};

use super::{Done, GIVEN, Page, Pages, Right, Tried, covering, each};

const DATA_ADDR: u32 = MAP_MEM_USE_DATA_ADDR | MAP_MEM_4K_DATA_ADDR;
/// Every flag that there is, between the protection and the cache mode.
const DEFINED: u32 = 0x00FF_E000;
const CACHE_MAX: u32 = 9;

/// What is asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    permission: u32,
    right: Right,
    offset: u64,
    size: u64,
}

/// An entry; it is dropped, so that nothing is changed.
pub(super) fn entry(
    pages: &Pages,
    (offset, size): (u64, u64),
    permission: u32,
    right: Right,
) -> Tried {
    let request = Request::MachMakeMemoryEntry(vm_map::MachMakeMemoryEntry {
        size,
        offset,
        permission,
    });
    let asked = Asked {
        permission,
        right,
        offset,
        size,
    };
    Tried::new(request, || asked.wanted(pages)).with(right)
}

impl Asked {
    const fn has(&self, flags: u32) -> bool {
        self.permission & flags != 0
    }

    fn rights(&self) -> Prot {
        Prot::from_bits_truncate(self.permission as u8)
    }

    fn wanted(&self, pages: &Pages) -> Result<Done, Kern> {
        if self.permission & 0x00FF_FF00 & !DEFINED != 0 || self.permission >> 24 > CACHE_MAX {
            return Err(Kern::InvalidValue);
        }
        if self.has(MAP_MEM_ONLY) {
            return self.cache();
        }
        if self.has(MAP_MEM_NAMED_CREATE) {
            return self.create();
        }
        let parent = match self.right {
            Right::None => None,
            Right::Entry => Some(Prot::DEFAULT),
            Right::ReadEntry => Some(Prot::READ),
            _ => return Err(Kern::InvalidArgument),
        };
        let range = covering(self.offset, self.size).filter(|_| self.size > 0);
        let range = range.ok_or(Kern::InvalidArgument)?;
        let of_map = self.has(MAP_MEM_NAMED_REUSE | MAP_MEM_VM_COPY | MAP_MEM_VM_SHARE);
        match parent {
            Some(most) if !of_map => self.window(range, most),
            _ => self.of_map(pages, range),
        }
    }

    fn cache(&self) -> Result<Done, Kern> {
        let most = match self.right {
            Right::Entry => Prot::DEFAULT,
            Right::ReadEntry => Prot::READ,
            _ => return Err(Kern::InvalidArgument),
        };
        if self.has(DATA_ADDR) {
            return Err(Kern::InvalidArgument);
        }
        // The entries here have mode 0.
        match self.permission >> 24 != 0 && !most.contains(Prot::WRITE) {
            true => Err(Kern::InvalidRight),
            false => Ok(Done::Else),
        }
    }

    fn create(&self) -> Result<Done, Kern> {
        if self.size == 0 {
            return Ok(Done::Nothing);
        }
        let (_, count) = covering(0, self.size).ok_or(Kern::InvalidArgument)?;
        if self.has(DATA_ADDR) || self.has(MAP_MEM_PURGABLE) && !self.rights().contains(Prot::WRITE)
        {
            return Err(Kern::InvalidArgument);
        }
        match u32::try_from(count) {
            Ok(_) => Ok(Done::Nothing),
            Err(_) => Err(Kern::Failure),
        }
    }

    /// Of an entry that allows no more than `most`.
    fn window(&self, (_, end): (u64, u64), most: Prot) -> Result<Done, Kern> {
        if end > GIVEN / super::P {
            return Err(Kern::InvalidArgument);
        }
        self.allowed(most)
    }

    /// With the mask bit what is not allowed is left out, but for all of it.
    fn allowed(&self, most: Prot) -> Result<Done, Kern> {
        let can = match self.has(VM_PROT_IS_MASK) {
            true => self.rights().intersects(most),
            false => most.contains(self.rights()),
        };
        match can {
            true => Ok(Done::Nothing),
            false => Err(Kern::ProtectionFailure),
        }
    }

    fn of_map(&self, pages: &Pages, (first, end): (u64, u64)) -> Result<Done, Kern> {
        let lacks = |page: &Page| {
            let has = match self.has(MAP_MEM_VM_COPY) {
                true => page.current.contains(Prot::READ),
                false => self.has(VM_PROT_IS_MASK) || page.most.contains(self.rights()),
            };
            (!has).then_some(Kern::ProtectionFailure)
        };
        // Without a flag the first map entry cuts the range.
        let pieces = self.has(MAP_MEM_VM_COPY | MAP_MEM_VM_SHARE);
        let end = if pieces { end } else { first + 1 };
        each(pages, (first, end), lacks)?;
        if self.has(MAP_MEM_VM_COPY) {
            return Ok(Done::Nothing);
        }
        let both = |most: Prot, page: &Page| most.intersection(page.most);
        let range = pages.range(first..end).map(|(_, page)| page);
        self.allowed(range.fold(Prot::ALL, both))
    }
}
