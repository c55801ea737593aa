//! Strategy CALL: a pager makes a copy of a range of an object, or says that it does not.
//!
//! This one has what is written returned first, then keeps a whole copy of its own, so that it need not
//! watch the original from then on. A range that is too long for that it does not copy.

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::{CopyStrategy, Prot};
use ipc_protocol::memory_object::MemoryObjectCopy;
use ipc_protocol::memory_object_control::{MemoryObjectCopyMade, Request};
use vm_core::event::{NO_RIGHTS, RightId};

use super::{Act, File, Habits, Pagers, lock};
use crate::Random;
use crate::flat::PAGE;
use crate::world::World;

/// Pages that are copied at most.
const PAGES: u64 = 64;
/// Numbers of lock requests below this one are those of ideas.
const LOCKS: u64 = 1000;

/// A copy that somebody wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    file: usize,
    first: u64,
    count: u64,
    request: u64,
}

impl Pagers {
    /// Somebody wants a copy of a range.
    pub(super) fn copy_wanted(
        &mut self,
        place: usize,
        random: &mut Random,
        file: usize,
        said: MemoryObjectCopy,
    ) {
        assert!(
            said.offset.is_multiple_of(PAGE_SIZE)
                && said.length.is_multiple_of(PAGE_SIZE)
                && said.length > 0,
            "a copy of {said:?} is wanted"
        );
        if self.files[file].habits.silent && !self.honest {
            return;
        }
        let wanted = Wanted {
            file,
            first: said.offset / PAGE_SIZE,
            count: said.length / PAGE_SIZE,
            request: said.request,
        };
        if wanted.count > PAGES || random.once_in(4) {
            return self.refuse_copy(place, wanted);
        }
        self.locks += 1;
        let number = LOCKS + self.locks;
        self.copying.insert(number, wanted);
        let write = u32::from(Prot::WRITE.bits());
        let mut home = lock(said.offset, said.length, 1, 0, write);
        home.request = number;
        self.say(place, file, Request::MemoryObjectLockRequest(home));
    }

    /// Whether a copy of an object is being made.
    pub(super) fn is_copying(&self, file: usize) -> bool {
        self.copying.values().any(|wanted| wanted.file == file)
    }

    fn refuse_copy(&mut self, place: usize, wanted: Wanted) {
        let refused = MemoryObjectCopyMade {
            request: wanted.request,
            result: 5,
        };
        self.say(place, wanted.file, Request::MemoryObjectCopyMade(refused));
    }

    /// What was written has come back, or could not: then there is no copy.
    pub(super) fn lock_completed(&mut self, place: usize, file: usize, number: u64, result: u32) {
        let Some(wanted) = self.copying.remove(&number) else {
            return;
        };
        assert_eq!(
            wanted.file, file,
            "a lock request is completed at its object"
        );
        if result != 0 {
            return self.refuse_copy(place, wanted);
        }
        let made = self.files.len();
        let pages = 0..wanted.count;
        let store = pages
            .map(|page| {
                let data = self.data(file, wanted.first + page);
                (page, data.unwrap_or_else(|| vec![0; PAGE].into()))
            })
            .collect();
        let habits = Habits {
            error: 0,
            holes: false,
            strategy: CopyStrategy::Delay,
            ..self.files[file].habits
        };
        self.files.push(File {
            port: RightId(100 + made as u32),
            habits,
            faulty: self.files[file].faulty,
            store,
            control: None,
            asked: 0,
            copy_of: Some(self.original(file)),
        });
        self.pagers[place].files.push(made);
        self.pagers[place].acts.push_back(Act::Made {
            file,
            request: wanted.request,
            made,
        });
    }

    /// The object that clients know of which this one is a copy, or a copy's copy.
    #[must_use]
    pub fn original(&self, file: usize) -> usize {
        self.files[file].copy_of.unwrap_or(file)
    }

    pub(super) fn say_made(&mut self, world: &mut World, file: usize, made: (u64, usize)) {
        let Some(control) = self.files[file].control else {
            return;
        };
        let mut rights = NO_RIGHTS;
        rights[0] = world.right_to(self.files[made.1].port);
        let said = MemoryObjectCopyMade {
            request: made.0,
            result: 0,
        };
        world.control(control, Request::MemoryObjectCopyMade(said), rights);
    }
}
