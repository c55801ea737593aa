//! Where mappings go, and in which order a fixed place is refused.

extern crate std;

use std::vec;

use ipc_abi::Kern;
use ipc_abi::layout::{USER_MAX, USER_MIN};
use ipc_abi::types::MapFlags;
use ipc_protocol::vm_map::{self, Request, VmMap};

use crate::map::tests::{Bench, PAGE};

const AREA: u64 = 0x10_0000;
const ANYWHERE: u32 = MapFlags::ANYWHERE.bits();
const FIXED: u32 = 0;
const OVERWRITE: u32 = MapFlags::OVERWRITE.bits();

/// Anonymous memory of a page, anywhere, read and write allowed.
const MAP: VmMap = VmMap::anywhere(PAGE);

/// A map with one allocation of four pages.
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

/// The pick of rule 147.
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
