//! Regions: shared maps that tasks show, permanent mappings, ranges set aside, and what vm_region says.

use core::sync::atomic::{AtomicU64, Ordering};

use guest_test::{Assistant, Outcome, check, check_eq};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::types::{Inherit, MapFlags, Prot};
use ipc::mapping::Options;
use ipc::protocol::memory_entry::MemoryEntry;
use ipc::protocol::vm_map::{
    MAP_MEM_VM_SHARE, Map, SM_COW, SM_EMPTY, SM_PRIVATE, VM_REGION_BASIC_INFO_64,
    VM_REGION_EXTENDED_INFO, VM_REGION_TOP_INFO,
};
use ipc::protocol::vm_range::VmMapSubmap;
use ipc::{Kern, Mapping, SendRight, task, vm};

use crate::support::{filled, set_word, word};

/// Where tasks show the library: each case at a place of its own, for what is permanent stays.
static NEXT: AtomicU64 = AtomicU64::new(0x4200_0000_0000);
/// Code, data, and data that is never written, of two pages each.
const TEXT: u64 = 0;
const DATA: u64 = 2 * PAGE_SIZE;
const CONST: u64 = 4 * PAGE_SIZE;
const END: u64 = 6 * PAGE_SIZE;

const FIXED: MapFlags = MapFlags::empty();
const RX: Prot = Prot::READ.union(Prot::EXECUTE);
const READ: u32 = Prot::READ.bits() as u32;

/// A part of the map that nothing else uses.
fn place() -> u64 {
    NEXT.fetch_add(1 << 30, Ordering::Relaxed)
}

/// A shared map, each page's first word its number.
fn library() -> Outcome<(SendRight<Map>, SendRight<MemoryEntry>)> {
    let map = vm::own().create_map(0, END)?;
    for (address, flags) in [(TEXT, FIXED), (DATA, FIXED), (CONST, MapFlags::PERMANENT)] {
        map.allocate_at(address, 2 * PAGE_SIZE, flags)?;
    }
    for page in 0..6u64 {
        map.write_bytes(page * PAGE_SIZE, &page.to_le_bytes())?;
    }
    map.protect(TEXT, 2 * PAGE_SIZE, RX)?;
    map.protect_maximum(CONST, 2 * PAGE_SIZE, Prot::READ)?;
    let entry = map.seal(Prot::ALL)?;
    Ok((map, entry))
}

/// How a task shows a window of it.
fn window(entry: &SendRight<MemoryEntry>, at: u64, (offset, size): (u64, u64)) -> Options<'_> {
    Options::new(size)
        .entry(entry)
        .at(at + offset)
        .offset(offset)
        .inherit(Inherit::Share)
}

/// This task's view of all of it, copy-on-write.
fn shown() -> Outcome<(Mapping, SendRight<MemoryEntry>)> {
    let (_, entry) = library()?;
    let view = window(&entry, place(), (0, END)).copied().map()?;
    Ok((view, entry))
}

/// Maps gone into to find what is at an address.
fn depth(address: u64) -> Result<u32, Kern> {
    Ok(vm::own().region_recurse(address, 8)?.depth)
}

pub(crate) fn tasks_share_a_library_and_keep_what_they_write() -> Outcome {
    let assistant = Assistant::start()?;
    let (view, entry) = shown()?;
    let at = view.address();
    window(&entry, at, (0, END))
        .copied()
        .map_in(&assistant.started.map)?;
    for page in 0..6 {
        check_eq!(word(&view, page)?, page);
        check_eq!(assistant.read(at + page * PAGE_SIZE)?, page);
    }
    assistant.write(at + DATA, 77)?;
    check_eq!(assistant.read(at + DATA)?, 77);
    check_eq!(word(&view, 2)?, 2);
    set_word(&view, 3, 88)?;
    check_eq!(assistant.read(at + DATA + PAGE_SIZE)?, 3);
    check_eq!((word(&view, 2)?, word(&view, 3)?), (2, 88));
    let piece = vm::own().region_recurse(at + DATA, 8)?;
    check_eq!((piece.depth, piece.region.is_submap), (0, false));
    check_eq!(
        (piece.region.address, piece.region.size),
        (at + DATA, CONST - DATA)
    );
    check_eq!(piece.region.protection & u32::from(Prot::EXECUTE.bits()), 0);
    check_eq!((depth(at + TEXT)?, depth(at + CONST)?), (1, 1));
    Ok(())
}

pub(crate) fn a_shared_window_is_written_by_all() -> Outcome {
    let assistant = Assistant::start()?;
    let (_, entry) = library()?;
    let at = place();
    let view = window(&entry, at, (DATA, 2 * PAGE_SIZE)).map()?;
    window(&entry, at, (DATA, 2 * PAGE_SIZE)).map_in(&assistant.started.map)?;
    check_eq!(assistant.read(at + DATA)?, 2);
    set_word(&view, 0, 20)?;
    check_eq!(assistant.read(at + DATA)?, 20);
    assistant.write(at + DATA, 21)?;
    check_eq!(word(&view, 0)?, 21);
    let region = vm::own().region_recurse(at + DATA, 1)?;
    check_eq!((region.depth, region.region.needs_copy), (1, false));
    Ok(())
}

pub(crate) fn a_library_outlives_its_port_and_its_entry() -> Outcome {
    let (view, entry) = shown()?;
    drop(entry);
    check_eq!(word(&view, 0)?, 0);
    set_word(&view, 2, 5)?;
    check_eq!((word(&view, 1)?, word(&view, 2)?), (1, 5));
    Ok(())
}

pub(crate) fn a_child_shows_what_its_parent_shows() -> Outcome {
    let (view, _) = shown()?;
    let at = view.address();
    set_word(&view, 2, 30)?;
    let child = vm::own().create_task(true)?;
    let region = child.map.region_recurse(at + TEXT, 8)?;
    check_eq!((region.depth, region.region.address), (1, at + TEXT));
    check_eq!(child.map.region_recurse(at + DATA, 8)?.depth, 0);
    child.map.write_bytes(at + DATA, &31u64.to_le_bytes())?;
    check_eq!(word(&view, 2)?, 30);
    // Of what is shown, a child can only have the same.
    let copied = vm::own().inherit(at, END, Inherit::Copy);
    check_eq!(copied, Err(Kern::InvalidArgument));
    vm::own().inherit(at, END, Inherit::None)?;
    let without = vm::own().create_task(true)?;
    let gone = without.map.region_recurse(at, 8);
    check!(gone.is_ok_and(|region| region.region.address >= at + END) || gone.is_err());
    task::terminate(&without.task, 0)?;
    task::terminate(&child.task, 0)?;
    Ok(())
}

pub(crate) fn a_library_gives_nobody_more_than_it_allows() -> Outcome {
    let (_, entry) = library()?;
    let (map, read_only) = {
        let map = vm::own().create_map(0, PAGE_SIZE)?;
        map.allocate_at(0, PAGE_SIZE, FIXED)?;
        let entry = map.seal(Prot::READ)?;
        (map, entry)
    };
    let more = Options::new(PAGE_SIZE).entry(&read_only).map();
    check_eq!(more.err(), Some(Kern::InvalidRight));
    let beyond = window(&entry, place(), (DATA, END)).map();
    check_eq!(beyond.err(), Some(Kern::InvalidArgument));
    // Sealed is sealed, and a task's map cannot be.
    let refused = Some(Kern::NoAccess);
    check_eq!(map.allocate(PAGE_SIZE).err(), refused);
    check_eq!(map.deallocate(0, PAGE_SIZE).err(), refused);
    check_eq!(map.protect(0, PAGE_SIZE, Prot::READ).err(), refused);
    check_eq!(map.write_bytes(0, &[1; 8]).err(), refused);
    check_eq!(vm::own().seal(Prot::ALL).err(), Some(Kern::InvalidArgument));
    for (min, max) in [(0, 0), (1, PAGE_SIZE), (0, 1), (PAGE_SIZE, 0), (0, 1 << 63)] {
        let refused = vm::own().create_map(min, max).err();
        check_eq!((min, max, refused), (min, max, Some(Kern::InvalidArgument)));
    }
    Ok(())
}

/// C0227, C0230, C0232, C0234.
pub(crate) fn read_only_pages_of_a_library_are_never_written() -> Outcome {
    let map = vm::own();
    let (view, _) = shown()?;
    let at = view.address() + CONST;
    let overwrite = map.allocate_at(at, PAGE_SIZE, MapFlags::OVERWRITE);
    check_eq!(overwrite.err(), Some(Kern::ProtectionFailure));
    check_eq!(depth(at)?, 1);
    let denied = Err(Kern::ProtectionFailure);
    check_eq!(map.deallocate(at, PAGE_SIZE), denied);
    check_eq!(map.write_bytes(at, &[1]), denied);
    check_eq!(map.protect_copy(at, 2 * PAGE_SIZE, Prot::DEFAULT), denied);
    check_eq!((depth(at)?, word(&view, 4)?), (0, 4));
    check_eq!(map.region(at)?.max_protection, READ);
    check_eq!(map.write_bytes(at, &[1]), denied);
    let again = map.protect_copy(at, 2 * PAGE_SIZE, Prot::DEFAULT);
    check_eq!(again, Err(Kern::NoSpace));
    let overwrite = map.allocate_at(at, PAGE_SIZE, MapFlags::OVERWRITE);
    check_eq!(overwrite.err(), Some(Kern::NoSpace));
    check_eq!(map.region(at)?.max_protection, 0);
    Ok(())
}

/// C0385.
pub(crate) fn a_page_of_a_library_can_be_named() -> Outcome {
    let (view, _) = shown()?;
    let at = view.address();
    let permission = READ | MAP_MEM_VM_SHARE;
    let (entry, size) = vm::own().memory_entry(PAGE_SIZE, at + DATA, permission, None)?;
    check_eq!((size, depth(at + DATA)?), (PAGE_SIZE, 1));
    let same = Options::new(PAGE_SIZE).entry(&entry).read_only().map()?;
    check_eq!((word(&same, 0)?, word(&view, 2)?), (2, 2));
    Ok(())
}

pub(crate) fn bytes_of_a_library_are_copied_and_written_by_calls() -> Outcome {
    let map = vm::own();
    let (view, _) = shown()?;
    let at = view.address();
    let copy = map.copy_in(at, END, false)?;
    let landed = map.copy_out(&copy, None)?;
    check_eq!(map.copy_range(at + TEXT, PAGE_SIZE, at + DATA), Ok(()));
    check_eq!((word(&view, 2)?, word(&view, 3)?), (0, 3));
    check_eq!((depth(at + DATA)?, depth(at + TEXT)?), (0, 1));
    let denied = map.copy_range(at + DATA, PAGE_SIZE, at + TEXT);
    check_eq!(denied, Err(Kern::ProtectionFailure));
    for page in 0..6 {
        let value = guest_test::touch::read(landed + page * PAGE_SIZE);
        check_eq!(value, page);
    }
    map.deallocate(landed, END)?;
    Ok(())
}

pub(crate) fn a_permanent_mapping_stays() -> Outcome {
    let map = vm::own();
    let at = place();
    map.allocate_at(at, 2 * PAGE_SIZE, MapFlags::PERMANENT)?;
    map.write_bytes(at, &[7])?;
    let overwrite = map.allocate_at(at, PAGE_SIZE, MapFlags::OVERWRITE);
    check_eq!(overwrite.err(), Some(Kern::NoSpace));
    check_eq!(map.region(at)?.max_protection, 0);
    check_eq!(map.region(at + PAGE_SIZE)?.protection, 3);
    // C0224.
    let copied = map.protect_copy(at + PAGE_SIZE, PAGE_SIZE, Prot::DEFAULT);
    check_eq!(copied, Err(Kern::NoSpace));
    map.deallocate(at, 2 * PAGE_SIZE)?;
    let region = map.region(at)?;
    check_eq!((region.address, region.protection), (at, 0));
    Ok(())
}

pub(crate) fn a_range_made_ones_own_can_get_more_rights() -> Outcome {
    let memory = filled(2, 50)?;
    let (entry, size) = vm::own().memory_entry(memory.size(), memory.address(), READ, None)?;
    let view = Options::new(size).entry(&entry).read_only().map()?;
    let (map, at) = (vm::own(), view.address());
    check_eq!(
        map.protect(at, size, Prot::DEFAULT),
        Err(Kern::ProtectionFailure)
    );
    map.protect_copy(at, size, Prot::DEFAULT)?;
    set_word(&view, 0, 60)?;
    set_word(&memory, 1, 61)?;
    check_eq!((word(&memory, 0)?, word(&view, 0)?), (50, 60));
    check_eq!((word(&memory, 1)?, word(&view, 1)?), (61, 51));
    let hole = map.protect_copy(0x1000, PAGE_SIZE, Prot::READ);
    check_eq!(hole, Err(Kern::InvalidAddress));
    check_eq!(map.protect_copy(0x1000, 0, Prot::READ), Ok(()));
    Ok(())
}

/// C0402, C0404, C0461.
pub(crate) fn each_flavor_of_region_says_what_it_is_for() -> Outcome {
    let map = vm::own();
    let at = place();
    map.allocate_at(at, 8 * PAGE_SIZE, FIXED)?;
    check_eq!(map.region_extended(at)?.share_mode, SM_EMPTY);
    for page in 0..3 {
        map.write_bytes(at + page * PAGE_SIZE, &[1])?;
    }
    let said = map.region_extended(at - PAGE_SIZE)?;
    check_eq!((said.address, said.size), (at, 8 * PAGE_SIZE));
    check_eq!((said.pages_resident, said.pages_dirtied), (3, 3));
    check_eq!((said.share_mode, said.ref_count), (SM_PRIVATE, 1));
    check_eq!(map.region(at)?.pages_resident, 0);
    let top = map.region_with(at, VM_REGION_TOP_INFO, 5)?;
    check_eq!((top.pages_resident, top.object_id), (3, said.object_id));
    let copied = map.copy_in(at, PAGE_SIZE, false)?;
    check_eq!(map.region_extended(at)?.share_mode, SM_COW);
    drop(copied);
    let refused = Some(Kern::InvalidArgument);
    check_eq!(map.region_with(at, 99, u32::MAX).err(), refused);
    for flavor in [
        VM_REGION_BASIC_INFO_64,
        VM_REGION_EXTENDED_INFO,
        VM_REGION_TOP_INFO,
    ] {
        check_eq!(map.region_with(at, flavor, 0).err(), refused);
        check_eq!(map.region_with(at, flavor, 4).err(), refused);
    }
    let beyond = map.region_with(u64::MAX, VM_REGION_EXTENDED_INFO, 9);
    check_eq!(beyond.err(), Some(Kern::InvalidAddress));
    map.deallocate(at, 8 * PAGE_SIZE)?;
    Ok(())
}

/// C0495.
pub(crate) fn ranges_are_set_aside_and_shown_maps_are_put_there() -> Outcome {
    let other = vm::own().create_task(false)?;
    let (map, at) = (&other.map, place());
    let low = map.allocate(PAGE_SIZE)?;
    let ranges = [(low + PAGE_SIZE, 2 * PAGE_SIZE), (at, END)];
    map.create_ranges(&ranges)?;
    check_eq!(map.create_ranges(&ranges), Err(Kern::MemoryPresent));
    let refused = Err(Kern::InvalidArgument);
    check_eq!(map.create_ranges(&[]), refused);
    check_eq!(map.create_ranges(&[(low, PAGE_SIZE)]), refused);
    check_eq!(map.create_ranges(&[(at + END + 1, PAGE_SIZE)]), refused);
    check_eq!(map.create_ranges(&[(u64::MAX - 4095, PAGE_SIZE)]), refused);
    check_eq!(map.allocate(PAGE_SIZE)?, low + 3 * PAGE_SIZE);
    map.allocate_at(low + PAGE_SIZE, PAGE_SIZE, FIXED)?;
    let (_, entry) = library()?;
    let request = VmMapSubmap {
        address: at,
        size: END,
        offset: 0,
        copy: true,
        protection: u32::from(Prot::DEFAULT.bits()),
        max_protection: u32::from(Prot::ALL.bits()),
        inheritance: Inherit::Share as u32,
    };
    let outside = VmMapSubmap {
        address: at + PAGE_SIZE,
        ..request
    };
    check_eq!(map.map_submap(&outside, &entry), refused);
    map.map_submap(&request, &entry)?;
    check_eq!(map.map_submap(&request, &entry), refused);
    check_eq!(map.region_recurse(at, 8)?.depth, 1);
    map.write_bytes(at + DATA, &[9])?;
    check_eq!(map.region_recurse(at + DATA, 8)?.depth, 0);
    task::terminate(&other.task, 0)?;
    Ok(())
}
