//! What a fault decides, in order: entry, protection, shadow chain, then the page or the reason.
//!
//! [`Core::resolve`] is that decision, for faults of threads and for operations that work on pages
//! alike. It changes what has to change (a shadow, a page copied, a page asked for) and says which
//! frame with which rights, or what to wait for. Who waited starts again here.
//!
//! A write translation is given only for a write, or where the page is dirty already: that a page
//! was entered writable is how the core knows that it is dirty.

mod ahead;
pub mod ask;
mod below;
mod cow;
pub mod dialogue;
mod first_write;
mod nested;
pub(crate) mod pagein;
pub(crate) mod question;
pub(crate) mod quick;
#[cfg(test)]
mod tests;
pub(crate) mod waiters;
mod walk;
pub(crate) mod wire;

use ipc_abi::Kern;
use ipc_abi::translation;
use ipc_abi::types::Prot;

use crate::effect::Effect;
use crate::event::{Fault, MapId, ObjectId};
use crate::machine::Machine;
use crate::map::entry::Entry;
use crate::object::Kind;
use crate::object::page::{Flags, Frame, State};
use crate::object::pages::Slot;
use crate::op::wait::{WaitOn, What};
use crate::range::{page_of, trunc_page};
use crate::{Core, Turn};

/// What a look-up came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Resolved {
    /// This page, with these rights for a translation.
    Page(Mapped),
    /// Nothing was ever there: it reads zero. Only for whoever can do without a page.
    Zero,
    /// Not now.
    Wait(WaitOn),
}

/// A page as a look-up reaches it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mapped {
    /// The frame.
    pub(crate) frame: Frame,
    /// Rights that a translation may have now.
    pub(crate) protection: Prot,
    /// How it was found.
    pub(crate) how: How,
}

/// How a page was found; decides what may be entered beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It was there, in this object at this page number; objects above it have no pages at all.
    Resident {
        /// The entry.
        link: u32,
        /// The object.
        object: ObjectId,
        /// Page number in it.
        index: u64,
    },
    /// It was made for this fault, or there is nothing to enter beside it.
    Alone,
    /// It is device memory.
    Device,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A thread, which needs a page to map.
    Thread,
    /// An operation, for which a page that was never there is as good as zeros.
    Operation,
}

/// What an operation that works on pages gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fetched {
    /// This frame, for the rest of the event.
    Page(Frame),
    /// It reads zero.
    Zero,
    /// The operation's waiter has been parked.
    Wait,
}

impl Core {
    /// Answers a fault, or parks it.
    pub(crate) fn fault<M: Machine>(&mut self, turn: &mut Turn<'_, M>, fault: &Fault) {
        let mut result = self.resolve_for(turn, fault);
        if result == Err(Kern::ResourceShortage) && self.relieve(turn) {
            result = self.resolve_for(turn, fault);
        }
        if result == Err(Kern::ResourceShortage) && self.reclaim_begin(turn) {
            result = Ok(Resolved::Wait(WaitOn::Frames));
        }
        if let Ok(Resolved::Wait(on)) = result {
            match self.fault_wait(turn, fault, on) {
                Ok(()) => return,
                Err(code) => result = Err(code),
            }
        }
        self.fault_answer(turn, fault, result);
    }

    #[cold]
    fn fault_wait<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        fault: &Fault,
        on: WaitOn,
    ) -> Result<(), Kern> {
        let what = What::Fault {
            map: fault.map,
            address: fault.address,
            access: fault.access,
            token: fault.token,
        };
        let waiter = self.waiter_new(what, Some(fault.token), turn.now)?;
        self.op_park(turn, waiter, on);
        Ok(())
    }

    #[inline]
    pub(crate) fn resolve_for<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        fault: &Fault,
    ) -> Result<Resolved, Kern> {
        let place = (fault.map, fault.address);
        self.resolve(turn, place, fault.access, Asker::Thread)
    }

    /// Answers a fault that does not wait.
    pub(crate) fn fault_answer<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        fault: &Fault,
        result: Result<Resolved, Kern>,
    ) {
        self.stats.faults = self.stats.faults.saturating_add(1);
        let result = match result {
            Ok(Resolved::Page(mapped)) => Ok(Some(self.enter_one(turn, fault, mapped))),
            Ok(_) => Ok(None),
            Err(code) => {
                self.stats.failures = self.stats.failures.saturating_add(1);
                Err(code)
            }
        };
        let to = Some(fault.token);
        turn.effects.push(Effect::Resume { to, result });
    }

    /// The translation that answers a fault; what may be entered beside it goes out first.
    fn enter_one<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        fault: &Fault,
        mapped: Mapped,
    ) -> translation::Enter {
        let address = trunc_page(fault.address);
        let number = page_of(address);
        let map = fault.map.index();
        let again = !self.place_enter(turn.machine, mapped.frame, (map, number));
        if let How::Resident {
            link,
            object,
            index,
        } = mapped.how
        {
            let place = (fault.map, number, link);
            self.enter_around(turn, place, (object, index), (again, mapped.protection));
        }
        translation::Enter {
            address,
            frame: mapped.frame.0,
            protection: mapped.protection,
            uncached: mapped.how == How::Device,
            epoch: self.maps.get(fault.map).map_or(0, |map| map.epoch),
        }
    }

    /// A page for an operation, as a thread of `map` would see it at `address`, until the end of the
    /// event. If it is not to be had now, the operation's waiter is parked.
    ///
    /// # Errors
    /// Those of [`Core::resolve`], and what a wait that has ended failed with.
    pub(crate) fn fetch<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        map: MapId,
        address: u64,
        access: Prot,
        waiter: u32,
    ) -> Result<Fetched, Kern> {
        let waited = self.waiters.at_mut(waiter);
        if let Some(code) = waited.and_then(|waiter| waiter.failed.take()) {
            return Err(code);
        }
        let place = (map, address);
        let mut found = self.resolve(turn, place, access, Asker::Operation);
        if found == Err(Kern::ResourceShortage) && self.relieve(turn) {
            found = self.resolve(turn, place, access, Asker::Operation);
        }
        if found == Err(Kern::ResourceShortage) && self.wait_for_relief(turn, waiter) {
            found = Ok(Resolved::Wait(WaitOn::Frames));
        }
        match found? {
            Resolved::Page(mapped) => Ok(Fetched::Page(mapped.frame)),
            Resolved::Zero => Ok(Fetched::Zero),
            Resolved::Wait(on) => {
                self.op_park(turn, waiter, on);
                Ok(Fetched::Wait)
            }
        }
    }

    /// Finds, or makes, the page that a look-up at an address reaches.
    ///
    /// Source: rules 6, 7, 14 to 16, 20, 21, 36, 37, 39, 190 to 193.
    ///
    /// # Errors
    /// `KERN_INVALID_ADDRESS`: nothing is mapped there. `KERN_PROTECTION_FAILURE`: not with this
    /// access. `KERN_MEMORY_ERROR`: the pager is dead, or would have to serve itself.
    /// `KERN_RESOURCE_SHORTAGE`: memory, or the payer's limit.
    pub(crate) fn resolve<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        (map, address): (MapId, u64),
        access: Prot,
        asker: Asker,
    ) -> Result<Resolved, Kern> {
        let link = self.map_lookup(map, address).ok_or(Kern::InvalidAddress)?.0;
        let entry = self.entries.at(link).ok_or(Kern::InvalidAddress)?;
        if !entry.protection.contains(access) {
            return Err(Kern::ProtectionFailure);
        }
        let write = access.contains(Prot::WRITE);
        if entry.object.is_none() {
            if entry.submap.is_some() {
                return self.resolve_nested(turn, (map, address, link), access, asker);
            }
            if asker == Asker::Operation && !write {
                return Ok(Resolved::Zero);
            }
            self.entry_own_object(link)?;
        } else if entry.needs_copy && write {
            self.entry_written(link)?;
        }
        let entry = self.entries.at(link).ok_or(Kern::InvalidAddress)?;
        let top = entry.object.ok_or(Kern::InvalidAddress)?;
        let index = page_of(entry.offset_of(trunc_page(address)));
        let object = self.objects.get(top).ok_or(Kern::InvalidAddress)?;
        let look = Look {
            map,
            link,
            top,
            index,
            access,
            rights: entry.protection,
            needs_copy: entry.needs_copy,
            copied: object.is_copied(),
            own: false,
        };
        self.resolve_in(turn, &look, asker)
    }

    /// A look-up that has come to an object.
    #[inline]
    fn resolve_in<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        asker: Asker,
    ) -> Result<Resolved, Kern> {
        let object = self.objects.get(look.top).ok_or(Kern::InvalidAddress)?;
        match object.kind {
            Kind::Internal | Kind::External => {}
            Kind::Device { first } => return device(look, first, object.size),
            Kind::Tray(tray) => return self.tray_resolve(turn, tray, look, asker),
        }
        match object.pages.get(&self.nodes, look.index) {
            Slot::Page(frame) => self.found_in_top(turn, look, frame),
            slot => self.resolve_below(turn, look, (slot, object.pages.used() == 0), asker),
        }
    }

    /// The top object has the page: rights as they are, or a write.
    #[inline]
    fn found_in_top<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        frame: Frame,
    ) -> Result<Resolved, Kern> {
        let page = self.pages.get(frame).ok_or(Kern::MemoryError)?;
        if page.lock.intersects(look.access) {
            return self.ask_unlock(turn, look, frame);
        }
        let plain = page.state == State::Resident;
        if look.write() {
            if !plain {
                return self.write_lent(turn, look, frame);
            }
            if look.copied {
                self.push_to_copy(turn, look, frame)?;
            }
            self.stats.resident_hits = self.stats.resident_hits.saturating_add(1);
            return Ok(self.writable(look, frame, How::Alone));
        }
        if !plain && let Some(wait) = self.flushing(frame) {
            return Ok(Resolved::Wait(wait));
        }
        let page = self.pages.get(frame).ok_or(Kern::MemoryError)?;
        let dirty = page.flags.contains(Flags::DIRTY) && plain;
        let rights = if dirty && !look.copied && !look.needs_copy {
            look.rights
        } else {
            look.rights.difference(Prot::WRITE)
        };
        self.stats.resident_hits = self.stats.resident_hits.saturating_add(1);
        Ok(Resolved::Page(Mapped {
            frame,
            protection: rights.difference(page.lock),
            how: How::Resident {
                link: look.link,
                object: look.top,
                index: look.index,
            },
        }))
    }

    /// A page of the top object that is about to be written.
    #[inline]
    fn writable(&mut self, look: &Look, frame: Frame, how: How) -> Resolved {
        let mut lock = Prot::NONE;
        if let Some(page) = self.pages.get_mut(frame) {
            page.flags.insert(Flags::DIRTY);
            lock = page.lock;
            if page.flags.contains(Flags::REUSABLE) {
                self.page_reused(frame);
            }
        }
        Resolved::Page(Mapped {
            frame,
            protection: look.rights.difference(lock),
            how,
        })
    }

    /// Fresh memory (rule 39): into the top object, never into a lower one.
    pub(crate) fn zero_fill<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        look: &Look,
        asker: Asker,
    ) -> Result<Resolved, Kern> {
        if asker == Asker::Operation && !look.write() {
            return Ok(Resolved::Zero);
        }
        let Some(frame) = self.frame_zeroed(turn, self.class_of(look.map)) else {
            return self.out_of_frames();
        };
        if let Err(code) = self.object_add_page(look.top, look.index, frame, Flags::empty()) {
            self.frame_free(frame);
            return Err(code);
        }
        self.stats.zero_fills = self.stats.zero_fills.saturating_add(1);
        if look.write() {
            self.push_to_copy(turn, look, frame)?;
            return Ok(self.writable(look, frame, How::Alone));
        }
        Ok(Resolved::Page(Mapped {
            frame,
            protection: look.rights.difference(Prot::WRITE),
            how: How::Alone,
        }))
    }

    /// No frame: wait, if some are being freed.
    #[cold]
    pub(crate) fn out_of_frames(&self) -> Result<Resolved, Kern> {
        if self.objects.at(self.dying_objects).is_some() || self.maps.at(self.dying_maps).is_some()
        {
            return Ok(Resolved::Wait(WaitOn::Frames));
        }
        Err(Kern::ResourceShortage)
    }
}

/// A look-up that has come to an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// The map.
    pub(crate) map: MapId,
    /// The entry.
    pub(crate) link: u32,
    /// Its object.
    pub(crate) top: ObjectId,
    /// Page number in it.
    pub(crate) index: u64,
    /// What is needed.
    pub(crate) access: Prot,
    /// What the entry allows.
    pub(crate) rights: Prot,
    /// The entry is copy-on-write, and this is a read.
    pub(crate) needs_copy: bool,
    /// The object has a copy object, or is about to get one.
    pub(crate) copied: bool,
    /// The page has to be the object's own, whatever the access: it is to be wired.
    pub(crate) own: bool,
}

impl Look {
    /// Whether the page is to be written.
    pub(crate) const fn write(&self) -> bool {
        self.access.contains(Prot::WRITE)
    }
}

fn device(look: &Look, first: Frame, size: u64) -> Result<Resolved, Kern> {
    let frame = u32::try_from(look.index)
        .ok()
        .filter(|_| look.index < page_of(size))
        .and_then(|index| first.0.checked_add(index))
        .ok_or(Kern::MemoryError)?;
    Ok(Resolved::Page(Mapped {
        frame: Frame(frame),
        protection: look.rights,
        how: How::Device,
    }))
}

/// What a window of an entry is to its object: pages from the first to one past the last.
pub(crate) fn window(entry: &Entry) -> (u64, u64) {
    let end = entry.offset.saturating_add(entry.size());
    (page_of(entry.offset), page_of(end))
}
