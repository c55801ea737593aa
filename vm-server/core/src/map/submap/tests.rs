//! Shared maps as several tasks see them: what is shared, what becomes one's own, and what never changes.

extern crate std;

mod windows;

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::{Inherit, MapFlags, Prot};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::vm_range;

use crate::call::Reply;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, Rights};
use crate::map::entry::Entry;
use crate::range::page_of;
use crate::sim::World;

pub(crate) const PAGE: u64 = PAGE_SIZE;
/// Where tasks show the shared map: its address 0.
pub(crate) const AT: u64 = 0x1000_0000;
/// Code, and data behind it, in the shared map: of four pages each.
pub(crate) const TEXT: u64 = 0;
pub(crate) const DATA: u64 = 4 * PAGE;
/// Memory that can never be written.
pub(crate) const CONST: u64 = 8 * PAGE;
pub(crate) const END: u64 = 12 * PAGE;

const READ: u32 = 1;
const BOTH: u32 = 3;
const CODE: u32 = 5;
const ALL: u32 = 7;
const FIXED: u32 = 0;
const OVERWRITE: u32 = MapFlags::OVERWRITE.bits();
const PERMANENT: u32 = MapFlags::PERMANENT.bits();

pub(crate) fn right(port: PortOf) -> Rights {
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Own(port);
    rights
}

pub(crate) fn allocate(
    world: &mut World,
    map: MapId,
    address: u64,
    flags: u32,
) -> Result<Reply, Kern> {
    let size = 4 * PAGE;
    let request = vm_map::VmAllocate {
        address,
        size,
        flags,
    };
    world.call(map, Request::VmAllocate(request), NO_RIGHTS)
}

pub(crate) fn protect(
    world: &mut World,
    map: MapId,
    (address, size): (u64, u64),
    protection: u32,
) -> Result<(), Kern> {
    let request = vm_map::VmProtect {
        address,
        size,
        set_maximum: false,
        protection,
    };
    let said = world.call(map, Request::VmProtect(request), NO_RIGHTS);
    said.map(|_| ())
}

fn set_maximum(world: &mut World, map: MapId, address: u64, protection: u32) {
    let request = vm_map::VmProtect {
        address,
        size: 4 * PAGE,
        set_maximum: true,
        protection,
    };
    let said = world.call(map, Request::VmProtect(request), NO_RIGHTS);
    assert!(said.is_ok(), "{said:?}");
}

/// A copy of a range.
fn copy_in(world: &mut World, map: MapId, address: u64, size: u64) -> Result<PortOf, Kern> {
    let request = vm_map::VmCopyin {
        address,
        size,
        src_destroy: false,
    };
    let said = world.call(map, Request::VmCopyin(request), NO_RIGHTS)?;
    Ok(said.right.unwrap())
}

/// Bytes of `from` over those of a map that no thread runs in.
pub(crate) fn put(
    world: &mut World,
    (map, address): (MapId, u64),
    from: MapId,
    bytes: &[u8],
) -> Result<(), Kern> {
    let scratch = world.allocate(from, bytes.len() as u64);
    world.write(from, scratch, bytes).unwrap();
    let size = bytes.len() as u64;
    let copy = copy_in(world, from, scratch, size).unwrap();
    let request = vm_map::VmWrite { address, size };
    let said = world.call(map, Request::VmWrite(request), right(copy));
    world.deallocate(from, scratch, size);
    world.event(Event::NoSenders {
        port: copy,
        made: 1,
    });
    said.map(|_| ())
}

pub(crate) fn create(world: &mut World, map: MapId, max: u64) -> MapId {
    let request = vm_range::Request::VmMapCreate(vm_range::VmMapCreate { min: 0, max });
    let said = world.call(map, Request::Range(request), NO_RIGHTS).unwrap();
    match said.right {
        Some(PortOf::Map(shared)) => shared,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn seal(world: &mut World, shared: MapId, protection: u32) -> Result<PortOf, Kern> {
    let request = vm_range::Request::VmMapSeal(vm_range::VmMapSeal { protection });
    let said = world.call(shared, Request::Range(request), NO_RIGHTS)?;
    Ok(said.right.unwrap())
}

/// A library: code, data and constants, each page's first byte its number.
pub(crate) fn library(world: &mut World, map: MapId) -> (MapId, PortOf) {
    let shared = create(world, map, END);
    for address in [TEXT, DATA] {
        assert!(allocate(world, shared, address, FIXED).is_ok());
    }
    assert!(allocate(world, shared, CONST, PERMANENT).is_ok());
    for area in [TEXT, DATA, CONST] {
        let mut bytes = [0; 4 * PAGE as usize];
        for (page, bytes) in bytes.chunks_mut(PAGE as usize).enumerate() {
            bytes[0] = page_of(area) as u8 + page as u8;
        }
        put(world, (shared, area), map, &bytes).unwrap();
    }
    protect(world, shared, (TEXT, 4 * PAGE), CODE).unwrap();
    set_maximum(world, shared, CONST, READ);
    let entry = seal(world, shared, ALL).unwrap();
    world.settle();
    (shared, entry)
}

/// Shows a window of the library where a task wants it.
pub(crate) fn show(
    world: &mut World,
    map: MapId,
    entry: PortOf,
    (offset, size): (u64, u64),
    copy: bool,
) -> Result<(), Kern> {
    let request = vm_map::VmMap {
        address: AT + offset,
        size,
        mask: 0,
        flags: FIXED,
        offset,
        copy,
        protection: ALL,
        max_protection: ALL,
        inheritance: 0,
    };
    let said = world.call(map, Request::VmMap(request), right(entry));
    said.map(|_| ())
}

pub(crate) fn byte(world: &mut World, map: MapId, address: u64) -> Result<u8, Kern> {
    let mut bytes = [0];
    match world.read(map, address, &mut bytes) {
        Ok(()) => Ok(bytes[0]),
        Err(code) => Err(code.unwrap()),
    }
}

pub(crate) fn set(world: &mut World, map: MapId, address: u64, value: u8) -> Result<(), Kern> {
    world
        .write(map, address, &[value])
        .map_err(|code| code.unwrap())
}

pub(crate) fn entry(world: &World, map: MapId, address: u64) -> Entry {
    *world.core.entry_at(map, page_of(address)).unwrap()
}

/// Two tasks that show all of a library, copy-on-write.
pub(crate) fn two() -> (World, MapId, MapId, MapId, PortOf) {
    let mut world = World::new(256);
    let (one, other) = (world.map(), world.map());
    let (shared, library) = library(&mut world, one);
    for map in [one, other] {
        show(&mut world, map, library, (0, END), true).unwrap();
    }
    (world, one, other, shared, library)
}

#[test]
fn what_is_shown_is_read_through_the_entry() {
    let (mut world, one, other, _, _) = two();
    for map in [one, other] {
        for page in 0..page_of(END) {
            assert_eq!(byte(&mut world, map, AT + page * PAGE), Ok(page as u8));
        }
        assert!(entry(&world, map, AT).submap.is_some());
        assert_eq!(byte(&mut world, map, AT + END), Err(Kern::InvalidAddress));
    }
}

#[test]
fn both_tasks_see_the_same_frames() {
    let (mut world, one, other, _, _) = two();
    for page in 0..page_of(END) {
        byte(&mut world, one, AT + page * PAGE).unwrap();
        byte(&mut world, other, AT + page * PAGE).unwrap();
        let frame = |map| world.core.would_grant(map, page_of(AT) + page).unwrap().0;
        assert_eq!(frame(one), frame(other));
    }
}

#[test]
fn a_write_makes_the_piece_one_tasks_own_and_nothing_else_changes() {
    let (mut world, one, other, shared, _) = two();
    for page in 0..4 {
        byte(&mut world, one, AT + DATA + page * PAGE).unwrap();
        byte(&mut world, other, AT + DATA + page * PAGE).unwrap();
    }
    set(&mut world, one, AT + DATA + PAGE, 77).unwrap();
    assert_eq!(byte(&mut world, one, AT + DATA + PAGE), Ok(77));
    assert_eq!(byte(&mut world, one, AT + DATA), Ok(4));
    assert_eq!(byte(&mut world, other, AT + DATA + PAGE), Ok(5));
    let piece = entry(&world, one, AT + DATA);
    assert_eq!((piece.start, piece.end), (AT + DATA, AT + CONST));
    assert!(piece.submap.is_none() && piece.object.is_some());
    assert!(!piece.protection.contains(Prot::EXECUTE), "rule 78");
    assert!(entry(&world, one, AT + TEXT).submap.is_some());
    assert!(entry(&world, other, AT + DATA).submap.is_some());
    let read = copy_in(&mut world, shared, DATA + PAGE, 1).unwrap();
    let copy = match read {
        PortOf::Copy(copy) => world.core.copies.get(copy).unwrap().map,
        other => panic!("{other:?}"),
    };
    assert_eq!(byte(&mut world, copy, 0), Ok(5));
}

#[test]
fn no_more_is_allowed_than_by_both_entries() {
    let (mut world, one, _, _, _) = two();
    let denied = Err(Kern::ProtectionFailure);
    assert_eq!(set(&mut world, one, AT + TEXT, 1), denied);
    assert_eq!(set(&mut world, one, AT + CONST, 1), denied);
    protect(&mut world, one, (AT, END), READ).unwrap();
    assert_eq!(set(&mut world, one, AT + DATA, 1), denied);
    assert_eq!(byte(&mut world, one, AT + DATA), Ok(4));
    assert!(entry(&world, one, AT + DATA).submap.is_some());
    protect(&mut world, one, (AT, END), BOTH).unwrap();
    assert_eq!(set(&mut world, one, AT + DATA, 1), Ok(()));
    assert_eq!(set(&mut world, one, AT + TEXT, 1), denied);
}

#[test]
fn protection_is_the_parents_entry_alone() {
    let (mut world, one, other, _, _) = two();
    byte(&mut world, one, AT + DATA).unwrap();
    byte(&mut world, other, AT + DATA).unwrap();
    protect(&mut world, one, (AT + DATA, PAGE), 0).unwrap();
    let denied = Err(Kern::ProtectionFailure);
    assert_eq!(byte(&mut world, one, AT + DATA), denied);
    assert_eq!(byte(&mut world, one, AT + DATA + PAGE), Ok(5));
    assert_eq!(byte(&mut world, other, AT + DATA), Ok(4));
}

#[test]
fn a_shown_map_that_is_not_copied_is_written_by_all() {
    let mut world = World::new(256);
    let (one, other) = (world.map(), world.map());
    let (_, library) = library(&mut world, one);
    for map in [one, other] {
        show(&mut world, map, library, (DATA, 4 * PAGE), false).unwrap();
    }
    byte(&mut world, other, AT + DATA).unwrap();
    set(&mut world, one, AT + DATA, 99).unwrap();
    assert_eq!(byte(&mut world, other, AT + DATA), Ok(99));
    set(&mut world, other, AT + DATA, 98).unwrap();
    assert_eq!(byte(&mut world, one, AT + DATA), Ok(98));
    assert!(entry(&world, one, AT + DATA).submap.is_some());
}

#[test]
fn a_copy_of_what_is_written_through_a_shared_window_stays_what_it_was() {
    let mut world = World::new(256);
    let (one, other) = (world.map(), world.map());
    let (shared, library) = library(&mut world, one);
    for map in [one, other] {
        show(&mut world, map, library, (DATA, 4 * PAGE), false).unwrap();
        set(&mut world, map, AT + DATA, 60).unwrap();
    }
    // From a task's view, and from the sealed map itself.
    for (map, address) in [(one, AT + DATA), (shared, DATA)] {
        let copy = copy_in(&mut world, map, address, 2 * PAGE).unwrap();
        set(&mut world, other, AT + DATA, 61).unwrap();
        let at = world.map();
        let flags = MapFlags::ANYWHERE.bits();
        let request = Request::VmCopyout(vm_map::VmCopyout { address: 0, flags });
        let said = world.call(at, request, right(copy)).unwrap();
        let crate::call::Message::Map(vm_map::Reply::VmCopyout(reply)) = said.message else {
            panic!("{said:?}");
        };
        assert_eq!(byte(&mut world, at, reply.address), Ok(60));
        assert_eq!(byte(&mut world, at, reply.address + PAGE), Ok(5));
        set(&mut world, one, AT + DATA, 60).unwrap();
    }
    assert!(entry(&world, one, AT + DATA).submap.is_some());
}

#[test]
fn bytes_written_by_a_call_take_the_piece_out_too() {
    let (mut world, one, other, _, _) = two();
    put(
        &mut world,
        (one, AT + DATA + 5),
        one,
        &[70; 3 * PAGE as usize],
    )
    .unwrap();
    assert_eq!(byte(&mut world, one, AT + DATA), Ok(4));
    assert_eq!(byte(&mut world, one, AT + DATA + 5), Ok(70));
    assert_eq!(byte(&mut world, one, AT + DATA + 3 * PAGE + 4), Ok(70));
    assert_eq!(byte(&mut world, other, AT + DATA + 5), Ok(0));
    let piece = entry(&world, one, AT + DATA);
    assert!(piece.submap.is_none() && !piece.protection.contains(Prot::EXECUTE));
}

#[test]
fn bytes_are_written_nowhere_if_one_page_of_the_range_forbids_it() {
    let (mut world, one, _, _, _) = two();
    for (address, size) in [(AT + DATA, 5 * PAGE), (AT + CONST, 1), (AT + TEXT, 1)] {
        let bytes = std::vec![70; size as usize];
        let said = put(&mut world, (one, address), one, &bytes);
        assert_eq!(said, Err(Kern::ProtectionFailure));
    }
    let beyond = put(&mut world, (one, AT + END - 1), one, &[70; 2]);
    assert_eq!(
        beyond,
        Err(Kern::ProtectionFailure),
        "the first that fails decides"
    );
    assert_eq!(byte(&mut world, one, AT + DATA), Ok(4));
    assert!(entry(&world, one, AT + DATA).submap.is_some());
}

#[test]
fn a_child_is_shown_what_is_inherited_shared_and_keeps_pieces_apart() {
    let (mut world, one, _, _, _) = two();
    set(&mut world, one, AT + DATA, 50).unwrap();
    let request = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    let Some(PortOf::Map(child)) = world.call(one, request, NO_RIGHTS).unwrap().right else {
        panic!("no child");
    };
    assert!(entry(&world, child, AT + TEXT).submap.is_some());
    assert_eq!(byte(&mut world, child, AT + TEXT), Ok(0));
    assert_eq!(byte(&mut world, child, AT + DATA), Ok(50));
    set(&mut world, child, AT + DATA, 51).unwrap();
    assert_eq!(byte(&mut world, one, AT + DATA), Ok(50));
    // Of what is shown, only sharing can be inherited, and none.
    let inherit = |inheritance| {
        Request::VmInherit(vm_map::VmInherit {
            address: AT,
            size: END,
            inheritance,
        })
    };
    let copied = world.call(one, inherit(Inherit::Copy as u32), NO_RIGHTS);
    assert_eq!(copied.err(), Some(Kern::InvalidArgument));
    assert_eq!(entry(&world, one, AT + DATA).inheritance, Inherit::Copy);
    assert_eq!(entry(&world, one, AT + TEXT).inheritance, Inherit::Share);
    assert!(
        world
            .call(one, inherit(Inherit::None as u32), NO_RIGHTS)
            .is_ok()
    );
}

#[test]
fn permanent_pages_of_a_shown_map_are_not_removed_from_under_it() {
    let (mut world, one, _, _, _) = two();
    let deallocate = |address, size| Request::VmDeallocate(vm_map::VmDeallocate { address, size });
    let refused = Some(Kern::ProtectionFailure);
    let said = world.call(one, deallocate(AT, END), NO_RIGHTS);
    assert_eq!(said.err(), refused);
    let said = allocate(&mut world, one, AT + CONST, OVERWRITE);
    assert_eq!(said.err(), refused);
    assert_eq!(byte(&mut world, one, AT + CONST), Ok(8));
    assert!(entry(&world, one, AT + CONST).submap.is_some());
    assert!(world.call(one, deallocate(AT, CONST), NO_RIGHTS).is_ok());
    assert_eq!(byte(&mut world, one, AT + DATA), Err(Kern::InvalidAddress));
    assert_eq!(byte(&mut world, one, AT + CONST), Ok(8));
}

#[test]
fn a_sealed_map_refuses_every_change() {
    let (mut world, one, _, shared, _) = two();
    let refused = Some(Kern::NoAccess);
    for flags in [FIXED, OVERWRITE, MapFlags::ANYWHERE.bits()] {
        assert_eq!(allocate(&mut world, shared, DATA, flags).err(), refused);
    }
    let request = vm_map::VmDeallocate {
        address: DATA,
        size: PAGE,
    };
    let said = world.call(shared, Request::VmDeallocate(request), NO_RIGHTS);
    assert_eq!(said.err(), refused);
    assert_eq!(
        protect(&mut world, shared, (DATA, PAGE), READ).err(),
        refused
    );
    assert_eq!(put(&mut world, (shared, DATA), one, &[1]).err(), refused);
}

#[test]
fn a_map_lives_as_long_as_it_is_shown_or_named() {
    let (mut world, one, other, shared, library) = two();
    world.event(Event::NoSenders {
        port: PortOf::Map(shared),
        made: 1,
    });
    world.event(Event::NoSenders {
        port: library,
        made: 1,
    });
    world.settle();
    assert_eq!(byte(&mut world, one, AT + DATA), Ok(4));
    set(&mut world, one, AT + DATA, 9).unwrap();
    world.event(Event::TaskEnded(other));
    world.settle();
    assert_eq!(byte(&mut world, one, AT + TEXT), Ok(0));
    world.event(Event::TaskEnded(one));
    world.settle();
    let census = world.core.census();
    assert!(census.is_empty(), "{census:?}");
    assert_eq!(census.frames, census.free);
}

#[test]
fn a_sealed_map_has_so_many_names_and_no_more() {
    let mut world = World::new(256);
    let map = world.map();
    let (shared, first) = library(&mut world, map);
    for _ in 2..super::NAMES {
        seal(&mut world, shared, READ).unwrap();
    }
    let short = Some(Kern::ResourceShortage);
    assert_eq!(seal(&mut world, shared, READ).err(), short);
    world.event(Event::NoSenders {
        port: first,
        made: 1,
    });
    assert!(seal(&mut world, shared, READ).is_ok());
}

#[test]
fn maps_show_maps_to_a_bounded_depth() {
    let mut world = World::new(256);
    let map = world.map();
    let (_, mut entry) = library(&mut world, map);
    for depth in 1..=super::LEVELS {
        let outer = create(&mut world, map, END + AT);
        show(&mut world, outer, entry, (0, END), true).unwrap();
        // Moved back, so that addresses stay the same.
        let sealed = seal(&mut world, outer, ALL);
        if depth == super::LEVELS {
            assert_eq!(sealed.err(), Some(Kern::InvalidArgument));
            break;
        }
        entry = sealed.unwrap();
        let task = world.map();
        let request = vm_map::VmMap {
            address: 0x4000_0000,
            size: END,
            mask: 0,
            flags: FIXED,
            offset: AT,
            copy: true,
            protection: ALL,
            max_protection: ALL,
            inheritance: 0,
        };
        world
            .call(task, Request::VmMap(request), right(entry))
            .unwrap();
        assert_eq!(byte(&mut world, task, 0x4000_0000 + DATA), Ok(4));
        set(&mut world, task, 0x4000_0000 + DATA, 33).unwrap();
        assert_eq!(byte(&mut world, task, 0x4000_0000 + DATA), Ok(33));
        // The next one shows this one where it shows the library.
        let next = create(&mut world, map, END + AT);
        let request = vm_map::VmMap {
            address: 0,
            ..request
        };
        world
            .call(next, Request::VmMap(request), right(entry))
            .unwrap();
        entry = match seal(&mut world, next, ALL) {
            Ok(entry) => entry,
            Err(code) => {
                assert_eq!((code, depth), (Kern::InvalidArgument, 4));
                return;
            }
        };
    }
}

pub(crate) fn reserve(world: &mut World, map: MapId, ranges: &[(u64, u64)]) -> Result<(), Kern> {
    let mut request = vm_range::MachVmRangeCreate {
        flavor: vm_range::MACH_VM_RANGE_FLAVOR_V1,
        count: ranges.len() as u32,
        starts: [0; vm_range::RANGES_MAX],
        sizes: [0; vm_range::RANGES_MAX],
    };
    for (place, (start, size)) in ranges.iter().enumerate() {
        request.starts[place] = *start;
        request.sizes[place] = *size;
    }
    let request = vm_range::Request::MachVmRangeCreate(request);
    let said = world.call(map, Request::Range(request), NO_RIGHTS);
    said.map(|_| ())
}
