//! Accounts: what maps may hold, each by itself and all together.
//!
//! A map is an account. What it is charged with are the records and pages that its calls make the
//! server keep: entries (also those of copies and named entries made from it), objects, copies and
//! named entries themselves, operations, bytes mapped, anonymous pages, wired pages. Over a limit a
//! call fails at once with KERN_RESOURCE_SHORTAGE and nothing has changed.
//!
//! All maps together may hold what [`Whole`] says, so that some is left for tasks that others depend
//! on: maps that are marked [`Account::system`] are exempt from that, and may use most of the frames
//! that clients leave free ([`crate::frames::Class`]). Children hold what they hold out of their
//! parent's limits ([`family`]); those of a system map have the default each, and nobody inherits the
//! mark.

use ipc_abi::Kern;

pub(crate) mod family;
mod limits;

pub use self::limits::{Limits, Whole};

use self::family::{Family, Good};
use crate::Core;
use crate::event::{MapId, ObjectId};
use crate::frames::Class;
use crate::map::Map;
use crate::object::{Kind, Object};

/// What a map is charged with, besides what its own fields count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// What it may hold now.
    pub limits: Limits,
    /// What it may hold at all, and who lends it to whom.
    pub family: Family,
    /// Others depend on its task: see the module's text.
    pub system: bool,
    /// Of a hidden map: who made it, and is charged with its entries.
    pub payer: Option<MapId>,
    /// Entries of hidden maps that it pays for.
    pub hidden_entries: u32,
    /// Hidden maps that it pays for.
    pub copies: u32,
    /// Objects made for it.
    pub objects: u32,
    /// Operations that its calls have begun.
    pub ops: u32,
    /// Those of them that were begun through what its task made and others may have rights to.
    pub lent_ops: u32,
}

/// What an operation is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer {
    /// Whose account.
    pub map: MapId,
    /// It was begun through a copy or a memory entry that the map's task made: anybody may have that.
    pub lent: bool,
}

/// Of its operations, what part a map leaves to those who have rights to what its task made: one in so many.
const LENT_PART: u64 = 4;

impl Account {
    /// Without limits.
    pub const NEW: Account = Account {
        limits: Limits::NONE,
        family: Family::alone(Limits::NONE),
        system: false,
        payer: None,
        hidden_entries: 0,
        copies: 0,
        objects: 0,
        ops: 0,
        lent_ops: 0,
    };
}

/// Whether one more is within the limit of all.
const fn within(all: (u32, u32), system: bool) -> Result<(), Kern> {
    if system || all.0 < all.1 {
        Ok(())
    } else {
        Err(Kern::ResourceShortage)
    }
}

impl Map {
    /// Whether it may have one entry more, of so many that all maps have and may have, without anything
    /// being lent to it. One that somebody else pays for has to ask.
    #[inline]
    pub(crate) fn has_room_for_entry(&self, all: (u32, u32)) -> bool {
        let account = &self.account;
        let held = self.entries().saturating_add(account.hidden_entries);
        account.payer.is_none()
            && held < account.limits.entries
            && within(all, account.system).is_ok()
    }

    /// The same of an object.
    #[inline]
    pub(crate) fn has_room_for_object(&self, all: (u32, u32)) -> bool {
        let account = &self.account;
        account.payer.is_none()
            && account.objects < account.limits.objects
            && within(all, account.system).is_ok()
    }
}

impl Core {
    /// Charges a map with pages that are to be wired (rule 134).
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: its limit, or that of all maps; nothing has changed.
    pub(crate) fn charge_wired(&mut self, map: MapId, pages: u64) -> Result<(), Kern> {
        let all = self.wired.saturating_add(pages);
        let system = self.maps.get(map).ok_or(Kern::Terminated)?.account.system;
        if !system && all > self.config.whole.wired {
            return Err(Kern::ResourceShortage);
        }
        self.room(map, Good::Wired, pages)?;
        if let Some(map) = self.maps.get_mut(map) {
            map.wired = map.wired.saturating_add(pages);
        }
        self.wired = all;
        Ok(())
    }

    /// A map has so many pages less that are wired.
    pub(crate) fn uncharge_wired(&mut self, map: MapId, pages: u64) {
        if let Some(map) = self.maps.get_mut(map) {
            map.wired = map.wired.saturating_sub(pages);
        }
        self.wired = self.wired.saturating_sub(pages);
    }

    /// Charges whoever pays for a map with one entry more in it.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: a limit; nothing has changed.
    pub(crate) fn charge_entry(&mut self, map: MapId) -> Result<(), Kern> {
        let all = self.entries_of_all();
        let record = self.maps.get(map).ok_or(Kern::Terminated)?;
        if record.has_room_for_entry(all) {
            return Ok(());
        }
        let Some(payer) = record.account.payer else {
            within(all, record.account.system)?;
            return self.room(map, Good::Entries, 1);
        };
        if record.tree.len() >= record.account.limits.entries {
            return Err(Kern::ResourceShortage);
        }
        // If whoever made it has gone, what is in flight stays within the whole.
        let system = self.maps.get(payer).is_some_and(|map| map.account.system);
        within(all, system)?;
        if self.maps.get(payer).is_some() {
            self.room(payer, Good::Entries, 1)?;
        }
        self.charge_entry_again(map);
        Ok(())
    }

    /// Entries that all maps have, and may have.
    #[inline]
    pub(crate) const fn entries_of_all(&self) -> (u32, u32) {
        (self.entries.len(), self.config.whole.entries)
    }

    /// Objects that all maps have, and may have.
    #[inline]
    pub(crate) const fn objects_of_all(&self) -> (u32, u32) {
        (self.objects.len(), self.config.whole.objects)
    }

    /// Charges for an entry in place of one that has just gone, whatever the limits are now.
    pub(crate) fn charge_entry_again(&mut self, map: MapId) {
        let payer = self.maps.get(map).and_then(|map| map.account.payer);
        if let Some(payer) = payer.and_then(|id| self.maps.get_mut(id)) {
            payer.account.hidden_entries = payer.account.hidden_entries.saturating_add(1);
        }
    }

    /// How many entries, up to `wanted`, a map that is nobody's copy may be charged with before a limit is
    /// reached.
    pub(crate) fn entry_room(&mut self, map: MapId, wanted: u32) -> u32 {
        // If there is not that much, then what there is.
        let _ = self.room(map, Good::Entries, wanted.into());
        let Some(record) = self.maps.get(map).filter(|map| map.account.payer.is_none()) else {
            return 0;
        };
        let account = &record.account;
        let held = record.tree.len().saturating_add(account.hidden_entries);
        let room = account.limits.entries.saturating_sub(held);
        let all = self.config.whole.entries.saturating_sub(self.entries.len());
        let room = if account.system { room } else { room.min(all) };
        room.min(wanted)
    }

    /// An entry of a map has gone.
    pub(crate) fn uncharge_entry(&mut self, map: MapId) {
        self.uncharge_entries(map, 1);
    }

    /// Entries of a map have gone.
    pub(crate) fn uncharge_entries(&mut self, map: MapId, count: u32) {
        let payer = self.maps.get(map).and_then(|map| map.account.payer);
        self.uncharge_payer(payer, count);
    }

    /// Entries of a map that somebody else pays for have gone.
    #[inline]
    pub(crate) fn uncharge_payer(&mut self, payer: Option<MapId>, count: u32) {
        if let Some(payer) = payer.and_then(|id| self.maps.get_mut(id)) {
            payer.account.hidden_entries = payer.account.hidden_entries.saturating_sub(count);
        }
    }

    /// Charges a map with a hidden map; gives the account of that one.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: a limit; nothing has changed.
    pub(crate) fn charge_hidden(&mut self, payer: MapId) -> Result<Account, Kern> {
        // What is made from a hidden map is its maker's.
        let of = self.maps.get(payer).and_then(|map| map.account.payer);
        let payer = of.unwrap_or(payer);
        let all = (self.hidden_maps, self.config.whole.copies);
        let (mut limits, mut system) = (Limits::NONE, false);
        if let Some(map) = self.maps.get(payer) {
            (limits, system) = (map.account.family.cap, map.account.system);
            within(all, system)?;
            self.room(payer, Good::Copies, 1)?;
        } else {
            within(all, false)?;
        }
        if let Some(map) = self.maps.get_mut(payer) {
            map.account.copies = map.account.copies.saturating_add(1);
        }
        self.hidden_maps = self.hidden_maps.saturating_add(1);
        Ok(Account {
            limits,
            family: Family::alone(limits),
            system,
            payer: Some(payer),
            ..Account::NEW
        })
    }

    /// A hidden map has gone, or was not made.
    pub(crate) fn uncharge_hidden(&mut self, payer: Option<MapId>) {
        let Some(payer) = payer else {
            return;
        };
        self.hidden_maps = self.hidden_maps.saturating_sub(1);
        if let Some(map) = self.maps.get_mut(payer) {
            map.account.copies = map.account.copies.saturating_sub(1);
        }
    }

    /// Stores an object, and charges its payer with it.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: a limit, or no record; nothing has changed.
    pub(crate) fn object_insert(&mut self, mut object: Object) -> Result<ObjectId, Kern> {
        let payer = object.payer.map(|payer| self.maker_of(payer));
        // What is made in a hidden map counts for whoever made that.
        object.payer = payer;
        self.object_insert_for(object, payer)
    }

    /// Stores an object, and charges a map with it, which is not to pay for its pages.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: a limit, or no record; nothing has changed.
    pub(crate) fn object_insert_for(
        &mut self,
        mut object: Object,
        charged: Option<MapId>,
    ) -> Result<ObjectId, Kern> {
        let all = self.objects_of_all();
        let charged = charged.map(|map| self.maker_of(map));
        if let Some((id, map)) = charged.and_then(|id| Some((id, self.maps.get(id)?))) {
            within(all, map.account.system)?;
            self.room(id, Good::Objects, 1)?;
        }
        object.charged = charged;
        let id = self.objects.insert(object)?;
        if let Some(map) = charged.and_then(|id| self.maps.get_mut(id)) {
            map.account.objects = map.account.objects.saturating_add(1);
        }
        Ok(id)
    }

    /// Makes anonymous memory of `size` bytes that a map pays for, as `object_insert` would store it; `set` sets
    /// what else is known of it. It is made where it lies.
    ///
    /// # Errors
    /// As [`Core::object_insert`].
    #[inline(always)]
    pub(crate) fn object_make(
        &mut self,
        map: MapId,
        size: u64,
        set: impl FnOnce(&mut Object),
    ) -> Result<ObjectId, Kern> {
        let all = self.objects_of_all();
        let payer = self.maker_of(map);
        if let Some(record) = self.maps.get(payer) {
            within(all, record.account.system)?;
            self.room(payer, Good::Objects, 1)?;
        }
        let id = self.objects.insert_with(|| {
            let mut object = Object::new(Kind::Internal, size, Some(payer));
            object.charged = Some(payer);
            set(&mut object);
            object
        })?;
        if let Some(record) = self.maps.get_mut(payer) {
            record.account.objects = record.account.objects.saturating_add(1);
        }
        Ok(id)
    }

    /// A map, or if it is hidden, whoever made it.
    pub(crate) fn maker_of(&self, map: MapId) -> MapId {
        let maker = self.maps.get(map).and_then(|map| map.account.payer);
        maker.unwrap_or(map)
    }

    /// An object that one map alone has got, in a copy, counts for that one from now on, even above its
    /// limits: what it holds stays. One whose contents may go, and one of a pager, stays where it is.
    pub(crate) fn object_passes_to(&mut self, object: ObjectId, map: MapId) {
        let to = self.maker_of(map);
        let Some(record) = self.objects.get(object) else {
            return;
        };
        let (from, pages) = (record.payer, record.pages.pages());
        let plain = record.is_internal() && record.pager.is_none() && record.refs == 1;
        if !plain || from == Some(to) || !self.is_in_class(object, None) {
            return;
        }
        self.uncharge_object(object);
        if let Some(map) = from.and_then(|id| self.maps.get_mut(id)) {
            map.pages = map.pages.saturating_sub(pages);
        }
        if let Some(map) = self.maps.get_mut(to) {
            map.count_pages(pages, crate::object::purgeable::State::Deny);
            map.account.objects = map.account.objects.saturating_add(1);
        }
        if let Some(record) = self.objects.get_mut(object) {
            record.payer = Some(to);
            record.charged = Some(to);
        }
    }

    /// An object goes.
    pub(crate) fn uncharge_object(&mut self, object: ObjectId) {
        let payer = self.objects.get(object).and_then(|object| object.charged);
        if let Some(map) = payer.and_then(|id| self.maps.get_mut(id)) {
            map.account.objects = map.account.objects.saturating_sub(1);
        }
    }

    /// Whether the map whose call is handled may begin an operation.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: a limit.
    pub(crate) fn op_allowed(&mut self) -> Result<(), Kern> {
        let all = (self.ops.len(), self.config.whole.ops);
        match self.caller.and_then(|id| Some((id, self.maps.get(id)?))) {
            Some((id, map)) => {
                within(all, map.account.system)?;
                if self.lent {
                    return self.lent_op_allowed(id);
                }
                self.room(id, Good::Ops, 1)
            }
            None => Ok(()),
        }
    }

    /// Whether an operation may be begun through what a map made: the rest is for its own calls.
    fn lent_op_allowed(&mut self, id: MapId) -> Result<(), Kern> {
        let record = self.maps.get(id).ok_or(Kern::Terminated)?;
        let (held, lent) = (record.held(Good::Ops), record.account.lent_ops);
        let after = u64::from(lent).saturating_add(1);
        // What it was given when it was made may be nothing: then it asks for some. It need not get it.
        let wanted = after.saturating_mul(LENT_PART).min(Good::Ops.chunk());
        let _ = self.room(id, Good::Ops, wanted.saturating_sub(held));
        let limits = self
            .maps
            .get(id)
            .map_or(Limits::ZERO, |map| map.account.limits);
        if after > limits.of(Good::Ops).div_ceil(LENT_PART) {
            return Err(Kern::ResourceShortage);
        }
        self.room(id, Good::Ops, 1)
    }

    /// Who pays for what calls on a hidden map's port begin: whoever made it.
    pub(crate) fn pays_for(&self, map: MapId) -> Option<MapId> {
        self.maps.get(map)?.account.payer
    }

    /// Charges the map whose call is handled with an operation; says whom.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: a limit; nothing has changed.
    pub(crate) fn charge_op(&mut self) -> Result<Option<Payer>, Kern> {
        self.op_allowed()?;
        let lent = self.lent;
        let payer = self.caller.map(|map| Payer { map, lent });
        if let Some(map) = self.caller.and_then(|id| self.maps.get_mut(id)) {
            let account = &mut map.account;
            account.ops = account.ops.saturating_add(1);
            account.lent_ops = account.lent_ops.saturating_add(lent.into());
        }
        Ok(payer)
    }

    /// An operation has ended, or was not begun.
    pub(crate) fn uncharge_op(&mut self, payer: Option<Payer>) {
        if let Some(payer) = payer
            && let Some(map) = self.maps.get_mut(payer.map)
        {
            let account = &mut map.account;
            account.ops = account.ops.saturating_sub(1);
            account.lent_ops = account.lent_ops.saturating_sub(payer.lent.into());
        }
    }

    /// Whether a map may have so many bytes more, when so many go.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: its limit.
    pub(crate) fn check_size(&self, map: MapId, more: u64, less: u64) -> Result<(), Kern> {
        let map = self.maps.get(map).ok_or(Kern::Terminated)?;
        let size = map.size.saturating_sub(less).checked_add(more);
        match size {
            Some(size) if size <= map.account.limits.size => Ok(()),
            _ => Err(Kern::ResourceShortage),
        }
    }

    /// How far a map's faults and calls may take free frames.
    pub(crate) fn class_of(&self, map: MapId) -> Class {
        match self.maps.get(map) {
            Some(map) if map.account.system => Class::System,
            _ => Class::Client,
        }
    }

    /// The account of a child of a map, before it joins a family.
    pub(crate) fn account_of_child(&self, parent: MapId) -> Account {
        let like = self.maps.get(parent).map(|map| &map.account);
        let cap = like
            .filter(|account| !account.system)
            .map_or(self.config.limits, |account| account.family.cap);
        Account {
            limits: cap,
            family: Family::alone(cap),
            ..Account::NEW
        }
    }
}

#[cfg(test)]
mod tests;
