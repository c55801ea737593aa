//! A pager that a case plays by hand: a memory object, a tray in a task of its own, and words in place
//! of data.

use alloc::format;

use ipc_abi::layout::PAGE_SIZE;
use ipc_protocol::Message;
use ipc_protocol::memory_object::{MemoryObjectDataRequest, Request};
use ipc_protocol::memory_object_control::{
    MEMORY_OBJECT_DATA_FLUSH, MemoryControl, MemoryObjectDataError, MemoryObjectDataSupply,
    MemoryObjectDataSupplyReply, MemoryObjectDataWritten, MemoryObjectLockRequest,
    MemoryObjectReady, VM_PROT_NO_CHANGE,
};
use ipc_protocol::vm_map::PagerTrayCreate;

use crate::failure::{Failure, Outcome, same};
use crate::vm::{Mapping, Said, Task, Vm};

/// Slots of the tray.
const SLOTS: u32 = 8;
/// The number of a lock request, which its completion repeats.
const REQUEST: u64 = 77;

/// How the object is to be treated.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// `CopyStrategy` number.
    pub strategy: u32,
    /// Pages stay when nothing maps the object.
    pub may_cache: bool,
    /// It says itself when it has stored what a synchronous call returned.
    pub synchronizes: bool,
}

/// Strategy DELAY, nothing is cached.
pub const DELAY: Habits = Habits {
    strategy: 2,
    may_cache: false,
    synchronizes: false,
};

/// See the module's text.
pub struct Pager<'v, V: Vm> {
    /// The memory object.
    pub object: V::Port,
    /// The port that it speaks on.
    pub control: V::Port,
    /// What its pages go through.
    pub tray: V::Port,
    /// The task that has the tray.
    pub task: Task<'v, V>,
    /// Address of the tray's first slot.
    slots: u64,
    next: core::cell::Cell<u32>,
}

impl<'v, V: Vm> Pager<'v, V> {
    /// A pager whose object is mapped in a task, and ready; gives the address as well.
    ///
    /// # Errors
    /// Something did not go as it must.
    pub fn mapped(task: &Task<'v, V>, pages: u64, habits: Habits) -> Outcome<(Pager<'v, V>, u64)> {
        Pager::mapped_as(task, Mapping::anywhere(pages * PAGE_SIZE), habits)
    }

    /// As [`Pager::mapped`], by a mapping of any kind.
    ///
    /// # Errors
    /// As above.
    pub fn mapped_as(
        task: &Task<'v, V>,
        mapping: Mapping,
        habits: Habits,
    ) -> Outcome<(Pager<'v, V>, u64)> {
        let vm = task.vm;
        let object = vm.object()?;
        let own = Task {
            port: vm.fork(None)?,
            ..task.clone()
        };
        let create = PagerTrayCreate { slots: SLOTS };
        let (made, mut tray) = own.ask(&create, &[])?;
        let Some(tray) = tray.pop() else {
            return Err(Failure::new("there is no tray".into()));
        };
        let address = task.map(mapping, Some(&object))?;
        let control = match vm.hear(&object) {
            Some((Request::MemoryObjectInit(_), Some(control))) => control,
            other => return Err(unexpected(other.map(|(request, _)| request))),
        };
        let pager = Pager {
            object,
            control,
            tray: tray.clone(),
            task: own,
            slots: made.address,
            next: core::cell::Cell::new(0),
        };
        let ready = MemoryObjectReady {
            may_cache: habits.may_cache,
            copy_strategy: habits.strategy,
            cluster_pages: 1,
            serves_itself: false,
            synchronizes: habits.synchronizes,
        };
        pager.say_with(&ready, &[Some(&tray)])?;
        Ok((pager, address))
    }

    /// Says something on the control port.
    ///
    /// # Errors
    /// What it is answered.
    pub fn say<M: Message<On = MemoryControl>>(&self, message: &M) -> Said<M::Reply> {
        self.say_with(message, &[])
    }

    /// Says something that carries rights.
    ///
    /// # Errors
    /// What it is answered.
    pub fn say_with<M: Message>(&self, message: &M, rights: &[Option<&V::Port>]) -> Said<M::Reply> {
        let said = self.task.vm.call(&self.control, message, rights)?;
        Ok(said.0)
    }

    /// The next message.
    #[must_use]
    pub fn hear(&self) -> Option<Request> {
        self.task.vm.hear(&self.object).map(|(request, _)| request)
    }

    /// The next message, which has to ask for this page.
    ///
    /// # Errors
    /// It does not.
    #[track_caller]
    pub fn wanted(&self, page: u64) -> Outcome {
        match self.hear() {
            Some(Request::MemoryObjectDataRequest(MemoryObjectDataRequest { offset, .. })) => {
                same("what is asked for", offset, page * PAGE_SIZE)
            }
            other => Err(unexpected(other)),
        }
    }

    /// Supplies pages that begin with these words; says what became of them.
    ///
    /// # Errors
    /// As above.
    pub fn supply(
        &self,
        page: u64,
        words: &[u64],
        precious: bool,
    ) -> Outcome<MemoryObjectDataSupplyReply> {
        let count = words.len() as u32;
        let mut slot = self.next.get();
        if slot + count > SLOTS {
            slot = 0;
        }
        self.next.set(slot + count);
        for (place, word) in (u64::from(slot)..).zip(words) {
            let address = self.slots + place * PAGE_SIZE;
            self.task.put(address, &[0; PAGE_SIZE as usize])?;
            self.task.store(address, *word)?;
        }
        Ok(self.say(&MemoryObjectDataSupply {
            offset: page * PAGE_SIZE,
            slot,
            count,
            lock_value: 0,
            precious,
        })?)
    }

    /// A thread touches a page for the first time, and gets it with this word.
    ///
    /// # Errors
    /// As above.
    pub fn bring(&self, to: &Task<'v, V>, address: u64, page: u64, word: u64) -> Outcome {
        let touch = to.vm.begin(&to.port, address, None);
        self.wanted(page)?;
        self.supply(page, &[word], false)?;
        same("the byte", to.vm.finish(touch), Ok(word as u8))
    }

    /// Fails a page.
    ///
    /// # Errors
    /// What it is answered.
    pub fn error(&self, page: u64, code: u32) -> Said {
        self.say(&MemoryObjectDataError {
            offset: page * PAGE_SIZE,
            size: PAGE_SIZE,
            code,
        })
    }

    /// Asks for a lock request of a page.
    ///
    /// # Errors
    /// What it is answered.
    pub fn lock(&self, page: u64, should_return: u32, flush: bool) -> Said {
        self.say(&lock_request(page, should_return, flush))
    }

    /// The next message, which has to complete the lock request.
    ///
    /// # Errors
    /// It does not.
    #[track_caller]
    pub fn completed(&self) -> Outcome {
        match self.hear() {
            Some(Request::MemoryObjectLockCompleted(done)) => {
                same("the request", done.request, REQUEST)?;
                same("its result", done.result, 0)
            }
            other => Err(unexpected(other)),
        }
    }

    /// The number of the loan in which a page comes back.
    ///
    /// # Errors
    /// Something else is heard.
    #[track_caller]
    pub fn returned(&self, page: u64) -> Outcome<u64> {
        match self.hear() {
            Some(Request::MemoryObjectDataReturn(returned)) => {
                same("what comes back", returned.offset, page * PAGE_SIZE)?;
                Ok(returned.txn)
            }
            other => Err(unexpected(other)),
        }
    }

    /// Ends a loan: 0, or the code with which the pages could not be stored.
    ///
    /// # Errors
    /// What it is answered.
    pub fn written(&self, txn: u64, result: u32) -> Said {
        self.say(&MemoryObjectDataWritten { txn, result })
    }

    /// The word that a lent slot begins with.
    ///
    /// # Errors
    /// The code of the exception.
    pub fn lent(&self, slot: u32) -> Said<u64> {
        self.task.load(self.slots + u64::from(slot) * PAGE_SIZE)
    }
}

/// A lock request of a page.
#[must_use]
pub const fn lock_request(page: u64, should_return: u32, flush: bool) -> MemoryObjectLockRequest {
    MemoryObjectLockRequest {
        offset: page * PAGE_SIZE,
        size: PAGE_SIZE,
        should_return,
        flags: if flush { MEMORY_OBJECT_DATA_FLUSH } else { 0 },
        lock_value: VM_PROT_NO_CHANGE,
        request: REQUEST,
    }
}

/// A message that a case did not expect.
#[track_caller]
pub fn unexpected(request: Option<Request>) -> Failure {
    let name = request.map_or("nothing", |request| request.name());
    Failure::new(format!("the pager heard {name}"))
}
