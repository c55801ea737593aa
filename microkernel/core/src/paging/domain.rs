//! What devices may reach, where an IOMMU stands between them and memory.
//!
//! A device is attached to the space of the task that drives it, and reaches those frames of that
//! space which the task has shown to devices, at their physical addresses, and nothing else. The
//! frames are held in a *domain*, page tables like a space's own: the formats of the processor and
//! of the IOMMU agree in the bits that are used (present and write; VT-d 9.8 ignores the others).
//!
//! A domain follows the space: when any translation of a frame that is shown is taken back, the
//! devices lose the frame before its count goes down ([`Domains::withdraw`]), and when the space ends they
//! lose everything. So no server has to remember what a driver has shown to whom, and no frame
//! changes hands while a device can write to it.
//!
//! The driver pays for the tables, and for one more with each function: the one that says where the
//! contexts of its bus are, which it may have to itself.

use heapless::Vec;
use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::translation::Enter;
use ipc_abi::types::Prot;

use super::{Shootdown, Space, TableStore, enter_one, range, remove_kernel_page, walk};
use crate::addr::{Frame, PageRange, UserAddr};
use crate::owner::Owners;
use crate::{Bill, Progress, SpaceId, TaskId};

/// Tasks that can drive devices at one time: with number 0, as many as every IOMMU can tell apart.
pub const DOMAINS_MAX: usize = 15;
/// Functions of devices that one task can drive.
pub const FUNCTIONS_MAX: usize = 8;
/// Most pages that are shown at once.
pub const PAGES_MAX: u64 = 512;

/// A function of a device on its bus: bus, device and function as 8, 5 and 3 bits.
pub type Function = u16;

/// What a task's devices may reach.
#[derive(Debug)]
struct Domain {
    of: SpaceId,
    number: u16,
    tables: Space,
    functions: Vec<Function, FUNCTIONS_MAX>,
}

/// What the IOMMU is to be told of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The root of the tables that its addresses go through.
    pub root: Frame,
    /// Number of the domain, from 1.
    pub number: u16,
}

/// All domains.
#[derive(Debug, Default)]
pub struct Domains {
    domains: Vec<Domain, DOMAINS_MAX>,
}

impl Domains {
    /// Whether there is none, so that nothing is shown to any device.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// Asks whether a function can be attached to a space, for which `left` tables more can be paid.
    ///
    /// # Errors
    /// KERN_NO_ACCESS: it is attached to another. KERN_RESOURCE_SHORTAGE: too many functions or
    /// drivers, or too few tables.
    pub fn may_attach(&self, of: SpaceId, function: Function, left: u32) -> Result<(), Kern> {
        let mut domains = self.domains.iter();
        let holder = domains.find(|domain| domain.functions.contains(&function));
        let domain = self.domains.iter().find(|domain| domain.of == of);
        let (full, tables) = match (holder, domain) {
            (Some(holder), _) if holder.of != of => return Err(Kern::NoAccess),
            (Some(_), _) => (false, 0),
            (None, Some(domain)) => (domain.functions.is_full(), 1),
            (None, None) => (self.domains.is_full(), 2),
        };
        match full || tables > left {
            true => Err(Kern::ResourceShortage),
            false => Ok(()),
        }
    }

    /// Attaches a function to a space, at the cost of `payer`, as [`Domains::may_attach`] says is possible.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: no frame for a table; nothing has changed.
    pub fn attach(
        &mut self,
        store: &mut impl TableStore,
        (of, space): (SpaceId, &Space),
        function: Function,
        payer: TaskId,
    ) -> Result<Attachment, Kern> {
        let index = match self.domains.iter().position(|domain| domain.of == of) {
            Some(index) => index,
            None => self.make(store, of, space)?,
        };
        let domain = self.domains.get_mut(index).ok_or(Kern::Failure)?;
        if !domain.functions.contains(&function) {
            let room = domain.functions.push(function);
            room.map_err(|_| Kern::ResourceShortage)?;
        }
        let besides = (domain.functions.len() as u64).saturating_mul(PAGE_SIZE);
        domain.tables.set_payer(payer, besides);
        Ok(Attachment {
            root: domain.tables.root(),
            number: domain.number,
        })
    }

    fn make(
        &mut self,
        store: &mut impl TableStore,
        of: SpaceId,
        space: &Space,
    ) -> Result<usize, Kern> {
        if self.domains.is_full() {
            return Err(Kern::ResourceShortage);
        }
        let taken = |number| self.domains.iter().any(|domain| domain.number == number);
        let number = (1..=u16::MAX).find(|number| !taken(*number));
        let number = number.ok_or(Kern::ResourceShortage)?;
        let root = store.allocate().ok_or(Kern::ResourceShortage)?;
        let domain = Domain {
            of,
            number,
            tables: Space::new(root, space.owner(), u32::MAX),
            functions: Vec::new(),
        };
        let added = self.domains.push(domain);
        added.map_err(|_| Kern::ResourceShortage)?;
        Ok(self.domains.len().saturating_sub(1))
    }

    /// Shows the frames of pages of a space to its devices, for reading and writing.
    ///
    /// # Errors
    /// In this order: KERN_INVALID_ARGUMENT: no page, or more than [`PAGES_MAX`]. KERN_FAILURE: the space has no
    /// device. KERN_INVALID_ADDRESS: a page is not mapped by a small page. KERN_PROTECTION_FAILURE:
    /// the task may not write to it. Up to here nothing has changed. KERN_NO_ACCESS: it is no memory
    /// of the space's owner. KERN_RESOURCE_SHORTAGE: no frame for a table.
    pub fn show(
        &mut self,
        store: &mut impl TableStore,
        owners: &Owners<'_>,
        account: &mut Shootdown,
        (of, space): (SpaceId, &Space),
        pages: PageRange,
    ) -> Result<(), Kern> {
        if !(1..=PAGES_MAX).contains(&pages.pages()) {
            return Err(Kern::InvalidArgument);
        }
        let domain = self.domains.iter_mut().find(|domain| domain.of == of);
        let domain = domain.ok_or(Kern::Failure)?;
        for index in 0..pages.pages() {
            shown(store, space, pages, index)?;
        }
        for index in 0..pages.pages() {
            let frame = shown(store, space, pages, index)?;
            let enter = Enter {
                address: frame.start().raw(),
                frame: frame.number(),
                protection: Prot::DEFAULT,
                uncached: false,
                epoch: u64::MAX,
            };
            enter_one(&mut domain.tables, store, owners, account, enter)?;
        }
        Ok(())
    }

    /// Takes a frame from all devices, because a translation of it was removed. Says whether any had it.
    pub fn withdraw(
        &self,
        store: &mut impl TableStore,
        account: &mut Shootdown,
        frame: Frame,
    ) -> bool {
        let Some(address) = UserAddr::new(frame.start().raw()) else {
            return false;
        };
        let mut had = false;
        for domain in &self.domains {
            had |= remove_kernel_page(&domain.tables, store, account, address, frame);
        }
        had
    }

    /// The tables of the domain of a space.
    pub fn tables(&mut self, of: SpaceId) -> Option<&mut Space> {
        let domain = self.domains.iter_mut().find(|domain| domain.of == of);
        domain.map(|domain| &mut domain.tables)
    }

    /// The functions of a space that is about to end, to be detached: nobody's any more.
    #[must_use]
    pub fn take_functions(&mut self, of: SpaceId) -> Vec<Function, FUNCTIONS_MAX> {
        let domain = self.domains.iter_mut().find(|domain| domain.of == of);
        domain.map_or_else(Vec::new, |domain| core::mem::take(&mut domain.functions))
    }

    /// Removes a few of the pages of the domain of a space whose functions are detached; at last the
    /// domain, and gives the last bill for it.
    pub fn end(
        &mut self,
        store: &mut impl TableStore,
        account: &mut Shootdown,
        of: SpaceId,
    ) -> (Progress, Option<Bill>) {
        let Some(index) = self.domains.iter().position(|domain| domain.of == of) else {
            return (Progress::Done, None);
        };
        if let Some(domain) = self.domains.get_mut(index)
            && range::clear(&mut domain.tables, store, account) == Progress::More
        {
            return (Progress::More, None);
        }
        let domain = self.domains.swap_remove(index);
        account.note_table(store, domain.tables.root(), domain.tables.root());
        (Progress::Done, domain.tables.last_bill())
    }
}

/// The frame of page `index` of a range, if it may be shown.
fn shown(
    store: &impl TableStore,
    space: &Space,
    pages: PageRange,
    index: u64,
) -> Result<Frame, Kern> {
    let address = UserAddr::new(pages.skip(index).start()).ok_or(Kern::InvalidAddress)?;
    let (entry, rights) =
        walk::translate(store, space.root(), address).ok_or(Kern::InvalidAddress)?;
    if entry.is_large() {
        return Err(Kern::InvalidAddress);
    }
    if !rights.contains(Prot::DEFAULT) {
        return Err(Kern::ProtectionFailure);
    }
    Ok(entry.frame())
}
