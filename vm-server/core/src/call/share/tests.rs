//! Remapping: what is seen through it, what it allows, and that a failure leaves nothing.

extern crate std;

use super::*;
use crate::call::vm_copy::tests::{
    A, B, MAX, MIN, READ, RW, anywhere, bench, entry, map, nothing_is_left, reads, with,
};
use crate::event::NO_RIGHTS;
use crate::map::Map;
use crate::map::tests::{Bench, PAGE};
use ipc_protocol::vm_map::{MAP_MEM_NAMED_CREATE, Request as Any, VmCopyin, VmProtect, VmRegion};

const RWX: u32 = 7;

fn any(source: u64, size: u64, copy: bool) -> VmRemap {
    VmRemap {
        address: 0,
        size,
        mask: 0,
        flags: 1,
        source,
        copy,
        inheritance: 1,
    }
}

/// Address, and current and maximum rights.
type Mapped = Result<(u64, u32, u32), Kern>;

fn remap_from(bench: &mut Bench, source: PortOf, request: VmRemap) -> Mapped {
    let request = Any::Share(Request::VmRemap(request));
    match bench.ask(request, with(source))?.message {
        Message::Map(vm_map::Reply::Share(Said::VmRemap(reply))) => {
            Ok((reply.address, reply.protection, reply.max_protection))
        }
        other => panic!("{other:?}"),
    }
}

fn remap(bench: &mut Bench, request: VmRemap) -> Mapped {
    let own = PortOf::Map(bench.map);
    remap_from(bench, own, request)
}

fn remap_new(bench: &mut Bench, source: PortOf, copy: bool, (cur, max): (u32, u32)) -> Mapped {
    let request = VmRemapNew {
        address: 0,
        size: PAGE,
        mask: 0,
        flags: 1,
        source: A,
        copy,
        protection: cur,
        max_protection: max,
        inheritance: 1,
    };
    let request = Any::Share(Request::VmRemapNew(request));
    match bench.ask(request, with(source))?.message {
        Message::Map(vm_map::Reply::Share(Said::VmRemapNew(reply))) => {
            Ok((reply.address, reply.protection, reply.max_protection))
        }
        other => panic!("{other:?}"),
    }
}

fn other_map(bench: &mut Bench) -> MapId {
    bench.core.maps.insert(Map::new(MIN, MAX)).unwrap()
}

#[test]
fn a_shared_range_is_seen_both_ways_also_from_another_map() {
    let mut bench = bench();
    let source = bench.map;
    let (at, cur, max) = remap(&mut bench, any(A, 4 * PAGE, false)).unwrap();
    assert_eq!((cur, max), (RW, RWX));
    bench.map = other_map(&mut bench);
    let (there, ..) =
        remap_from(&mut bench, PortOf::Map(source), any(at, 4 * PAGE, false)).unwrap();
    let other = bench.map;
    bench.write(other, there + PAGE, 60).unwrap();
    bench.write(source, A, 50).unwrap();
    for (map, base) in [(source, A), (source, at), (other, there)] {
        bench.map = map;
        assert_eq!(reads(&mut bench, base), [50, 60, 3, 4]);
    }
    bench.end(source);
    bench.settle();
    bench.map = other;
    assert_eq!(reads(&mut bench, there), [50, 60, 3, 4]);
    nothing_is_left(bench, &[]);
}

#[test]
fn a_copied_range_is_of_the_moment_and_each_piece_keeps_what_it_allows() {
    let mut bench = bench();
    let map = bench.map;
    bench.protect(A + PAGE, PAGE, false, READ).unwrap();
    bench.protect(A + 2 * PAGE, PAGE, true, READ).unwrap();
    bench.protect(A + 3 * PAGE, PAGE, false, 0).unwrap();
    let (at, cur, max) = remap(&mut bench, any(A, 4 * PAGE, true)).unwrap();
    assert_eq!((cur, max), (0, READ));
    bench.write(map, A, 99).unwrap();
    assert_eq!(bench.read(map, at), Ok(1));
    assert_eq!(bench.write(map, at + PAGE, 1), Err(Kern::ProtectionFailure));
    assert_eq!(bench.region(at + 2 * PAGE).unwrap().max_protection, READ);
    assert_eq!(bench.read(map, at + 3 * PAGE), Err(Kern::ProtectionFailure));
    bench.protect(at + 3 * PAGE, PAGE, false, READ).unwrap();
    assert_eq!(bench.read(map, at + 3 * PAGE), Ok(4));
    nothing_is_left(bench, &[]);
}

/// C0412: and none of the pieces before the hole stays mapped.
#[test]
fn c0412_a_hole_fails_all_of_it() {
    for copy in [false, true] {
        let mut bench = bench();
        let size = bench.core.maps.get(bench.map).unwrap().size;
        let hole = remap(&mut bench, any(A, 5 * PAGE, copy));
        assert_eq!(hole, Err(Kern::InvalidAddress));
        assert_eq!(bench.core.maps.get(bench.map).unwrap().size, size);
        assert_eq!(reads(&mut bench, A), [1, 2, 3, 4]);
        nothing_is_left(bench, &[]);
    }
}

#[test]
fn c0415_the_address_of_a_byte_maps_every_page_that_is_touched() {
    let mut bench = bench();
    let map = bench.map;
    let request = VmRemap {
        flags: 1 | MapFlags::RETURN_DATA_ADDR.bits(),
        ..any(A + 0xFF0, 0x20, false)
    };
    let (at, ..) = remap(&mut bench, request).unwrap();
    assert_eq!(at % PAGE, 0xFF0);
    assert_eq!(bench.read(map, at + 0x10), Ok(2));
    // Without the flag the last page may be lost.
    let (at, ..) = remap(&mut bench, any(A + 0xFF0, 0x20, false)).unwrap();
    assert_eq!(at % PAGE, 0);
    assert_eq!(bench.read(map, at), Ok(1));
    assert_eq!(bench.read(map, at + PAGE), Err(Kern::InvalidAddress));
}

#[test]
fn c0066_c0068_c0069_c0088_c0416_what_is_malformed_is_refused_before_anything_is_looked_at() {
    let mut bench = bench();
    let malformed = [
        any(0x1000, 0xFFFF_FFFF_FFFF_F000, false),
        any(0xFFFF_FFFF_FFFF_F000, 1, false),
        any(0, u64::MAX, false),
        any(A, 0, false),
        VmRemap {
            flags: 1 | 100 << 24,
            ..any(A, PAGE, false)
        },
        VmRemap {
            flags: 1 | MapFlags::PERMANENT.bits(),
            ..any(A, PAGE, false)
        },
        VmRemap {
            flags: 1 | MapFlags::RESILIENT_MEDIA.bits(),
            ..any(A, PAGE, false)
        },
        VmRemap {
            inheritance: 3,
            ..any(A, PAGE, false)
        },
        VmRemap {
            flags: 0,
            address: 0xFFFF_FFFF_FFFF_F000,
            ..any(A, PAGE, false)
        },
    ];
    for request in malformed {
        let said = remap(&mut bench, request);
        assert_eq!(said, Err(Kern::InvalidArgument), "{request:?}");
    }
    let media = VmRemap {
        flags: 1 | MapFlags::RESILIENT_MEDIA.bits(),
        ..any(A, PAGE, true)
    };
    assert!(remap(&mut bench, media).is_ok());
    let no_map = bench.ask(Any::Share(Request::VmRemap(any(A, PAGE, false))), NO_RIGHTS);
    assert_eq!(no_map, Err(Kern::InvalidArgument));
}

#[test]
fn the_place_is_looked_for_as_in_vm_map_once_the_source_is_there() {
    let mut bench = bench();
    let at = |address, flags, mask| VmRemap {
        address,
        flags,
        mask,
        ..any(A, PAGE, false)
    };
    assert_eq!(remap(&mut bench, at(B, 0, 0)), Err(Kern::NoSpace));
    assert_eq!(remap(&mut bench, at(MAX, 0, 0)), Err(Kern::InvalidAddress));
    assert_eq!(
        remap(&mut bench, at(MAX - PAGE, 1, 0xF_FFFF)),
        Err(Kern::NoSpace)
    );
    assert_eq!(
        remap(&mut bench, at(PAGE, 1, 0xF_FFFF)).unwrap().0,
        0x30_0000
    );
    // A hole in the source is found first.
    let hole = VmRemap {
        source: MIN,
        ..at(B, 0, 0)
    };
    assert_eq!(remap(&mut bench, hole), Err(Kern::InvalidAddress));
    let over = MapFlags::OVERWRITE.bits();
    assert_eq!(remap(&mut bench, at(B, over, 0)).unwrap().0, B);
    assert_eq!(reads(&mut bench, B), [1, 12, 13, 14]);
    nothing_is_left(bench, &[]);
}

#[test]
fn a_range_can_be_remapped_onto_itself_copied() {
    let mut bench = bench();
    let map = bench.map;
    let (view, ..) = remap(&mut bench, any(A, 4 * PAGE, false)).unwrap();
    let onto = VmRemap {
        address: A,
        flags: MapFlags::OVERWRITE.bits(),
        ..any(A, 4 * PAGE, true)
    };
    assert_eq!(remap(&mut bench, onto).unwrap().0, A);
    bench.write(map, A, 70).unwrap();
    assert_eq!(reads(&mut bench, A), [70, 2, 3, 4]);
    assert_eq!(reads(&mut bench, view), [1, 2, 3, 4]);
    nothing_is_left(bench, &[]);
}

/// Rule 28: memory that is never copied lazily, twice in a row.
#[test]
fn a_remap_of_a_remap_of_memory_that_is_copied_by_pages() {
    let mut bench = bench();
    let here = bench.map;
    let named = entry(&mut bench, 0, 3 * PAGE, MAP_MEM_NAMED_CREATE | RW).unwrap();
    let first = map(&mut bench, named, anywhere(3 * PAGE, RW)).unwrap();
    bench.write(here, first + PAGE, 9).unwrap();
    // Also where it cannot be read now.
    bench.protect(first, 3 * PAGE, false, 0).unwrap();
    let (second, ..) = remap(&mut bench, any(first, 3 * PAGE, true)).unwrap();
    let (third, ..) = remap(&mut bench, any(second, 3 * PAGE, true)).unwrap();
    bench.protect(third, 3 * PAGE, false, RW).unwrap();
    bench.protect(first, 3 * PAGE, false, RW).unwrap();
    bench.write(here, first + PAGE, 10).unwrap();
    assert_eq!(bench.read(here, third + PAGE), Ok(9));
    bench.write(here, third, 5).unwrap();
    assert_eq!(bench.read(here, first), Ok(0));
    nothing_is_left(bench, &[named]);
}

#[test]
fn many_pieces_are_remapped_in_steps_and_keep_their_tags() {
    let mut bench = bench();
    let here = bench.map;
    let base = 0x40_0000;
    for piece in 0..200u64 {
        let tag = 1 + piece as u32 % 2;
        bench
            .allocate(base + piece * PAGE, PAGE, tag << 24)
            .unwrap();
        bench.write(here, base + piece * PAGE, piece as u8).unwrap();
    }
    let (at, ..) = remap(&mut bench, any(base, 200 * PAGE, false)).unwrap();
    assert!(bench.steps >= 3, "{} steps", bench.steps);
    for piece in [0, 63, 64, 127, 199u64] {
        let place = at + piece * PAGE;
        assert_eq!(bench.read(here, place), Ok(piece as u8));
        assert_eq!(bench.region(place).unwrap().user_tag, 1 + piece as u32 % 2);
    }
    bench.write(here, base + 199 * PAGE, 77).unwrap();
    assert_eq!(bench.read(here, at + 199 * PAGE), Ok(77));
    nothing_is_left(bench, &[]);
}

#[test]
fn a_map_that_may_not_have_enough_entries_gets_none() {
    let mut bench = bench();
    let here = bench.map;
    for piece in 0..4u64 {
        bench
            .protect(A + piece * PAGE, PAGE, false, 1 + piece as u32 % 2 * 2)
            .unwrap();
    }
    let source = bench.map;
    bench.map = other_map(&mut bench);
    bench
        .core
        .maps
        .get_mut(bench.map)
        .unwrap()
        .account
        .limits
        .entries = 3;
    let said = remap_from(&mut bench, PortOf::Map(source), any(A, 4 * PAGE, false));
    assert_eq!(said, Err(Kern::ResourceShortage));
    assert_eq!(bench.core.maps.get(bench.map).unwrap().size, 0);
    assert_eq!(bench.read(here, A), Ok(1));
    nothing_is_left(bench, &[]);
}

#[test]
fn c0160_c0164_c0166_wanted_rights_are_those_of_the_source_or_less() {
    let mut bench = bench();
    let own = PortOf::Map(bench.map);
    for rights in [(3, 1), (1, 0), (2, 1), (8, 15), (1, 0x41)] {
        let said = remap_new(&mut bench, own, false, rights);
        assert_eq!(said, Err(Kern::InvalidArgument), "{rights:?}");
    }
    let (at, ..) = remap_new(&mut bench, own, false, (READ, RW)).unwrap();
    let region = bench.region(at).unwrap();
    assert_eq!((region.protection, region.max_protection), (READ, RW));
    // The maximum may hold both (A9).
    assert!(remap_new(&mut bench, own, false, (RW, RWX)).is_ok());
    bench.protect(A, PAGE, false, READ).unwrap();
    let said = remap_new(&mut bench, own, false, (RW, RW));
    assert_eq!(said, Err(Kern::ProtectionFailure));
    bench.protect(A, PAGE, true, READ).unwrap();
    let said = remap_new(&mut bench, own, false, (READ, RW));
    assert_eq!(said, Err(Kern::ProtectionFailure));
    // A copy only has to be readable.
    let (at, ..) = remap_new(&mut bench, own, true, (RW, RW)).unwrap();
    let map = bench.map;
    bench.write(map, at, 8).unwrap();
    assert_eq!(bench.read(map, A), Ok(1));
    bench.protect(A, PAGE, true, 0).unwrap();
    let said = remap_new(&mut bench, own, true, (READ, READ));
    assert_eq!(said, Err(Kern::ProtectionFailure));
    nothing_is_left(bench, &[]);
}

/// C0377: with the read-only port memory can be read, and nothing else.
#[test]
fn c0377_a_read_only_port_lets_nothing_be_written() {
    let mut bench = bench();
    let (full, request) = (bench.map, Request::VmMapReadPort(vm_share_port()));
    let reply = bench.ask(Any::Share(request), NO_RIGHTS).unwrap();
    let port = reply.right.unwrap();
    assert_eq!(port, PortOf::MapRead(full));
    bench.map = other_map(&mut bench);
    for (copy, rights, allowed) in [
        (false, (0, 0), true),
        (false, (READ, READ), true),
        (false, (READ, RW), false),
        (false, (RW, RW), false),
        (false, (0, 4), false),
        (true, (RW, RW), true),
    ] {
        let said = remap_new(&mut bench, port, copy, rights);
        assert_eq!(said.is_ok(), allowed, "{copy} {rights:?}: {said:?}");
        if let Err(code) = said {
            assert_eq!(code, Kern::InvalidArgument);
        }
    }
    let (at, cur, max) = remap_new(&mut bench, port, false, (0, 0)).unwrap();
    assert_eq!((cur, max), (0, 0));
    let raised = bench.protect(at, PAGE, false, READ);
    assert_eq!(raised, Err(Kern::ProtectionFailure));
    let shared = remap_from(&mut bench, port, any(A, PAGE, false));
    assert_eq!(shared, Err(Kern::InvalidArgument));
    assert!(remap_from(&mut bench, port, any(A, PAGE, true)).is_ok());
    // What comes through the port itself.
    let read = |bench: &mut Bench, request| bench.ask_read(full, request);
    let copy = |src_destroy| {
        Any::VmCopyin(VmCopyin {
            address: A,
            size: PAGE,
            src_destroy,
        })
    };
    assert!(read(&mut bench, Any::VmRegion(VmRegion::basic(A))).is_ok());
    let kept = read(&mut bench, copy(false)).unwrap().right.unwrap();
    let protect = Any::VmProtect(VmProtect {
        address: A,
        size: PAGE,
        set_maximum: false,
        protection: READ,
    });
    for request in [copy(true), protect] {
        assert_eq!(read(&mut bench, request), Err(Kern::InvalidArgument));
    }
    nothing_is_left(bench, &[kept]);
}

const fn vm_share_port() -> ipc_protocol::vm_share::VmMapReadPort {
    ipc_protocol::vm_share::VmMapReadPort {}
}

/// A9: who may not write and execute at once is refused just that, now.
#[test]
fn only_current_write_and_execute_needs_the_permission() {
    let mut bench = bench();
    bench.protect(A, PAGE, false, RWX).unwrap();
    let source = bench.map;
    let (at, ..) = remap(&mut bench, any(A, PAGE, false)).unwrap();
    assert_eq!(bench.region(at).unwrap().protection, RWX);
    bench.map = other_map(&mut bench);
    bench.core.maps.get_mut(bench.map).unwrap().jit = false;
    let denied = Err(Kern::ProtectionFailure);
    let from = PortOf::Map(source);
    assert_eq!(remap_from(&mut bench, from, any(A, PAGE, false)), denied);
    assert_eq!(remap_new(&mut bench, from, false, (RWX, RWX)), denied);
    assert!(remap_new(&mut bench, from, false, (RW, RWX)).is_ok());
    let all = vm_map::VmMap {
        max_protection: RWX,
        ..anywhere(PAGE, RWX)
    };
    let said = bench.call(Any::VmMap(all)).map(|_| ());
    assert_eq!(said, Err(Kern::ProtectionFailure));
    let at = bench.allocate(0, PAGE, 1).unwrap();
    let said = bench.protect(at, PAGE, false, RWX).map(|_| ());
    assert_eq!(said, Err(Kern::ProtectionFailure));
    assert!(bench.protect(at, PAGE, false, 5).is_ok());
    assert!(bench.protect(at, PAGE, true, RWX).is_ok());
    let child = bench.fork().unwrap();
    assert!(!bench.core.maps.get(child).unwrap().jit);
    // Only who has the host port changes that.
    let set = Any::Share(Request::VmMapSetJit(VmMapSetJit { allowed: true }));
    assert_eq!(bench.ask(set, NO_RIGHTS), Err(Kern::InvalidHost));
    let host = crate::event::RightId(9);
    bench.core.config.host = Some(host);
    let mut rights = NO_RIGHTS;
    rights[VmMapSetJit::HOST] = PortRef::Foreign(host);
    assert!(bench.ask(set, rights).is_ok());
    assert!(bench.protect(at, PAGE, false, RWX).is_ok());
}

/// The cost is that of the entries: an object of 1000 resident pages is shared and copied as fast as
/// one of a page.
#[test]
fn remapping_costs_by_entries_not_by_pages() {
    let mut bench = bench();
    let (here, base, pages) = (bench.map, 0x40_0000, 1000);
    bench.allocate(base, pages * PAGE, 0).unwrap();
    for page in 0..pages {
        bench.write(here, base + page * PAGE, page as u8).unwrap();
    }
    for copy in [false, true] {
        for size in [PAGE, pages * PAGE] {
            let entries = bench.core.entries.len();
            let request = any(base + (pages * PAGE - size), size, copy);
            let (at, ..) = remap(&mut bench, request).unwrap();
            assert!(bench.steps <= 1, "{} steps", bench.steps);
            bench.settle();
            assert!(bench.core.entries.len() <= entries + 2);
            bench.deallocate(at, size).unwrap();
        }
    }
    nothing_is_left(bench, &[]);
}
