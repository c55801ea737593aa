//! Address maps: allocate, deallocate, protect, inherit, map, region, and what each refuses.

use guest_test::{Outcome, Supervisor, check, check_eq, touch};
use ipc::abi::layout::{PAGE_SIZE, USER_MAX, USER_MIN};
use ipc::abi::types::{Behavior, Inherit, MapFlags, Prot};
use ipc::mapping::Options;
use ipc::protocol::vm_map::{
    VmAllocate, VmBehaviorSet, VmInherit, VmMap, VmProtect, VmRegionReply,
};
use ipc::{Kern, Mapping, Passed, vm};

use crate::support::{filled, port, set_word, word};

const FIXED: MapFlags = MapFlags::empty();
/// A part of the map that nothing else uses.
const AREA: u64 = 0x4100_0000_0000;

fn region(address: u64) -> Result<VmRegionReply, Kern> {
    vm::own().region(address)
}

/// Whether something is mapped at an address.
fn is_mapped(address: u64) -> bool {
    region(address).is_ok_and(|region| region.address <= address)
}

pub(crate) fn allocated_memory_has_the_usual_attributes() -> Outcome {
    let memory = Mapping::allocate(3 * PAGE_SIZE)?;
    let region = region(memory.address())?;
    check!(region.address <= memory.address());
    check!(region.address + region.size >= memory.address() + 3 * PAGE_SIZE);
    check_eq!(region.protection, u32::from(Prot::DEFAULT.bits()));
    check_eq!(region.max_protection, u32::from(Prot::ALL.bits()));
    check_eq!(region.inheritance, Inherit::Copy as u32);
    check_eq!((region.external_pager, region.needs_copy), (false, false));
    check_eq!(region.user_wired_count, 0);
    Ok(())
}

pub(crate) fn a_size_of_nothing_allocates_nothing() -> Outcome {
    check_eq!(vm::own().allocate(0), Ok(0));
    check_eq!(vm::own().allocate_at(AREA, 0, FIXED), Ok(0));
    check!(!is_mapped(AREA));
    Ok(())
}

pub(crate) fn sizes_and_addresses_are_rounded_outwards() -> Outcome {
    let map = vm::own();
    check_eq!(map.allocate_at(AREA + 5, 1, FIXED), Ok(AREA));
    check!(is_mapped(AREA) && !is_mapped(AREA + PAGE_SIZE));
    map.deallocate(AREA + 17, 1)?;
    check!(!is_mapped(AREA));
    check_eq!(map.allocate_at(AREA, PAGE_SIZE + 1, FIXED), Ok(AREA));
    check!(is_mapped(AREA + PAGE_SIZE) && !is_mapped(AREA + 2 * PAGE_SIZE));
    // One byte on each side of a page's end is two pages.
    map.deallocate(AREA + PAGE_SIZE - 1, 2)?;
    check!(!is_mapped(AREA) && !is_mapped(AREA + PAGE_SIZE));
    Ok(())
}

pub(crate) fn a_size_that_overflows_is_an_invalid_argument() -> Outcome {
    let map = vm::own();
    let refused = Err(Kern::InvalidArgument);
    check_eq!(map.allocate(u64::MAX), refused);
    check_eq!(map.allocate_at(AREA, u64::MAX, FIXED), refused);
    check_eq!(map.allocate_at(AREA, u64::MAX - 4094, FIXED), refused);
    check_eq!(map.deallocate(AREA, u64::MAX), Err(Kern::InvalidArgument));
    check_eq!(
        map.protect(AREA, u64::MAX, Prot::READ),
        Err(Kern::InvalidArgument)
    );
    check_eq!(
        map.inherit(AREA, u64::MAX, Inherit::None),
        Err(Kern::InvalidArgument)
    );
    Ok(())
}

pub(crate) fn what_lies_outside_the_map_is_an_invalid_address() -> Outcome {
    let map = vm::own();
    let refused = Err(Kern::InvalidAddress);
    for address in [
        0,
        USER_MIN - PAGE_SIZE,
        USER_MAX,
        USER_MAX - PAGE_SIZE,
        1 << 63,
    ] {
        let said = map.allocate_at(address, 2 * PAGE_SIZE, FIXED);
        check_eq!((address, said), (address, refused));
    }
    let overflows = map.allocate_at(u64::MAX - PAGE_SIZE, 2 * PAGE_SIZE, FIXED);
    check_eq!(overflows, refused);
    Ok(())
}

pub(crate) fn more_than_there_is_room_for_is_no_space() -> Outcome {
    check_eq!(vm::own().allocate(USER_MAX), Err(Kern::NoSpace));
    check_eq!(vm::own().allocate(1 << 62), Err(Kern::NoSpace));
    Ok(())
}

pub(crate) fn a_place_that_is_taken_is_no_space() -> Outcome {
    let memory = filled(2, 7)?;
    let again = vm::own().allocate_at(memory.address() + PAGE_SIZE, PAGE_SIZE, FIXED);
    check_eq!(again, Err(Kern::NoSpace));
    let across = vm::own().allocate_at(memory.address() - PAGE_SIZE, 2 * PAGE_SIZE, FIXED);
    check_eq!(across, Err(Kern::NoSpace));
    check_eq!((word(&memory, 0)?, word(&memory, 1)?), (7, 8));
    Ok(())
}

pub(crate) fn overwriting_replaces_what_was_there() -> Outcome {
    let memory = filled(3, 7)?;
    let middle = memory.address() + PAGE_SIZE;
    vm::own().allocate_at(middle, PAGE_SIZE, MapFlags::OVERWRITE)?;
    check_eq!(word(&memory, 0)?, 7);
    check_eq!(word(&memory, 1)?, 0);
    check_eq!(word(&memory, 2)?, 9);
    Ok(())
}

pub(crate) fn unknown_flags_are_an_invalid_argument() -> Outcome {
    let map = vm::own();
    for flags in [0x100, 0x400, 0x8000, 0x10_0000, 1 << 23] {
        let request = VmAllocate {
            address: 0,
            size: PAGE_SIZE,
            flags: MapFlags::ANYWHERE.bits() | flags,
        };
        let said = map.call(&request).map(|reply| reply.address);
        check_eq!((flags, said), (flags, Err(Kern::InvalidArgument)));
    }
    Ok(())
}

pub(crate) fn the_user_tag_is_reported() -> Outcome {
    let tag = MapFlags::from_bits_truncate(0x5A << 24);
    let address = vm::own().allocate_at(AREA, PAGE_SIZE, tag)?;
    check_eq!(region(address)?.user_tag, 0x5A);
    vm::own().deallocate(address, PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn deallocated_memory_is_gone() -> Outcome {
    let supervisor = Supervisor::new()?;
    let memory = filled(4, 1)?;
    let middle = memory.address() + PAGE_SIZE;
    vm::own().deallocate(middle, 2 * PAGE_SIZE)?;
    check!(!is_mapped(middle) && !is_mapped(middle + PAGE_SIZE));
    check_eq!((word(&memory, 0)?, word(&memory, 3)?), (1, 4));
    let thread = supervisor.run(move || touch::read(middle))?;
    let _caught = supervisor.expect_access(Kern::InvalidAddress, middle)?;
    drop(thread);
    Ok(())
}

pub(crate) fn deallocating_passes_over_holes() -> Outcome {
    let map = vm::own();
    check_eq!(map.deallocate(AREA, 64 * PAGE_SIZE), Ok(()));
    for page in [0, 2, 5] {
        map.allocate_at(AREA + page * PAGE_SIZE, PAGE_SIZE, FIXED)?;
    }
    check_eq!(map.deallocate(AREA, 64 * PAGE_SIZE), Ok(()));
    check!(!is_mapped(AREA) && !is_mapped(AREA + 5 * PAGE_SIZE));
    check_eq!(map.deallocate(0, 0), Ok(()));
    check_eq!(map.deallocate(AREA, 0), Ok(()));
    Ok(())
}

pub(crate) fn protection_is_set_for_all_or_nothing() -> Outcome {
    let map = vm::own();
    map.allocate_at(AREA, PAGE_SIZE, FIXED)?;
    map.allocate_at(AREA + 2 * PAGE_SIZE, PAGE_SIZE, FIXED)?;
    let hole = map.protect(AREA, 3 * PAGE_SIZE, Prot::READ);
    check_eq!(hole, Err(Kern::InvalidAddress));
    check_eq!(region(AREA)?.protection, u32::from(Prot::DEFAULT.bits()));
    map.protect(AREA, PAGE_SIZE, Prot::READ)?;
    check_eq!(region(AREA)?.protection, u32::from(Prot::READ.bits()));
    map.deallocate(AREA, 3 * PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn protection_never_exceeds_its_maximum() -> Outcome {
    let memory = filled(1, 4)?;
    let (map, address) = (vm::own(), memory.address());
    map.protect_maximum(address, PAGE_SIZE, Prot::READ)?;
    let region = region(address)?;
    let read = u32::from(Prot::READ.bits());
    check_eq!((region.protection, region.max_protection), (read, read));
    check_eq!(
        map.protect(address, PAGE_SIZE, Prot::DEFAULT),
        Err(Kern::ProtectionFailure)
    );
    check_eq!(
        map.protect_maximum(address, PAGE_SIZE, Prot::ALL),
        Err(Kern::ProtectionFailure)
    );
    check_eq!(word(&memory, 0)?, 4);
    Ok(())
}

pub(crate) fn rights_that_are_taken_are_gone_at_once() -> Outcome {
    let supervisor = Supervisor::new()?;
    let memory = filled(8, 1)?;
    memory.protect(Prot::READ)?;
    for page in 0..8 {
        check_eq!(word(&memory, page)?, 1 + page);
        let place = memory.address() + page * PAGE_SIZE;
        // SAFETY: the memory is ours, and nothing refers to it.
        let thread = supervisor.run(move || unsafe { touch::write(place, 0) })?;
        let _caught = supervisor.expect_access(Kern::ProtectionFailure, place)?;
        drop(thread);
        check_eq!(word(&memory, page)?, 1 + page);
    }
    Ok(())
}

pub(crate) fn a_protection_that_is_none_is_an_invalid_argument() -> Outcome {
    let memory = Mapping::allocate(PAGE_SIZE)?;
    for protection in [8, 0x80, u32::MAX] {
        let said = vm::own().call(&VmProtect {
            address: memory.address(),
            size: PAGE_SIZE,
            set_maximum: false,
            protection,
        });
        check_eq!((protection, said), (protection, Err(Kern::InvalidArgument)));
    }
    check_eq!(vm::own().protect(0, 0, Prot::READ), Ok(()));
    Ok(())
}

pub(crate) fn inheritance_is_set_and_reported() -> Outcome {
    let memory = Mapping::allocate(2 * PAGE_SIZE)?;
    let (map, address) = (vm::own(), memory.address());
    for inherit in [Inherit::Share, Inherit::None, Inherit::Copy] {
        map.inherit(address, PAGE_SIZE, inherit)?;
        check_eq!(region(address)?.inheritance, inherit as u32);
    }
    for inheritance in [3, 4, u32::MAX] {
        let said = map.call(&VmInherit {
            address,
            size: PAGE_SIZE,
            inheritance,
        });
        check_eq!(
            (inheritance, said),
            (inheritance, Err(Kern::InvalidArgument))
        );
    }
    check_eq!(map.inherit(AREA, PAGE_SIZE, Inherit::None), Ok(()));
    Ok(())
}

pub(crate) fn behaviour_is_set_and_reported() -> Outcome {
    let memory = Mapping::allocate(PAGE_SIZE)?;
    let (map, address) = (vm::own(), memory.address());
    map.set_behavior(address, PAGE_SIZE, Behavior::Sequential)?;
    check_eq!(region(address)?.behavior, Behavior::Sequential as u32);
    let unknown = map.call(&VmBehaviorSet {
        address,
        size: PAGE_SIZE,
        behavior: 13,
    });
    check_eq!(unknown, Err(Kern::InvalidArgument));
    let hole = map.set_behavior(AREA, PAGE_SIZE, Behavior::Random);
    check_eq!(hole, Err(Kern::InvalidAddress));
    Ok(())
}

pub(crate) fn a_region_is_found_from_below() -> Outcome {
    let map = vm::own();
    map.allocate_at(AREA + 4 * PAGE_SIZE, PAGE_SIZE, FIXED)?;
    let found = region(AREA)?;
    check_eq!(
        (found.address, found.size),
        (AREA + 4 * PAGE_SIZE, PAGE_SIZE)
    );
    check_eq!(
        region(AREA + 4 * PAGE_SIZE + 9)?.address,
        AREA + 4 * PAGE_SIZE
    );
    map.deallocate(AREA + 4 * PAGE_SIZE, PAGE_SIZE)?;
    check_eq!(
        region(USER_MAX - PAGE_SIZE).err(),
        Some(Kern::InvalidAddress)
    );
    check_eq!(region(u64::MAX).err(), Some(Kern::InvalidAddress));
    Ok(())
}

pub(crate) fn memory_is_mapped_near_a_hint_and_under_a_mask() -> Outcome {
    let near = Options::new(PAGE_SIZE).near(AREA).map()?;
    check_eq!(near.address(), AREA);
    let next = Options::new(PAGE_SIZE).near(AREA).map()?;
    check_eq!(next.address(), AREA + PAGE_SIZE);
    let aligned = Options::new(PAGE_SIZE).near(AREA).mask(0xF_FFFF).map()?;
    check_eq!(aligned.address() & 0xF_FFFF, 0);
    let crooked = Options::new(PAGE_SIZE).at(AREA + 0x1_0000).mask(0xF_FFFF);
    check_eq!(crooked.map().err(), Some(Kern::NoSpace));
    Ok(())
}

pub(crate) fn malformed_mappings_are_refused() -> Outcome {
    let refused = Some(Kern::InvalidArgument);
    check_eq!(Options::new(0).map().err(), refused);
    check_eq!(Options::new(u64::MAX).map().err(), refused);
    let offset = Options::new(PAGE_SIZE).offset(1);
    check_eq!(offset.map().err(), refused);
    let offset = Options::new(PAGE_SIZE).offset(u64::MAX - 0xFFF);
    check_eq!(offset.map().err(), refused);
    let flags = Options::new(PAGE_SIZE).flags(MapFlags::from_bits_retain(0x100));
    check_eq!(flags.map().err(), refused);
    let too_much = Options::new(PAGE_SIZE).max_protection(Prot::READ);
    check_eq!(too_much.map().err(), refused);
    let below = Options::new(PAGE_SIZE).at(0);
    check_eq!(below.map().err(), Some(Kern::InvalidAddress));
    Ok(())
}

pub(crate) fn what_is_no_memory_object_is_not_mapped() -> Outcome {
    let map = vm::own();
    // The map itself is a port of the server, and no object.
    let itself = map.copy();
    let said = map.map(&VmMap::anywhere(PAGE_SIZE), itself);
    check_eq!(said, Err(Kern::InvalidArgument));
    let dies = port(0)?;
    let dead = dies.make_send()?;
    drop(dies);
    let said = map.map(&VmMap::anywhere(PAGE_SIZE), dead.copy());
    check_eq!(said, Err(Kern::InvalidArgument));
    let nothing = map.map(&VmMap::anywhere(PAGE_SIZE), Passed::NONE)?;
    check_eq!(touch::read(nothing), 0);
    map.deallocate(nothing, PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn a_mapping_of_another_task_is_its_own() -> Outcome {
    let assistant = guest_test::Assistant::start()?;
    let map = &assistant.started.map;
    let address = map.allocate(PAGE_SIZE)?;
    assistant.write(address, 31)?;
    check_eq!(assistant.read(address)?, 31);
    let theirs = map.region(address)?;
    check_eq!(theirs.protection, u32::from(Prot::DEFAULT.bits()));
    map.deallocate(address, PAGE_SIZE)?;
    Ok(())
}

pub(crate) fn a_large_range_costs_only_what_is_touched() -> Outcome {
    const SIZE: u64 = 1 << 40;
    let before = vm::own().statistics()?;
    let memory = Mapping::allocate(SIZE)?;
    for place in [0, SIZE / 3 / PAGE_SIZE, SIZE / PAGE_SIZE - 1] {
        set_word(&memory, place, place)?;
        check_eq!(word(&memory, place)?, place);
    }
    let after = vm::own().statistics()?;
    check!(after.zero_fills - before.zero_fills <= 8);
    Ok(())
}

pub(crate) fn nothing_is_left_of_what_was_given_back() -> Outcome {
    let round = || -> Outcome {
        for _ in 0..20 {
            drop(filled(16, 1)?);
        }
        Ok(())
    };
    round()?;
    let before = vm::own().statistics()?;
    round()?;
    let after = vm::own().statistics()?;
    check_eq!(after.objects, before.objects);
    check_eq!(after.entries, before.entries);
    Ok(())
}
