//! The rules of the records that an event touched, and the maps whose translations it may have made
//! unsound: what a test checks after each event of a million.

use alloc::vec::Vec;

use super::{Broken, must};
use crate::Core;
use crate::event::{MapId, ObjectId};
use crate::object::page::Frame;
use crate::slab::NIL;

/// Maps and objects that a change may have reached.
#[derive(Debug, Default)]
struct Reached {
    maps: Vec<MapId>,
    objects: Vec<ObjectId>,
}

impl Reached {
    fn map(&mut self, map: MapId) {
        if !self.maps.contains(&map) {
            self.maps.push(map);
        }
    }

    fn object(&mut self, object: Option<ObjectId>) {
        if let Some(object) = object
            && !self.objects.contains(&object)
        {
            self.objects.push(object);
        }
    }
}

impl Core {
    /// Checks the records that were touched since the last time, and gives the maps in which a
    /// look-up may reach something else than before.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_touched(&mut self) -> Result<Vec<MapId>, Broken> {
        self.check_question()?;
        let mut reached = Reached::default();
        let touched = self.maps.touched.take();
        for &index in &touched {
            if let Some(id) = self.maps.id_at(index) {
                reached.map(id);
            }
        }
        self.maps.touched.reuse(touched);
        let touched = self.entries.touched.take();
        for &index in &touched {
            let Some(entry) = self.entries.at(index) else {
                continue;
            };
            let there = self.maps.get(entry.map).is_some();
            must(there, index, "an entry's map is there")?;
            self.check_entry(index, entry)?;
            reached.map(entry.map);
            reached.object(entry.object);
        }
        self.entries.touched.reuse(touched);
        let touched = self.objects.touched.take();
        for &index in &touched {
            reached.object(self.objects.id_at(index));
        }
        self.objects.touched.reuse(touched);
        let touched = self.pages.touched.take();
        for &index in &touched {
            self.check_frame(Frame(index))?;
            reached.object(self.pages.get(Frame(index)).and_then(|page| page.object));
        }
        self.pages.touched.reuse(touched);
        self.check_touched_pagers(&mut reached)?;
        let touched = self.waiters.touched.take();
        for &index in &touched {
            if let Some(id) = self.waiters.id_at(index) {
                self.check_waiter(id)?;
            }
        }
        self.waiters.touched.reuse(touched);
        for object in &reached.objects {
            self.check_object(*object)?;
        }
        for map in &reached.maps {
            self.check_map(*map)?;
        }
        self.check_charges(&reached.maps)?;
        self.spread(&mut reached);
        Ok(reached.maps)
    }

    /// How many records were handed out to be changed since the last time: what an event's work is
    /// measured by.
    pub fn count_touched(&mut self) -> usize {
        let lists = [
            self.maps.touched.take(),
            self.entries.touched.take(),
            self.objects.touched.take(),
            self.pages.touched.take(),
            self.nodes.touched.take(),
            self.pagers.touched.take(),
            self.controls.touched.take(),
            self.requests.touched.take(),
            self.trays.touched.take(),
            self.copies.touched.take(),
            self.asked.touched.take(),
            self.named.touched.take(),
            self.reserved.touched.take(),
            self.ops.touched.take(),
            self.waiters.touched.take(),
            self.loans.touched.take(),
            self.notes.touched.take(),
        ];
        lists.iter().map(Vec::len).sum()
    }

    fn check_touched_pagers(&mut self, reached: &mut Reached) -> Result<(), Broken> {
        let touched = self.requests.touched.take();
        for &index in &touched {
            if let Some(id) = self.requests.id_at(index) {
                self.check_request(id)?;
            }
        }
        self.requests.touched.reuse(touched);
        let touched = self.pagers.touched.take();
        for &index in &touched {
            if let Some(id) = self.pagers.id_at(index) {
                self.check_pager(id)?;
                reached.object(self.pagers.at(index).map(|pager| pager.object));
            }
        }
        self.pagers.touched.reuse(touched);
        let touched = self.loans.touched.take();
        for &index in &touched {
            reached.object(self.loans.at(index).map(|loan| loan.object));
        }
        self.loans.touched.reuse(touched);
        let touched = self.trays.touched.take();
        for &index in &touched {
            if let Some(id) = self.trays.id_at(index) {
                self.check_tray(id)?;
                reached.object(self.trays.at(index).map(|tray| tray.object));
            }
        }
        self.trays.touched.reuse(touched);
        Ok(())
    }

    /// Goes on from the objects to those above them, and from all of them to the maps.
    fn spread(&self, reached: &mut Reached) {
        let mut next = 0usize;
        while let Some(id) = reached.objects.get(next).copied() {
            next = next.saturating_add(1);
            let Some(object) = self.objects.get(id) else {
                continue;
            };
            // What a copy object shows decides whether its source may be written.
            let source = object.shadow.filter(|below| {
                let below = self.objects.get(*below);
                below.is_some_and(|below| below.copy == Some(id))
            });
            reached.object(source);
            let mut at = object.shadows;
            while let Some(above) = self.objects.at(at) {
                reached.object(self.objects.id_at(at));
                at = above.shadow_next;
            }
            let mut at = object.entries;
            while let Some(entry) = self.entries.at(at) {
                reached.map(entry.map);
                at = entry.object_next;
            }
        }
        let mut next = 0usize;
        while let Some(id) = reached.maps.get(next).copied() {
            next = next.saturating_add(1);
            let shared = self.maps.get(id).and_then(|map| map.shared);
            let mut at = shared.map_or(NIL, |shared| shared.shown);
            while let Some(entry) = self.entries.at(at) {
                reached.map(entry.map);
                at = entry.object_next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::object::page::{Flags, State};
    use crate::sim::World;
    use ipc_abi::layout::PAGE_SIZE;

    /// A map that shares its memory with nobody, another map, and nothing touched.
    fn written() -> (World, MapId, MapId, u64) {
        let mut world = World::new(64);
        let (map, other) = (world.map(), world.map());
        let address = world.allocate(map, 4 * PAGE_SIZE);
        assert!(world.write(map, address, &[7]).is_ok());
        world.core.check_touched().unwrap();
        (world, map, other, address)
    }

    #[test]
    fn a_fault_reaches_its_own_map_and_no_other() {
        let (mut world, map, other, address) = written();
        assert!(world.write(map, address + PAGE_SIZE, &[7]).is_ok());
        assert_eq!(world.core.check_touched(), Ok([map].to_vec()));
        world.event(Event::Idle);
        assert_eq!(world.core.check_touched(), Ok([].to_vec()));
        world.allocate(other, PAGE_SIZE);
        assert_eq!(world.core.check_touched(), Ok([other].to_vec()));
    }

    #[test]
    fn a_page_that_changes_reaches_the_maps_above_it() {
        let (mut world, map, _, _) = written();
        let resident = |(_, page): &(Frame, &crate::object::page::Page)| {
            page.state == State::Resident && page.flags.contains(Flags::DIRTY)
        };
        let (frame, _) = world.core.pages.iter().find(resident).unwrap();
        world.core.pages.get_mut(frame).unwrap().flags = Flags::empty();
        assert_eq!(world.core.check_touched(), Ok([map].to_vec()));
    }

    #[test]
    fn a_record_that_breaks_a_rule_is_found_when_it_is_touched() {
        let (mut world, map, _, _) = written();
        world.core.maps.get_mut(map).unwrap().size += PAGE_SIZE;
        assert!(world.core.check_touched().is_err());
        world.core.maps.get_mut(map).unwrap().size -= PAGE_SIZE;
        assert!(world.core.check_touched().is_ok());
        let object = world.core.objects.iter().next().unwrap().0;
        world.core.objects.get_mut(object).unwrap().refs = 0;
        assert!(world.core.check_touched().is_err());
    }
}
