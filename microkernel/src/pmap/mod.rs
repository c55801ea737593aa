//! Address spaces on this machine: their tables, what processors hold of them, and the frames
//! that move between the kernel and the VM server.
//!
//! [`Memory`] is the state; kernel-core's `paging` decides what happens to tables, and this module
//! gives it the store, discharges what it says has to be flushed, and finds spaces by number. The
//! kernel half of every root is the one that `arch::tables` built.

pub(crate) mod devices;
pub(crate) mod direct_map;
pub(crate) mod transfer;

use alloc::vec::Vec;
use core::iter;

use ipc_abi::fault::{Beside, FaultReply};
use ipc_abi::translation::Enter;
use ipc_abi::types::Prot;
use ipc_abi::{Kern, layout};
use kernel_core::addr::{Frame, PageRange, PhysAddr, UserAddr};
use kernel_core::owner::OwnerId;
use kernel_core::paging::domain::Function;
use kernel_core::paging::range;
use kernel_core::paging::{
    self, Outcome, Passed, Passing, Shootdown, Space, Spaces, State, Take, take_one, window,
};
use kernel_core::{Bill, FaultAnswer, Kernel, Progress, Resolved, SpaceId, TaskId, fit};

use crate::arch::context::Saved;
use crate::arch::vtd::Iommu;
use crate::arch::{cpu, tlb};
use crate::frames::buffer::Buffer;
use crate::frames::{self, Depth};
use crate::processors;
use devices::Devices;
use direct_map::DirectMap;

/// Spaces, and the tables that they are made of.
pub(crate) struct Memory {
    spaces: Table,
    store: DirectMap,
    kernel_root: Frame,
    /// The IOMMU, where there is one.
    devices: Option<Devices>,
    /// Empty between two calls.
    account: Shootdown,
    /// What is to be charged for tables that were made, and for those that are gone.
    bills: Bills,
}

/// Bills that nobody has seen yet. A space for which there is no room is billed the next time.
type Bills = heapless::Vec<Bill, 8>;

/// Spaces by number.
struct Table {
    slots: Vec<Option<Space>>,
}

impl Memory {
    /// No space yet. `kernel_root` is a root table whose user half is empty.
    pub(crate) fn new(kernel_root: PhysAddr, no_execute: bool) -> Memory {
        Memory {
            spaces: Table { slots: Vec::new() },
            store: DirectMap::new(no_execute),
            kernel_root: kernel_root.frame(),
            devices: None,
            account: Shootdown::new(),
            bills: Bills::new(),
        }
    }

    /// Confines devices by an IOMMU from now on.
    pub(crate) fn confine(&mut self, iommu: Iommu) {
        self.devices = Some(Devices::new(iommu));
    }

    /// Attaches a function of a device to a space: it reaches what [`Memory::show_device`] shows it. The
    /// payer, for whom so many tables more can be made, is the task in the space.
    ///
    /// # Errors
    /// KERN_NOT_SUPPORTED: there is no IOMMU. KERN_NO_ACCESS: it is attached to another space.
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn attach_device(
        &mut self,
        id: SpaceId,
        function: Function,
        payer: (TaskId, u32),
    ) -> Result<(), Kern> {
        let devices = self.devices.as_mut().ok_or(Kern::NotSupported)?;
        let space = self.spaces.find(id).ok_or(Kern::InvalidName)?;
        let attached = devices.attach(&mut self.store, (id, space), function, payer);
        if let Some(tables) = devices.tables(id) {
            note_bill(&mut self.bills, tables);
        }
        attached
    }

    /// Shows the frames of pages of a space to its devices, for which `left` tables more can be made.
    ///
    /// # Errors
    /// KERN_NOT_SUPPORTED: there is no IOMMU. Then those of `Domains::show`.
    pub(crate) fn show_device(
        &mut self,
        id: SpaceId,
        pages: PageRange,
        left: u32,
    ) -> Result<(), Kern> {
        let devices = self.devices.as_mut().ok_or(Kern::NotSupported)?;
        let space = self.spaces.find(id).ok_or(Kern::InvalidName)?;
        if let Some(tables) = devices.tables(id) {
            tables.allow(left);
        }
        let shown = devices.show(&mut self.store, (id, space), pages);
        if let Some(tables) = devices.tables(id) {
            note_bill(&mut self.bills, tables);
        }
        shown
    }

    /// Makes an empty space of a memory server's; the first one costs nobody anything.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(crate) fn space_new(
        &mut self,
        owner: OwnerId,
        maker: Option<TaskId>,
    ) -> Result<SpaceId, Kern> {
        let id = self.spaces.reserve()?;
        let root = frames::allocate_as_it_is(Depth::Normal).ok_or(Kern::ResourceShortage)?;
        // SAFETY: the frame was just allocated; start-up made the kernel half.
        unsafe { self.store.make_root(self.kernel_root, root) };
        let mut space = Space::new(root, owner, u32::MAX);
        if let Some(maker) = maker {
            space.set_payer(maker, kernel_core::SPACE);
        }
        self.spaces.put(id, space);
        self.bill(id);
        Ok(id)
    }

    /// Removes a slice of all that a space maps, and that its devices reach.
    pub(crate) fn space_clear(&mut self, id: SpaceId) -> Progress {
        if let Some(devices) = &mut self.devices {
            match devices.end(&mut self.store, id) {
                (Progress::More, _) => return Progress::More,
                // There is room: nothing else is billed in this trap or step.
                (Progress::Done, Some(bill)) => drop(self.bills.push(bill)),
                (Progress::Done, None) => {}
            }
        }
        let Ok(space) = self.spaces.get(id) else {
            return Progress::Done;
        };
        let progress = range::clear(space, &mut self.store, &mut self.account);
        self.discharge();
        self.bill(id);
        progress
    }

    /// Frees a space, which is loaded nowhere; gives the last bill for it.
    pub(crate) fn space_free(&mut self, id: SpaceId) -> Option<Bill> {
        while self.space_clear(id) == Progress::More {}
        let space = self.spaces.take(id)?;
        frames::free(space.root());
        space.last_bill()
    }

    /// Notes what a space costs now.
    fn bill(&mut self, id: SpaceId) {
        if let Ok(space) = self.spaces.get(id) {
            note_bill(&mut self.bills, space);
        }
    }

    /// Whether [`Memory::take_bill`] has something to tell.
    #[inline]
    pub(crate) fn has_bills(&self) -> bool {
        !self.bills.is_empty()
    }

    /// A bill that nobody has seen yet.
    pub(crate) fn take_bill(&mut self) -> Option<Bill> {
        self.bills.pop()
    }

    /// The root table of a space; of a space that is not there, the kernel's.
    pub(crate) fn root(&self, id: SpaceId) -> Frame {
        self.spaces.find(id).map_or(self.kernel_root, Space::root)
    }

    /// Physical address of the root table whose user half is empty.
    pub(crate) fn kernel_root(&self) -> u64 {
        self.kernel_root.start().raw()
    }

    /// Frames that the kernel has in all, and those that are free.
    pub(crate) fn kernel_frames(&self) -> (u64, u64) {
        let (total, free) = frames::counts();
        (u64::from(total), u64::from(free))
    }

    /// Makes the IPC buffer of a slot of a space: a zeroed frame, mapped in the window.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE: no frame, or no such slot.
    pub(crate) fn buffer_new(&mut self, id: SpaceId, slot: u64) -> Result<Frame, Kern> {
        let address = buffer_address(slot)?;
        let frame = frames::allocate(Depth::Normal).ok_or(Kern::ResourceShortage)?;
        match self.map_own(id, address, frame, Prot::DEFAULT) {
            Ok(()) => Ok(frame),
            Err(_) => {
                frames::free(frame);
                Err(Kern::ResourceShortage)
            }
        }
    }

    /// Unmaps and frees the IPC buffer that [`Memory::buffer_new`] made.
    pub(crate) fn buffer_free(&mut self, id: SpaceId, slot: u64, frame: Frame) {
        if let (Ok(space), Ok(address)) = (self.spaces.get(id), buffer_address(slot)) {
            let account = &mut self.account;
            paging::remove_kernel_page(space, &mut self.store, account, address, frame);
        }
        self.discharge();
        self.bill(id);
        frames::free(frame);
    }

    /// Maps a frame of the kernel's in a space.
    ///
    /// # Errors
    /// KERN_INVALID_NAME: no space. KERN_NO_ACCESS: not the kernel's. KERN_RESOURCE_SHORTAGE.
    pub(crate) fn map_own(
        &mut self,
        id: SpaceId,
        address: UserAddr,
        frame: Frame,
        rights: Prot,
    ) -> Result<(), Kern> {
        let space = self.spaces.get(id)?;
        let page = (address, frame, rights);
        let (store, account) = (&mut self.store, &mut self.account);
        // What the page is for is paid for by somebody else; the way to it is never refused.
        space.allow_all();
        let result = paging::enter_kernel_page(space, store, frames::owners(), account, page);
        self.discharge();
        self.bill(id);
        result
    }

    /// Shows frames in the physical window that is in this space.
    ///
    /// # Errors
    /// KERN_INVALID_NAME: no space. KERN_INVALID_ADDRESS: shown already. KERN_RESOURCE_SHORTAGE.
    pub(crate) fn show(&mut self, id: SpaceId, first: Frame, count: u32) -> Result<(), Kern> {
        let space = self.spaces.get(id)?;
        space.allow_all();
        let shown = window::show(space, &mut self.store, first, count);
        self.bill(id);
        shown
    }

    /// Enters one page.
    ///
    /// # Errors
    /// Those of `kernel_core::paging::enter_one`; KERN_INVALID_NAME: no space.
    pub(crate) fn enter(&mut self, id: SpaceId, enter: Enter) -> Result<(), Kern> {
        let space = self.spaces.get(id)?;
        let (store, account) = (&mut self.store, &mut self.account);
        let result = paging::enter_one(space, store, frames::owners(), account, enter);
        self.discharge();
        result
    }

    /// [`Memory::enter`], for the answer to a fault: says whether the page is entered.
    #[inline(always)]
    pub(crate) fn enter_answer(&mut self, id: SpaceId, enter: Enter) -> bool {
        self.enter_absent(id, enter) || self.enter_with_care(id, enter)
    }

    /// The part of [`Memory::enter_answer`] that is enough for the common fault; `false`: nothing has
    /// happened. Several processors may do this at once.
    #[inline(always)]
    pub(crate) fn enter_absent(&self, id: SpaceId, enter: Enter) -> bool {
        let owners = frames::owners();
        let space = self.spaces.find(id);
        space.is_some_and(|space| paging::enter_absent(space, &self.store, owners, enter))
    }

    /// Without a limit to the tables of the space; else they are made on the general way only.
    #[cold]
    #[inline(never)]
    fn enter_with_care(&mut self, id: SpaceId, enter: Enter) -> bool {
        let entered = self.enter(id, enter).is_ok();
        self.bill(id);
        entered
    }

    /// Carries out a slice of the batch in a buffer; `find` knows the caller's spaces by name.
    pub(crate) fn batch(
        &mut self,
        kernel: &Kernel,
        mut buffer: Buffer,
        length: usize,
        find: impl Fn(u32) -> Result<SpaceId, Kern>,
    ) -> Outcome {
        let mut named = Named {
            spaces: &mut self.spaces,
            bills: &mut self.bills,
            kernel,
            find,
            last: None,
        };
        let (store, account) = (&mut self.store, &mut self.account);
        let owners = frames::owners();
        let outcome = paging::run(&mut buffer, length, &mut named, store, owners, account);
        let last = named.last;
        self.discharge();
        if let Some(last) = last {
            self.bill(last);
        }
        outcome
    }

    /// Takes one page back, and gives the word that says what was seen.
    ///
    /// # Errors
    /// KERN_INVALID_NAME: no space.
    #[inline(always)]
    pub(crate) fn take(&mut self, id: SpaceId, take: Take) -> Result<u32, Kern> {
        let space = self.spaces.get(id)?;
        let taken = take_one(space, &mut self.store, take);
        if let Some((root, page)) = taken.stale {
            let root = root.start().raw();
            processors::recall(|other| other.root() == root);
            if cpu::loaded_root() == root {
                tlb::flush_page(page.raw());
            }
        }
        if let Some(frame) = taken.gone {
            if let Some(devices) = &mut self.devices {
                devices.withdraw(&mut self.store, iter::once(frame));
            }
            let counted = frames::owners().lower(frame);
            debug_assert!(counted, "frame {frame:?} was not counted");
        }
        Ok(taken.seen)
    }

    /// Passes the pages that `buffer` names from one space to another. Gives how many are shown there.
    ///
    /// # Errors
    /// KERN_INVALID_NAME: no space.
    pub(crate) fn pass(
        &mut self,
        (from, to): (SpaceId, Option<SpaceId>),
        passing: &Passing,
        buffer: Buffer,
    ) -> Result<u32, Kern> {
        let owners = frames::owners();
        let (store, account) = (&mut self.store, &mut self.account);
        let space = self.spaces.get(from)?;
        let mut passed = Passed::NONE;
        passing.withdraw(space, (store, owners), account, &buffer, &mut passed);
        if let Some(devices) = &mut self.devices {
            devices.withdraw(&mut self.store, passed.frames());
        }
        self.discharge();
        let to = to.and_then(|to| self.spaces.find(to));
        let entered = to.map_or(0, |space| {
            passing.show(space, &mut self.store, owners, &mut passed)
        });
        passed.settle(owners);
        Ok(entered)
    }

    /// Enters what lies beside the page of an answer; `buffer` has it.
    #[cold]
    #[inline(never)]
    pub(crate) fn enter_beside(
        &mut self,
        id: SpaceId,
        buffer: Buffer,
        (enter, beside): (Enter, Beside),
    ) {
        if let Some(space) = self.spaces.find(id) {
            let (store, owners) = (&mut self.store, frames::owners());
            kernel_core::paging::enter_beside(space, store, owners, &buffer, (enter, beside));
        }
    }

    /// Enters what the answer to a fault brings: first the page in its words, then what lies beside it,
    /// then the batch.
    pub(crate) fn resolve_fault(&mut self, kernel: &Kernel, answer: &FaultAnswer) -> Resolved {
        let buffer = Saved::of(answer.replier_context).buffer();
        let reply = FaultReply::from_words(answer.words);
        if let Some(enter) = reply.enter {
            if let Ok(space) = self.spaces.get(answer.space) {
                space.allow(kernel.tables_left(space.payer()));
            }
            let entered = self.enter(answer.space, enter);
            self.bill(answer.space);
            if let Err(code) = entered {
                return Resolved::Refused(code);
            }
            if let Some(beside) = reply.beside {
                self.enter_beside(answer.space, buffer, (enter, beside));
            }
        }
        if answer.body == 0 {
            return Resolved::Done;
        }
        let outcome = self.batch(kernel, buffer, answer.body, |name| match name {
            0 => Ok(answer.space),
            name => kernel.resolve_space(answer.replier, u64::from(name)),
        });
        match outcome.state {
            State::Done => Resolved::Done,
            State::More => Resolved::Again,
            State::Failed(code) => Resolved::Refused(code),
        }
    }

    /// Flushes what has to be, then lets go of what nobody can reach any more.
    fn discharge(&mut self) {
        if self.account.is_empty() {
            return;
        }
        let frame = |root| PhysAddr::new(root).map(PhysAddr::frame);
        processors::recall(|other| {
            frame(other.root()).is_some_and(|root| self.account.concerns(root))
        });
        let loaded = cpu::loaded_root();
        let is_loaded = |root: Frame| root.start().raw() == loaded;
        let user = PhysAddr::new(loaded).is_some_and(|root| self.account.covers(root.frame()));
        if user {
            tlb::flush_user();
        } else {
            for (_, page) in self.account.pages().filter(|(root, _)| is_loaded(*root)) {
                tlb::flush_page(page.raw());
            }
        }
        if let Some(devices) = &mut self.devices {
            devices.withdraw(&mut self.store, self.account.frames());
        }
        self.account.settle(&mut self.store, frames::owners());
    }
}

impl Table {
    /// A number without a space.
    fn reserve(&mut self) -> Result<SpaceId, Kern> {
        let index = match self.slots.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.slots
                    .try_reserve(1)
                    .map_err(|_| Kern::ResourceShortage)?;
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        u32::try_from(index)
            .map(SpaceId)
            .map_err(|_| Kern::ResourceShortage)
    }

    fn put(&mut self, id: SpaceId, space: Space) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = Some(space);
        }
    }

    fn take(&mut self, id: SpaceId) -> Option<Space> {
        let space = self.slots.get_mut(id.0 as usize)?.take();
        while let Some(None) = self.slots.last() {
            self.slots.pop();
        }
        fit(&mut self.slots, 0);
        space
    }

    fn find(&self, id: SpaceId) -> Option<&Space> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    fn get(&mut self, id: SpaceId) -> Result<&mut Space, Kern> {
        self.slots
            .get_mut(id.0 as usize)
            .and_then(Option::as_mut)
            .ok_or(Kern::InvalidName)
    }
}

/// Spaces by the names of a task.
struct Named<'a, F> {
    spaces: &'a mut Table,
    bills: &'a mut Bills,
    kernel: &'a Kernel,
    find: F,
    /// The last one that was named, which has its allowance of tables.
    last: Option<SpaceId>,
}

impl<F: Fn(u32) -> Result<SpaceId, Kern>> Spaces for Named<'_, F> {
    fn space(&mut self, name: u32) -> Result<&mut Space, Kern> {
        let id = (self.find)(name)?;
        if self.last != Some(id) {
            if let Some(last) = self.last.replace(id) {
                note_bill(self.bills, self.spaces.get(last)?);
            }
            let space = self.spaces.get(id)?;
            space.allow(self.kernel.tables_left(space.payer()));
        }
        self.spaces.get(id)
    }
}

/// Notes what a space costs now, if there is room to note it.
fn note_bill(bills: &mut Bills, space: &mut Space) {
    if !bills.is_full()
        && let Some(bill) = space.bill()
    {
        // There is room.
        let _ = bills.push(bill);
    }
}

fn buffer_address(slot: u64) -> Result<UserAddr, Kern> {
    layout::ipc_buffer(slot)
        .and_then(UserAddr::new)
        .ok_or(Kern::ResourceShortage)
}
