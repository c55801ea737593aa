//! memory_object_data_supply_copy: a pager writes data into fresh memory of its own, and supplies a copy
//! of that. What the copy alone has moves, what the pager keeps is copied.

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::{MapFlags, Prot};
use ipc_protocol::memory_object_control::{
    MemoryObjectDataSupply, MemoryObjectDataSupplyCopy, Reply as Said, Request,
};
use ipc_protocol::vm_map::{self, VmAllocate, VmCopyin, VmDeallocate};
use vm_core::call::Message;
use vm_core::effect::Answer;
use vm_core::event::{NO_RIGHTS, PortRef, Token};

use super::{Act, Pagers};
use crate::world::World;

/// A copy that is going to be supplied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    file: usize,
    /// As it would be supplied from slots.
    like: MemoryObjectDataSupply,
    /// Where the memory lies.
    address: u64,
    /// The pager keeps nothing of it.
    destroys: bool,
}

impl Pagers {
    /// Begins to bring pages in a copy, in the manner of a supply.
    pub(super) fn bring_copied(
        &mut self,
        place: usize,
        (file, destroys): (usize, bool),
        like: MemoryObjectDataSupply,
    ) {
        let copied = Copied {
            file,
            like,
            address: 0,
            destroys,
        };
        self.pagers[place].acts.push_back(Act::Copied(copied));
    }

    /// Allocates the memory, or supplies the copy of it.
    pub(super) fn supply_copied(&mut self, world: &mut World, place: usize, copied: Copied) {
        let size = u64::from(copied.like.count) * PAGE_SIZE;
        let map = self.pagers[place].map;
        if copied.address == 0 {
            let flags = MapFlags::ANYWHERE.bits();
            let request = vm_map::Request::VmAllocate(VmAllocate {
                address: 0,
                size,
                flags,
            });
            let (_, reply) = world.call_now(map, request, PortRef::None);
            let Some(vm_map::Reply::VmAllocate(made)) = reply else {
                panic!("a pager gets no memory: {reply:?}");
            };
            let address = made.address;
            let acts = &mut self.pagers[place].acts;
            acts.push_front(Act::Copied(Copied { address, ..copied }));
            for page in (0..u64::from(copied.like.count)).rev() {
                acts.push_front(Act::Write {
                    file: copied.file,
                    index: copied.like.offset / PAGE_SIZE + page,
                    address: address + page * PAGE_SIZE,
                });
            }
            return;
        }
        let address = copied.address;
        let request = vm_map::Request::VmCopyin(VmCopyin {
            address,
            size,
            src_destroy: copied.destroys,
        });
        let (answer, _) = world.call_now(map, request, PortRef::None);
        let copy = answer.unwrap().right.unwrap();
        if let Some(control) = self.files[copied.file].control {
            let request = Request::MemoryObjectDataSupplyCopy(MemoryObjectDataSupplyCopy {
                offset: copied.like.offset,
                lock_value: copied.like.lock_value,
                precious: copied.like.precious,
            });
            let mut rights = NO_RIGHTS;
            rights[MemoryObjectDataSupplyCopy::COPY] = PortRef::Own(copy);
            let token = world.control_call(control, request, rights);
            self.pagers[place].waits = Some(token);
        }
        // It was used up, unless the object has ended.
        if world.is_port(copy) {
            world.no_senders(copy, false);
        }
        if !copied.destroys {
            let request = vm_map::Request::VmDeallocate(VmDeallocate { address, size });
            world.call_now(map, request, PortRef::None).0.unwrap();
        }
    }

    /// Whether an answer is a pager's: what it supplied was taken, or the object has ended meanwhile.
    pub fn answered(&mut self, token: Token, answer: &Answer) -> bool {
        let mut pagers = self.pagers.iter_mut();
        let Some(pager) = pagers.find(|pager| pager.waits == Some(token)) else {
            return false;
        };
        pager.waits = None;
        let code = match answer {
            Ok(reply) => match reply.message {
                Message::Control(Said::MemoryObjectDataSupplyCopy(reply)) => reply.result,
                other => panic!("a supply is answered {other:?}"),
            },
            Err(code) => code.raw(),
        };
        assert!(
            code == 0 || code == Kern::Terminated.raw(),
            "a copy is supplied: {answer:?}"
        );
        true
    }

    /// Writes a page of its own memory.
    pub(super) fn write_own(
        &mut self,
        world: &mut World,
        place: usize,
        (file, index): (usize, u64),
        address: u64,
    ) {
        let Some(page) = self.data(file, index) else {
            return;
        };
        let pager = &mut self.pagers[place];
        match world
            .model
            .page(pager.map, address / PAGE_SIZE, Prot::WRITE)
        {
            Some(bytes) => bytes.copy_from_slice(&page),
            None => {
                pager.acts.push_front(Act::Write {
                    file,
                    index,
                    address,
                });
                pager.waits = Some(world.fault(pager.map, address, Prot::WRITE));
            }
        }
    }
}
