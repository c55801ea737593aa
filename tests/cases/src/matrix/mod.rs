//! Each call on a range, with every combination of the addresses, sizes and words that are at a limit:
//! what has to come of it by the rules of the protocol's documentation, from a list of pages alone.
//!
//! ```text
//!   groups   which calls are tried on a range   ->   Tried: request, right, what has to come of it
//!   ranges, copies, places, entries, questions: the rules of each call, its errors in their order
//!   judge    whether that came of it
//!   sample   some of them, by chance, in whatever a case can be run against
//! ```
//!
//! All of them are tried on the core by its own tests. A call that is refused must have changed nothing,
//! so that the next can be tried on the same ground; one that is done leaves what the rules say.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use ipc_abi::Kern;
use ipc_abi::layout::{PAGE_SIZE, USER_MAX, USER_MIN};
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::vm_map::{self, Request};

mod copies;
mod entries;
pub mod groups;
mod judge;
mod places;
mod questions;
mod ranges;
pub mod sample;

pub use judge::{After, are_known};

const P: u64 = PAGE_SIZE;
/// Where the pages of the ground lie.
pub const AREA: u64 = USER_MIN + 64 * P;
/// How many.
pub const COUNT: u64 = 8;
/// Bytes of the copy and of the entries that calls are given, from [`AREA`] on.
pub const GIVEN: u64 = 2 * P;
/// The most pages that are gone over.
const FEW: u64 = 64;

/// A page that is mapped.
#[derive(Clone)]
pub struct Page {
    /// Current protection.
    pub current: Prot,
    /// Maximum protection.
    pub most: Prot,
    /// What a child gets.
    pub inheritance: Inherit,
    /// Contents.
    pub bytes: Vec<u8>,
}

impl Page {
    /// As `vm_allocate` makes it.
    const fn new(bytes: Vec<u8>) -> Page {
        Page {
            current: Prot::DEFAULT,
            most: Prot::ALL,
            inheritance: Inherit::Copy,
            bytes,
        }
    }

    /// What `vm_region` says of it.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        (self.current, self.most, self.inheritance)
    }
}

/// Without the contents, which nobody reads in a report.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shape().fmt(f)
    }
}

/// Protections and inheritance.
pub type Shape = (Prot, Prot, Inherit);

/// By page number.
pub type Pages = BTreeMap<u64, Page>;

/// The ground before its attributes are set: all pages can be read and written.
#[must_use]
pub fn filled() -> Pages {
    let page = |page: u64| {
        let bytes = (0..P).map(|at| (at * 7 + page * 31 + 1) as u8);
        (AREA / P + page, Page::new(bytes.collect()))
    };
    (0..COUNT).map(page).collect()
}

/// The ground, and the calls that make it of what is [`filled`]: page 2 can be read, 3 not be used, 4 is
/// not mapped, 6 can never be written, 7 is inherited by nobody.
#[must_use]
pub fn ground() -> (Pages, Vec<Request>) {
    let mut pages = filled();
    let calls = vec![
        protect(&mut pages, 2, false, Prot::READ),
        protect(&mut pages, 3, false, Prot::NONE),
        protect(&mut pages, 6, true, Prot::READ),
        Request::VmDeallocate(vm_map::VmDeallocate {
            address: AREA + 4 * P,
            size: P,
        }),
        Request::VmInherit(vm_map::VmInherit {
            address: AREA + 7 * P,
            size: P,
            inheritance: Inherit::None as u32,
        }),
    ];
    pages.remove(&(AREA / P + 4));
    if let Some(page) = pages.get_mut(&(AREA / P + 7)) {
        page.inheritance = Inherit::None;
    }
    (pages, calls)
}

fn protect(pages: &mut Pages, page: u64, set_maximum: bool, rights: Prot) -> Request {
    if let Some(page) = pages.get_mut(&(AREA / P + page)) {
        page.current = rights;
        if set_maximum {
            page.most = rights;
        }
    }
    Request::VmProtect(vm_map::VmProtect {
        address: AREA + page * P,
        size: P,
        set_maximum,
        protection: rights.bits().into(),
    })
}

/// What is mapped, in runs of pages that are alike: first address, one past the last, shape.
#[must_use]
pub fn runs(pages: &Pages) -> Vec<(u64, u64, Shape)> {
    let mut runs: Vec<(u64, u64, Shape)> = Vec::new();
    for (number, page) in pages {
        run(&mut runs, (number * P, number * P + P, page.shape()));
    }
    runs
}

/// Adds a range to runs: a cut between two that are alike is no difference (rule 55).
pub fn run(runs: &mut Vec<(u64, u64, Shape)>, (start, end, shape): (u64, u64, Shape)) {
    match runs.last_mut() {
        Some((_, last, alike)) if *last == start && *alike == shape => *last = end,
        _ => runs.push((start, end, shape)),
    }
}

/// The right that a call is given, in the slot where it takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Empty, or there is no slot.
    None,
    /// To the map itself.
    Map,
    /// To its read-only port.
    ReadMap,
    /// To the host control port.
    Host,
    /// To a copy of the first pages of the ground.
    Copy,
    /// To a named entry of them, to read and write.
    Entry,
    /// To one that only allows to read.
    ReadEntry,
    /// To one that is a share of them (MAP_MEM_VM_SHARE).
    Share,
    /// To one that is a snapshot of them (MAP_MEM_VM_COPY).
    Snapshot,
    /// To a port that is not the server's.
    Foreign,
    /// To nothing any more.
    Dead,
}

impl Right {
    /// All of them.
    pub const ALL: [Right; 11] = [
        Right::None,
        Right::Map,
        Right::ReadMap,
        Right::Host,
        Right::Copy,
        Right::Entry,
        Right::ReadEntry,
        Right::Share,
        Right::Snapshot,
        Right::Foreign,
        Right::Dead,
    ];
}

/// What a call that succeeds does.
#[derive(Clone, Debug)]
pub enum Done {
    /// Nothing is changed.
    Nothing,
    /// This is mapped then.
    Pages(Pages),
    /// So many pages, like this, are mapped where the answer says.
    Mapped(Page, u64),
    /// Nothing is changed; the answer tells of the region that this page is in.
    Region(u64),
    /// Nothing is changed; the answer tells of this page.
    Page(u64),
    /// Nothing is changed; the answer is this number.
    Count(u64),
    /// So many numbers are written there, about pages from this one on.
    Dispositions(u64, u64, u64),
    /// More than is compared.
    Else,
}

/// A call, and what has to come of it.
#[derive(Clone, Debug)]
pub struct Tried {
    /// What is asked.
    pub request: Request,
    /// With which right.
    pub right: Right,
    /// What has to come of it.
    pub wanted: Result<Done, Kern>,
    /// If it is refused, a prefix of what it writes may have been written.
    pub tears: bool,
}

impl Tried {
    fn new(request: Request, wanted: impl FnOnce() -> Result<Done, Kern>) -> Tried {
        Tried {
            request,
            right: Right::None,
            wanted: wanted(),
            tears: false,
        }
    }

    fn with(self, right: Right) -> Tried {
        Tried { right, ..self }
    }
}

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
