//! Memory servers below this one: frames for them, and frames that come back.
//!
//! A task becomes one when its map is given frames for the first time. The kernel ends it with its task,
//! and says so when nothing maps its frames any more; they are then taken back a block at a time, between
//! two messages.

use ipc::buffer::Body;
use ipc::trap;
use ipc_abi::Kern;
use ipc_abi::boot::FrameRange;
use ipc_abi::right::{NULL, Name};
use vm_core::event::{Event, MapId};

use crate::serve::Server;

/// Frames of a block, which the kernel gives as a whole or not at all.
const BLOCK: u32 = 512;
/// Most ranges that one trap writes.
const RANGES: usize = 64;

impl Server {
    /// Gives frames, which the core has given away, to the task of a map; gives its host memory port. What
    /// is not given comes back to the core.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE. KERN_INVALID_ARGUMENT: the task ends.
    pub(crate) fn give_frames(&mut self, map: MapId, first: u32, count: u32) -> Result<Name, Kern> {
        let end = first + count;
        let mut at = first;
        let result = self.server_of(map).and_then(|memory| {
            while at < end {
                let block = (BLOCK - at % BLOCK).min(end - at);
                self.give_block(memory, at, block)?;
                at += block;
            }
            Ok(memory)
        });
        if at < end {
            self.later.push(Event::AddFrames {
                first: at,
                count: end - at,
            });
        }
        result
    }

    fn give_block(&mut self, memory: Name, first: u32, count: u32) -> Result<(), Kern> {
        // SAFETY: the core has given the frames away, and nothing else of the server uses them.
        let give = |host| unsafe { trap::frame_give(host, memory, first, count) };
        match give(self.host_memory) {
            Err(Kern::ResourceShortage) => {
                self.kernel_is_short();
                give(self.host_memory)
            }
            result => result,
        }
    }

    /// The host memory port of the task of a map, which becomes a memory server if it is none.
    fn server_of(&mut self, map: MapId) -> Result<Name, Kern> {
        if let Some((_, name)) = self.below.iter().find(|(known, _)| *known == map) {
            return Ok(*name);
        }
        let room = self.below.try_reserve(1);
        room.map_err(|_| Kern::ResourceShortage)?;
        let space = self.hardware.spaces.get(map);
        if space == NULL {
            return Err(Kern::InvalidArgument);
        }
        let name = trap::owner_create(self.host_memory, space)?;
        self.below.push((map, name));
        Ok(name)
    }

    /// A map has ended: what its task had below this server ends by itself.
    pub(crate) fn forget_below(&mut self, map: MapId) {
        if let Some(index) = self.below.iter().position(|(known, _)| *known == map) {
            let (_, name) = self.below.swap_remove(index);
            let _ = trap::port_deallocate(name, 1);
        }
    }

    /// Takes back a block of what memory servers had that have ended; at last what the kernel was given
    /// and can do without. Nothing is pending: the lists of frames come in the buffer.
    pub(crate) fn collect(&mut self) {
        // SAFETY: nobody holds the body between two events.
        match unsafe { trap::owner_collect(self.host_memory) } {
            Ok((ranges, more)) => {
                self.collecting = more;
                self.take_in(ranges);
            }
            Err(_) => self.kernel_is_short(),
        }
        while !self.collecting {
            // SAFETY: as above.
            match unsafe { trap::frame_reclaim(self.host_memory, RANGES as u32) } {
                Ok(ranges) => self.take_in(ranges),
                Err(_) => return,
            }
        }
    }

    /// Hands the frames that a trap listed in the buffer to the core.
    fn take_in(&mut self, ranges: u64) {
        let mut words = [0; RANGES];
        let count = (ranges as usize).min(RANGES);
        let body = Body::borrow();
        for (word, bytes) in words.iter_mut().zip(body.chunks_exact(8)).take(count) {
            let mut raw = [0; 8];
            raw.copy_from_slice(bytes);
            *word = u64::from_le_bytes(raw);
        }
        drop(body);
        for word in &words[..count] {
            let range = FrameRange {
                first: *word as u32,
                count: (*word >> 32) as u32,
            };
            let event = Event::AddFrames {
                first: range.first,
                count: range.count,
            };
            if let Some(answer) = self.handle(event) {
                self.send_now(answer);
            }
        }
    }
}
