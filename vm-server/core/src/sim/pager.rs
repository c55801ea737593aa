//! A scripted pager with one memory object, and its task.

extern crate std;

use std::collections::{BTreeSet, VecDeque};
use std::vec;
use std::vec::Vec;

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::{CopyStrategy, Prot};
use ipc_protocol::memory_object::Request as ToPager;
use ipc_protocol::memory_object_control::{
    MemoryObjectDataError, MemoryObjectDataSupply, MemoryObjectDataUnavailable,
    MemoryObjectDataWritten, MemoryObjectReady, Request as ToServer,
};
use ipc_protocol::vm_map;

use super::World;
use crate::call::{Call, Message, Reply};
use crate::effect::Answer;
use crate::event::{ControlId, Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights, TrayId};
use crate::talk;

/// A pager with one memory object: bytes, and what it does when it is asked.
pub(crate) struct Pager {
    /// Its task's map.
    pub(crate) map: MapId,
    /// Its object's port.
    pub(crate) port: RightId,
    /// The control port of the present life of the object.
    pub(crate) control: Option<ControlId>,
    /// Its tray, the address of slot 0, and its slots.
    pub(crate) tray: (TrayId, u64, u32),
    /// What it says when it is asked to open the object.
    pub(crate) ready: MemoryObjectReady,
    /// The object's bytes; beyond them there is nothing.
    pub(crate) data: Vec<u8>,
    /// Slot to fill next.
    pub(crate) slot: u32,
    /// Offsets of pages that it fails to bring.
    pub(crate) broken: BTreeSet<u64>,
    /// Data is supplied with this lock, and as precious.
    pub(crate) supply: (Prot, bool),
    /// Messages that it got and does not answer by itself.
    pub(crate) inbox: VecDeque<ToPager>,
    /// It stores what is returned.
    pub(crate) stores: bool,
    /// Pages that it supplied.
    pub(crate) supplied: u64,
}

impl Pager {
    /// A pager task with a tray of `slots` slots that serves `data` under `port`.
    pub(crate) fn new(world: &mut World, port: RightId, slots: u32, data: Vec<u8>) -> Pager {
        let map = world.map();
        let request = vm_map::Request::PagerTrayCreate(vm_map::PagerTrayCreate { slots });
        let tray = match world.call(map, request, NO_RIGHTS) {
            Ok(Reply {
                message: Message::Map(vm_map::Reply::PagerTrayCreate(reply)),
                right: Some(PortOf::Tray(tray)),
            }) => (tray, reply.address, reply.slots),
            other => panic!("{other:?}"),
        };
        world.settle();
        Pager {
            map,
            port,
            control: None,
            tray,
            ready: MemoryObjectReady {
                may_cache: false,
                copy_strategy: CopyStrategy::Delay as u32,
                cluster_pages: 1,
                serves_itself: false,
                synchronizes: false,
            },
            data,
            slot: 0,
            broken: BTreeSet::new(),
            supply: (Prot::NONE, false),
            inbox: VecDeque::new(),
            stores: true,
            supplied: 0,
        }
    }

    /// Receives what is said to it and answers it, until nothing more is said.
    pub(crate) fn serve(&mut self, world: &mut World) {
        loop {
            let said = world.said_to(self.port);
            if said.is_empty() {
                return;
            }
            for message in said {
                self.hear(world, message);
            }
        }
    }

    /// Serves, and lets the core finish what it can, until both rest.
    pub(crate) fn settle(&mut self, world: &mut World) {
        for _ in 0..100_000 {
            self.serve(world);
            if !world.core.wants_step() {
                if world.talks.contains(&self.port.0) {
                    continue;
                }
                return;
            }
            world.event(Event::Step);
        }
        panic!("the pager and the core keep each other busy");
    }

    /// Answers one message.
    pub(crate) fn hear(&mut self, world: &mut World, message: talk::Message) {
        match message.wording {
            ToPager::MemoryObjectInit(_) => {
                if let Some(PortOf::Control(control)) = message.right {
                    self.control = Some(control);
                }
                let mut rights = NO_RIGHTS;
                rights[0] = PortRef::Own(PortOf::Tray(self.tray.0));
                self.say(world, ToServer::MemoryObjectReady(self.ready), rights);
            }
            ToPager::MemoryObjectDataRequest(request) => {
                let pages = request.length / PAGE_SIZE;
                for place in 0..pages {
                    self.bring(world, request.offset + place * PAGE_SIZE);
                }
            }
            ToPager::MemoryObjectDataReturn(back) if self.stores => {
                for place in 0..back.count {
                    let at = back.offset + u64::from(place) * PAGE_SIZE;
                    self.store(world, at, back.slot + place);
                }
                let written = MemoryObjectDataWritten {
                    txn: back.txn,
                    result: 0,
                };
                self.say(world, ToServer::MemoryObjectDataWritten(written), NO_RIGHTS);
            }
            ToPager::MemoryObjectTerminate(_) => {
                self.control = None;
                self.inbox.push_back(message.wording);
            }
            other => self.inbox.push_back(other),
        }
    }

    /// Says something on the control port.
    pub(crate) fn say(
        &mut self,
        world: &mut World,
        request: ToServer,
        rights: Rights,
    ) -> Option<Answer> {
        let control = self.control?;
        let token = world.send(Call::Control(control, request), rights);
        world.answer(token)
    }

    /// Brings one page, through the next slot.
    pub(crate) fn bring(&mut self, world: &mut World, offset: u64) {
        let size = PAGE_SIZE;
        if self.broken.contains(&offset) {
            let error = MemoryObjectDataError {
                offset,
                size,
                code: 5,
            };
            self.say(world, ToServer::MemoryObjectDataError(error), NO_RIGHTS);
            return;
        }
        if offset >= self.data.len() as u64 {
            let missing = MemoryObjectDataUnavailable { offset, size };
            self.say(
                world,
                ToServer::MemoryObjectDataUnavailable(missing),
                NO_RIGHTS,
            );
            return;
        }
        let slot = self.slot;
        self.slot = (slot + 1) % self.tray.2;
        let mut page = vec![0; PAGE_SIZE as usize];
        let end = (offset + PAGE_SIZE).min(self.data.len() as u64);
        let bytes = &self.data[offset as usize..end as usize];
        page[..bytes.len()].copy_from_slice(bytes);
        let address = self.tray.1 + u64::from(slot) * PAGE_SIZE;
        let filled = world.write(self.map, address, &page);
        assert_eq!(filled, Ok(()), "slot {slot} cannot be filled");
        let supply = MemoryObjectDataSupply {
            offset,
            slot,
            count: 1,
            lock_value: self.supply.0.bits().into(),
            precious: self.supply.1,
        };
        let answer = self.say(world, ToServer::MemoryObjectDataSupply(supply), NO_RIGHTS);
        assert!(
            matches!(answer, None | Some(Ok(_))),
            "supply refused: {answer:?}"
        );
        self.supplied += 1;
    }

    fn store(&mut self, world: &mut World, offset: u64, slot: u32) {
        let address = self.tray.1 + u64::from(slot) * PAGE_SIZE;
        let mut page = vec![0; PAGE_SIZE as usize];
        let read = world.read(self.map, address, &mut page);
        assert_eq!(read, Ok(()), "lent slot {slot} cannot be read");
        let end = (offset + PAGE_SIZE) as usize;
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[offset as usize..end].copy_from_slice(&page);
    }
}
