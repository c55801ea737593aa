//! mach_make_memory_entry: permission words, parents, reuse, sizes.

extern crate std;

use super::*;
use crate::call::Call;
use crate::call::vm_copy::tests::{
    A, B, MIN, READ, RW, anywhere, bench, entry, map, nothing_is_left, reads, with,
};
use crate::effect::Effect;
use crate::event::{Event, NO_RIGHTS, Rights};
use crate::map::tests::{Bench, PAGE};
use ipc_protocol::memory_entry::{
    self, MachMemoryEntryOwnership, MemoryEntryDescribe, MemoryEntryDescribeReply,
};
use ipc_protocol::vm_map::{MAP_MEM_IO, MAP_MEM_WCOMB, Request};

/// What is answered: the right, if there is one, and the size.
type Made = Result<(Option<PortOf>, u64), Kern>;

fn make(bench: &mut Bench, parent: Option<PortOf>, args: (u64, u64, u32)) -> Made {
    let (offset, size, permission) = args;
    let request = MachMakeMemoryEntry {
        size,
        offset,
        permission,
    };
    let rights: Rights = parent.map_or(NO_RIGHTS, with);
    let reply = bench.ask(Request::MachMakeMemoryEntry(request), rights)?;
    match reply.message {
        Message::Map(vm_map::Reply::MachMakeMemoryEntry(said)) => Ok((reply.right, said.size)),
        other => panic!("{other:?}"),
    }
}

fn ask_entry(
    bench: &mut Bench,
    named: PortOf,
    request: memory_entry::Request,
) -> Result<memory_entry::Reply, Kern> {
    let PortOf::Entry(id) = named else {
        panic!("{named:?}");
    };
    match bench.ask_on(Call::Entry(id, request), NO_RIGHTS)?.message {
        Message::Entry(reply) => Ok(reply),
        other => panic!("{other:?}"),
    }
}

fn describe(bench: &mut Bench, named: PortOf) -> MemoryEntryDescribeReply {
    let request = memory_entry::Request::MemoryEntryDescribe(MemoryEntryDescribe {});
    match ask_entry(bench, named, request) {
        Ok(memory_entry::Reply::MemoryEntryDescribe(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn c0168_to_c0175_unknown_flags_are_refused_and_stray_protection_bits_left_out() {
    let mut bench = bench();
    let unknown = [0x100, 0x200, 0x400, 0x800, 0x1000, 10 << 24, 0xFF00_0000];
    for flag in unknown {
        let said = make(&mut bench, None, (A, PAGE, READ | flag));
        assert_eq!(said, Err(Kern::InvalidValue), "{flag:#x}");
    }
    let accepted = [
        0x8,
        0x10,
        0x80,
        MAP_MEM_GRAB_SECLUDED,
        MAP_MEM_LEDGER_TAGGED,
        MAP_MEM_IO,
        MAP_MEM_WCOMB,
    ];
    for flag in accepted {
        let (named, size) = make(&mut bench, None, (A, PAGE, READ | flag)).unwrap();
        assert_eq!(size, PAGE);
        assert_eq!(describe(&mut bench, named.unwrap()).protection, READ);
    }
}

#[test]
fn c0072_c0074_c0090_c0091_c0092_c0101_c0178_sizes() {
    let mut bench = bench();
    let named = bench.core.named.len();
    for (offset, size, permission, code) in [
        (1, u64::MAX, RW, Kern::InvalidArgument),
        (0xFFFF_FFFF_FFFF_F000, 1, RW, Kern::InvalidArgument),
        (A, 0, READ, Kern::InvalidArgument),
        (A, 0, READ | MAP_MEM_VM_COPY, Kern::InvalidArgument),
        (A, 0, READ | MAP_MEM_VM_SHARE, Kern::InvalidArgument),
        (
            0,
            u64::MAX,
            RW | MAP_MEM_NAMED_CREATE,
            Kern::InvalidArgument,
        ),
        (
            0,
            0xFFFF_FFFF_FFFF_F000,
            RW | MAP_MEM_NAMED_CREATE,
            Kern::Failure,
        ),
        (
            0,
            0x1_0000_0000 * PAGE,
            RW | MAP_MEM_NAMED_CREATE,
            Kern::Failure,
        ),
        (
            0,
            PAGE,
            READ | MAP_MEM_NAMED_CREATE | MAP_MEM_PURGABLE,
            Kern::InvalidArgument,
        ),
        (
            0,
            PAGE,
            RW | MAP_MEM_NAMED_CREATE | MAP_MEM_USE_DATA_ADDR,
            Kern::InvalidArgument,
        ),
        (A, 6 * PAGE, RW | MAP_MEM_VM_SHARE, Kern::InvalidAddress),
        (A, 6 * PAGE, RW | MAP_MEM_VM_COPY, Kern::InvalidAddress),
        (MIN, PAGE, READ, Kern::InvalidAddress),
    ] {
        let said = make(&mut bench, None, (offset, size, permission));
        assert_eq!(said, Err(code), "{offset:#x} {size:#x} {permission:#x}");
    }
    assert_eq!(bench.core.named.len(), named);
    let none = make(&mut bench, None, (0, 0, READ | MAP_MEM_NAMED_CREATE));
    assert_eq!(none, Ok((None, 0)));
    // Without a flag the first map entry cuts the size.
    bench.protect(A, PAGE, false, READ).unwrap();
    let (_, size) = make(&mut bench, None, (A, 4 * PAGE, READ)).unwrap();
    assert_eq!(size, PAGE);
    let (_, size) = make(&mut bench, None, (A, 4 * PAGE, READ | MAP_MEM_VM_SHARE)).unwrap();
    assert_eq!(size, 4 * PAGE);
    let (_, size) = make(&mut bench, None, (A + 8, 16, READ | MAP_MEM_USE_DATA_ADDR)).unwrap();
    assert_eq!(size, 24);
    let (_, size) = make(&mut bench, None, (A + 8, 16, READ)).unwrap();
    assert_eq!(size, PAGE);
}

#[test]
fn c0180_c0353_a_mask_must_leave_something() {
    let mut bench = bench();
    bench.protect(A, PAGE, true, READ).unwrap();
    for permission in [0x40, 0x42] {
        let said = make(&mut bench, None, (A, PAGE, permission | MAP_MEM_VM_SHARE));
        assert_eq!(said, Err(Kern::ProtectionFailure));
    }
    let said = make(&mut bench, None, (A, PAGE, RW | MAP_MEM_VM_SHARE));
    assert_eq!(said, Err(Kern::ProtectionFailure));
    let (named, _) = make(&mut bench, None, (A, PAGE, RW | 0x40 | MAP_MEM_VM_SHARE)).unwrap();
    assert_eq!(describe(&mut bench, named.unwrap()).protection, READ);
    // A snapshot needs to read, now.
    bench.protect(B, PAGE, false, 0).unwrap();
    let said = make(&mut bench, None, (B, PAGE, READ | MAP_MEM_VM_COPY));
    assert_eq!(said, Err(Kern::ProtectionFailure));
}

#[test]
fn c0366_c0367_a_parent_bounds_its_windows() {
    let mut bench = bench();
    let here = bench.map;
    let whole = entry(&mut bench, A, 4 * PAGE, RW).unwrap();
    let (window, size) = make(&mut bench, Some(whole), (PAGE, 2 * PAGE, RW)).unwrap();
    assert_eq!(size, 2 * PAGE);
    let at = map(&mut bench, window.unwrap(), anywhere(2 * PAGE, RW)).unwrap();
    bench.write(here, at, 20).unwrap();
    assert_eq!(reads(&mut bench, A), [1, 20, 3, 4]);
    let read_only = entry(&mut bench, A, PAGE, READ).unwrap();
    for (parent, args, code) in [
        (read_only, (0, PAGE, RW), Kern::ProtectionFailure),
        (whole, (3 * PAGE, 2 * PAGE, READ), Kern::InvalidArgument),
        (whole, (u64::MAX, 2, READ), Kern::InvalidArgument),
        (whole, (0, 0, READ), Kern::InvalidArgument),
        (PortOf::Map(here), (0, PAGE, READ), Kern::InvalidArgument),
    ] {
        let said = make(&mut bench, Some(parent), args);
        assert_eq!(said, Err(code), "{args:?}");
    }
    let nothing = make(&mut bench, Some(read_only), (0, PAGE, 0x42));
    assert_eq!(
        nothing,
        Err(Kern::ProtectionFailure),
        "a mask that leaves nothing"
    );
    let (masked, _) = make(&mut bench, Some(read_only), (0, PAGE, RW | 0x40)).unwrap();
    assert_eq!(describe(&mut bench, masked.unwrap()).protection, READ);
    let copy = entry(&mut bench, A, PAGE, RW | MAP_MEM_VM_COPY).unwrap();
    for permission in [READ, READ | MAP_MEM_VM_COPY, READ | MAP_MEM_VM_SHARE] {
        let said = make(&mut bench, Some(copy), (0, PAGE, permission));
        assert_eq!(said, Err(Kern::InvalidArgument), "{permission:#x}");
    }
    // A window keeps the place of its parent's first byte.
    let (byte, _) = make(
        &mut bench,
        None,
        (A + 8, PAGE, READ | MAP_MEM_USE_DATA_ADDR),
    )
    .unwrap();
    let (inner, size) = make(&mut bench, byte, (0x10, 0x20, READ | MAP_MEM_4K_DATA_ADDR)).unwrap();
    assert_eq!(size, 0x38);
    assert_eq!(describe(&mut bench, inner.unwrap()).data_offset, 0x18);
    let all = [whole, window.unwrap(), read_only, masked.unwrap(), copy];
    let rest = [byte.unwrap(), inner.unwrap()];
    nothing_is_left(bench, &[&all[..], &rest[..]].concat());
}

/// C0370: and a right to it more is counted.
#[test]
fn c0370_the_same_window_is_the_same_entry() {
    let mut bench = bench();
    let named = entry(&mut bench, A, 4 * PAGE, RW).unwrap();
    let view = map(&mut bench, named, anywhere(4 * PAGE, RW)).unwrap();
    for address in [A, view] {
        let again = make(
            &mut bench,
            Some(named),
            (address, 4 * PAGE, RW | MAP_MEM_NAMED_REUSE),
        );
        assert_eq!(again, Ok((Some(named), 4 * PAGE)));
    }
    let mut others = std::vec::Vec::new();
    for args in [
        (A, PAGE, RW | MAP_MEM_NAMED_REUSE),
        (B, 4 * PAGE, RW | MAP_MEM_NAMED_REUSE),
        (A, 4 * PAGE, 7 | MAP_MEM_NAMED_REUSE),
    ] {
        let (other, _) = make(&mut bench, Some(named), args).unwrap();
        assert_ne!(other, Some(named), "{args:?}");
        others.extend(other);
    }
    // An old notice, of before the second and third right, is too old; an answer that did not arrive
    // is none.
    let notice = |made| Event::NoSenders { port: named, made };
    let again = bench.handle(notice(1));
    assert!(again.contains(&Effect::WatchSenders(named)), "{again:?}");
    assert!(bench.handle(notice(u32::MAX)).is_empty());
    let gone = bench.handle(notice(2));
    assert!(gone.contains(&Effect::PortGone(named)), "{gone:?}");
    others.push(named);
    nothing_is_left(bench, &others);
}

#[test]
fn c0176_only_a_cache_mode() {
    let mut bench = bench();
    let named = entry(&mut bench, A, PAGE, RW).unwrap();
    let read_only = entry(&mut bench, A, PAGE, READ).unwrap();
    let share = entry(&mut bench, A, PAGE, RW | MAP_MEM_VM_SHARE).unwrap();
    let only = MAP_MEM_ONLY | READ;
    for (parent, permission, code) in [
        (None, only, Kern::InvalidArgument),
        (None, only | MAP_MEM_USE_DATA_ADDR, Kern::InvalidArgument),
        (Some(share), only, Kern::InvalidArgument),
        (
            Some(named),
            only | MAP_MEM_USE_DATA_ADDR,
            Kern::InvalidArgument,
        ),
        (Some(read_only), only | MAP_MEM_IO, Kern::InvalidRight),
    ] {
        let said = make(&mut bench, parent, (0, PAGE, permission));
        assert_eq!(said, Err(code), "{permission:#x}");
    }
    let said = make(&mut bench, Some(read_only), (0, PAGE, only));
    assert_eq!(said, Ok((None, PAGE)));
    let said = make(&mut bench, Some(named), (0, PAGE, only | MAP_MEM_WCOMB));
    assert_eq!(said, Ok((None, PAGE)));
    assert_eq!(describe(&mut bench, named).cache, 4);
}

#[test]
fn ownership_is_checked_and_changes_nothing() {
    let mut bench = bench();
    let named = entry(&mut bench, A, PAGE, RW).unwrap();
    let mut ask = |ledger_tag, flags| {
        let request = MachMemoryEntryOwnership { ledger_tag, flags };
        let request = memory_entry::Request::MachMemoryEntryOwnership(request);
        ask_entry(&mut bench, named, request).map(|_| ())
    };
    assert_eq!(ask(1, 0), Ok(()));
    assert_eq!(ask(u32::MAX, 3), Ok(()));
    assert_eq!(ask(6, 0), Err(Kern::InvalidArgument));
    assert_eq!(ask(1, 4), Err(Kern::InvalidArgument));
}

#[test]
fn an_entry_of_many_pieces_is_made_in_steps() {
    let mut bench = bench();
    let (here, base) = (bench.map, 0x40_0000);
    for piece in 0..150u64 {
        bench
            .allocate(base + piece * PAGE, PAGE, (1 + piece as u32 % 2) << 24)
            .unwrap();
    }
    let share = RW | MAP_MEM_VM_SHARE;
    let (named, size) = make(&mut bench, None, (base, 150 * PAGE, share)).unwrap();
    assert_eq!(size, 150 * PAGE);
    let at = map(&mut bench, named.unwrap(), anywhere(150 * PAGE, RW)).unwrap();
    bench.write(here, base + 149 * PAGE, 7).unwrap();
    assert_eq!(bench.read(here, at + 149 * PAGE), Ok(7));
    nothing_is_left(bench, &[named.unwrap()]);
}
