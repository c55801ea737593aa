//! The common calls, where they are plain: memory allocated, given back or protected, of which one
//! entry knows.
//!
//! Nothing is waited for, refused or left over, and the answer is a word: [`Core::call_quick`] gives it
//! without an event and without effects, or gives `None` and has changed nothing: then the event
//! decides, as for every call. So the errors and their order are told once, there. The work itself is
//! the general way's own first attempt. In tests [`Core::handle`] begins with this, so that whatever
//! tests events tests it.

use ipc_abi::types::MapFlags;
use ipc_protocol::codec::{Payload, Words};
use ipc_protocol::define::Message;
use ipc_protocol::vm_map::{VM_PROT_COPY, VmAllocate, VmDeallocate, VmProtect};

use super::vm_map::{prot, tag_of};
use crate::Core;
use crate::copy::sharein::is_jit;
use crate::event::MapId;
use crate::machine::Machine;
use crate::map::Map;
use crate::map::enter::Place;
use crate::map::protect::Change;
use crate::range::{Span, round_page};

/// A call that is common.
#[derive(Clone, Copy, Debug)]
pub enum Common {
    /// `vm_allocate`.
    Allocate(VmAllocate),
    /// `vm_deallocate`.
    Deallocate(VmDeallocate),
    /// `vm_protect`.
    Protect(VmProtect),
}

impl Common {
    /// Understands a message that is words and nothing else. `None`: it is none of these, or is
    /// malformed.
    #[inline(always)]
    #[must_use]
    pub fn decode(id: u32, words: &Words) -> Option<Common> {
        match id {
            VmAllocate::ID => VmAllocate::get(words, &[]).ok().map(Common::Allocate),
            VmDeallocate::ID => VmDeallocate::get(words, &[]).ok().map(Common::Deallocate),
            VmProtect::ID => VmProtect::get(words, &[]).ok().map(Common::Protect),
            _ => None,
        }
    }
}

/// What a common call is answered with.
#[derive(Clone, Copy, Debug)]
pub struct Quick {
    /// The code is 0, and this the word that follows: the address of what was allocated.
    pub word: u64,
    /// It may have left work that steps do.
    pub leaves_work: bool,
}

impl Quick {
    const fn new(word: u64, leaves_work: bool) -> Quick {
        Quick { word, leaves_work }
    }
}

/// Flags of an allocation that takes no more than a hole.
pub(crate) const PLAIN: MapFlags = MapFlags::ANYWHERE.union(MapFlags::TAG);

impl Core {
    /// Handles a common call, if it is plain.
    #[inline]
    pub fn call_quick<M: Machine>(
        &mut self,
        machine: &mut M,
        map: MapId,
        call: &Common,
    ) -> Option<Quick> {
        self.record_question();
        if !self.goes_quickly() {
            return None;
        }
        let plain_map = || self.maps.get(map).filter(|map| map.is_plain());
        match call {
            Common::Allocate(args) => {
                let address = self.allocate_quick(map, args)?;
                Some(Quick::new(address, false))
            }
            Common::Deallocate(args) if args.size == 0 => None,
            Common::Deallocate(args) => {
                let range = Span::covering(args.address, args.size).ok()?;
                let range = plain_map()?.clamp(range)?;
                let leaves_work = self.remove_plain(machine, map, range)?;
                Some(Quick::new(0, leaves_work))
            }
            Common::Protect(args) => {
                let rights = prot(args.protection & !VM_PROT_COPY).ok()?;
                let range = Span::covering(args.address, args.size).ok()?;
                let jit = plain_map()?.jit || !is_jit(rights);
                let plain = !args.set_maximum && args.protection & VM_PROT_COPY == 0;
                if args.size == 0 || !jit || !plain {
                    return None;
                }
                let change = Change::Protect(rights);
                let leaves_work = self.set_plain(machine, (map, range), change)?;
                Some(Quick::new(0, leaves_work))
            }
        }
    }

    fn allocate_quick(&mut self, map: MapId, args: &VmAllocate) -> Option<u64> {
        let flags = MapFlags::from_bits(args.flags).filter(|flags| PLAIN.contains(*flags))?;
        let size = round_page(args.size).filter(|size| *size != 0)?;
        let place = Place::asked(args.address, size, flags);
        self.allocate_plain(map, place, tag_of(flags))
    }

    /// Whether anything is done the quick way: always, but in tests that compare the two or mix them.
    #[cfg(any(test, feature = "touched"))]
    pub(crate) const fn goes_quickly(&self) -> bool {
        !self.slowly
    }

    /// Whether anything is done the quick way: always, but in tests that compare the two or mix them.
    #[cfg(not(any(test, feature = "touched")))]
    #[inline(always)]
    #[expect(clippy::unused_self, reason = "in tests it depends")]
    pub(crate) const fn goes_quickly(&self) -> bool {
        true
    }

    /// Does everything the general way from now on, or not. For tests that mix the two.
    #[cfg(feature = "touched")]
    pub const fn go_slowly(&mut self, slowly: bool) {
        self.slowly = slowly;
    }
}

impl Map {
    /// Whether its calls find nothing out of the ordinary: nobody is at work on it, and what is mapped
    /// need not be wired, nor shows elsewhere.
    #[inline]
    pub(crate) const fn is_plain(&self) -> bool {
        !(self.dying || self.locked || self.wiring_required) && self.shared.is_none()
    }
}
