//! A pager that does what a case tells it, message by message: the case itself is the pager, and an
//! assistant touches the memory.

use guest_test::assistant::Command;
use guest_test::message::arrived;
use guest_test::{Assistant, Failure, Msg, Outcome, check_eq};
use ipc::abi::buffer::BODY_SIZE;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::message::FOREVER;
use ipc::abi::right::{ArrivedKind, Name};
use ipc::abi::types::CopyStrategy;
use ipc::buffer::Body;
use ipc::mapping::Options;
use ipc::protocol::memory_object::{
    MemoryObject, MemoryObjectDataRequest, MemoryObjectInit, Request,
};
use ipc::protocol::memory_object_control::{
    MemoryControl, MemoryObjectDataError, MemoryObjectDataSupply, MemoryObjectDataSupplyReply,
    MemoryObjectDataUnavailable, MemoryObjectReady,
};
use ipc::vm::{self, NewTray};
use ipc::{Kern, Mapping, ReceiveRight, SendRight};

/// Slots of its tray.
pub(crate) const SLOTS: u32 = 8;

/// How the object is to be treated.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    /// Most pages of a request.
    pub(crate) cluster: u32,
    /// How copies are made.
    pub(crate) strategy: CopyStrategy,
    /// Keep pages after the last mapping is gone.
    pub(crate) may_cache: bool,
}

/// One page a request, copies at once.
pub(crate) const PLAIN: Ready = Ready {
    cluster: 1,
    strategy: CopyStrategy::None,
    may_cache: false,
};

/// A memory object, and what is needed to serve it by hand.
pub(crate) struct Scripted {
    pub(crate) object: ReceiveRight<MemoryObject>,
    /// A send right to it, for mappings.
    pub(crate) right: SendRight<MemoryObject>,
    pub(crate) tray: NewTray,
    slots: Option<Mapping>,
    pub(crate) control: SendRight<MemoryControl>,
}

impl Scripted {
    /// An object without a control port yet: nobody has mapped it.
    pub(crate) fn unopened() -> Outcome<Scripted> {
        let object = ReceiveRight::new(0)?;
        let right = object.make_send()?;
        let tray = vm::own().create_tray(SLOTS)?;
        check_eq!(tray.slots, SLOTS);
        // SAFETY: the tray was just mapped for this task; its slots are used through this alone.
        let slots = unsafe { Mapping::from_raw(tray.address, u64::from(SLOTS) * PAGE_SIZE) };
        Ok(Scripted {
            object,
            right,
            tray,
            slots: Some(slots),
            control: SendRight::from_name(0),
        })
    }

    /// An object of which `pages` pages are mapped in the assistant's map, and which is ready. Gives
    /// the address as well.
    pub(crate) fn mapped(
        assistant: &Assistant,
        pages: u64,
        ready: Ready,
    ) -> Outcome<(Scripted, u64)> {
        let mut pager = Scripted::unopened()?;
        let address = pager.map_in(assistant, pages)?;
        pager.take_init()?;
        pager.ready(ready)?;
        Ok((pager, address))
    }

    /// Maps pages of the object, from its first on.
    pub(crate) fn map_in(&self, assistant: &Assistant, pages: u64) -> Outcome<u64> {
        let options = Options::new(pages * PAGE_SIZE).object(&self.right);
        Ok(options.map_in(&assistant.started.map)?)
    }

    /// Takes `memory_object_init` and its control port.
    pub(crate) fn take_init(&mut self) -> Outcome {
        match self.next()? {
            Request::MemoryObjectInit(MemoryObjectInit { page_size }) => {
                check_eq!(u64::from(page_size), PAGE_SIZE);
            }
            other => return unexpected(&other),
        }
        let [(control, kind)] = arrived();
        check_eq!(kind, ArrivedKind::Send);
        self.control = SendRight::from_name(control as Name);
        Ok(())
    }

    /// Says `memory_object_ready`.
    pub(crate) fn ready(&self, ready: Ready) -> Outcome {
        let message = MemoryObjectReady {
            may_cache: ready.may_cache,
            copy_strategy: ready.strategy as u32,
            cluster_pages: ready.cluster,
            serves_itself: false,
            synchronizes: false,
        };
        let rights = [self.tray.tray.copy()];
        self.control.call_with(&message, rights, FOREVER)?;
        Ok(())
    }

    /// The next message of the server. Rights that came with it are still in the buffer.
    #[track_caller]
    pub(crate) fn next(&self) -> Outcome<Request> {
        let received = Msg::receive(&self.object).go()?;
        let body = Body::borrow();
        let bytes = body.get(..received.info.body().min(BODY_SIZE));
        let rights = received.info.rights();
        let id = received.info.id();
        Ok(Request::decode(
            id,
            &received.words,
            bytes.unwrap_or_default(),
            rights,
        )?)
    }

    /// Whether the server has said nothing more.
    pub(crate) fn is_idle(&self) -> bool {
        Msg::receive(&self.object).until(0).code() == Some(Kern::ReceiveTimedOut)
    }

    /// The next message, which has to ask for data from this page on.
    #[track_caller]
    pub(crate) fn wanted(&self, page: u64) -> Outcome<MemoryObjectDataRequest> {
        match self.next()? {
            Request::MemoryObjectDataRequest(wanted) => {
                check_eq!(wanted.offset, page * PAGE_SIZE);
                check_eq!(wanted.length % PAGE_SIZE, 0);
                check_eq!(wanted.length > 0, true);
                Ok(wanted)
            }
            other => unexpected(&other),
        }
    }

    /// Fills slots, each with its word at its begin and nothing but zeros behind.
    pub(crate) fn fill(&self, slot: u32, words: &[u64]) -> Outcome {
        let Some(slots) = &self.slots else {
            return Ok(());
        };
        for (page, word) in (u64::from(slot)..).zip(words) {
            slots.write(page * PAGE_SIZE, &[0; PAGE_SIZE as usize])?;
            slots.write(page * PAGE_SIZE, &word.to_le_bytes())?;
        }
        Ok(())
    }

    /// Supplies pages from slots, and says what became of them.
    pub(crate) fn supply(
        &self,
        page: u64,
        slot: u32,
        count: u32,
    ) -> Result<MemoryObjectDataSupplyReply, Kern> {
        self.control.call(&MemoryObjectDataSupply {
            offset: page * PAGE_SIZE,
            slot,
            count,
            lock_value: 0,
            precious: false,
        })
    }

    /// Fills slots and supplies them; all have to be taken.
    #[track_caller]
    pub(crate) fn bring(&self, page: u64, slot: u32, words: &[u64]) -> Outcome {
        self.fill(slot, words)?;
        let said = self.supply(page, slot, words.len() as u32)?;
        check_eq!((said.used as usize, said.skipped_present), (words.len(), 0));
        Ok(())
    }

    /// Answers the assistant's first touch of a page, the one at `address`: it is asked for, brought
    /// in the first slot with `word` at its begin, and read so.
    #[track_caller]
    pub(crate) fn answers(
        &self,
        assistant: &Assistant,
        address: u64,
        page: u64,
        word: u64,
    ) -> Outcome {
        let pending = assistant.ask(Command::Read, [address, 0])?;
        self.wanted(page)?;
        self.bring(page, 0, &[word])?;
        check_eq!(pending.said()?.result, Ok(word));
        Ok(())
    }

    /// Says that there is no data.
    pub(crate) fn unavailable(&self, page: u64, pages: u64) -> Result<(), Kern> {
        self.control.call(&MemoryObjectDataUnavailable {
            offset: page * PAGE_SIZE,
            size: pages * PAGE_SIZE,
        })
    }

    /// Says that the data cannot be brought.
    pub(crate) fn error(&self, page: u64, pages: u64) -> Result<(), Kern> {
        self.control.call(&MemoryObjectDataError {
            offset: page * PAGE_SIZE,
            size: pages * PAGE_SIZE,
            code: Kern::Failure.raw(),
        })
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        // The server unmaps the tray itself, with its last right.
        self.slots.take().map(Mapping::into_raw);
    }
}

/// A message that a case did not expect.
#[track_caller]
pub(crate) fn unexpected<T>(request: &Request) -> Outcome<T> {
    let name = request.name();
    Err(Failure::new(alloc::format!("the server sent {name}")))
}
