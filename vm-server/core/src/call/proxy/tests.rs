//! Handles to pagers' memory: what they show, how they nest, and that no right is lost.

extern crate std;

use super::*;
use crate::call::vm_copy::tests::{
    A, B, MAX, READ, RW, anywhere, bench, entry, map, nothing_is_left,
};
use crate::effect::Effect;
use crate::event::{Event, NO_RIGHTS, RightId, Rights};
use crate::map::tests::{Bench, PAGE};
use ipc_protocol::vm_map::{MAP_MEM_VM_COPY, Request, VmMap};
use ipc_protocol::vm_share::Request as Share;

const HOST: RightId = RightId(3);
const FILE: RightId = RightId(7);

fn proxy(bench: &mut Bench, args: (u64, u64, u32), right: PortRef) -> Result<PortOf, Kern> {
    let (start, length, max_protection) = args;
    let request = MemoryObjectCreateProxy {
        max_protection,
        count: 1,
        offset: 0,
        start,
        length,
    };
    ask(bench, Share::MemoryObjectCreateProxy(request), right)
}

fn ask(bench: &mut Bench, request: Share, right: PortRef) -> Result<PortOf, Kern> {
    let mut rights = NO_RIGHTS;
    rights[0] = right;
    let reply = bench.ask(Request::Share(request), rights)?;
    reply.right.ok_or(Kern::Failure)
}

/// Sends a request with a foreign right and looks what becomes of the right.
fn released(bench: &mut Bench, request: Share, rights: Rights) -> (Option<Kern>, usize) {
    let call = Event::Call {
        call: crate::call::Call::Map(bench.map, Request::Share(request)),
        rights,
        reply: Some(bench.token()),
    };
    let effects = bench.handle(call);
    let given_back = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Release(FILE, 1)))
        .count();
    let code = effects.iter().find_map(|effect| match effect {
        Effect::Reply { answer, .. } => answer.err(),
        _ => None,
    });
    (code, given_back)
}

#[test]
fn c0481_what_is_malformed_gives_the_right_back() {
    let mut bench = bench();
    let plain = MemoryObjectCreateProxy {
        max_protection: RW,
        count: 1,
        offset: 0,
        start: 0,
        length: PAGE,
    };
    let mut rights = NO_RIGHTS;
    rights[0] = PortRef::Foreign(FILE);
    for request in [
        MemoryObjectCreateProxy {
            offset: 4096,
            ..plain
        },
        MemoryObjectCreateProxy { count: 2, ..plain },
        MemoryObjectCreateProxy { count: 0, ..plain },
        MemoryObjectCreateProxy {
            start: u64::MAX - PAGE + 1,
            ..plain
        },
        MemoryObjectCreateProxy { start: 1, ..plain },
        MemoryObjectCreateProxy { length: 0, ..plain },
        MemoryObjectCreateProxy {
            max_protection: 8,
            ..plain
        },
    ] {
        let said = released(&mut bench, Share::MemoryObjectCreateProxy(request), rights);
        assert_eq!(said, (Some(Kern::InvalidArgument), 1), "{request:?}");
    }
    for right in [PortRef::None, PortRef::Dead(FILE)] {
        let said = ask(&mut bench, Share::MemoryObjectCreateProxy(plain), right);
        assert_eq!(said, Err(Kern::InvalidName));
    }
    let copy = PortRef::Own(PortOf::MapRead(bench.map));
    let said = ask(&mut bench, Share::MemoryObjectCreateProxy(plain), copy);
    assert_eq!(said, Err(Kern::InvalidArgument));
    nothing_is_left(bench, &[]);
}

#[test]
fn c0484_windows_and_rights_intersect_at_each_level() {
    let mut bench = bench();
    let here = bench.map;
    let named = entry(&mut bench, A, 4 * PAGE, RW).unwrap();
    let outer = proxy(&mut bench, (PAGE, 2 * PAGE, READ), PortRef::Own(named)).unwrap();
    let inner = proxy(&mut bench, (PAGE, 4 * PAGE, RW), PortRef::Own(outer)).unwrap();
    let two = map(&mut bench, inner, anywhere(2 * PAGE, READ));
    assert_eq!(two, Err(Kern::InvalidArgument));
    let write = map(&mut bench, inner, anywhere(PAGE, RW));
    assert_eq!(write, Err(Kern::InvalidRight));
    let at = map(&mut bench, inner, anywhere(PAGE, READ)).unwrap();
    bench.write(here, A + 2 * PAGE, 30).unwrap();
    assert_eq!(bench.read(here, at), Ok(30));
    let beyond = proxy(&mut bench, (PAGE, PAGE, RW), PortRef::Own(inner));
    assert_eq!(beyond, Err(Kern::InvalidArgument));
    // Of a snapshot, too.
    let copy = entry(&mut bench, A, 2 * PAGE, RW | MAP_MEM_VM_COPY).unwrap();
    let of_copy = proxy(&mut bench, (PAGE, PAGE, RW), PortRef::Own(copy)).unwrap();
    bench.write(here, A + PAGE, 20).unwrap();
    let at = map(&mut bench, of_copy, anywhere(PAGE, RW)).unwrap();
    assert_eq!(bench.read(here, at), Ok(2));
    nothing_is_left(bench, &[named, outer, inner, copy, of_copy]);
}

#[test]
fn a_region_proxy_ends_where_its_entry_does() {
    let mut bench = bench();
    let here = bench.map;
    bench.protect(A, 4 * PAGE, true, READ).unwrap();
    let mut region = |address, length, max_protection| {
        let request = VmRegionCreateProxy {
            address,
            max_protection,
            length,
        };
        ask(
            &mut bench,
            Share::VmRegionCreateProxy(request),
            PortRef::None,
        )
    };
    for (address, length, prot, code) in [
        (A + PAGE, 4 * PAGE, READ, Kern::InvalidArgument),
        (A, 0, READ, Kern::InvalidArgument),
        (A, u64::MAX, READ, Kern::InvalidArgument),
        (A, PAGE, 8, Kern::InvalidArgument),
        (MAX, PAGE, READ, Kern::NoSpace),
    ] {
        assert_eq!(region(address, length, prot), Err(code), "{address:#x}");
    }
    let handle = region(A + PAGE + 5, 2 * PAGE, RW).unwrap();
    // A hole goes on to the entry above.
    let above = region(B - PAGE, 4 * PAGE, RW).unwrap();
    let write = map(&mut bench, handle, anywhere(PAGE, RW));
    assert_eq!(write, Err(Kern::InvalidRight));
    let at = map(&mut bench, handle, anywhere(2 * PAGE, READ)).unwrap();
    assert_eq!(bench.read(here, at), Ok(2));
    let at = map(&mut bench, above, anywhere(4 * PAGE, RW)).unwrap();
    bench.write(here, at, 44).unwrap();
    assert_eq!(bench.read(here, B), Ok(44));
    nothing_is_left(bench, &[handle, above]);
}

fn memory_object(
    bench: &mut Bench,
    (internal, size, protection): (bool, u64, u32),
    (host, pager): (PortRef, PortRef),
) -> Result<PortOf, Kern> {
    let request = MachMemoryObjectMemoryEntry {
        internal,
        size,
        protection,
    };
    let mut rights = NO_RIGHTS;
    rights[MachMemoryObjectMemoryEntry::HOST] = host;
    rights[MachMemoryObjectMemoryEntry::PAGER] = pager;
    let request = Request::Share(Share::MachMemoryObjectMemoryEntry(request));
    bench.ask(request, rights)?.right.ok_or(Kern::Failure)
}

#[test]
fn c0093_c0094_c0441_an_entry_of_a_memory_object() {
    let mut bench = bench();
    bench.core.config.host = Some(HOST);
    let here = bench.map;
    let host = PortRef::Foreign(HOST);
    for (args, rights, code) in [
        (
            (true, PAGE, RW),
            (PortRef::None, PortRef::None),
            Kern::InvalidHost,
        ),
        (
            (true, 0, RW),
            (PortRef::Foreign(FILE), PortRef::None),
            Kern::InvalidHost,
        ),
        ((true, 0, RW), (host, PortRef::None), Kern::InvalidArgument),
        (
            (true, u64::MAX, RW),
            (host, PortRef::None),
            Kern::InvalidArgument,
        ),
        (
            (true, PAGE, 8),
            (host, PortRef::None),
            Kern::InvalidArgument,
        ),
        (
            (false, PAGE, RW),
            (host, PortRef::None),
            Kern::InvalidArgument,
        ),
        (
            (true, PAGE, RW),
            (host, PortRef::Dead(FILE)),
            Kern::InvalidArgument,
        ),
    ] {
        let said = memory_object(&mut bench, args, rights);
        assert_eq!(said, Err(code), "{args:?}");
    }
    let fresh = memory_object(&mut bench, (true, 2 * PAGE, RW), (host, PortRef::None)).unwrap();
    let one = map(&mut bench, fresh, anywhere(2 * PAGE, RW)).unwrap();
    let two = map(&mut bench, fresh, anywhere(2 * PAGE, RW)).unwrap();
    bench.write(here, one, 5).unwrap();
    assert_eq!(bench.read(here, two), Ok(5));
    // A pager's: all mappings are of one object, which the entry keeps.
    let objects = bench.core.objects.len();
    let pager = PortRef::Foreign(FILE);
    let file = memory_object(&mut bench, (false, PAGE, READ), (host, pager)).unwrap();
    for _ in 0..2 {
        map(&mut bench, file, anywhere(PAGE, READ)).unwrap();
    }
    assert_eq!(bench.core.objects.len(), objects + 1);
    let direct = VmMap {
        max_protection: READ,
        ..anywhere(PAGE, READ)
    };
    let mut rights = NO_RIGHTS;
    rights[0] = pager;
    bench.ask(Request::VmMap(direct), rights).unwrap();
    assert_eq!(bench.core.objects.len(), objects + 1);
    let write = map(&mut bench, file, anywhere(PAGE, RW));
    assert_eq!(write, Err(Kern::InvalidRight));
}
