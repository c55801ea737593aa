//! What is there before anybody can ask for it: the first task's map and memory, and the boot image.
//!
//! Called by the shell before it serves, with all memory free; everything later goes by events, but
//! for the memory that the server itself needs.

use ipc_abi::Kern;
use ipc_abi::layout::{PAGE_SIZE, USER_MAX, USER_MIN};
use ipc_abi::types::{CopyStrategy, Inherit, Prot};

use crate::event::{MapId, PortOf};
use crate::frames::Class;
use crate::machine::Machine;
use crate::map::Map;
use crate::map::entry::Entry;
use crate::named_entry::{self, NamedEntry};
use crate::object::page::{Flags, Frame};
use crate::object::{Kind, Object};
use crate::range::{Span, round_page};
use crate::{Core, Turn};

impl Core {
    /// The map of the first task, which all others depend on.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`.
    pub fn boot_map(&mut self) -> Result<MapId, Kern> {
        let mut map = Map::new(USER_MIN, USER_MAX);
        map.account.system = true;
        self.maps.insert(map)
    }

    /// Maps `size` bytes of anonymous memory at `address`, which begin with `data`.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: not whole pages, or more data than that. `KERN_NO_SPACE`: taken.
    /// `KERN_RESOURCE_SHORTAGE`.
    pub fn boot_memory<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        map: MapId,
        address: u64,
        size: u64,
        protection: Prot,
        data: &[u8],
    ) -> Result<(), Kern> {
        let end = address.checked_add(size).ok_or(Kern::InvalidArgument)?;
        let range = Span::exact(address, end).ok_or(Kern::InvalidArgument)?;
        if data.len() as u64 > size || range.is_empty() {
            return Err(Kern::InvalidArgument);
        }
        if !self.map_is_free(map, range) {
            return Err(Kern::NoSpace);
        }
        let object = self
            .objects
            .insert(Object::new(Kind::Internal, size, Some(map)))?;
        for (index, bytes) in data.chunks(PAGE_SIZE as usize).enumerate() {
            let frame = self
                .frame_zeroed(turn, Class::System)
                .ok_or(Kern::ResourceShortage)?;
            turn.machine.store(frame, 0, bytes);
            self.object_add_page(object, index as u64, frame, Flags::DIRTY)?;
        }
        self.map_enter(Entry {
            object: Some(object),
            protection,
            max_protection: protection,
            ..Entry::anonymous(map, range.start(), range.end())
        })
    }

    /// Gives a run of free frames away, for the server's own memory. `None`: there is none.
    pub fn take_frames(&mut self, count: u32) -> Option<Frame> {
        let first = self.frames_contiguous(count, Class::System)?;
        for number in first.0..first.0.saturating_add(count) {
            self.pages.give_away(Frame(number));
        }
        Some(first)
    }

    /// Free frames.
    #[must_use]
    pub const fn free_frames(&self) -> u32 {
        self.pages.free()
    }

    /// Takes over the frames of the boot image, of `size` bytes from `first` on, as a named entry that
    /// can only be read.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: no bytes, or frames that the core has already.
    /// `KERN_RESOURCE_SHORTAGE`.
    pub fn boot_image(&mut self, first: Frame, size: u64) -> Result<PortOf, Kern> {
        let bytes = round_page(size)
            .filter(|bytes| *bytes > 0)
            .ok_or(Kern::InvalidArgument)?;
        let mut image = Object::new(Kind::Internal, bytes, None);
        image.strategy = CopyStrategy::Delay;
        image.true_share = true;
        let object = self.objects.insert(image)?;
        for index in 0..bytes / PAGE_SIZE {
            let frame = Frame(first.0.saturating_add(index as u32));
            if !self.pages.add(frame) || !self.pages.take_this(frame) {
                return Err(Kern::InvalidArgument);
            }
            self.object_add_page(object, index, frame, Flags::DIRTY)?;
        }
        let map = self.maps.insert(Map::new(0, bytes))?;
        self.entry_insert(Entry {
            object: Some(object),
            protection: Prot::READ,
            max_protection: Prot::READ,
            is_shared: true,
            inheritance: Inherit::Share,
            ..Entry::anonymous(map, 0, bytes)
        })?;
        let entry = NamedEntry::new(map, size, Prot::READ, named_entry::Kind::Object);
        self.named_insert(entry).map(PortOf::Entry)
    }
}
