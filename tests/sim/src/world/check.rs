//! After an event: the core's own rules, and translation soundness.

use vm_core::event::MapId;

use super::World;

impl World {
    /// The core's own invariants, and that every translation is one that a look-up would give.
    pub fn check(&mut self) {
        if let Err(what) = self.core.check_invariants() {
            panic!("after event {}: {what}", self.events);
        }
        for map in self.model.maps() {
            self.check_translations(map);
        }
    }

    /// As [`World::check`], but only what the event touched.
    pub(super) fn check_touched(&mut self) {
        match self.core.check_touched() {
            Err(what) => panic!("after event {}: {what}", self.events),
            Ok(maps) => maps
                .into_iter()
                .for_each(|map| self.check_translations(map)),
        }
    }

    pub(super) fn check_translations(&self, map: MapId) {
        let mut looks = self.core.looks(map);
        for (page, found) in self.model.translations(map) {
            let granted = looks.grant(page);
            let sound = granted.is_some_and(|(frame, protection)| {
                frame == found.frame && protection.contains(found.protection)
            });
            assert!(
                sound,
                "after event {}: {map:?} maps page {page:#x} as {found:?}, a look-up grants \
                 {granted:?}\n{:#?}\n{:#?}",
                self.events,
                self.core.entry_at(map, page),
                self.core.chain(map, page).collect::<Vec<_>>(),
            );
            assert!(
                looks.knows_place(found.frame, page),
                "after event {}: {map:?} maps page {page:#x}, which frame {:?} does not know",
                self.events,
                found.frame,
            );
        }
    }
}
