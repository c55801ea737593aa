//! The calls that ask what is mapped and resident.

use ipc_abi::Kern;
use ipc_protocol::vm_inspect::{self, VmPageQuery, VmPageRangeQuery, VmRegionRecurse};
use ipc_protocol::vm_map::{Request, VmRegion};

use super::{Done, P, Pages, Right, Tried, copies, covering};

/// The flavors and the words that each takes.
const FLAVORS: [(u32, u32); 4] = [(9, 9), (10, 8), (12, 5), (13, 9)];
/// Words of vm_region_recurse, at least.
const RECURSE: u32 = 12;
/// Bytes of a disposition.
const DISPOSITION: u64 = 4;

/// The page that has to be told of: that of the address, or the next above.
fn found(pages: &Pages, address: u64) -> Result<Done, Kern> {
    let next = pages.range(address / P..).next();
    next.map(|(number, _)| Done::Region(*number))
        .ok_or(Kern::InvalidAddress)
}

/// R194-196.
pub(super) fn region(pages: &Pages, address: u64, flavor: u32, count: u32) -> Tried {
    let request = Request::VmRegion(VmRegion {
        address,
        flavor,
        count,
    });
    Tried::new(request, || {
        let known = FLAVORS.iter().find(|(known, _)| *known == flavor);
        known
            .filter(|(_, words)| count >= *words)
            .ok_or(Kern::InvalidArgument)?;
        found(pages, address)
    })
}

/// R78, R194-196; no other map is shown here.
pub(super) fn recurse(pages: &Pages, address: u64, depth: u32, count: u32) -> Tried {
    let request = vm_inspect::Request::VmRegionRecurse(VmRegionRecurse {
        address,
        depth,
        count,
    });
    Tried::new(Request::Inspect(request), || match count < RECURSE {
        true => Err(Kern::InvalidArgument),
        false => found(pages, address),
    })
}

/// C0405, R204.
pub(super) fn page(address: u64) -> Tried {
    let request = vm_inspect::Request::VmPageQuery(VmPageQuery { address });
    Tried::new(Request::Inspect(request), || {
        let end = (address / P * P).checked_add(P);
        end.map(|_| Done::Page(address / P))
            .ok_or(Kern::InvalidAddress)
    })
}

/// C0070, C0085, R204.
pub(super) fn pages(
    pages: &Pages,
    (address, size): (u64, u64),
    (dispositions, count): (u64, u64),
    right: Right,
) -> Tried {
    let request = vm_inspect::Request::VmPageRangeQuery(VmPageRangeQuery {
        address,
        size,
        dispositions,
        count,
    });
    let wanted = || {
        let bytes = count.checked_mul(DISPOSITION);
        let end = bytes.and_then(|bytes| dispositions.checked_add(bytes));
        end.filter(|_| right == Right::Map)
            .ok_or(Kern::InvalidArgument)?;
        if size == 0 {
            return Ok(Done::Count(count));
        }
        let (first, end) = covering(address, size).ok_or(Kern::InvalidArgument)?;
        let told = count.min(end - first);
        if told == 0 {
            return Ok(Done::Count(0));
        }
        copies::writable(pages, dispositions, told * DISPOSITION)?;
        Ok(Done::Dispositions(dispositions, first, told))
    };
    let tried = Tried::new(Request::Inspect(request), wanted).with(right);
    let is_write = !matches!(tried.wanted, Err(Kern::InvalidArgument));
    Tried {
        // Up to where the memory ends, if it begins there.
        tears: is_write && copies::writable(pages, dispositions, 1).is_ok(),
        ..tried
    }
}
