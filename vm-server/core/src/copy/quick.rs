//! `vm_copyin` and `vm_copyout` of the common copy, without an event and without effects.
//!
//! As in [`crate::call::quick`], `None` leaves the call to the event that decides all of them, and has
//! changed nothing but harmless copy-on-write marks. In tests [`Core::handle`] begins with these.

use ipc_abi::types::MapFlags;
use ipc_protocol::vm_map::{VmCopyin, VmCopyout};

use super::CopyId;
use crate::call::quick::PLAIN;
use crate::call::vm_map::tag_of;
use crate::event::MapId;
use crate::machine::Machine;
use crate::map::enter::Place;
use crate::{Core, Turn};

impl Core {
    /// A copy of one whole entry. Nobody has a right to it yet.
    pub fn copyin_quick<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        map: MapId,
        args: &VmCopyin,
    ) -> Option<CopyId> {
        self.record_question();
        if args.src_destroy || args.size == 0 || !self.maps.get(map)?.is_plain() {
            return None;
        }
        // It has a place before there is a copy to put there.
        self.copies.reserve_one().ok()?;
        let copy = self.copyin_plain(turn, map, (args.address, args.size))?;
        self.copies.insert(copy).ok()
    }

    /// Maps the whole of a copy where there is room, and uses it up: its port stands for nothing any
    /// more. Gives the address of its first byte.
    pub fn copyout_quick(&mut self, map: MapId, id: CopyId, args: &VmCopyout) -> Option<u64> {
        self.record_question();
        let flags = MapFlags::from_bits(args.flags).filter(|flags| PLAIN.contains(*flags))?;
        let copy = *self.copies.get(id)?;
        let plain = self.maps.get(map)?.is_plain() && copy.size > 0;
        if !plain || !flags.contains(MapFlags::ANYWHERE) {
            return None;
        }
        let place = Place {
            address: 0,
            size: copy.pages_size(),
            mask: 0,
            flags,
        };
        let range = self.map_place(map, place).ok()?;
        self.copyout_check(copy.map, map).ok()?;
        if !self.copyout_plain(copy.map, (map, range), tag_of(flags)) {
            return None;
        }
        self.copies.remove(id);
        Some(range.start().saturating_add(copy.offset))
    }
}
