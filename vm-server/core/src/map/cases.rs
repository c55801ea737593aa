//! The rows of the Mach case table that a map alone decides, one test a row, named by its id.
//!
//! Each row starts with a map that holds one allocation of four pages at [`AREA`]. A call that is
//! refused must leave the map as it was.

extern crate std;

use std::vec;

use ipc_abi::Kern;
use ipc_abi::layout::{USER_MAX, USER_MIN};
use ipc_abi::types::MapFlags;
use ipc_protocol::vm_map::{self, Request, VmMap};

use super::tests::{Bench, PAGE};

const AREA: u64 = 0x10_0000;
const ANYWHERE: u32 = MapFlags::ANYWHERE.bits();
const FIXED: u32 = 0;
const OVERWRITE: u32 = MapFlags::OVERWRITE.bits();

/// Anonymous memory of a page, anywhere, read and write allowed.
const MAP: VmMap = VmMap {
    address: 0,
    size: PAGE,
    mask: 0,
    flags: ANYWHERE,
    offset: 0,
    copy: false,
    protection: 3,
    max_protection: 7,
    inheritance: 1,
};

fn bench() -> Bench {
    let mut bench = Bench::new(USER_MIN, USER_MAX);
    bench.allocate(AREA, 4 * PAGE, FIXED).unwrap();
    bench
}

impl Bench {
    fn map(&mut self, request: VmMap) -> Result<u64, Kern> {
        match self.call(Request::VmMap(request))? {
            vm_map::Reply::VmMap(reply) => Ok(reply.address),
            other => panic!("{other:?}"),
        }
    }
}

/// `id: call => answer`: the answer is an error, and the map stays as it was.
macro_rules! refused {
    ($($(#[doc = $doc:literal])+ $id:ident: $call:ident($($arg:expr),*) => $code:ident;)+) => {$(
        $(#[doc = $doc])+
        #[test]
        fn $id() {
            let mut bench = bench();
            let before = bench.picture();
            assert_eq!(bench.$call($($arg),*).map(|_| ()), Err(Kern::$code));
            assert_eq!(bench.picture(), before);
        }
    )+};
}

refused! {
    /// The sum wraps by one.
    c0001: deallocate(1, u64::MAX) => InvalidArgument;
    /// The sum is exactly 2^64.
    c0002: deallocate(0x1000, 0xFFFF_FFFF_FFFF_F000) => InvalidArgument;
    /// The last page.
    c0003: deallocate(0xFFFF_FFFF_FFFF_F000, 0x1000) => InvalidArgument;
    /// The last byte.
    c0004: deallocate(u64::MAX, 1) => InvalidArgument;
    /// The end rounds to 2^64.
    c0007: deallocate(0xFFFF_FFFF_FFFF_EFFF, 3) => InvalidArgument;
    /// From zero, the end rounds to 2^64.
    c0008: deallocate(0, u64::MAX) => InvalidArgument;
    /// The sum is exactly 2^64.
    c0010: protect(0x1000, 0xFFFF_FFFF_FFFF_F000, false, 1) => InvalidArgument;
    /// The last byte.
    c0012: protect(u64::MAX, 1, false, 1) => InvalidArgument;
    /// The end rounds to 2^64.
    c0013: protect(0xFFFF_FFFF_FFFF_F000, 1, false, 1) => InvalidArgument;
    /// Starts in the last page but one, the end rounds to 2^64.
    c0015: protect(0xFFFF_FFFF_FFFF_EFFF, 3, false, 1) => InvalidArgument;
    /// From zero, the end rounds to 2^64.
    c0016: protect(0, u64::MAX, false, 1) => InvalidAddress;
    /// From zero, the end just above the last page boundary.
    c0017: protect(0, 0xFFFF_FFFF_FFFF_F001, false, 1) => InvalidAddress;
    /// The sum wraps by one.
    c0018: inherit(1, u64::MAX, 2) => InvalidArgument;
    /// The last page.
    c0019: inherit(0xFFFF_FFFF_FFFF_F000, 0x1000, 2) => InvalidArgument;
    /// The end rounds to 2^64.
    c0020: inherit(0xFFFF_FFFF_FFFF_F000, 1, 2) => InvalidArgument;
    /// The sum is exactly 2^64.
    c0023: behave(0x1000, 0xFFFF_FFFF_FFFF_F000, 1) => InvalidArgument;
    /// The end rounds to 2^64.
    c0026: behave(0xFFFF_FFFF_FFFF_F000, 1, 1) => NoSpace;
    /// The end is the last byte address.
    c0027: behave(0xFFFF_FFFF_FFFF_FFFE, 1, 1) => NoSpace;
    /// The sum is exactly 2^64.
    c0047: allocate(0x1000, 0xFFFF_FFFF_FFFF_F000, FIXED) => InvalidAddress;
    /// The last byte.
    c0049: allocate(u64::MAX, 1, FIXED) => InvalidAddress;
    /// The end rounds to 2^64.
    c0050: allocate(0xFFFF_FFFF_FFFF_F000, 1, FIXED) => InvalidAddress;
    /// The end rounds to 2^64: vm_map has another code than vm_allocate.
    c0057: map(VmMap { address: 0xFFFF_FFFF_FFFF_F000, size: 1, flags: FIXED, ..MAP })
        => InvalidArgument;
    /// Nothing is mapped by a size of 0.
    c0087: map(VmMap { size: 0, ..MAP }) => InvalidArgument;
    /// A size that rounds to 0 is an argument error.
    c0096: allocate(0, 0xFFFF_FFFF_FFFF_F001, ANYWHERE) => InvalidArgument;
    /// The largest size that does not is only too large.
    c0097: allocate(0, 0xFFFF_FFFF_FFFF_F000, ANYWHERE) => NoSpace;
    /// The size rounds to 0.
    c0099: map(VmMap { size: u64::MAX, ..MAP }) => InvalidArgument;
    /// Flags are looked at before size 0.
    c0107: allocate(0, 0, 0x400) => InvalidArgument;
    /// 3 is the retired donate-copy.
    c0112: inherit(AREA, PAGE, 3) => InvalidArgument;
    /// No such number.
    c0113: inherit(AREA, PAGE, 4) => InvalidArgument;
    /// No such number.
    c0114: inherit(AREA, PAGE, u32::MAX) => InvalidArgument;
    /// No such behaviour.
    c0116: behave(AREA, PAGE, 14) => InvalidArgument;
    /// No such behaviour.
    c0118: behave(AREA, PAGE, u32::MAX) => InvalidArgument;
    /// A bit that is no protection.
    c0145: protect(AREA, PAGE, false, 0x41) => InvalidArgument;
    /// A bit that is no protection.
    c0147: protect(AREA, PAGE, false, 0x81) => InvalidArgument;
    /// A bit that is no protection.
    c0148: protect(AREA, PAGE, false, 0x101) => InvalidArgument;
    /// A bit that is no protection.
    c0156: map(VmMap { protection: 0x23, max_protection: 0x23, ..MAP }) => InvalidArgument;
    /// The native call does not trim.
    c0159: map(VmMap { protection: 3, max_protection: 1, ..MAP }) => InvalidArgument;
    /// The native call does not trim.
    c0163: map(VmMap { protection: 1, max_protection: 0, ..MAP }) => InvalidArgument;
    /// The native call does not trim.
    c0165: map(VmMap { protection: 2, max_protection: 1, ..MAP }) => InvalidArgument;
    /// Page zero lies below the map.
    c0206: allocate(0, PAGE, FIXED) => InvalidAddress;
    /// The start, rounded by the mask, overflows.
    c0207: map(VmMap { address: 1, mask: u64::MAX, ..MAP }) => NoSpace;
    /// Size 0, whatever the mask.
    c0208: map(VmMap { size: 0, mask: 0x1_FFFF, ..MAP }) => InvalidArgument;
    /// Flags of superpages and purgeable memory together.
    c0216: allocate(0, PAGE, ANYWHERE | 0x1_0002) => InvalidArgument;
    /// Bit 3 is no protection.
    c0217: map(VmMap { protection: 8, ..MAP }) => InvalidArgument;
    /// Donate-copy.
    c0218: map(VmMap { inheritance: 3, ..MAP }) => InvalidArgument;
    /// No such number.
    c0218_b: map(VmMap { inheritance: u32::MAX, ..MAP }) => InvalidArgument;
    /// From the first page to 2^64.
    c0310: deallocate(PAGE, 0u64.wrapping_sub(PAGE)) => InvalidArgument;
    /// The sum wraps.
    c0351: protect(1, u64::MAX, false, 1) => InvalidArgument;
    /// What is there stays.
    c0409: map(VmMap { address: AREA + 3 * PAGE, size: 2 * PAGE, flags: FIXED, ..MAP }) => NoSpace;
    /// A hole behind the range's first pages.
    c0420: behave(AREA, 5 * PAGE, 1) => InvalidAddress;
    /// Nothing at or above.
    c0461: region(AREA + 4 * PAGE) => InvalidAddress;
    /// A hint above the map: the search does not wrap.
    c0497: map(VmMap { address: USER_MAX + PAGE, ..MAP }) => NoSpace;
}

/// Size 0 succeeds, at an unmapped and unaligned address, and gives address 0.
#[test]
fn c0075() {
    for flags in [FIXED, ANYWHERE] {
        assert_eq!(bench().allocate(0x1001, 0, flags), Ok(0));
    }
}

/// Size 0 changes nothing, not even with a protection that does not exist (c0105).
#[test]
fn c0077_c0105() {
    let mut bench = bench();
    let before = bench.picture();
    for protection in [1, u32::MAX] {
        assert!(bench.protect(0x1001, 0, false, protection).is_ok());
        assert!(bench.protect(AREA, 0, true, protection).is_ok());
    }
    assert_eq!(bench.picture(), before);
}

/// Size 0 succeeds.
#[test]
fn c0079() {
    assert!(bench().behave(0x1001, 0, 1).is_ok());
}

/// vm_region reports what vm_inherit set.
#[test]
fn c0109_c0110() {
    for number in [0, 1] {
        let mut bench = bench();
        assert!(bench.inherit(AREA, PAGE, number).is_ok());
        assert_eq!(bench.region(AREA).unwrap().inheritance, number);
    }
}

/// vm_region reports what vm_behavior_set set.
#[test]
fn c0119_to_c0122() {
    for number in 0..4 {
        let mut bench = bench();
        assert!(bench.behave(AREA + PAGE, PAGE, number).is_ok());
        assert_eq!(bench.region(AREA + PAGE).unwrap().behavior, number);
    }
}

/// Any protection within the maximum can be set.
#[test]
fn c0142_c0144() {
    for protection in [0, 3] {
        let mut bench = bench();
        assert!(bench.protect(AREA, PAGE, false, protection).is_ok());
        assert_eq!(bench.region(AREA).unwrap().protection, protection);
    }
}

/// The mask bit is accepted for anonymous memory, and means nothing there.
#[test]
fn c0154() {
    let mut bench = bench();
    let request = VmMap {
        protection: 0x43,
        max_protection: 0x43,
        ..MAP
    };
    let address = bench.map(request).unwrap();
    assert_eq!(bench.region(address).unwrap().max_protection, 3);
}

/// vm_allocate ignores the hint.
#[test]
fn c0212() {
    let mut bench = bench();
    let hint = 0xFFFF_FFFF_FFFF_F000;
    assert_eq!(bench.allocate(hint, PAGE, ANYWHERE), Ok(USER_MIN));
}

/// Each page of an allocation refuses another one.
#[test]
fn c0214() {
    let mut bench = bench();
    for page in 0..4 {
        let address = AREA + page * PAGE;
        assert_eq!(bench.allocate(address, PAGE, FIXED), Err(Kern::NoSpace));
    }
}

/// A size is rounded up to pages.
#[test]
fn c0219() {
    let mut bench = bench();
    let address = bench.allocate(0, 3 * PAGE + 1, ANYWHERE).unwrap();
    let region = bench.region(address).unwrap();
    assert_eq!((address % PAGE, region.size), (0, 4 * PAGE));
}

/// The second deallocation finds a hole and succeeds.
#[test]
fn c0311_c0313() {
    let mut bench = bench();
    assert!(bench.deallocate(AREA, 4 * PAGE).is_ok());
    assert!(bench.deallocate(AREA, 4 * PAGE).is_ok());
    assert_eq!(bench.picture(), vec![""; 0]);
}

/// Size 0 at any address.
#[test]
fn c0312() {
    let mut bench = bench();
    let before = bench.picture();
    let middle = AREA + PAGE;
    for address in [
        0,
        1,
        PAGE - 1,
        PAGE,
        AREA,
        middle,
        middle + 1,
        1 << 63,
        u64::MAX,
    ] {
        assert!(bench.deallocate(address, 0).is_ok());
    }
    assert_eq!(bench.picture(), before);
}

/// A lowered maximum does not come back.
#[test]
fn c0352_c0399() {
    let mut bench = bench();
    assert!(bench.protect(AREA, 4 * PAGE, true, 1).is_ok());
    let region = bench.region(AREA).unwrap();
    assert_eq!((region.protection, region.max_protection), (1, 1));
    let refused = Err(Kern::ProtectionFailure);
    assert_eq!(bench.protect(AREA, PAGE, false, 3), refused);
    assert_eq!(bench.protect(AREA, PAGE, true, 3), refused);
}

/// A hole in the middle: not even the entries before it change.
#[test]
fn c0397() {
    let mut bench = bench();
    bench.allocate(AREA + 6 * PAGE, PAGE, FIXED).unwrap();
    let before = bench.picture();
    let said = bench.protect(AREA, 7 * PAGE, false, 1);
    assert_eq!(said, Err(Kern::InvalidAddress));
    assert_eq!(bench.picture(), before);
}

/// In a hole, the next higher region is described, with its own start.
#[test]
fn c0402() {
    let mut bench = bench();
    assert_eq!(bench.region(USER_MIN).unwrap().address, AREA);
    assert_eq!(bench.region(AREA + PAGE).unwrap().address, AREA);
}

/// What sticks out of the map is ignored, what lies inside is removed (the pick of rule 147).
#[test]
fn deallocation_is_clamped_to_the_map() {
    let mut bench = bench();
    assert!(bench.deallocate(0, 1 << 63).is_ok());
    assert_eq!(bench.picture(), vec![""; 0]);
}

/// First fit from the hint, and from the bottom for vm_allocate (rules 84, 85).
#[test]
fn placement_is_first_fit() {
    let mut bench = bench();
    let map = |bench: &mut Bench, address| bench.map(VmMap { address, ..MAP });
    assert_eq!(map(&mut bench, AREA), Ok(AREA + 4 * PAGE));
    assert_eq!(map(&mut bench, AREA + 8 * PAGE + 5), Ok(AREA + 8 * PAGE));
    assert_eq!(bench.allocate(0, AREA, ANYWHERE), Ok(AREA + 9 * PAGE));
    assert_eq!(bench.allocate(0, PAGE, ANYWHERE), Ok(USER_MIN));
}

/// Rules 86 and 87: the mask comes before the bounds, the bounds before what is there.
#[test]
fn fixed_checks_mask_then_bounds_then_space() {
    let mut bench = bench();
    let at = |address, mask| VmMap {
        address,
        mask,
        flags: FIXED,
        ..MAP
    };
    assert_eq!(bench.map(at(PAGE, PAGE)), Err(Kern::NoSpace));
    assert_eq!(bench.map(at(PAGE, 0xFFF)), Err(Kern::InvalidAddress));
    assert_eq!(bench.map(at(USER_MAX, 0)), Err(Kern::InvalidAddress));
    assert_eq!(bench.map(at(AREA, 0)), Err(Kern::NoSpace));
    let over = VmMap {
        flags: OVERWRITE,
        ..at(AREA + PAGE, 0)
    };
    assert_eq!(bench.map(over), Ok(AREA + PAGE));
    let aligned = VmMap {
        mask: 0x1F_FFFF,
        ..MAP
    };
    assert_eq!(bench.map(aligned), Ok(0x20_0000));
}
