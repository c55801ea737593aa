//! What tasks would see, compared with what they must see: a page of each after an operation, all of
//! them now and then.

use super::{BASE, Sim};
use crate::flat::Mapped;
use crate::world::{Care, WHOLE_EVERY};

impl Sim {
    /// Compares as much as the run is worth. `happened`: there was an event.
    pub(super) fn compare(&mut self, happened: bool) {
        match self.how.care {
            Care::Never => {}
            Care::Touched if self.operations.is_multiple_of(WHOLE_EVERY) => {
                self.compare_resident();
            }
            Care::Touched => self.compare_some(happened),
            Care::Whole => self.compare_resident(),
        }
    }

    /// Compares one page of each task, or only of one, each in its turn.
    fn compare_some(&mut self, of_each: bool) {
        let reach = self.kind().pages + 8;
        let one = self.operations as usize % self.living.len().max(1);
        for number in 0..self.living.len() {
            if !of_each && number != one {
                continue;
            }
            let place = self.living[number];
            let client = &self.clients[place];
            // Any page, but no choice of the schedule's.
            let turn = self.operations.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let from = BASE + (turn + place as u64) % reach;
            if let Some((page, mapped)) = client.space.from(from) {
                self.compare_page(place, page, &mapped.clone());
            }
        }
    }

    /// Compares every page that is resident, or reads zero, with what it must be.
    pub fn compare_resident(&mut self) {
        for number in 0..self.living.len() {
            let place = self.living[number];
            let space = std::mem::take(&mut self.clients[place].space);
            for (page, mapped) in space.iter() {
                self.compare_page(place, page, mapped);
            }
            self.clients[place].space = space;
        }
    }

    fn compare_page(&mut self, place: usize, page: u64, mapped: &Mapped) {
        let map = self.clients[place].map;
        let Some((frame, _)) = self.world.core.would_grant(map, page) else {
            return;
        };
        let content = mapped.cell.borrow();
        if content.allows(self.world.model.frame(frame)) {
            return;
        }
        if self.is_changing(place, page, Some(&mapped.cell)) {
            return;
        }
        let shown = self.world.model.frame(frame);
        let wrong = (0..shown.len()).find(|at| content.bytes.at(*at) != shown[*at]);
        panic!(
            "client {place} would see something else at page {page:#x}, {frame:?}, from byte \
             {wrong:?} on"
        );
    }
}
