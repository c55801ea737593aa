//! What a pager makes of a data request and of pages that come back: whole, in part, twice, in any order,
//! or not at all.

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object::{MemoryObjectDataRequest, MemoryObjectDataReturn};
use ipc_protocol::memory_object_control::{
    MemoryObjectDataError, MemoryObjectDataSupply, MemoryObjectDataUnavailable,
    MemoryObjectDataWritten, Request,
};

use super::{Act, Pagers, is_hole};
use crate::Random;

impl Pagers {
    pub(super) fn requested(
        &mut self,
        place: usize,
        random: &mut Random,
        file: usize,
        wanted: MemoryObjectDataRequest,
    ) {
        let habits = self.files[file].habits;
        let (first, mut count) = (wanted.offset / PAGE_SIZE, wanted.length / PAGE_SIZE);
        let slots = u64::from(self.pagers[place].slots);
        assert!(
            wanted.offset.is_multiple_of(PAGE_SIZE)
                && wanted.length.is_multiple_of(PAGE_SIZE)
                && count >= 1
                && count <= u64::from(habits.cluster.max(1)).min(slots),
            "asked for {wanted:?}"
        );
        self.files[file].asked += count;
        if habits.silent && !self.honest {
            return;
        }
        if self.feels(random, habits.error) {
            self.fails(file);
            let error = MemoryObjectDataError {
                offset: wanted.offset,
                size: wanted.length,
                code: 5,
            };
            return self.say(place, file, Request::MemoryObjectDataError(error));
        }
        if self.feels(random, habits.part) {
            count = 1 + random.below(count);
        }
        let mut runs = self.runs(file, first, count);
        if random.once_in(2) {
            runs.reverse();
        }
        if self.feels(random, habits.twice) {
            runs.extend(runs.clone());
        }
        for (start, count, there) in runs {
            match there {
                true => self.supply(place, random, file, (start, count)),
                false => {
                    let nothing = MemoryObjectDataUnavailable {
                        offset: start * PAGE_SIZE,
                        size: count * PAGE_SIZE,
                    };
                    self.say(place, file, Request::MemoryObjectDataUnavailable(nothing));
                }
            }
        }
    }

    /// Pages by whether there is data for them.
    pub(super) fn runs(&self, file: usize, first: u64, count: u64) -> Vec<(u64, u64, bool)> {
        let mut runs: Vec<(u64, u64, bool)> = Vec::new();
        for index in first..first + count {
            let record = &self.files[file];
            let there = record.store.contains_key(&index) || !is_hole(&record.habits, index);
            match runs.last_mut() {
                Some(run) if run.2 == there => run.1 += 1,
                _ => runs.push((index, 1, there)),
            }
        }
        runs
    }

    pub(super) fn supply(
        &mut self,
        place: usize,
        random: &mut Random,
        file: usize,
        (first, count): (u64, u64),
    ) {
        let habits = self.files[file].habits;
        let count = count.min(u64::from(self.pagers[place].slots)) as u32;
        let copied = self.plenty && random.once_in(8);
        let slot = match copied {
            true => 0,
            false => self.fill(place, (file, first), count),
        };
        let locked = self.feels(random, habits.locked);
        let supply = MemoryObjectDataSupply {
            offset: first * PAGE_SIZE,
            slot,
            count,
            lock_value: if locked {
                u32::from(Prot::WRITE.bits())
            } else {
                0
            },
            precious: self.feels(random, habits.precious),
        };
        match copied {
            true => self.bring_copied(place, (file, random.once_in(2)), supply),
            false => self.say(place, file, Request::MemoryObjectDataSupply(supply)),
        }
    }

    /// Fills slots with pages; says from which on.
    fn fill(&mut self, place: usize, (file, first): (usize, u64), count: u32) -> u32 {
        let pager = &mut self.pagers[place];
        if pager.next + count > pager.slots {
            pager.next = 0;
        }
        let slot = pager.next;
        pager.next += count;
        for place in 0..count {
            pager.acts.push_back(Act::Fill {
                file,
                index: first + u64::from(place),
                slot: slot + place,
            });
        }
        slot
    }

    pub(super) fn returned(
        &mut self,
        place: usize,
        random: &mut Random,
        file: usize,
        lent: MemoryObjectDataReturn,
    ) {
        assert!(lent.count > 0, "{lent:?}");
        // A copy that it has promised to make would lack what it does not store.
        let refused = self.feels(random, self.files[file].habits.refuse) && !self.is_copying(file);
        if !refused {
            for page in 0..lent.count {
                self.pagers[place].acts.push_back(Act::Store {
                    file,
                    index: lent.offset / PAGE_SIZE + u64::from(page),
                    slot: lent.slot + page,
                });
            }
        }
        let written = MemoryObjectDataWritten {
            txn: lent.txn,
            result: if refused { 5 } else { 0 },
        };
        self.say(place, file, Request::MemoryObjectDataWritten(written));
    }
}
