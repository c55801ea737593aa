//! Copies, named entries and their mappings, to the byte, and that nothing of them is left.

extern crate std;

use super::*;
use crate::call::Call;
use crate::effect::Effects;
use crate::event::{Event, NO_RIGHTS, RightId, Rights};
use crate::map::tests::{Bench, PAGE};
use ipc_protocol::memory_object_control::{MemoryObjectReady, Request as ControlRequest};
use ipc_protocol::vm_map::{
    MAP_MEM_NAMED_CREATE, MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE, MachMakeMemoryEntry,
};
use ipc_protocol::vm_map::{Request, VmMap};

pub(crate) const MIN: u64 = 16 * PAGE;
pub(crate) const MAX: u64 = 4096 * PAGE;
pub(crate) const A: u64 = 0x10_0000;
pub(crate) const B: u64 = 0x20_0000;
pub(crate) const READ: u32 = 1;
pub(crate) const RW: u32 = 3;

/// Four written pages at `A` and four at `B`: page `n` begins with `n + 1`, and with `n + 11`.
pub(crate) fn bench() -> Bench {
    let mut bench = Bench::new(MIN, MAX);
    for (base, first) in [(A, 1), (B, 11)] {
        bench.allocate(base, 4 * PAGE, 0).unwrap();
        for page in 0..4 {
            let map = bench.map;
            bench
                .write(map, base + page * PAGE, first + page as u8)
                .unwrap();
        }
    }
    bench
}

pub(crate) fn with(right: PortOf) -> Rights {
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Own(right);
    rights
}

pub(crate) fn reads(bench: &mut Bench, base: u64) -> [u8; 4] {
    let map = bench.map;
    [0, 1, 2, 3].map(|page| bench.read(map, base + page * PAGE).unwrap())
}

/// Ends everything and looks for what is left.
pub(crate) fn nothing_is_left(mut bench: Bench, rights: &[PortOf]) {
    for right in rights {
        bench.no_senders(*right);
    }
    let maps: std::vec::Vec<MapId> = bench.core.maps.iter().map(|(id, _)| id).collect();
    for map in maps {
        bench.end(map);
    }
    bench.settle();
    assert_eq!(bench.core.pages.free(), 4000);
    assert!(bench.core.objects.is_empty(), "objects");
    assert!(bench.core.entries.is_empty(), "entries");
    assert!(bench.core.copies.is_empty() && bench.core.named.is_empty());
    assert!(bench.core.ops.is_empty() && bench.core.waiters.is_empty());
    assert!(bench.core.maps.is_empty());
}

pub(crate) fn copyin(
    bench: &mut Bench,
    address: u64,
    size: u64,
    src_destroy: bool,
) -> Result<PortOf, Kern> {
    let request = vm_map::VmCopyin {
        address,
        size,
        src_destroy,
    };
    let reply = bench.ask(Request::VmCopyin(request), NO_RIGHTS)?;
    Ok(reply.right.unwrap())
}

pub(crate) fn copyout(
    bench: &mut Bench,
    copy: PortOf,
    address: u64,
    flags: u32,
) -> Result<u64, Kern> {
    let request = Request::VmCopyout(vm_map::VmCopyout { address, flags });
    match bench.ask(request, with(copy))?.message {
        Message::Map(vm_map::Reply::VmCopyout(reply)) => Ok(reply.address),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn entry(
    bench: &mut Bench,
    offset: u64,
    size: u64,
    permission: u32,
) -> Result<PortOf, Kern> {
    let request = MachMakeMemoryEntry {
        size,
        offset,
        permission,
    };
    let reply = bench.ask(Request::MachMakeMemoryEntry(request), NO_RIGHTS)?;
    Ok(reply.right.unwrap())
}

pub(crate) fn map(bench: &mut Bench, right: PortOf, request: VmMap) -> Result<u64, Kern> {
    match bench.ask(Request::VmMap(request), with(right))?.message {
        Message::Map(vm_map::Reply::VmMap(reply)) => Ok(reply.address),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn anywhere(size: u64, protection: u32) -> VmMap {
    VmMap {
        protection,
        max_protection: protection,
        ..VmMap::anywhere(size)
    }
}

#[test]
fn a_copy_is_of_the_moment_and_moves_to_where_it_is_mapped() {
    let mut bench = bench();
    let map = bench.map;
    let copy = copyin(&mut bench, A, 4 * PAGE, false).unwrap();
    bench.write(map, A, 99).unwrap();
    let at = copyout(&mut bench, copy, 0, 1).unwrap();
    assert_eq!(reads(&mut bench, at), [1, 2, 3, 4]);
    bench.write(map, at + PAGE, 98).unwrap();
    assert_eq!(reads(&mut bench, A), [99, 2, 3, 4]);
    // It is used up.
    assert_eq!(copyout(&mut bench, copy, 0, 1), Err(Kern::InvalidArgument));
    nothing_is_left(bench, &[copy]);
}

#[test]
fn an_unaligned_copy_keeps_its_place_in_the_page() {
    let mut bench = bench();
    let map = bench.map;
    bench.write(map, A + 5, 42).unwrap();
    let copy = copyin(&mut bench, A + 5, PAGE, false).unwrap();
    assert_eq!(
        copyout(&mut bench, copy, B + 4 * PAGE, 0),
        Err(Kern::InvalidArgument)
    );
    assert_eq!(
        copyout(&mut bench, copy, MAX + 5, 0),
        Err(Kern::InvalidAddress)
    );
    assert_eq!(copyout(&mut bench, copy, B + 5, 0), Err(Kern::NoSpace));
    let at = copyout(&mut bench, copy, 0, 1).unwrap();
    assert_eq!((at % PAGE, bench.read(map, at)), (5, Ok(42)));
}

#[test]
fn a_source_goes_only_after_its_copy_is_whole() {
    let mut bench = bench();
    let hole = copyin(&mut bench, A, 5 * PAGE, true);
    assert_eq!(hole, Err(Kern::InvalidAddress));
    assert_eq!(reads(&mut bench, A), [1, 2, 3, 4]);
    let copy = copyin(&mut bench, A, 4 * PAGE, true).unwrap();
    let map = bench.map;
    assert_eq!(bench.read(map, A), Err(Kern::InvalidAddress));
    let at = copyout(&mut bench, copy, 0, 1).unwrap();
    assert_eq!(reads(&mut bench, at), [1, 2, 3, 4]);
    nothing_is_left(bench, &[]);
}

#[test]
fn a_part_of_a_source_that_goes_takes_its_pages_along() {
    let mut bench = bench();
    let map = bench.map;
    let copy = copyin(&mut bench, A + PAGE, 2 * PAGE, true).unwrap();
    let at = copyout(&mut bench, copy, 0, 1).unwrap();
    let (copied, free) = (bench.core.stats.cow_breaks, bench.core.pages.free());
    for page in [0, 1] {
        let address = at + page * PAGE;
        assert_eq!(bench.read(map, address), Ok(2 + page as u8));
        bench.write(map, address, 7).unwrap();
    }
    // What was left of the source is its own again, too.
    for page in [0, 3] {
        bench.write(map, A + page * PAGE, 8).unwrap();
    }
    assert_eq!(bench.core.stats.cow_breaks, copied);
    assert_eq!(bench.core.pages.free(), free);
    assert_eq!(bench.read(map, A + PAGE), Err(Kern::InvalidAddress));
    // Each part is copied by itself.
    let again = copyin(&mut bench, at, PAGE, false).unwrap();
    bench.write(map, at, 9).unwrap();
    let snapshot = copyout(&mut bench, again, 0, 1).unwrap();
    assert_eq!(bench.read(map, snapshot), Ok(7));
    assert_eq!(bench.read(map, A), Ok(8));
    nothing_is_left(bench, &[]);
}

#[test]
fn an_empty_copy_goes_nowhere() {
    let mut bench = bench();
    let copy = copyin(&mut bench, 1, 0, true).unwrap();
    assert_eq!(copyout(&mut bench, copy, 0, 1), Ok(0));
    nothing_is_left(bench, &[]);
}

#[test]
fn vm_copy_checks_all_before_it_writes_and_overlaps_like_memmove() {
    let mut bench = bench();
    let map = bench.map;
    let mut copy = |source, size, destination| {
        let request = vm_map::VmCopy {
            source,
            size,
            destination,
        };
        bench.call(Request::VmCopy(request)).map(|_| ())
    };
    assert_eq!(copy(1, 0, 1), Ok(()));
    assert_eq!(copy(A, 5 * PAGE, B), Err(Kern::InvalidAddress));
    assert_eq!(copy(A, 2 * PAGE, B + 3 * PAGE), Err(Kern::InvalidAddress));
    assert_eq!(copy(A, PAGE, u64::MAX), Err(Kern::InvalidAddress));
    assert_eq!(copy(A, 3 * PAGE, A + PAGE), Ok(()));
    assert_eq!(reads(&mut bench, A), [1, 1, 2, 3]);
    bench.protect(B + PAGE, PAGE, false, READ).unwrap();
    let request = vm_map::VmCopy {
        source: A,
        size: 2 * PAGE,
        destination: B,
    };
    let denied = Err(Kern::ProtectionFailure);
    assert_eq!(bench.call(Request::VmCopy(request)), denied);
    assert_eq!(bench.read(map, B), Ok(11));
    nothing_is_left(bench, &[]);
}

#[test]
fn a_copy_is_written_without_being_used_up() {
    let mut bench = bench();
    let copy = copyin(&mut bench, A, 2 * PAGE, false).unwrap();
    let write = |address, size| Request::VmWrite(vm_map::VmWrite { address, size });
    let said = bench.ask(write(B, 2 * PAGE + 1), with(copy));
    assert_eq!(said, Err(Kern::InvalidArgument));
    for at in [B, B + 2 * PAGE] {
        assert!(bench.ask(write(at, 2 * PAGE), with(copy)).is_ok());
    }
    assert_eq!(reads(&mut bench, B), [1, 2, 1, 2]);
    nothing_is_left(bench, &[copy]);
}

#[test]
fn a_named_entry_is_seen_both_ways_and_bounds_what_may_be_done() {
    let mut bench = bench();
    let here = bench.map;
    let named = entry(&mut bench, A, 4 * PAGE, RW).unwrap();
    let at = map(&mut bench, named, anywhere(4 * PAGE, RW)).unwrap();
    bench.write(here, at, 50).unwrap();
    bench.write(here, A + PAGE, 51).unwrap();
    assert_eq!(reads(&mut bench, A), [50, 51, 3, 4]);
    assert_eq!(reads(&mut bench, at), [50, 51, 3, 4]);
    let too_large = map(&mut bench, named, anywhere(5 * PAGE, RW));
    assert_eq!(too_large, Err(Kern::InvalidArgument));
    // A mapping with `copy` is private.
    let private = VmMap {
        copy: true,
        ..anywhere(4 * PAGE, RW)
    };
    let own = map(&mut bench, named, private).unwrap();
    bench.write(here, own, 60).unwrap();
    bench.write(here, A + PAGE, 52).unwrap();
    assert_eq!(reads(&mut bench, own), [60, 51, 3, 4]);
    assert_eq!(reads(&mut bench, A), [50, 52, 3, 4]);
    nothing_is_left(bench, &[named]);
}

#[test]
fn c0354_c0355_c0369() {
    let mut bench = bench();
    let named = entry(&mut bench, A, PAGE, MAP_MEM_VM_SHARE | READ).unwrap();
    let more = VmMap {
        max_protection: RW,
        ..anywhere(PAGE, READ)
    };
    assert_eq!(map(&mut bench, named, more), Err(Kern::InvalidRight));
    assert_eq!(
        map(&mut bench, named, anywhere(PAGE, RW)),
        Err(Kern::InvalidRight)
    );
    let masked = VmMap {
        protection: RW | 0x40,
        max_protection: RW | 0x40,
        ..anywhere(PAGE, RW)
    };
    let at = map(&mut bench, named, masked).unwrap();
    assert_eq!(bench.region(at).unwrap().max_protection, READ);
    assert!(map(&mut bench, named, anywhere(PAGE, READ)).is_ok());
}

#[test]
fn c0352() {
    let mut bench = bench();
    bench.protect(A, PAGE, true, READ).unwrap();
    assert_eq!(entry(&mut bench, A, PAGE, RW), Err(Kern::ProtectionFailure));
    assert!(entry(&mut bench, A, PAGE, READ).is_ok());
}

#[test]
fn c0364() {
    let mut bench = bench();
    let here = bench.map;
    let named = entry(&mut bench, A, PAGE, MAP_MEM_VM_COPY | RW).unwrap();
    let shared = map(&mut bench, named, anywhere(PAGE, RW)).unwrap();
    let copied = VmMap {
        copy: true,
        ..anywhere(PAGE, RW)
    };
    let copied = map(&mut bench, named, copied).unwrap();
    bench.write(here, shared, 70).unwrap();
    assert_eq!(bench.read(here, A), Ok(1));
    assert_eq!(bench.read(here, shared), Ok(70));
    assert_eq!(bench.read(here, copied), Ok(1));
    nothing_is_left(bench, &[named]);
}

#[test]
fn what_may_not_be_copied_lazily_is_copied_by_pages_for_a_child() {
    let mut bench = bench();
    let here = bench.map;
    let size = 200 * PAGE;
    let named = entry(&mut bench, 0, size, MAP_MEM_NAMED_CREATE | RW).unwrap();
    let at = map(&mut bench, named, anywhere(size, RW)).unwrap();
    for page in [0, 63, 64, 199] {
        bench.write(here, at + page * PAGE, page as u8 + 1).unwrap();
    }
    let child = bench.fork().unwrap();
    bench.write(here, at + 64 * PAGE, 0).unwrap();
    for page in [0, 63, 64, 199] {
        assert_eq!(bench.read(child, at + page * PAGE), Ok(page as u8 + 1));
    }
    assert_eq!(bench.read(child, at + PAGE), Ok(0));
    nothing_is_left(bench, &[named]);
}

#[test]
fn flags_of_a_named_entry_are_checked_first() {
    let mut bench = bench();
    assert_eq!(entry(&mut bench, A, 0, 0x100), Err(Kern::InvalidValue));
    assert_eq!(entry(&mut bench, A, 0, READ), Err(Kern::InvalidArgument));
    let hole = entry(&mut bench, MIN, PAGE, READ);
    assert_eq!(hole, Err(Kern::InvalidAddress));
}

#[test]
fn a_port_of_another_kind_is_not_mapped() {
    let mut bench = bench();
    let own = PortOf::Map(bench.map);
    let said = map(&mut bench, own, anywhere(PAGE, RW));
    assert_eq!(said, Err(Kern::InvalidArgument));
}

const FILE: RightId = RightId(7);

/// Sends a vm_map of the file's memory object, and does not wait for the answer.
fn map_file(bench: &mut Bench, request: VmMap) -> std::vec::Vec<Effect> {
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Foreign(FILE);
    let event = Event::Call {
        call: Call::Map(bench.map, Request::VmMap(request)),
        rights,
        reply: Some(bench.token()),
    };
    bench.handle(event)
}

fn answers(effects: &[Effect]) -> std::vec::Vec<Result<u64, Kern>> {
    let address = |reply: &Reply| match reply.message {
        Message::Map(vm_map::Reply::VmMap(reply)) => reply.address,
        other => panic!("{other:?}"),
    };
    let answer = |effect: &Effect| match effect {
        Effect::Reply { answer, .. } => Some(answer.as_ref().map(address).map_err(|code| *code)),
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

fn steps(bench: &mut Bench) -> std::vec::Vec<Effect> {
    let mut effects = std::vec::Vec::new();
    while bench.core.wants_step() {
        effects.extend(bench.handle(Event::Step));
    }
    effects
}

/// The pager takes init and says that it is ready.
fn pager_is_ready(bench: &mut Bench, strategy: u32) -> std::vec::Vec<Effect> {
    let request = vm_map::PagerTrayCreate { slots: 4 };
    let tray = bench.ask(Request::PagerTrayCreate(request), NO_RIGHTS);
    let init = bench.core.next_message(FILE).unwrap();
    let Some(PortOf::Control(control)) = init.right else {
        panic!("{init:?}");
    };
    bench.core.sent(FILE, &mut Effects::new().unwrap());
    let ready = MemoryObjectReady {
        may_cache: false,
        copy_strategy: strategy,
        cluster_pages: 1,
        serves_itself: false,
        synchronizes: false,
    };
    let event = Event::Call {
        call: Call::Control(control, ControlRequest::MemoryObjectReady(ready)),
        rights: with(tray.unwrap().right.unwrap()),
        reply: None,
    };
    bench.handle(event)
}

#[test]
fn a_refused_mapping_of_a_memory_object_gives_its_right_back_and_tells_nobody() {
    let mut bench = bench();
    let refused = [
        VmMap {
            size: 0,
            ..anywhere(0, RW)
        },
        VmMap {
            flags: 0,
            address: A,
            ..anywhere(PAGE, RW)
        },
    ];
    for request in refused {
        let effects = map_file(&mut bench, request);
        assert!(effects.contains(&Effect::Release(FILE, 1)));
        assert!(answers(&effects)[0].is_err());
        assert!(bench.core.next_message(FILE).is_none());
    }
}

#[test]
fn one_port_is_one_object_in_every_mapping() {
    let mut bench = bench();
    let first = answers(&map_file(&mut bench, anywhere(PAGE, RW)))[0].unwrap();
    let second = answers(&map_file(&mut bench, anywhere(2 * PAGE, RW)))[0].unwrap();
    let object = |bench: &mut Bench, address| {
        let link = bench.core.map_lookup(bench.map, address).unwrap();
        bench.core.entries.at(link.0).unwrap().object
    };
    assert!(object(&mut bench, first).is_some());
    assert_eq!(object(&mut bench, first), object(&mut bench, second));
    let region = bench.region(first).unwrap();
    assert!(region.external_pager && !region.needs_copy);
    let private = VmMap {
        flags: 1 | MapFlags::PRIVATE.bits(),
        ..anywhere(PAGE, RW)
    };
    let third = answers(&map_file(&mut bench, private))[0].unwrap();
    assert!(bench.region(third).unwrap().needs_copy);
}

/// Maps a copy of a page of the file, as far as that goes without its pager.
fn map_copy_of_file(bench: &mut Bench) -> std::vec::Vec<Effect> {
    let copy = VmMap {
        copy: true,
        ..anywhere(PAGE, RW)
    };
    let mut effects = map_file(bench, copy);
    effects.extend(steps(bench));
    effects
}

#[test]
fn a_copy_of_a_memory_object_waits_for_its_pager() {
    let mut bench = bench();
    let effects = map_copy_of_file(&mut bench);
    assert_eq!(answers(&effects), []);
    // Other calls on the map go on meanwhile.
    assert!(bench.allocate(0, PAGE, 1).is_ok());
    let mut effects = pager_is_ready(&mut bench, 2);
    effects.extend(steps(&mut bench));
    let address = answers(&effects)[0].unwrap();
    assert!(bench.region(address).unwrap().needs_copy);
}

#[test]
fn a_copy_of_a_memory_object_fails_with_its_pager() {
    let mut bench = bench();
    let mut effects = map_copy_of_file(&mut bench);
    effects.extend(bench.handle(Event::DeadName(FILE)));
    effects.extend(steps(&mut bench));
    assert_eq!(answers(&effects), [Err(Kern::MemoryError)]);
    nothing_is_left(bench, &[]);
}

#[test]
fn a_fork_lets_go_of_the_map_while_it_waits_for_a_pager() {
    let mut bench = bench();
    let file = answers(&map_file(&mut bench, anywhere(PAGE, RW)))[0].unwrap();
    let fork = Request::TaskCreate(vm_map::TaskCreate { inherit: true });
    let token = bench.token();
    let mut effects = bench.handle(Event::Call {
        call: Call::Map(bench.map, fork),
        rights: NO_RIGHTS,
        reply: Some(token),
    });
    effects.extend(steps(&mut bench));
    let answered = |effect: &Effect| matches!(effect, Effect::Reply { .. });
    assert!(!effects.iter().any(answered), "it waits");
    bench.deallocate(B, 4 * PAGE).unwrap();
    effects.extend(pager_is_ready(&mut bench, 2));
    effects.extend(steps(&mut bench));
    let child = effects.iter().find_map(|effect| match effect {
        Effect::Reply { to, answer } if *to == Some(token) => answer.as_ref().unwrap().right,
        _ => None,
    });
    let Some(PortOf::Map(child)) = child else {
        panic!("{effects:?}");
    };
    assert_eq!(bench.read(child, A), Ok(1));
    assert_eq!(bench.read(child, B), Err(Kern::InvalidAddress));
    bench.map = child;
    assert!(bench.region(file).unwrap().needs_copy);
}

#[test]
fn a_copy_of_few_entries_is_one_event_and_leaves_nothing_for_steps() {
    let mut bench = bench();
    bench.allocate(A + 8 * PAGE, 4 * PAGE, 0).unwrap();
    let copy = |destination| {
        Request::VmCopy(vm_map::VmCopy {
            source: B,
            size: 4 * PAGE,
            destination,
        })
    };
    for destination in [A, A + 8 * PAGE] {
        bench.call(copy(destination)).unwrap();
        assert_eq!(bench.steps, 0);
        assert_eq!(reads(&mut bench, destination), [11, 12, 13, 14]);
    }
    let copied = copyin(&mut bench, B, 4 * PAGE, false).unwrap();
    bench.no_senders(copied);
    assert_eq!(bench.core.maps.len(), 1, "hidden maps");
    assert!(bench.core.ops.is_empty());
    nothing_is_left(bench, &[]);
}

#[test]
fn memory_that_nobody_touched_is_copied_over_without_taking_anything_back() {
    let mut bench = bench();
    bench.allocate(A + 8 * PAGE, 4 * PAGE, 0).unwrap();
    let copy = |destination| {
        Request::VmCopy(vm_map::VmCopy {
            source: B,
            size: 4 * PAGE,
            destination,
        })
    };
    // The source loses WRITE once.
    bench.call(copy(A)).unwrap();
    bench.machine.revoked.clear();
    bench.call(copy(A + 8 * PAGE)).unwrap();
    assert!(bench.machine.revoked.is_empty());
    // What was touched is taken back.
    bench.call(copy(A)).unwrap();
    assert_eq!(bench.machine.revoked.len(), 1);
}

#[test]
fn a_copy_of_many_entries_takes_steps() {
    let mut bench = bench();
    let (low, high) = (A + 64 * PAGE, A + 512 * PAGE);
    let size = 128 * PAGE;
    bench.allocate(low, size, 0).unwrap();
    bench.allocate(high, size, 0).unwrap();
    for page in (0..128).step_by(2) {
        bench.inherit(low + page * PAGE, PAGE, 0).unwrap();
    }
    let request = vm_map::VmCopy {
        source: low,
        size,
        destination: high,
    };
    bench.call(Request::VmCopy(request)).unwrap();
    assert!(bench.steps > 1);
    bench.settle();
    assert_eq!(bench.core.maps.len(), 1, "hidden maps");
}
