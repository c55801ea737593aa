//! What drivers and pagers ask of a map: device registers, memory that a device can reach, trays. And
//! the counters.

use ipc_abi::Kern;
use ipc_abi::boot::FrameRange;
use ipc_abi::layout::KERNEL_DEVICES;
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::vm_map::{
    self, DeviceMap, DeviceMapReply, DeviceMemoryAllocate, DeviceMemoryAllocateReply,
    PagerTrayCreate, PagerTrayCreateReply, VmStatisticsReply,
};

use super::vm_map::{MapCall, Outcome, done};
use crate::call::{Message, Reply};
use crate::event::{MapId, ObjectId, PortOf, PortRef};
use crate::frames::Class;
use crate::machine::Machine;
use crate::map::enter::Place;
use crate::map::entry::Entry;
use crate::object::page::{Flags, Frame, State};
use crate::object::{Kind, Object};
use crate::op::Progress;
use crate::range::{Span, bytes_of, is_aligned, page_of, round_page};
use crate::{Core, Turn};

/// Largest run of frames for a device, in pages.
const CONTIGUOUS_MAX: u64 = 1024;

impl Core {
    fn check_device(&self, right: PortRef) -> Result<(), Kern> {
        match (right, self.config.device) {
            (PortRef::Foreign(right), Some(device)) if right == device => Ok(()),
            _ => Err(Kern::InvalidHost),
        }
    }

    pub(super) fn device_map(&mut self, call: &MapCall, args: DeviceMap) -> Outcome {
        let [right, ..] = call.rights;
        self.check_device(right)?;
        let size = round_page(args.size).filter(|size| *size > 0);
        let size = size.ok_or(Kern::InvalidArgument)?;
        let end = args.physical.checked_add(size);
        let (Some(end), true) = (end, is_aligned(args.physical)) else {
            return Err(Kern::InvalidArgument);
        };
        let (first, last) = (page_of(args.physical), page_of(end));
        let last = u32::try_from(last).map_err(|_| Kern::InvalidArgument)?;
        let first = Frame(u32::try_from(first).map_err(|_| Kern::InvalidArgument)?);
        for number in first.0..last.min(self.pages.limit()) {
            let page = self.pages.get(Frame(number));
            if page.is_some_and(|page| page.state != State::Foreign) {
                return Err(Kern::NoAccess);
            }
        }
        let is_kernels = |kept: &FrameRange| {
            first.0 < kept.first.saturating_add(kept.count) && last > kept.first
        };
        if KERNEL_DEVICES.iter().any(is_kernels) {
            return Err(Kern::NoAccess);
        }
        let object = Object::new(Kind::Device { first }, size, Some(call.map));
        let object = self.object_insert(object)?;
        let range = self.device_enter(call.map, object, size)?;
        done(vm_map::Reply::DeviceMap(DeviceMapReply {
            address: range.start(),
        }))
    }

    pub(super) fn device_memory<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: DeviceMemoryAllocate,
    ) -> Outcome {
        let [right, ..] = call.rights;
        self.check_device(right)?;
        let size = round_page(args.size).filter(|size| *size > 0);
        let size = size.ok_or(Kern::InvalidArgument)?;
        if page_of(size) > CONTIGUOUS_MAX {
            return Err(Kern::ResourceShortage);
        }
        let count = page_of(size) as u32;
        let mut object = Object::new(Kind::Internal, size, Some(call.map));
        object.strategy = ipc_abi::types::CopyStrategy::None;
        let object = self.object_insert(object)?;
        let Some(first) = self.frames_contiguous(count, Class::Client) else {
            self.object_deallocate(object);
            return Err(Kern::ResourceShortage);
        };
        let mut added = Ok(());
        for index in 0..count {
            let frame = Frame(first.0.saturating_add(index));
            if added.is_ok() {
                turn.machine.zero(frame);
                added = self.object_add_page(object, u64::from(index), frame, Flags::DIRTY);
            }
            match (added, self.pages.get_mut(frame)) {
                (Ok(()), Some(page)) => page.wired = 1,
                _ => self.frame_free(frame),
            }
        }
        if let Err(code) = added {
            self.object_deallocate(object);
            return Err(code);
        }
        let range = self.device_enter(call.map, object, size)?;
        done(vm_map::Reply::DeviceMemoryAllocate(
            DeviceMemoryAllocateReply {
                address: range.start(),
                physical: bytes_of(u64::from(first.0)),
            },
        ))
    }

    /// Maps an object anywhere, read and write, never inherited. Takes over its reference.
    fn device_enter(&mut self, map: MapId, object: ObjectId, size: u64) -> Result<Span, Kern> {
        let entered = self
            .map_place(map, Place::anywhere(size))
            .and_then(|range| {
                self.map_enter(Entry {
                    object: Some(object),
                    max_protection: Prot::DEFAULT,
                    inheritance: Inherit::None,
                    ..Entry::anonymous(map, range.start(), range.end())
                })?;
                Ok(range)
            });
        if entered.is_err() {
            self.object_deallocate(object);
        }
        entered
    }

    pub(super) fn pager_tray_create<M: Machine>(
        &mut self,
        turn: &mut Turn<'_, M>,
        call: &MapCall,
        args: PagerTrayCreate,
    ) -> Outcome {
        let (tray, address) = self.tray_create(call.map, args.slots)?;
        // What fits one step is ready when the answer comes.
        self.tray_refill_step(turn);
        let slots = self.tray_slots(tray);
        let reply = PagerTrayCreateReply { address, slots };
        Ok(Progress::Done(Some(Ok(Reply {
            message: Message::Map(vm_map::Reply::PagerTrayCreate(reply)),
            right: Some(PortOf::Tray(tray)),
        }))))
    }

    pub(super) fn statistics(&self) -> VmStatisticsReply {
        let stats = &self.stats;
        VmStatisticsReply {
            faults: stats.faults,
            resident_hits: stats.resident_hits,
            zero_fills: stats.zero_fills,
            cow_breaks: stats.cow_breaks,
            copy_pushes: stats.copy_pushes,
            data_requests: stats.data_requests,
            page_ins: stats.page_ins,
            page_outs: stats.page_outs,
            pages_copied: stats.pages_copied,
            failures: stats.failures,
            collapses: stats.collapses,
            frames: u64::from(self.pages.total()),
            frames_free: u64::from(self.pages.free()),
            maps: u64::from(self.maps.len()),
            entries: u64::from(self.entries.len()),
            objects: u64::from(self.objects.len()),
            copies: u64::from(self.copies.len()),
            waiters: u64::from(self.waiters.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{NO_RIGHTS, RightId};
    use crate::sim::World;

    const DEVICE: RightId = RightId(7);

    fn device_map(world: &mut World, map: MapId, physical: u64, size: u64) -> Option<Kern> {
        let mut rights = NO_RIGHTS;
        rights[DeviceMap::DEVICE] = PortRef::Foreign(DEVICE);
        let request = vm_map::Request::DeviceMap(DeviceMap { physical, size });
        world.call(map, request, rights).err()
    }

    #[test]
    fn registers_of_interrupt_controllers_and_memory_are_nobodys_to_map() {
        let mut world = World::with(crate::Config {
            reserve: 0,
            device: Some(DEVICE),
            ..crate::Config::for_frames(64)
        });
        let map = world.map();
        let objects = world.core.objects.len();
        for (physical, size) in [
            (0xFEE0_0000, 0x1000),
            (0xFEDF_F000, 0x2000),
            (0xFEEF_F000, 1),
            (0xFEC0_0000, 0x1000),
            (0xFE00_0000, 0x0100_0000),
            (0x1000, 0x1000),
        ] {
            let refused = device_map(&mut world, map, physical, size);
            assert_eq!(refused, Some(Kern::NoAccess), "{physical:#x}");
        }
        assert_eq!(world.core.objects.len(), objects);
        assert_eq!(world.core.entries.len(), 0);
        for (physical, size) in [(0xFEF0_0000, 0x1000), (0xFEBF_F000, 0x1000)] {
            assert_eq!(device_map(&mut world, map, physical, size), None);
        }
    }
}
