//! vm_map_copy: memory on its way from one map to another, named by its port.
//!
//! A copy *is* an address map: a hidden one, in which nothing runs and nothing is ever mapped, whose
//! entries hold the copied memory copy-on-write from address 0 on. So every part that knows entries
//! (sharing, shadows, reverse mapping, faults of operations) knows copies; of the four formats that
//! Mach has, which differ in where the pages lie, one is left. It costs as much as it has entries.
//!
//! [`copyin`] makes one of a range, [`moving`] one of what is to go from there, [`copyout`] maps one, [`overwrite`] writes one over a range.
//! Where the memory's strategy allows no sharing, [`making`] copies it: [`slowly`] page by page, or
//! [`asked`], by its pager. [`sharein`] fills a hidden map with memory that stays the source's too.
//! [`settle`] makes a copy independent of pagers.

pub mod asked;
pub mod copyin;
pub mod copyout;
pub(crate) mod making;
mod moving;
pub mod overwrite;
mod plain;
pub mod quick;
#[cfg(test)]
mod races;
pub mod settle;
pub mod sharein;
pub mod slowly;

use ipc_abi::Kern;
use ipc_protocol::copy::{CopyDescribeReply, Reply, Request};

use crate::Core;
use crate::event::{MapId, PortOf};
use crate::id::Id;
use crate::map::Map;
use crate::range::{PAGE_MASK, Span};

/// Handle of a copy.
pub type CopyId = Id<Copy>;

/// A copy of a range.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// The hidden map that holds it, from address 0 on.
    pub map: MapId,
    /// Place of the first byte within its page.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Copy {
    /// Bytes of the pages that it covers.
    #[must_use]
    pub const fn pages_size(&self) -> u64 {
        match crate::range::round_page(self.offset.saturating_add(self.size)) {
            Some(size) if self.size > 0 => size,
            _ => 0,
        }
    }
}

impl Core {
    /// A hidden map with room for `size` bytes, paid for by `payer`.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no record, or a limit.
    pub(crate) fn hidden_map(&mut self, payer: MapId, size: u64) -> Result<MapId, Kern> {
        let account = self.charge_hidden(payer)?;
        let payer = account.payer;
        let map = self.maps.insert_with(|| Map {
            account,
            ..Map::new(0, size)
        });
        map.inspect_err(|_| self.uncharge_hidden(payer))
    }

    /// What a copy's port answers.
    pub(crate) fn call_copy(&self, id: CopyId, request: Request) -> Result<Reply, Kern> {
        let copy = self.copies.get(id).ok_or(Kern::Terminated)?;
        match request {
            // It takes time, and was begun elsewhere.
            Request::CopySettle(_) => Err(Kern::Failure),
            Request::CopyDescribe(_) => Ok(Reply::CopyDescribe(CopyDescribeReply {
                size: copy.size,
                offset: copy.offset,
                depends_on_pager: self.depends_on_pager(copy.map),
            })),
        }
    }

    /// Whether a page of a map may have to come from a pager: one of the first entries has an
    /// external object below it.
    fn depends_on_pager(&self, map: MapId) -> bool {
        let Some(record) = self.maps.get(map) else {
            return false;
        };
        let mut link = record.tree.first();
        for _ in 0..crate::op::BUDGET {
            let Some(entry) = self.entries.at(link.0) else {
                return false;
            };
            if entry
                .object
                .is_some_and(|object| self.has_pager_below(object))
            {
                return true;
            }
            link = entry.hooks.next;
        }
        // Too many entries to look at: nobody is promised that there is no pager.
        true
    }

    fn has_pager_below(&self, object: crate::event::ObjectId) -> bool {
        let mut at = Some(object);
        while let Some(object) = at.and_then(|id| self.objects.get(id)) {
            if object.pager.is_some() {
                return true;
            }
            at = object.shadow;
        }
        false
    }

    /// Discards a copy: its port has no senders.
    pub(crate) fn copy_discard(&mut self, id: CopyId) {
        if let Some(copy) = self.copies.remove(id) {
            self.map_end(copy.map);
        }
    }

    /// The copy that a right of a request names.
    pub(crate) fn copy_of(&self, right: crate::event::PortRef) -> Result<(CopyId, Copy), Kern> {
        match right {
            crate::event::PortRef::Own(PortOf::Copy(id)) => self
                .copies
                .get(id)
                .map(|copy| (id, *copy))
                .ok_or(Kern::InvalidArgument),
            _ => Err(Kern::InvalidArgument),
        }
    }
}

/// The pages that hold `size` bytes at `address`, and the place of the first byte in its page.
///
/// # Errors
/// `KERN_INVALID_ADDRESS`: the range overflows, or its rounding does (rule 51).
pub(crate) fn pages_of(address: u64, size: u64) -> Result<(Span, u64), Kern> {
    let range = Span::covering(address, size).map_err(|_| Kern::InvalidAddress)?;
    Ok((range, address & PAGE_MASK))
}
