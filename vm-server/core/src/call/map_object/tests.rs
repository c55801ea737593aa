//! Windows of named entries, to the byte: every combination of the kinds of entries, offsets, sizes
//! and flags of cases C0235 to C0308; and what vm_map refuses.

extern crate std;

use super::*;
use crate::call::vm_copy::tests::{
    A, B, READ, RW, anywhere, bench, entry, map, nothing_is_left, reads, with,
};
use crate::event::{NO_RIGHTS, RightId};
use crate::map::tests::{Bench, PAGE};
use ipc_protocol::vm_map::{
    MAP_MEM_NAMED_CREATE, MAP_MEM_USE_DATA_ADDR, MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE, Request, VmMap,
};

/// The entry of the cases: `[0x3F80, +0x4100)` of an area in which each quarter of a page differs.
const FIRST: u64 = 0x3F80;
const SIZE: u64 = 0x4100;
const RETURN: u32 = MapFlags::RETURN_DATA_ADDR.bits();

/// What is in the area at an offset.
fn byte_at(offset: u64) -> u8 {
    1 + (offset / 0x40 % 251) as u8
}

fn area() -> (Bench, u64) {
    let mut bench = bench();
    let (here, base) = (bench.map, 0x40_0000);
    bench.allocate(base, 12 * PAGE, 0).unwrap();
    for at in (0..12 * PAGE).step_by(0x40) {
        bench.write(here, base + at, byte_at(at)).unwrap();
    }
    (bench, base)
}

/// Where the data of a window begins in the area and what its address ends in, or nothing.
fn expected(permission: u32, offset: u64, size: u64, flags: u32) -> Option<(u64, u64)> {
    let pieces = permission & (MAP_MEM_VM_COPY | MAP_MEM_VM_SHARE) != 0;
    let to_byte = flags & RETURN != 0;
    let first = if to_byte && permission & MAP_MEM_USE_DATA_ADDR != 0 {
        FIRST % PAGE
    } else {
        0
    };
    let place = first + offset;
    let end = (place + size).next_multiple_of(PAGE);
    if end > 6 * PAGE || !place.is_multiple_of(PAGE) && !to_byte && !pieces {
        return None;
    }
    let page = 3 * PAGE + place / PAGE * PAGE;
    let low = if to_byte { place % PAGE } else { 0 };
    Some((page + low, low))
}

#[test]
fn c0235_to_c0303_windows_of_every_kind() {
    let (mut bench, base) = area();
    let here = bench.map;
    let mut entries = std::vec::Vec::new();
    let mut mapped = 0;
    for kind in [0, MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE] {
        for data in [0, MAP_MEM_USE_DATA_ADDR] {
            let permission = kind | data;
            let named = entry(&mut bench, base + FIRST, SIZE, permission | RW).unwrap();
            entries.push(named);
            for offset in [0, 0x40, 0xFC0, 0x1000, 0x1040] {
                for size in [0x40, 0x80, 0xFC0, 0x1000, 0x1FC0, 0x4040, 0x4FC0] {
                    for flags in [1, 1 | RETURN] {
                        for copy in [false, true] {
                            let request = VmMap {
                                offset,
                                flags,
                                copy,
                                ..anywhere(size, RW)
                            };
                            let said = map(&mut bench, named, request);
                            let what = std::format!("{permission:#x} {request:?}");
                            match expected(permission, offset, size, flags) {
                                None => assert_eq!(said, Err(Kern::InvalidArgument), "{what}"),
                                Some((place, low)) => {
                                    let at = said.unwrap_or_else(|code| panic!("{code} {what}"));
                                    assert_eq!(at % PAGE, low, "{what}");
                                    let byte = bench.read(here, at);
                                    assert_eq!(byte, Ok(byte_at(place)), "{what}");
                                    let length = (low + size).next_multiple_of(PAGE);
                                    bench.deallocate(at - low, length).unwrap();
                                    mapped += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(mapped > 400, "{mapped}");
    nothing_is_left(bench, &entries);
}

#[test]
fn c0305_c0308_c0365_windows_that_overflow() {
    let (mut bench, base) = area();
    let copied = MAP_MEM_VM_COPY | MAP_MEM_USE_DATA_ADDR | RW;
    let pieces = entry(&mut bench, base + FIRST, SIZE, copied).unwrap();
    let plain = entry(&mut bench, base, 2 * PAGE + 1, RW).unwrap();
    for (named, offset, size, flags) in [
        (pieces, 0, u64::MAX, 1),
        (pieces, 0x8000u64.wrapping_neg(), 0x4000, 1 | RETURN),
        (pieces, u64::MAX, 1, 1 | RETURN),
        (plain, PAGE, u64::MAX, 1),
        (plain, 0xFFFF_FFFF_FFFF_F000, PAGE, 1),
        (plain, 0, 4 * PAGE, 1),
    ] {
        let request = VmMap {
            offset,
            flags,
            ..anywhere(size, RW)
        };
        let said = map(&mut bench, named, request);
        assert_eq!(said, Err(Kern::InvalidArgument), "{request:?}");
    }
    assert!(map(&mut bench, plain, anywhere(3 * PAGE, RW)).is_ok());
    nothing_is_left(bench, &[pieces, plain]);
}

#[test]
fn c0373_c0374_pieces_keep_their_tags_unless_one_is_given() {
    let mut bench = bench();
    let base = 0x40_0000;
    for piece in 0..3u64 {
        let tag = 100 + piece as u32;
        bench
            .allocate(base + piece * PAGE, PAGE, tag << 24)
            .unwrap();
    }
    let tags = |bench: &mut Bench, at: u64| {
        [0, 1, 2].map(|piece| bench.region(at + piece * PAGE).unwrap().user_tag)
    };
    let mut entries = std::vec::Vec::new();
    for kind in [MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE] {
        let named = entry(&mut bench, base, 3 * PAGE, kind | RW).unwrap();
        entries.push(named);
        for copy in [false, true] {
            let request = VmMap {
                copy,
                ..anywhere(3 * PAGE, RW)
            };
            let at = map(&mut bench, named, request).unwrap();
            assert_eq!(tags(&mut bench, at), [100, 101, 102]);
            let request = VmMap {
                flags: 1 | 200 << 24,
                ..request
            };
            let at = map(&mut bench, named, request).unwrap();
            assert_eq!(tags(&mut bench, at), [200; 3]);
        }
        // Other flags have no meaning for pieces.
        for flag in [
            MapFlags::PERMANENT,
            MapFlags::NO_CACHE,
            MapFlags::RANDOM_ADDR,
        ] {
            let request = VmMap {
                flags: 1 | flag.bits(),
                ..anywhere(3 * PAGE, RW)
            };
            let said = map(&mut bench, named, request);
            assert_eq!(said, Err(Kern::InvalidArgument), "{flag:?}");
        }
    }
    let here = bench.map;
    let [copied, shared] = entries[..] else {
        panic!()
    };
    let of_copy = map(&mut bench, copied, anywhere(3 * PAGE, RW)).unwrap();
    let of_share = map(&mut bench, shared, anywhere(3 * PAGE, RW)).unwrap();
    bench.write(here, base + PAGE, 9).unwrap();
    assert_eq!(bench.read(here, of_copy + PAGE), Ok(0));
    assert_eq!(bench.read(here, of_share + PAGE), Ok(9));
    nothing_is_left(bench, &entries);
}

#[test]
fn each_mask_leaves_out_what_the_entry_does_not_give() {
    let mut bench = bench();
    let named = entry(&mut bench, A, PAGE, READ).unwrap();
    let request = |protection, max_protection| VmMap {
        protection,
        max_protection,
        ..anywhere(PAGE, READ)
    };
    for (cur, max, expected) in [
        (RW | 0x40, RW | 0x40, Ok(())),
        (READ, RW | 0x40, Ok(())),
        (RW | 0x40, RW, Err(Kern::InvalidRight)),
        (RW, RW | 0x40, Err(Kern::InvalidRight)),
        (0x20, 0x20, Err(Kern::InvalidArgument)),
    ] {
        let said = map(&mut bench, named, request(cur, max));
        assert_eq!(said.map(|_| ()), expected, "{cur:#x} {max:#x}");
        if let Ok(at) = said {
            let region = bench.region(at).unwrap();
            assert_eq!((region.protection, region.max_protection), (READ, READ));
        }
    }
    nothing_is_left(bench, &[named]);
}

#[test]
fn c0057_c0087_c0154_to_c0165_c0217_c0218_what_is_malformed() {
    let mut bench = bench();
    let plain = anywhere(PAGE, RW);
    let refused = [
        VmMap {
            flags: 0,
            address: 0xFFFF_FFFF_FFFF_F000,
            size: 1,
            ..plain
        },
        VmMap { size: 0, ..plain },
        VmMap {
            size: u64::MAX,
            ..plain
        },
        VmMap {
            protection: 0x23,
            max_protection: 0x23,
            ..plain
        },
        VmMap {
            max_protection: READ,
            ..plain
        },
        VmMap {
            protection: 8,
            max_protection: 15,
            ..plain
        },
        VmMap {
            inheritance: 3,
            ..plain
        },
        VmMap { offset: 1, ..plain },
        VmMap {
            flags: 1 | 0x400,
            ..plain
        },
        VmMap {
            flags: 1 | 0x1_0000,
            ..plain
        },
        VmMap {
            flags: 1 | MapFlags::RESILIENT_MEDIA.bits(),
            ..plain
        },
    ];
    let size = bench.core.maps.get(bench.map).unwrap().size;
    for request in refused {
        let said = bench.call(Request::VmMap(request)).map(|_| ());
        assert_eq!(said, Err(Kern::InvalidArgument), "{request:?}");
    }
    assert_eq!(bench.core.maps.get(bench.map).unwrap().size, size);
    let masked = VmMap {
        protection: 0x43,
        max_protection: 0x43,
        ..plain
    };
    assert!(bench.call(Request::VmMap(masked)).is_ok());
    let hints = MapFlags::USER_MAP
        .difference(MapFlags::PURGABLE | MapFlags::OVERWRITE | MapFlags::TAG | MapFlags::PERMANENT);
    let request = VmMap {
        flags: hints.bits(),
        ..plain
    };
    assert!(bench.call(Request::VmMap(request)).is_ok());
}

#[test]
fn purgeable_memory_is_anonymous() {
    let mut bench = bench();
    let named = entry(&mut bench, 0, PAGE, MAP_MEM_NAMED_CREATE | RW).unwrap();
    let request = VmMap {
        flags: 1 | MapFlags::PURGABLE.bits(),
        ..anywhere(PAGE, RW)
    };
    let said = map(&mut bench, named, request);
    assert_eq!(said, Err(Kern::InvalidArgument));
    let large = VmMap {
        size: 0x1_0000_0000 * PAGE,
        ..request
    };
    let said = bench.call(Request::VmMap(large)).map(|_| ());
    assert_eq!(said, Err(Kern::InvalidArgument));
    assert!(bench.call(Request::VmMap(request)).is_ok());
    nothing_is_left(bench, &[named]);
}

#[test]
fn a_dead_name_is_not_anonymous_memory() {
    let mut bench = bench();
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Dead(RightId(5));
    let said = bench.ask(Request::VmMap(anywhere(PAGE, RW)), rights);
    assert_eq!(said.map(|_| ()), Err(Kern::InvalidArgument));
    let own = PortOf::MapRead(bench.map);
    let said = bench.ask(Request::VmMap(anywhere(PAGE, RW)), with(own));
    assert_eq!(said.map(|_| ()), Err(Kern::InvalidArgument));
}

#[test]
fn an_entry_mapped_over_others_takes_their_place() {
    let mut bench = bench();
    let named = entry(&mut bench, A, 4 * PAGE, MAP_MEM_VM_SHARE | RW).unwrap();
    let request = VmMap {
        address: B,
        flags: MapFlags::OVERWRITE.bits(),
        ..anywhere(4 * PAGE, RW)
    };
    assert_eq!(map(&mut bench, named, request), Ok(B));
    assert_eq!(reads(&mut bench, B), [1, 2, 3, 4]);
    nothing_is_left(bench, &[named]);
}
