//! A mapped range as a value: it unmaps when dropped.
//!
//! [`Options`] says what to map and how, [`Mapping`] is what came of it. Its memory may be shared with
//! other tasks or brought by a pager, so it is read and written by copying, never through a
//! reference, except where the caller vouches for it ([`Mapping::bytes`]) or the access is atomic.
//! An access that the pager cannot serve is an exception of the thread, not undefined behaviour.

use crate::right::{Passed, SendRight};
use crate::vm;
use core::arch::asm;
use core::sync::atomic::AtomicU64;
use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::{Behavior, Inherit, MapFlags, Prot};
use ipc_protocol::copy::CopyObject;
use ipc_protocol::memory_entry::MemoryEntry;
use ipc_protocol::memory_object::MemoryObject;
use ipc_protocol::vm_map::{Map, VmMap};

/// What to map, and how. Without further words: anonymous memory, read and write, anywhere.
#[derive(Debug)]
#[must_use]
pub struct Options<'a> {
    request: VmMap,
    object: Passed<'a>,
}

impl<'a> Options<'a> {
    /// Anonymous memory of so many bytes.
    pub const fn new(size: u64) -> Options<'a> {
        Options {
            request: VmMap::anywhere(size),
            object: Passed::NONE,
        }
    }

    /// Maps a memory object: a file, for example.
    pub fn object(mut self, object: &'a SendRight<MemoryObject>) -> Options<'a> {
        self.object = object.copy();
        self
    }

    /// Maps a named entry.
    pub fn entry(mut self, entry: &'a SendRight<MemoryEntry>) -> Options<'a> {
        self.object = entry.copy();
        self
    }

    /// Maps a copy object.
    pub fn copy_object(mut self, copy: &'a SendRight<CopyObject>) -> Options<'a> {
        self.object = copy.copy();
        self
    }

    /// From this offset of the object on, in bytes.
    pub const fn offset(mut self, offset: u64) -> Options<'a> {
        self.request.offset = offset;
        self
    }

    /// A private copy of what the object holds now.
    pub const fn copied(mut self) -> Options<'a> {
        self.request.copy = true;
        self
    }

    /// Private on write, without a snapshot: pages not written may show later changes.
    pub const fn private(mut self) -> Options<'a> {
        self.request.flags |= MapFlags::PRIVATE.bits();
        self
    }

    /// With this protection.
    pub const fn protection(mut self, protection: Prot) -> Options<'a> {
        self.request.protection = protection.bits() as u32;
        self
    }

    /// With this maximum protection.
    pub const fn max_protection(mut self, maximum: Prot) -> Options<'a> {
        self.request.max_protection = maximum.bits() as u32;
        self
    }

    /// Readable and no more, now and ever.
    pub const fn read_only(self) -> Options<'a> {
        self.protection(Prot::READ).max_protection(Prot::READ)
    }

    /// With this inheritance.
    pub const fn inherit(mut self, inheritance: Inherit) -> Options<'a> {
        self.request.inheritance = inheritance as u32;
        self
    }

    /// At this address and nowhere else.
    pub const fn at(mut self, address: u64) -> Options<'a> {
        self.request.address = address;
        self.request.flags &= !MapFlags::ANYWHERE.bits();
        self
    }

    /// At the first free place from this address upwards.
    pub const fn near(mut self, address: u64) -> Options<'a> {
        self.request.address = address;
        self
    }

    /// At an address in which these bits are zero.
    pub const fn mask(mut self, mask: u64) -> Options<'a> {
        self.request.mask = mask;
        self
    }

    /// With further flags.
    pub const fn flags(mut self, flags: MapFlags) -> Options<'a> {
        self.request.flags |= flags.bits();
        self
    }

    /// Maps into this task.
    ///
    /// # Errors
    /// Those of [`VmMap`].
    pub fn map(self) -> Result<Mapping, Kern> {
        let size = self.request.size;
        let address = self.map_in(&vm::own())?;
        Ok(Mapping { address, size })
    }

    /// Maps into any map; gives the address.
    ///
    /// # Errors
    /// Those of [`VmMap`].
    pub fn map_in(self, map: &SendRight<Map>) -> Result<u64, Kern> {
        map.map(&self.request, self.object)
    }
}

/// A range of this task's memory. Dropped, it is unmapped.
#[derive(Debug, PartialEq, Eq)]
pub struct Mapping {
    address: u64,
    size: u64,
}

impl Mapping {
    /// Anonymous memory, which reads zero.
    ///
    /// # Errors
    /// Those of `vm_allocate`.
    pub fn allocate(size: u64) -> Result<Mapping, Kern> {
        let address = vm::own().allocate(size)?;
        Ok(Mapping { address, size })
    }

    /// Takes over a range that is mapped.
    ///
    /// # Safety
    /// The range must be mapped, and nobody else may unmap it or rely on it.
    #[must_use]
    pub const unsafe fn from_raw(address: u64, size: u64) -> Mapping {
        Mapping { address, size }
    }

    /// Gives up the value and leaves the range mapped.
    #[must_use]
    pub const fn into_raw(self) -> (u64, u64) {
        let range = (self.address, self.size);
        core::mem::forget(self);
        range
    }

    /// First address.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Bytes, as they were asked for.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The place of `length` bytes at `offset`.
    fn place(&self, offset: u64, length: u64) -> Result<*mut u8, Kern> {
        // The whole last page is mapped, and may be used.
        let mapped = self.size.next_multiple_of(PAGE_SIZE);
        match offset.checked_add(length) {
            Some(end) if end <= mapped => Ok((self.address + offset) as *mut u8),
            _ => Err(Kern::InvalidAddress),
        }
    }

    /// Copies bytes out of the range.
    ///
    /// # Errors
    /// KERN_INVALID_ADDRESS: not inside the range.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Kern> {
        let place = self.place(offset, into.len() as u64)?;
        // SAFETY: the place is mapped; `into` is ours.
        unsafe { copy_shared(into.as_mut_ptr(), place, into.len()) };
        Ok(())
    }

    /// Copies bytes into the range.
    ///
    /// # Errors
    /// KERN_INVALID_ADDRESS: not inside the range.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), Kern> {
        let place = self.place(offset, from.len() as u64)?;
        // SAFETY: the place is mapped, and no reference to it exists but atomic ones.
        unsafe { copy_shared(place, from.as_ptr(), from.len()) };
        Ok(())
    }

    /// A word of the range that other threads and tasks may use at the same time.
    ///
    /// # Errors
    /// KERN_INVALID_ADDRESS: not inside the range. KERN_INVALID_ARGUMENT: `offset` is no multiple of
    /// 8.
    pub fn atomic(&self, offset: u64) -> Result<&AtomicU64, Kern> {
        let place = self.place(offset, 8)?.cast::<u64>();
        if !place.is_aligned() {
            return Err(Kern::InvalidArgument);
        }
        // SAFETY: mapped as long as `self` lives, and aligned; all access is atomic or opaque.
        Ok(unsafe { AtomicU64::from_ptr(place) })
    }

    /// The bytes of the range.
    ///
    /// # Safety
    /// Nobody may change them while the reference lives: no other task, no pager, no `write`.
    #[must_use]
    pub const unsafe fn bytes(&self) -> &[u8] {
        if self.size == 0 {
            return &[];
        }
        // SAFETY: mapped as long as `self` lives; the caller answers for the rest.
        unsafe { core::slice::from_raw_parts(self.address as *const u8, self.size as usize) }
    }

    /// The bytes of the range, to change.
    ///
    /// # Safety
    /// Nobody else may read or change them while the reference lives.
    #[must_use]
    pub const unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        if self.size == 0 {
            return &mut [];
        }
        // SAFETY: as in `bytes`.
        unsafe { core::slice::from_raw_parts_mut(self.address as *mut u8, self.size as usize) }
    }

    /// Sets the protection of the whole range.
    ///
    /// # Errors
    /// Those of `vm_protect`.
    pub fn protect(&self, protection: Prot) -> Result<(), Kern> {
        vm::own().protect(self.address, self.size, protection)
    }

    /// Sets the inheritance of the whole range.
    ///
    /// # Errors
    /// Those of `vm_inherit`.
    pub fn inherit(&self, inheritance: Inherit) -> Result<(), Kern> {
        vm::own().inherit(self.address, self.size, inheritance)
    }

    /// Says how the range will be read.
    ///
    /// # Errors
    /// Those of `vm_behavior_set`.
    pub fn set_behavior(&self, behavior: Behavior) -> Result<(), Kern> {
        vm::own().set_behavior(self.address, self.size, behavior)
    }

    /// A copy object of the range.
    ///
    /// # Errors
    /// Those of `vm_copyin`.
    pub fn snapshot(&self) -> Result<SendRight<CopyObject>, Kern> {
        vm::own().copy_in(self.address, self.size, false)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let _ = vm::own().deallocate(self.address, self.size);
    }
}

/// Copies bytes of which one side may be used by others at the same time: the compiler sees only
/// that memory changes.
///
/// # Safety
/// Both ranges must be mapped, the destination for this purpose, and not overlap.
unsafe fn copy_shared(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: the caller's duty; DF is clear in Rust code.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {tail:e}",
            "rep movsb",
            tail = in(reg) length & 7,
            inout("rcx") length >> 3 => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
}
