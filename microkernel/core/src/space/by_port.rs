//! From a port to its name: linear hashing, in chains through the entries.
//!
//! One bucket is split, or put back, at a time, so that a name more or less is bounded work.

use super::{CHUNK, CHUNK_MASK, CHUNK_SHIFT, Holds, NONE, Names, name_of};
use crate::{port::PortId, slab::fit};
use alloc::vec::Vec;
use ipc_abi::{Kern, right::Name};

impl Names {
    /// The name under which this task holds receive or send rights of `port`.
    pub(crate) fn find(&self, port: PortId) -> Option<Name> {
        let mut index = self.bucket(self.bucket_of(port));
        while let Some(entry) = self.entry(index) {
            if matches!(entry.holds, Holds::Port { port: held, .. } if held == port) {
                return Some(name_of(index, entry));
            }
            index = entry.next;
        }
        None
    }

    /// Puts an entry into the bucket of its port; gives the one that it is to have next.
    pub(super) fn chain(&mut self, index: u32, port: PortId) -> u32 {
        self.hashed = self.hashed.saturating_add(1);
        if self.hashed > self.bucket_count {
            self.split();
        }
        let head = self.bucket_mut(self.bucket_of(port));
        head.map_or(NONE, |head| core::mem::replace(head, index))
    }

    /// Takes an entry, which had this one next, out of the bucket of its port.
    pub(super) fn unchain(&mut self, index: u32, after: u32, port: PortId) {
        self.hashed = self.hashed.saturating_sub(1);
        let Some(head) = self.bucket_mut(self.bucket_of(port)) else {
            return;
        };
        let mut at = *head;
        if at == index {
            *head = after;
        } else {
            while let Some(entry) = self.entry_mut(at) {
                at = entry.next;
                if at == index {
                    entry.next = after;
                    break;
                }
            }
        }
        if self.bucket_count > self.hashed.saturating_add(CHUNK as u32) {
            self.merge();
        }
    }

    /// Puts the entries of the last bucket back into the one that it was split from.
    #[cold]
    #[inline(never)]
    fn merge(&mut self) {
        let last = self.bucket_count.saturating_sub(1);
        let index = self.empty_bucket(last);
        self.set_bucket_count(last);
        self.distribute(index);
        if last & CHUNK_MASK == 0 {
            self.buckets.pop();
            fit(&mut self.buckets, 0);
        }
    }

    /// Splits a bucket into itself and a new one. Without memory for another the chains get longer, no more.
    #[cold]
    #[inline(never)]
    fn split(&mut self) {
        if self.add_bucket().is_err() {
            return;
        }
        let newest = self.bucket_count.saturating_sub(1);
        let half = newest.checked_ilog2().map_or(0, |bits| 1 << bits);
        let index = self.empty_bucket(newest.saturating_sub(half));
        self.distribute(index);
    }

    /// Puts each entry of a chain, which was a bucket's, into the bucket of its port.
    fn distribute(&mut self, mut index: u32) {
        while let Some(entry) = self.entry(index) {
            let (holds, next) = (entry.holds, entry.next);
            if let Holds::Port { port, .. } = holds {
                let head = self.bucket_mut(self.bucket_of(port));
                let after = head.map_or(NONE, |head| core::mem::replace(head, index));
                if let Some(entry) = self.entry_mut(index) {
                    entry.next = after;
                }
            }
            index = next;
        }
    }

    /// Makes room for one more chain.
    ///
    /// # Errors
    /// KERN_RESOURCE_SHORTAGE.
    pub(super) fn add_bucket(&mut self) -> Result<(), Kern> {
        if self.frozen {
            return Err(Kern::ResourceShortage);
        }
        if self.bucket_count & CHUNK_MASK == 0 {
            let mut chunk = Vec::new();
            let room = chunk.try_reserve_exact(CHUNK);
            room.map_err(|_| Kern::ResourceShortage)?;
            let room = self.buckets.try_reserve(1);
            room.map_err(|_| Kern::ResourceShortage)?;
            chunk.resize(CHUNK, NONE);
            self.buckets.push(chunk);
        }
        self.set_bucket_count(self.bucket_count.saturating_add(1));
        Ok(())
    }

    fn set_bucket_count(&mut self, count: u32) {
        self.bucket_count = count;
        let large = count.checked_next_power_of_two().unwrap_or(1);
        self.mask = large.saturating_sub(1);
    }

    fn bucket_of(&self, port: PortId) -> u32 {
        let mixed = port.index().wrapping_mul(0x9E37_79B1);
        let hash = mixed ^ mixed >> 16;
        let bucket = hash & self.mask;
        if bucket < self.bucket_count {
            bucket
        } else {
            hash & self.mask >> 1
        }
    }

    fn bucket(&self, bucket: u32) -> u32 {
        let chunk = self.buckets.get((bucket >> CHUNK_SHIFT) as usize);
        let head = chunk.and_then(|chunk| chunk.get((bucket & CHUNK_MASK) as usize));
        head.copied().unwrap_or(NONE)
    }

    fn bucket_mut(&mut self, bucket: u32) -> Option<&mut u32> {
        let chunk = self.buckets.get_mut((bucket >> CHUNK_SHIFT) as usize)?;
        chunk.get_mut((bucket & CHUNK_MASK) as usize)
    }

    /// Takes the chain of a bucket out of it.
    fn empty_bucket(&mut self, bucket: u32) -> u32 {
        let head = self.bucket_mut(bucket);
        head.map_or(NONE, |head| core::mem::replace(head, NONE))
    }
}
