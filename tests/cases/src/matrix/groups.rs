//! Which calls are tried on a range.

use alloc::vec::Vec;

use ipc_abi::layout::{USER_MAX, USER_MIN};
use ipc_protocol::vm_map;

use super::places::Remap;
use super::{AREA, COUNT, P, Pages, Right, Tried, copies, entries, places, questions, ranges};

const ONLY: u32 = vm_map::MAP_MEM_ONLY;

/// The calls of a group on a range.
pub type Calls = fn(&Pages, u64, u64) -> Vec<Tried>;

/// All groups.
pub const ALL: [(&str, Calls); 14] = [
    ("matrix::allocating_and_removing", allocating_and_removing),
    ("matrix::attributes_of_ranges", attributes_of_ranges),
    ("matrix::advice_on_ranges", advice_on_ranges),
    ("matrix::copies_of_ranges", copies_of_ranges),
    ("matrix::wired_ranges", wired_ranges),
    ("matrix::entries_of_ranges", entries_of_ranges),
    ("matrix::entries_with_every_flag", entries_with_every_flag),
    (
        "matrix::ranges_written_over_ranges",
        ranges_written_over_ranges,
    ),
    (
        "matrix::ranges_written_from_copies",
        ranges_written_from_copies,
    ),
    ("matrix::ranges_mapped_again", ranges_mapped_again),
    (
        "matrix::ranges_mapped_again_with_rights",
        ranges_mapped_again_with_rights,
    ),
    (
        "matrix::fresh_memory_with_every_word",
        fresh_memory_with_every_word,
    ),
    ("matrix::regions_at_addresses", regions_at_addresses),
    ("matrix::dispositions_of_ranges", dispositions_of_ranges),
];

/// Addresses at and around what is mapped, the map's ends and those of 64 bits.
#[must_use]
pub fn addresses() -> Vec<u64> {
    let mut all = Vec::from([0, 1, P - 1, P, P + 1]);
    for edge in [USER_MIN, AREA, USER_MAX] {
        all.extend([edge - P, edge - 1, edge, edge + 1, edge + P - 1]);
    }
    all.extend((1..=COUNT).map(|page| AREA + page * P));
    all.extend([1 << 47, 1 << 48, (1 << 63) - P, (1 << 63) - 1, 1 << 63]);
    all.extend([2 * P, P + 1, P, P - 1, 2, 1].map(u64::wrapping_neg));
    all
}

/// Sizes at limits, and those with which the sum is at one.
#[must_use]
pub fn sizes(address: u64) -> Vec<u64> {
    let mut all = Vec::from([0, 1, P - 1, P, P + 1, 2 * P, 3 * P, COUNT * P, 1 << 31]);
    all.extend([1 << 32, USER_MAX, (1 << 63) - 1, 1 << 63]);
    all.extend([P + 1, P, P - 1, 1].map(u64::wrapping_neg));
    let rest = address.wrapping_neg();
    all.extend([
        rest.wrapping_sub(P),
        rest.wrapping_sub(1),
        rest,
        rest.wrapping_add(1),
    ]);
    all.push(USER_MAX.wrapping_sub(address));
    all
}

/// Places that are written or mapped at, for calls with two ranges.
const PLACES: [u64; 13] = [
    0,
    1,
    USER_MIN - P,
    AREA,
    AREA + 5,
    AREA + 2 * P,
    AREA + P - 2,
    AREA + 7 * P,
    AREA + 16 * P,
    USER_MAX - P,
    USER_MAX,
    P.wrapping_neg(),
    u64::MAX,
];

fn allocating_and_removing(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    let flags = [0, 1, 0x4000, 0x4001, 0x100, 5 << 24];
    let mut calls: Vec<_> = flags
        .map(|flags| ranges::allocate(pages, address, size, flags))
        .into();
    calls.push(ranges::deallocate(pages, address, size));
    calls
}

fn attributes_of_ranges(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    let mut calls = Vec::new();
    for protection in [0, 1, 3, 7, 8, u32::MAX] {
        for set_maximum in [false, true] {
            let range = (address, size);
            calls.push(ranges::protect(pages, range, set_maximum, protection));
        }
    }
    for inheritance in [0, 1, 2, 3, u32::MAX] {
        calls.push(ranges::inherit(pages, address, size, inheritance));
    }
    calls
}

fn advice_on_ranges(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    let mut calls = Vec::new();
    for behavior in [0, 1, 2, 3, 4, 5, 7, 12, 13, u32::MAX] {
        calls.push(ranges::behavior(pages, address, size, behavior));
    }
    for (attribute, value) in [(1, 2), (1, 6), (1, 1), (2, 2), (1, 9)] {
        let range = (address, size);
        calls.push(ranges::attribute(pages, range, attribute, value));
    }
    for flags in [0, 1, 2, 3, 0x20, 0x22, 0x12, 0x100] {
        calls.push(ranges::sync(pages, address, size, flags));
    }
    calls
}

fn copies_of_ranges(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    [false, true]
        .map(|destroys| copies::copyin(pages, address, size, destroys))
        .into()
}

fn wired_ranges(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    let mut calls: Vec<_> = [0, 1, 3, 4, 8, u32::MAX]
        .map(|access| ranges::wire(pages, (address, size), access, Right::Host))
        .into();
    calls.extend(Right::ALL.map(|right| ranges::wire(pages, (address, size), 1, right)));
    calls
}

fn entries_of_ranges(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    let mut calls = Vec::new();
    for kind in [0, vm_map::MAP_MEM_VM_COPY, vm_map::MAP_MEM_VM_SHARE] {
        for rights in [0, 1, 3, 4, 7, 0x40, 0x42, 0x47] {
            let range = (address, size);
            calls.push(entries::entry(pages, range, kind | rights, Right::None));
        }
    }
    let created = vm_map::MAP_MEM_NAMED_CREATE | 3;
    // The offset of a fresh one does not matter.
    calls.push(entries::entry(pages, (size, address), created, Right::None));
    calls
}

/// Flags alone and in pairs, and cache modes, with each right as the parent, by turns.
fn entries_with_every_flag(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    const RIGHTS: [u32; 6] = [1, 3, 7, 0x43, 0, 0xBF];
    let range = (address, size);
    let mut calls = Vec::new();
    for first in 8..24 {
        for second in first..24 {
            let number = calls.len();
            let flags = 1 << first | 1 << second | RIGHTS[number % RIGHTS.len()];
            // Every other time none.
            let right = match number % 2 {
                0 => Right::None,
                _ => Right::ALL[number / 2 % Right::ALL.len()],
            };
            calls.push(entries::entry(pages, range, flags, right));
        }
    }
    for right in Right::ALL {
        for permission in [3, 0x43, 2 << 24 | 1, 10 << 24, ONLY, 9 << 24 | ONLY] {
            calls.push(entries::entry(pages, range, permission, right));
        }
    }
    calls
}

fn ranges_written_over_ranges(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    let mut calls = Vec::new();
    for place in PLACES {
        calls.push(copies::copy(pages, address, size, place));
        let right = Right::Map;
        calls.push(copies::read_overwrite(pages, address, size, place, right));
    }
    for right in Right::ALL {
        let place = AREA + 5;
        calls.push(copies::read_overwrite(pages, address, size, place, right));
    }
    calls
}

fn ranges_written_from_copies(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    Right::ALL
        .map(|right| copies::write(pages, address, size, right))
        .into()
}

fn ranges_mapped_again(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    let usual = Remap::anywhere(address, size);
    let mut calls = Vec::new();
    for place in PLACES {
        for (flags, mask) in [
            (0, 0),
            (1, 0),
            (0x4000, 0),
            (0, P),
            (0x100, 0),
            (0x10_0000, 0),
        ] {
            for copy in [false, true] {
                let to = (place, mask, flags);
                calls.push(places::remap(pages, Remap { to, copy, ..usual }));
            }
        }
    }
    for right in Right::ALL {
        for copy in [false, true] {
            calls.push(places::remap(
                pages,
                Remap {
                    copy,
                    right,
                    ..usual
                },
            ));
        }
    }
    for inheritance in [0, 2, 3, u32::MAX] {
        calls.push(places::remap(
            pages,
            Remap {
                inheritance,
                ..usual
            },
        ));
    }
    for flags in [0x41, 0x29, 5 << 24] {
        let to = (0, 0, flags);
        calls.push(places::remap(pages, Remap { to, ..usual }));
    }
    calls
}

fn ranges_mapped_again_with_rights(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    let usual = Remap::anywhere(address, size);
    let mut calls = Vec::new();
    for copy in [false, true] {
        for rights in [
            (0, 0),
            (1, 1),
            (1, 3),
            (3, 3),
            (3, 7),
            (7, 7),
            (3, 1),
            (8, 15),
            (1, 9),
        ] {
            calls.push(places::remap_new(pages, Remap { copy, ..usual }, rights));
        }
        for place in PLACES {
            for (flags, mask) in [(0, 0), (1, 0), (0x4000, 0), (0, P), (0x10_0000, 0)] {
                let to = (place, mask, flags);
                calls.push(places::remap_new(
                    pages,
                    Remap { to, copy, ..usual },
                    (1, 1),
                ));
            }
        }
        for right in Right::ALL {
            let asked = Remap {
                copy,
                right,
                ..usual
            };
            calls.push(places::remap_new(pages, asked, (1, 1)));
            calls.push(places::remap_new(pages, asked, (1, 3)));
        }
        for (flags, inheritance) in [(1, 0), (1, 2), (1, 3), (0x41, 1), (0x101, 1), (5 << 24, 1)] {
            let to = (0, 0, flags);
            let asked = Remap {
                to,
                copy,
                inheritance,
                ..usual
            };
            calls.push(places::remap_new(pages, asked, (1, 1)));
        }
    }
    calls
}

fn fresh_memory_with_every_word(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    const USUAL: [u32; 3] = [3, 7, 1];
    let range = (address, size);
    let mut calls = Vec::new();
    let mut add = |mask, flags, words, what| {
        calls.push(places::map(pages, range, (mask, flags), words, what));
    };
    for flags in [0, 1, 0x4000, 0x100] {
        for mask in [0, P, P - 1, 1 << 30, u64::MAX] {
            add(mask, flags, USUAL, (0, Right::None));
        }
        for words in [
            [1, 3, 0],
            [3, 1, 1],
            [8, 7, 1],
            [3, 15, 1],
            [3, 7, 3],
            [0, 0, 2],
        ] {
            add(0, flags, words, (0, Right::None));
        }
        for offset in [1, P, P.wrapping_neg(), u64::MAX] {
            add(0, flags, USUAL, (offset, Right::None));
        }
        for right in [Right::Map, Right::ReadMap, Right::Dead] {
            add(0, flags, USUAL, (0, right));
        }
    }
    calls
}

/// The size is as many words as fit.
fn regions_at_addresses(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    let count = size as u32;
    let mut calls = Vec::new();
    for flavor in [0, 8, 9, 10, 11, 12, 13, 14, u32::MAX] {
        for count in [0, 4, 5, 7, 8, 9, count] {
            calls.push(questions::region(pages, address, flavor, count));
        }
    }
    for depth in [0, 1, u32::MAX] {
        for count in [0, 11, 12, count] {
            calls.push(questions::recurse(pages, address, depth, count));
        }
    }
    calls.push(questions::page(address));
    calls
}

fn dispositions_of_ranges(pages: &Pages, address: u64, size: u64) -> Vec<Tried> {
    let range = (address, size);
    let mut calls = Vec::new();
    for place in PLACES {
        for count in [0, 5, 1 << 20, (1 << 62) - 1] {
            calls.push(questions::pages(pages, range, (place, count), Right::Map));
        }
    }
    for count in [1, 1 << 62, (1 << 62) + 1, u64::MAX] {
        calls.push(questions::pages(pages, range, (AREA, count), Right::Map));
    }
    for right in Right::ALL {
        calls.push(questions::pages(pages, range, (AREA + 4, 2), right));
    }
    calls
}
