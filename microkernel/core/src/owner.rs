//! Who owns each frame, and how many translations there are to it.
//!
//! A record is one word for each frame, in a table that the shell places at boot: the owner in the
//! high byte, the count below. Records change by compare-and-swap, so that page tables of different
//! spaces can be worked on without a common lock. The rules, which make it impossible for a memory
//! server to reach the kernel's memory or another server's (DESIGN 2, "Frames"):
//!
//! - a frame is entered only in a space of its owner ([`Owners::raise`]);
//! - a count goes down only after every processor has flushed (the shell calls [`Owners::lower`]
//!   when it discharges a shootdown);
//! - a frame changes owner only at count zero ([`Owners::transfer`]).
//!
//! What lies beyond the table, or in a hole of memory, is a device's: it can be entered uncached
//! unless the kernel uses the device itself. The physical window and the kernel's own mappings are
//! not counted: they follow ownership.

use core::sync::atomic::{AtomicU32, Ordering};

use heapless::Vec;
use ipc_abi::Kern;

use crate::addr::Frame;

/// Who a frame, or a space, belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerId(u8);

impl OwnerId {
    /// Nobody: memory that is left unused.
    pub const NONE: OwnerId = OwnerId(0);
    /// The kernel.
    pub const KERNEL: OwnerId = OwnerId(1);
    /// A device: no memory, or memory under DMA.
    pub const DEVICE: OwnerId = OwnerId(2);
    /// The VM server that the kernel starts.
    pub const FIRST_SERVER: OwnerId = OwnerId(3);

    /// The memory server of this index; `None`: there are not as many.
    pub(crate) fn server(index: usize) -> Option<OwnerId> {
        let raw = u8::try_from(index).ok()?;
        raw.checked_add(Self::FIRST_SERVER.0).map(OwnerId)
    }

    /// The index of a memory server.
    pub(crate) fn server_index(self) -> Option<usize> {
        self.0.checked_sub(Self::FIRST_SERVER.0).map(usize::from)
    }

    /// As a number: 0 nobody, 1 kernel, 2 device, 3 and more the memory servers.
    #[must_use]
    pub const fn raw(self) -> u8 {
        self.0
    }
}

/// Most ranges of device frames that the kernel keeps for itself.
pub const KERNEL_DEVICES: usize = 8;

const COUNT_BITS: u32 = 24;
/// Most translations that one frame can have.
pub const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;

/// The record of one frame. Starts as nobody's.
#[derive(Debug, Default)]
pub struct FrameRecord(AtomicU32);

impl FrameRecord {
    /// The record of a frame that belongs to nobody.
    #[must_use]
    pub const fn new() -> FrameRecord {
        FrameRecord(AtomicU32::new(0))
    }

    /// The record of a frame that is no memory.
    #[must_use]
    pub const fn device() -> FrameRecord {
        FrameRecord(AtomicU32::new(pack(OwnerId::DEVICE, 0)))
    }
}

const fn pack(owner: OwnerId, count: u32) -> u32 {
    (owner.0 as u32) << COUNT_BITS | count
}

const fn unpack(word: u32) -> (OwnerId, u32) {
    (OwnerId((word >> COUNT_BITS) as u8), word & COUNT_MAX)
}

/// The owner table.
#[derive(Debug)]
pub struct Owners<'a> {
    records: &'a [FrameRecord],
    kernel_devices: Vec<(u32, u32), KERNEL_DEVICES>,
}

impl<'a> Owners<'a> {
    /// A table over these records, one for each frame from 0.
    #[must_use]
    pub const fn new(records: &'a [FrameRecord]) -> Owners<'a> {
        Owners {
            records,
            kernel_devices: Vec::new(),
        }
    }

    /// Keeps `count` device frames from `first` (an interrupt controller) for the kernel; says
    /// whether there was room to note it.
    #[must_use]
    pub fn keep_device(&mut self, first: Frame, count: u32) -> bool {
        let end = first.number().saturating_add(count);
        self.kernel_devices.push((first.number(), end)).is_ok()
    }

    /// One past the highest frame that has a record.
    #[must_use]
    pub fn limit(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// Owner and translations of a frame; a frame without record is a device's.
    #[must_use]
    pub fn get(&self, frame: Frame) -> (OwnerId, u32) {
        match self.record(frame) {
            Some(record) => unpack(record.0.load(Ordering::Acquire)),
            None => (OwnerId::DEVICE, 0),
        }
    }

    /// Gives a frame to its first owner, while the kernel starts and nothing is mapped.
    pub fn place(&self, frame: Frame, owner: OwnerId) {
        if let Some(record) = self.record(frame) {
            record.0.store(pack(owner, 0), Ordering::Release);
        }
    }

    /// Whether a frame of memory belongs to this owner.
    #[inline(always)]
    pub(crate) fn is_own(&self, frame: Frame, owner: OwnerId) -> bool {
        let word = |record: &FrameRecord| record.0.load(Ordering::Acquire);
        let found = self.record(frame).map(word);
        found.is_some_and(|word| unpack(word).0 == owner)
    }

    /// Whether `frame` may be entered in a space of `space_owner`, cached or not; changes nothing.
    ///
    /// # Errors
    /// `KERN_NO_ACCESS`: it is somebody else's, or memory entered uncached, or a device entered
    /// cached, or a device of the kernel's.
    #[inline]
    pub fn check_enter(
        &self,
        frame: Frame,
        space_owner: OwnerId,
        uncached: bool,
    ) -> Result<(), Kern> {
        let owner = self.get(frame).0;
        if owner == space_owner && !uncached {
            return Ok(());
        }
        self.check_owner(owner, frame, space_owner, uncached)
    }

    /// Counts one translation more of a frame in a space of `space_owner`, before it is entered.
    ///
    /// # Errors
    /// `KERN_NO_ACCESS`: as [`Owners::check_enter`]. `KERN_RESOURCE_SHORTAGE`: the frame has
    /// [`COUNT_MAX`] translations.
    #[inline]
    pub fn raise(&self, frame: Frame, space_owner: OwnerId, uncached: bool) -> Result<(), Kern> {
        let Some(record) = self.record(frame) else {
            return self.check_owner(OwnerId::DEVICE, frame, space_owner, uncached);
        };
        let mut word = record.0.load(Ordering::Relaxed);
        loop {
            let (owner, count) = unpack(word);
            if owner != space_owner || uncached {
                self.check_owner(owner, frame, space_owner, uncached)?;
            }
            if count == COUNT_MAX {
                return Err(Kern::ResourceShortage);
            }
            // The count lies below the owner, and has room.
            let raised = word.wrapping_add(1);
            match record
                .0
                .compare_exchange_weak(word, raised, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(found) => word = found,
            }
        }
    }

    /// [`Owners::raise`] for a frame that belongs to the owner of the space, tried once; `false`: nothing
    /// has changed, and that decides.
    #[inline(always)]
    pub(crate) fn raise_own(&self, frame: Frame, owner: OwnerId) -> bool {
        let Some(record) = self.record(frame) else {
            return false;
        };
        let word = record.0.load(Ordering::Relaxed);
        let (found, count) = unpack(word);
        let raised = word.wrapping_add(1);
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        found == owner
            && count != COUNT_MAX
            && record
                .0
                .compare_exchange(word, raised, success, failure)
                .is_ok()
    }

    /// Counts one translation less, once no processor can use it. Says whether one was counted;
    /// `false` for a frame with a record is a bug of the kernel.
    pub fn lower(&self, frame: Frame) -> bool {
        let Some(record) = self.record(frame) else {
            return true;
        };
        record
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
                let (owner, count) = unpack(word);
                Some(pack(owner, count.checked_sub(1)?))
            })
            .is_ok()
    }

    /// Changes the owner of a frame that has no translation.
    ///
    /// # Errors
    /// `KERN_INVALID_ARGUMENT`: the frame has no record. `KERN_NO_ACCESS`: it is not `from`'s.
    /// `KERN_FAILURE`: it has translations.
    pub fn transfer(&self, frame: Frame, from: OwnerId, to: OwnerId) -> Result<(), Kern> {
        let record = self.record(frame).ok_or(Kern::InvalidArgument)?;
        record
            .0
            .compare_exchange(
                pack(from, 0),
                pack(to, 0),
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .map(|_| ())
            .map_err(|found| match unpack(found) {
                (owner, _) if owner != from => Kern::NoAccess,
                _ => Kern::Failure,
            })
    }

    /// Checks that [`Owners::transfer`] would take each of `count` frames from `first`.
    ///
    /// # Errors
    /// For the range as a whole `KERN_INVALID_ARGUMENT`: no frames, or frames without record; then
    /// for the first frame that is refused, `KERN_NO_ACCESS` or `KERN_FAILURE`.
    pub fn check_transfer(&self, first: u32, count: u32, from: OwnerId) -> Result<(), Kern> {
        let start = usize::try_from(first).map_err(|_| Kern::InvalidArgument)?;
        let length = usize::try_from(count).map_err(|_| Kern::InvalidArgument)?;
        let records = start
            .checked_add(length)
            .and_then(|end| self.records.get(start..end))
            .filter(|records| !records.is_empty())
            .ok_or(Kern::InvalidArgument)?;
        for record in records {
            match unpack(record.0.load(Ordering::Acquire)) {
                (owner, _) if owner != from => return Err(Kern::NoAccess),
                (_, 0) => {}
                _ => return Err(Kern::Failure),
            }
        }
        Ok(())
    }

    fn record(&self, frame: Frame) -> Option<&'a FrameRecord> {
        self.records.get(usize::try_from(frame.number()).ok()?)
    }

    #[cold]
    fn check_owner(
        &self,
        owner: OwnerId,
        frame: Frame,
        space_owner: OwnerId,
        uncached: bool,
    ) -> Result<(), Kern> {
        if owner == OwnerId::DEVICE {
            if uncached && !self.is_kernel_device(frame) {
                return Ok(());
            }
        } else if owner == space_owner && !uncached {
            return Ok(());
        }
        Err(Kern::NoAccess)
    }

    fn is_kernel_device(&self, frame: Frame) -> bool {
        self.kernel_devices
            .iter()
            .any(|&(first, end)| (first..end).contains(&frame.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: OwnerId = OwnerId::FIRST_SERVER;

    fn frame(number: u32) -> Frame {
        Frame::new(number).unwrap()
    }

    #[test]
    fn a_frame_is_entered_only_by_its_owner() {
        let records = [const { FrameRecord::new() }; 4];
        let owners = Owners::new(&records);
        owners.place(frame(1), SERVER);
        owners.place(frame(2), OwnerId::KERNEL);
        assert_eq!(owners.raise(frame(0), SERVER, false), Err(Kern::NoAccess));
        assert_eq!(owners.raise(frame(1), SERVER, false), Ok(()));
        assert_eq!(owners.raise(frame(1), SERVER, true), Err(Kern::NoAccess));
        assert_eq!(owners.raise(frame(2), SERVER, false), Err(Kern::NoAccess));
        assert_eq!(owners.get(frame(1)), (SERVER, 1));
        assert_eq!(owners.get(frame(2)), (OwnerId::KERNEL, 0));
    }

    #[test]
    fn a_mapped_frame_keeps_its_owner() {
        let records = [const { FrameRecord::new() }; 2];
        let owners = Owners::new(&records);
        owners.place(frame(1), SERVER);
        owners.raise(frame(1), SERVER, false).unwrap();
        assert_eq!(
            owners.transfer(frame(1), SERVER, OwnerId::KERNEL),
            Err(Kern::Failure)
        );
        assert_eq!(owners.check_transfer(1, 1, SERVER), Err(Kern::Failure));
        assert!(owners.lower(frame(1)));
        assert_eq!(owners.check_transfer(1, 1, SERVER), Ok(()));
        assert_eq!(owners.transfer(frame(1), SERVER, OwnerId::KERNEL), Ok(()));
        assert_eq!(
            owners.transfer(frame(1), SERVER, OwnerId::KERNEL),
            Err(Kern::NoAccess)
        );
    }

    #[test]
    fn ranges_that_are_empty_or_have_no_record_cannot_be_given() {
        let records = [const { FrameRecord::new() }; 2];
        let owners = Owners::new(&records);
        assert_eq!(
            owners.check_transfer(0, 0, OwnerId::NONE),
            Err(Kern::InvalidArgument)
        );
        assert_eq!(
            owners.check_transfer(1, 2, OwnerId::NONE),
            Err(Kern::InvalidArgument)
        );
        assert_eq!(
            owners.check_transfer(u32::MAX, u32::MAX, OwnerId::NONE),
            Err(Kern::InvalidArgument)
        );
        assert_eq!(owners.check_transfer(0, 2, SERVER), Err(Kern::NoAccess));
    }

    #[test]
    fn devices_are_entered_uncached_and_never_the_kernels_own() {
        let records = [const { FrameRecord::new() }; 2];
        let mut owners = Owners::new(&records);
        assert!(owners.keep_device(frame(0xFEE00), 1));
        assert_eq!(
            owners.raise(frame(0xFEE00), SERVER, true),
            Err(Kern::NoAccess)
        );
        assert_eq!(
            owners.raise(frame(0xFEB00), SERVER, false),
            Err(Kern::NoAccess)
        );
        assert_eq!(owners.raise(frame(0xFEB00), SERVER, true), Ok(()));
        assert!(owners.lower(frame(0xFEB00)));
        owners.place(frame(1), OwnerId::DEVICE);
        assert_eq!(owners.raise(frame(1), SERVER, true), Ok(()));
        assert_eq!(owners.get(frame(1)), (OwnerId::DEVICE, 1));
    }

    #[test]
    fn lowering_what_was_never_raised_is_seen() {
        let records = [const { FrameRecord::new() }; 1];
        let owners = Owners::new(&records);
        assert!(!owners.lower(frame(0)));
        assert_eq!(owners.get(frame(0)), (OwnerId::NONE, 0));
    }
}
