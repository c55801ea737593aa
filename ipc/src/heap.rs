//! The heap of a task: `talc` over memory that `vm_allocate` brings as it is needed.
//!
//! [`crate::main!`] makes it the global allocator. Memory is asked for in growing pieces and never
//! given back: a piece that was never touched costs the server an entry and no page. Growing uses a
//! message in words alone, so that memory may be allocated while the IPC buffer is borrowed.

use crate::sync::RawLock;
use crate::trap;
use core::alloc::{GlobalAlloc, Layout};
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::message::{FOREVER, Info, option};
use ipc_abi::types::MapFlags;
use ipc_abi::{Kern, kern_return};
use ipc_protocol::Message;
use ipc_protocol::codec::{Payload, Words};
use ipc_protocol::define::get_reply;
use ipc_protocol::vm_map::VmAllocate;
use talc::TalcLock;
use talc::base::Talc;
use talc::base::binning::Binning;

/// Least bytes asked for at once.
const PIECE_MIN: u64 = 256 * 1024;
/// Most bytes asked for at once, unless more is needed.
const PIECE_MAX: u64 = 4 * 1024 * 1024;
/// What `talc` needs of a piece for itself, generously: the first one holds its table of sizes.
const OVERHEAD: u64 = 2 * PAGE_SIZE;

/// Brings memory from the VM server.
#[derive(Debug)]
struct Growing {
    /// Bytes that it has brought so far.
    brought: u64,
}

// SAFETY: asks the server and claims what it gave; allocates nothing itself.
unsafe impl talc::source::Source for Growing {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let needed = (layout.size() as u64)
            .checked_add(layout.align() as u64)
            .and_then(|bytes| bytes.checked_add(OVERHEAD))
            .and_then(|bytes| bytes.checked_next_multiple_of(PAGE_SIZE))
            .ok_or(())?;
        let size = needed.max(talc.source.brought.clamp(PIECE_MIN, PIECE_MAX));
        let address = allocate(size).map_err(drop)?;
        // SAFETY: fresh memory of this task that nobody else knows of, for ever.
        let end = unsafe { talc.claim(address as *mut u8, size as usize) };
        talc.source.brought = talc.source.brought.saturating_add(size);
        end.map(drop).ok_or(())
    }
}

/// Allocates in the own map without using the IPC buffer, which may be borrowed.
fn allocate(size: u64) -> Result<u64, Kern> {
    let request = VmAllocate {
        address: 0,
        size,
        flags: MapFlags::ANYWHERE.bits(),
    };
    let mut words = Words::default();
    request.put(&mut words, &mut [])?;
    // SAFETY: request and answer travel in words: the server that everyone's memory depends on
    // does not answer this call with a body.
    let received = unsafe {
        trap::msg(&trap::Send {
            options: option::CALL,
            destination: crate::vm::own_name().into(),
            receive: 0,
            info: Info::short(VmAllocate::ID),
            send_deadline: FOREVER,
            receive_deadline: FOREVER,
            notify: 0,
            words,
        })
    };
    kern_return::from_raw(received.outcome.code())?;
    let reply = get_reply::<VmAllocate>(&received.words, &[], received.info.rights());
    reply.map(|reply| reply.address)
}

/// The global allocator of a task.
pub struct Heap {
    talc: TalcLock<RawLock, Growing>,
}

impl core::fmt::Debug for Heap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

impl Heap {
    /// An empty heap.
    #[must_use]
    pub const fn new() -> Heap {
        Heap {
            talc: TalcLock::new(Growing { brought: 0 }),
        }
    }
}

impl Default for Heap {
    fn default() -> Heap {
        Heap::new()
    }
}

// SAFETY: hands everything to `talc`, which keeps the contract.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of `talc`.
        unsafe { self.talc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.talc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.talc.realloc(pointer, layout, size) }
    }
}
