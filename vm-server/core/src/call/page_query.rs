//! vm_page_query and vm_page_range_query: what is known of pages (rule 204).
//!
//! The answers for a range go to memory of the asker, which may take a pager to be there; so they are
//! looked up page by page as they are written, and say what was known at that moment.

use ipc_abi::Kern;
use ipc_protocol::vm_inspect::{
    self, VM_PAGE_QUERY_PAGE_COPIED, VM_PAGE_QUERY_PAGE_DIRTY, VM_PAGE_QUERY_PAGE_EXTERNAL,
    VM_PAGE_QUERY_PAGE_FICTITIOUS, VM_PAGE_QUERY_PAGE_PRESENT, VM_PAGE_QUERY_PAGE_REF,
    VM_PAGE_QUERY_PAGE_REUSABLE, VmPageQuery, VmPageQueryReply, VmPageRangeQuery,
    VmPageRangeQueryReply,
};
use ipc_protocol::vm_map;

use super::vm_map::{MapCall, Outcome, done};
use crate::call::Reply;
use crate::event::{MapId, PortOf, PortRef};
use crate::fault::Fetched;
use crate::machine::Machine;
use crate::object::page::{Flags, Frame};
use crate::object::pages::Slot;
use crate::op::{BUDGET, Progress, Verb};
use crate::range::{PAGE_MASK, Span, page_of, round_page, trunc_page};
use crate::{Core, Turn};

/// Bytes of a disposition.
const DISPOSITION: u64 = 4;

/// Dispositions on their way.
#[derive(Clone, Copy, Debug)]
pub struct PageQuery {
    map: MapId,
    /// Number of the first page.
    first: u64,
    into: MapId,
    /// Where they go, and one past the last byte: at any address.
    start: u64,
    end: u64,
    /// Where the next byte goes.
    to: u64,
    reply: Reply,
}

impl Core {
    /// vm_page_query.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: the page's end overflows.
    pub(super) fn vm_page_query(&self, call: &MapCall, args: VmPageQuery) -> Outcome {
        let end = trunc_page(args.address).checked_add(PAGE_MASK.saturating_add(1));
        end.ok_or(Kern::InvalidAddress)?;
        let (disposition, ref_count) = self.page_disposition(call.map, page_of(args.address));
        let said = VmPageQueryReply {
            disposition,
            ref_count,
        };
        done(vm_map::Reply::Inspect(vm_inspect::Reply::VmPageQuery(said)))
    }

    /// vm_page_range_query.
    ///
    /// # Errors
    /// In the order that the message says.
    pub(super) fn vm_page_range_query<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: VmPageRangeQuery,
    ) -> Outcome {
        let into = call.rights.get(VmPageRangeQuery::INTO).copied();
        let Some(PortRef::Own(PortOf::Map(into))) = into else {
            return Err(Kern::InvalidArgument);
        };
        let bytes = args.count.checked_mul(DISPOSITION);
        bytes
            .and_then(|bytes| args.dispositions.checked_add(bytes))
            .ok_or(Kern::InvalidArgument)?;
        if args.size == 0 {
            return done(queried(args.count));
        }
        let range = Span::covering(args.address, args.size)?;
        if args.count == 0 {
            return done(queried(0));
        }
        let count = args.count.min(range.pages());
        let start = args.dispositions;
        let work = PageQuery {
            map: call.map,
            first: page_of(range.start()),
            into,
            start,
            end: start.saturating_add(count.saturating_mul(DISPOSITION)),
            to: start,
            reply: Reply::map(queried(count)),
        };
        self.ops.reserve_one()?;
        self.op_start(Verb::PageQuery(work), call.reply, None, turn.now)?;
        Ok(Progress::More)
    }

    /// One step: up to [`BUDGET`] pages, in one page of the asker's memory.
    pub(crate) fn page_query_step<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        work: &mut PageQuery,
        waiter: u32,
    ) -> Progress {
        if work.to >= work.end {
            return Progress::Done(Some(Ok(work.reply)));
        }
        if self.maps.get(work.map).is_none_or(|map| map.dying) {
            return Progress::Done(Some(Err(Kern::Terminated)));
        }
        let access = ipc_abi::types::Prot::WRITE;
        let frame = match self.fetch(turn, work.into, work.to, access, waiter) {
            Ok(Fetched::Page(frame)) if self.pages.get(frame).is_some() => frame,
            Ok(Fetched::Wait) => return Progress::Wait,
            Ok(_) => return Progress::Done(Some(Err(Kern::ProtectionFailure))),
            Err(code) => return Progress::Done(Some(Err(code))),
        };
        self.page_query_some(turn.machine, work, frame);
        Progress::More
    }

    /// Writes what fits into a page of the asker's: of the first and the last disposition perhaps a part.
    fn page_query_some<M: Machine>(&self, machine: &mut M, work: &mut PageQuery, frame: Frame) {
        let end = round_page(work.to.saturating_add(1)).map_or(work.end, |end| end.min(work.end));
        for _ in 0..BUDGET {
            if work.to >= end {
                return;
            }
            let done = work.to.saturating_sub(work.start);
            let page = work.first.saturating_add(done / DISPOSITION);
            let (disposition, _) = self.page_disposition(work.map, page);
            let bytes = disposition.to_le_bytes();
            let rest = bytes.get((done % DISPOSITION) as usize..).unwrap_or(&bytes);
            let room = end.saturating_sub(work.to) as usize;
            let part = rest.get(..room).unwrap_or(rest);
            machine.store(frame, (work.to & PAGE_MASK) as usize, part);
            work.to = work.to.saturating_add(part.len() as u64);
        }
    }

    /// What is known of page number `page` of a map, and the references to the object that has it.
    fn page_disposition(&self, map: MapId, page: u64) -> (u32, u32) {
        let (mut disposition, mut refs) = (0, 0);
        for (depth, (object, _, slot)) in self.chain(map, page).enumerate() {
            if depth == 0 {
                refs = object.refs;
            }
            if !object.is_internal() {
                disposition |= VM_PAGE_QUERY_PAGE_EXTERNAL;
            }
            match slot {
                Slot::Page(frame) => {
                    let copied = if depth > 0 {
                        VM_PAGE_QUERY_PAGE_COPIED
                    } else {
                        0
                    };
                    return (disposition | copied | self.page_bits(frame), object.refs);
                }
                Slot::Pending(_) => return (disposition | VM_PAGE_QUERY_PAGE_FICTITIOUS, refs),
                Slot::Empty | Slot::Unavailable => {}
            }
        }
        (disposition, refs)
    }

    /// What is known of a resident page.
    fn page_bits(&self, frame: Frame) -> u32 {
        let Some(page) = self.pages.get(frame) else {
            return 0;
        };
        let bit = |holds: bool, bit: u32| if holds { bit } else { 0 };
        VM_PAGE_QUERY_PAGE_PRESENT
            | bit(!page.places.is_never(), VM_PAGE_QUERY_PAGE_REF)
            | bit(page.flags.contains(Flags::DIRTY), VM_PAGE_QUERY_PAGE_DIRTY)
            | bit(
                page.flags.contains(Flags::REUSABLE),
                VM_PAGE_QUERY_PAGE_REUSABLE,
            )
    }
}

const fn queried(count: u64) -> vm_map::Reply {
    vm_map::Reply::Inspect(vm_inspect::Reply::VmPageRangeQuery(VmPageRangeQueryReply {
        count,
    }))
}

#[cfg(test)]
mod tests;
