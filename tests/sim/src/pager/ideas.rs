//! What a pager says that nobody asked for, some of it nonsense.

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::Prot;
use ipc_protocol::memory_object_control::{
    MEMORY_OBJECT_DATA_FLUSH, MemoryObjectChangeAttributes, MemoryObjectCopyMade,
    MemoryObjectDataError, MemoryObjectDataSupply, MemoryObjectDataUnavailable,
    MemoryObjectDataWritten, MemoryObjectReady, MemoryObjectSynchronizeCompleted, Request,
    VM_PROT_NO_CHANGE,
};

use super::{Pagers, lock};
use crate::Random;

impl Pagers {
    /// A pager does something of its own accord.
    pub(super) fn idea(&mut self, place: usize, random: &mut Random, file: usize) {
        let habits = self.files[file].habits;
        if self.files[file].control.is_none() || !self.feels(random, habits.initiative) {
            return;
        }
        let (offset, pages) = (random.below(12) * PAGE_SIZE, random.below(6));
        let request = match random.below(8) {
            0 => Request::MemoryObjectChangeAttributes(MemoryObjectChangeAttributes {
                may_cache: random.once_in(2),
                copy_strategy: habits.strategy as u32,
                request: random.below(2),
            }),
            1 => {
                for (start, count, there) in self.runs(file, offset / PAGE_SIZE, 2) {
                    if there {
                        self.supply(place, random, file, (start, count));
                    }
                }
                return;
            }
            2 => {
                let write = u32::from(Prot::WRITE.bits());
                let request = lock(offset, pages * PAGE_SIZE, 0, 0, write);
                Request::MemoryObjectLockRequest(request)
            }
            3 => {
                let all = [Prot::NONE, Prot::ALL][random.below(2) as usize];
                let all = u32::from(all.bits());
                Request::MemoryObjectLockRequest(lock(offset, pages * PAGE_SIZE, 1, 0, all))
            }
            4 => {
                let (returns, keep) = (1 + random.below(3) as u32, VM_PROT_NO_CHANGE);
                let request = lock(offset, pages * PAGE_SIZE, returns, 0, keep);
                Request::MemoryObjectLockRequest(request)
            }
            _ => {
                let (returns, flags) = (1 + random.below(3) as u32, MEMORY_OBJECT_DATA_FLUSH);
                let request = lock(offset, pages * PAGE_SIZE, returns, flags, VM_PROT_NO_CHANGE);
                Request::MemoryObjectLockRequest(request)
            }
        };
        self.say(place, file, request);
    }

    /// A message that must be refused, or has no effect. Who is asked for nothing in its range must not
    /// notice.
    pub(super) fn nonsense(&mut self, place: usize, random: &mut Random, file: usize) {
        if !self.feels(random, self.files[file].habits.nonsense) {
            return;
        }
        let slots = self.pagers[place].slots;
        let supply = MemoryObjectDataSupply {
            offset: random.below(8) * PAGE_SIZE,
            slot: 0,
            count: 1,
            lock_value: 0,
            precious: false,
        };
        let far = (1000 + random.below(50)) * PAGE_SIZE;
        let request = match random.below(15) {
            0 => Request::MemoryObjectDataSupply(MemoryObjectDataSupply {
                offset: 5,
                ..supply
            }),
            1 => Request::MemoryObjectDataSupply(MemoryObjectDataSupply {
                slot: slots,
                ..supply
            }),
            2 => Request::MemoryObjectDataSupply(MemoryObjectDataSupply { count: 0, ..supply }),
            3 => {
                let count = [slots + 1, 65, u32::MAX][random.below(3) as usize];
                Request::MemoryObjectDataSupply(MemoryObjectDataSupply { count, ..supply })
            }
            4 => {
                let offset = u64::MAX - PAGE_SIZE + 1;
                Request::MemoryObjectDataSupply(MemoryObjectDataSupply { offset, ..supply })
            }
            5 => Request::MemoryObjectDataSupply(MemoryObjectDataSupply {
                lock_value: 8,
                ..supply
            }),
            6 => Request::MemoryObjectDataWritten(MemoryObjectDataWritten {
                txn: random.word(),
                result: 0,
            }),
            7 => Request::MemoryObjectDataUnavailable(MemoryObjectDataUnavailable {
                offset: far,
                size: PAGE_SIZE,
            }),
            8 => Request::MemoryObjectDataError(MemoryObjectDataError {
                offset: far,
                size: u64::MAX - far,
                code: 1,
            }),
            9 => Request::MemoryObjectLockRequest(lock(0, PAGE_SIZE, 4, 0, 0)),
            10 => Request::MemoryObjectLockRequest(lock(0, u64::MAX, 0, 4, 0)),
            11 => Request::MemoryObjectLockRequest(lock(PAGE_SIZE, u64::MAX, 1, 1, 8)),
            12 => Request::MemoryObjectReady(MemoryObjectReady {
                copy_strategy: 9,
                ..self.ready(file)
            }),
            13 => Request::MemoryObjectCopyMade(MemoryObjectCopyMade {
                request: random.word(),
                result: random.below(2) as u32,
            }),
            _ => Request::MemoryObjectSynchronizeCompleted(MemoryObjectSynchronizeCompleted {
                request: random.word(),
                result: 0,
            }),
        };
        self.say(place, file, request);
    }
}
