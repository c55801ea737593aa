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

    /// Lets an entry be found from its port.
    pub(super) fn chain(&mut self, index: u32, port: PortId) {
        self.hashed = self.hashed.saturating_add(1);
        // Without memory for another bucket the chains get longer, no more.
        if self.hashed > self.bucket_count && self.add_bucket().is_ok() {
            self.split();
        }
        self.put(index, port);
    }

    /// Takes an entry out of the chain of its port.
    pub(super) fn unchain(&mut self, index: u32, port: PortId) {
        self.hashed = self.hashed.saturating_sub(1);
        let after = self.entry(index).map_or(NONE, |entry| entry.next);
        let bucket = self.bucket_of(port);
        let mut at = self.bucket(bucket);
        if at == index {
            self.set_bucket(bucket, after);
            at = NONE;
        }
        while let Some(entry) = self.entry_mut(at) {
            at = entry.next;
            if at == index {
                entry.next = after;
                break;
            }
        }
        if self.bucket_count > self.hashed.saturating_add(CHUNK as u32) {
            self.merge();
        }
    }

    /// Puts the entries of the last bucket back into the one that it was split from.
    fn merge(&mut self) {
        let last = self.bucket_count.saturating_sub(1);
        let mut index = self.bucket(last);
        self.set_bucket(last, NONE);
        self.set_bucket_count(last);
        while let Some(entry) = self.entry(index) {
            let (holds, next) = (entry.holds, entry.next);
            if let Holds::Port { port, .. } = holds {
                self.put(index, port);
            }
            index = next;
        }
        if last & CHUNK_MASK == 0 {
            self.buckets.pop();
            fit(&mut self.buckets, 0);
        }
    }

    /// Puts an entry into the bucket of its port.
    fn put(&mut self, index: u32, port: PortId) {
        let bucket = self.bucket_of(port);
        let head = self.bucket(bucket);
        if let Some(entry) = self.entry_mut(index) {
            entry.next = head;
        }
        self.set_bucket(bucket, index);
    }

    /// Distributes the entries of the bucket that the newest one was split from.
    fn split(&mut self) {
        let newest = self.bucket_count.saturating_sub(1);
        let half = newest.checked_ilog2().map_or(0, |bits| 1 << bits);
        let old = newest.saturating_sub(half);
        let mut index = self.bucket(old);
        self.set_bucket(old, NONE);
        while let Some(entry) = self.entry(index) {
            let (holds, next) = (entry.holds, entry.next);
            if let Holds::Port { port, .. } = holds {
                self.put(index, port);
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

    fn set_bucket(&mut self, bucket: u32, index: u32) {
        let chunk = self.buckets.get_mut((bucket >> CHUNK_SHIFT) as usize);
        if let Some(head) = chunk.and_then(|chunk| chunk.get_mut((bucket & CHUNK_MASK) as usize)) {
            *head = index;
        }
    }
}
