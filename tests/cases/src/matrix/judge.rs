//! Whether what had to come of a call has come of it.

use alloc::format;
use alloc::string::String;

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::vm_inspect::{self, VM_PAGE_QUERY_PAGE_PRESENT};
use ipc_protocol::vm_map::{Reply, VmRegionReply};
use ipc_protocol::vm_share;

use super::{Done, P, Pages, Tried};

/// What is so after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// What was so before: the ground can be used again.
    Same,
    /// What is in the list of pages now.
    Changed,
    /// Nobody knows.
    Unknown,
}

impl Tried {
    /// Holds an answer against what had to come, and changes the list of pages to what is mapped then.
    ///
    /// # Errors
    /// The difference in words.
    pub fn judge(&self, pages: &mut Pages, said: Result<Reply, Kern>) -> Result<After, String> {
        let reply = match (&self.wanted, said) {
            (Err(right), Err(code)) if *right == code => {
                return Ok(if self.tears {
                    After::Unknown
                } else {
                    After::Same
                });
            }
            (Ok(_), Ok(reply)) => reply,
            (wanted, said) => {
                let code = said.map(drop);
                let wanted = wanted.as_ref().map(drop);
                return Err(format!("{code:?}, not {wanted:?}"));
            }
        };
        match &self.wanted {
            Ok(Done::Pages(after)) => pages.clone_from(after),
            Ok(Done::Mapped(page, count)) => {
                let first = address_in(&reply).ok_or("no address")? / P;
                if let Some(taken) = pages.range(first..first + count).next() {
                    return Err(format!("it maps over page {:x}", taken.0));
                }
                pages.extend((first..first + count).map(|number| (number, page.clone())));
            }
            Ok(Done::Region(number)) => {
                region_in(&reply)
                    .ok_or("no region")?
                    .is_of(pages, *number)?;
                return Ok(After::Same);
            }
            Ok(Done::Page(number)) => {
                let Reply::Inspect(vm_inspect::Reply::VmPageQuery(said)) = reply else {
                    return Err(String::from("no page"));
                };
                let tells = (said.disposition, said.ref_count);
                let known = is_known(pages, *number, said.disposition);
                return match known && (pages.contains_key(number) || tells == (0, 0)) {
                    true => Ok(After::Same),
                    false => Err(format!("page {number:#x} is {tells:x?}")),
                };
            }
            Ok(Done::Count(right)) => {
                return match count_in(&reply) {
                    Some(count) if count == *right => Ok(After::Same),
                    other => Err(format!("{other:x?}, not {right:x}")),
                };
            }
            Ok(Done::Nothing) => return Ok(After::Same),
            Ok(Done::Dispositions(..) | Done::Else) | Err(_) => return Ok(After::Unknown),
        }
        Ok(After::Changed)
    }
}

/// Whether a disposition may be said of a page: one with contents is resident, for nothing is paged out.
fn is_known(pages: &Pages, number: u64, disposition: u32) -> bool {
    let is_resident = disposition & VM_PAGE_QUERY_PAGE_PRESENT != 0;
    match pages.get(&number) {
        Some(page) => is_resident || page.bytes.iter().all(|byte| *byte == 0),
        None => disposition == 0,
    }
}

/// Whether numbers of 32 bits may be said of pages, from one on.
#[must_use]
pub fn are_known(pages: &Pages, first: u64, told: &[u8]) -> bool {
    (first..).zip(told.chunks(4)).all(|(number, word)| {
        let bytes = word.try_into().unwrap_or_default();
        is_known(pages, number, u32::from_le_bytes(bytes))
    })
}

/// A region that was told of.
struct Region<'a>(&'a VmRegionReply);

impl Region<'_> {
    /// It has to hold the page, and nothing that is not like it.
    fn is_of(&self, pages: &Pages, number: u64) -> Result<(), String> {
        let Region(said) = self;
        let inheritance = Inherit::from_raw(said.inheritance).ok_or("no inheritance")?;
        let rights = |bits: u32| Prot::from_bits_truncate(bits as u8);
        let shape = (
            rights(said.protection),
            rights(said.max_protection),
            inheritance,
        );
        let (first, end) = (said.address / P, (said.address + said.size) / P);
        let is_like = |number| pages.get(&number).is_some_and(|page| page.shape() == shape);
        let is_right = said.address.is_multiple_of(P)
            && said.size.is_multiple_of(P)
            && (first..end).contains(&number)
            && (first..end).all(is_like);
        match is_right {
            true => Ok(()),
            false => Err(format!("{:x} to {:x} as {shape:?}", first * P, end * P)),
        }
    }
}

fn region_in(reply: &Reply) -> Option<Region<'_>> {
    match reply {
        Reply::VmRegion(region) => Some(Region(region)),
        Reply::Inspect(vm_inspect::Reply::VmRegionRecurse(said)) if said.depth == 0 => {
            Some(Region(&said.region))
        }
        _ => None,
    }
}

/// The address that an answer gives.
const fn address_in(reply: &Reply) -> Option<u64> {
    use vm_share::Reply as Share;
    match reply {
        Reply::VmAllocate(reply) => Some(reply.address),
        Reply::VmMap(reply) => Some(reply.address),
        Reply::Share(Share::VmRemap(reply)) => Some(reply.address),
        Reply::Share(Share::VmRemapNew(reply)) => Some(reply.address),
        _ => None,
    }
}

const fn count_in(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Inspect(vm_inspect::Reply::VmPageRangeQuery(reply)) => Some(reply.count),
        Reply::VmReadOverwrite(reply) => Some(reply.size),
        _ => None,
    }
}
