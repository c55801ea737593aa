//! Each refusal of the ELF reader on a file made by hand, and no panic on a damaged one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bootimg::{ElfError, LoadPlan, MAX_SEGMENTS, PAGE_SIZE, Protection};
use proptest::prelude::*;

const BOUNDS: std::ops::Range<u64> = 0x1_0000..0x7fff_0000_0000;
const CODE: u64 = 0x40_0000;
const READ: u32 = 4;
const WRITE: u32 = 2;
const EXECUTE: u32 = 1;
const LOAD: u32 = 1;

/// A program header, field by field.
#[derive(Clone, Copy)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
}

fn load(flags: u32, address: u64, in_file: u64, in_memory: u64) -> Header {
    Header {
        kind: LOAD,
        flags,
        offset: 0x1000,
        address,
        in_file,
        in_memory,
    }
}

fn code() -> Header {
    load(READ | EXECUTE, CODE, 0x100, 0x100)
}

/// A file with these headers, 0x2000 bytes long.
fn file(headers: &[Header]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [CODE + 0x10, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([0, 0, 0, 0, 64, 0, 56, 0]);
    bytes.extend((headers.len() as u16).to_le_bytes());
    bytes.extend([0; 6]);
    for header in headers {
        bytes.extend(header.kind.to_le_bytes());
        bytes.extend(header.flags.to_le_bytes());
        let Header {
            offset,
            address,
            in_file,
            in_memory,
            ..
        } = *header;
        for word in [offset, address, address, in_file, in_memory, PAGE_SIZE] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes.resize(0x1000, 0);
    bytes.extend([0xcc; 0x1000]);
    bytes
}

fn refused(headers: &[Header]) -> ElfError {
    LoadPlan::parse(&file(headers), BOUNDS).unwrap_err()
}

#[test]
fn a_good_file_becomes_a_plan() {
    let bytes = file(&[
        code(),
        load(READ, CODE + 0x1000, 0, 0x10),
        load(READ | WRITE, CODE + 0x2000, 0x20, 0x1001),
    ]);
    let plan = LoadPlan::parse(&bytes, BOUNDS).unwrap();
    assert_eq!(plan.entry(), CODE + 0x10);
    assert_eq!(plan.pages(), 4);
    let protections: Vec<_> = plan
        .segments()
        .iter()
        .map(|segment| segment.protection)
        .collect();
    assert_eq!(
        protections,
        [
            Protection::ReadExecute,
            Protection::Read,
            Protection::ReadWrite
        ]
    );
    let last = plan.segments()[2];
    assert_eq!(
        (last.address, last.size, last.pages),
        (CODE + 0x2000, 0x1001, 2)
    );
    assert_eq!(last.end(), CODE + 0x4000);
    assert_eq!(last.data, &[0xcc; 0x20]);
    assert_eq!(last.file_offset, 0x1000);
    assert_eq!(plan.headers_end(), 64 + 3 * 56);
}

#[test]
fn an_empty_segment_is_passed_over() {
    let bytes = file(&[code(), load(READ, 0x1, 0, 0)]);
    assert_eq!(LoadPlan::parse(&bytes, BOUNDS).unwrap().segments().len(), 1);
}

#[test]
fn what_is_no_static_executable_for_this_machine_is_refused() {
    let good = file(&[code()]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        LoadPlan::parse(&bytes, BOUNDS).unwrap_err()
    };
    assert_eq!(with(0, 0), ElfError::NotElf);
    assert_eq!(
        LoadPlan::parse(b"", BOUNDS).unwrap_err(),
        ElfError::Malformed
    );
    assert_eq!(
        LoadPlan::parse(&good[..63], BOUNDS).unwrap_err(),
        ElfError::Malformed
    );
    assert_eq!(
        LoadPlan::parse(&good[..100], BOUNDS).unwrap_err(),
        ElfError::Malformed
    );
    assert_eq!(with(4, 9), ElfError::WrongMachine);
    assert_eq!(with(5, 2), ElfError::WrongMachine);
    assert_eq!(with(18, 3), ElfError::WrongMachine);
    assert_eq!(with(16, 3), ElfError::NotStatic);
    assert_eq!(with(54, 57), ElfError::Malformed);
    assert_eq!(with(32, 0), ElfError::NoSegments);
    for (kind, what) in [(2, "PT_DYNAMIC"), (3, "PT_INTERP"), (7, "PT_TLS")] {
        let header = Header { kind, ..code() };
        assert_eq!(
            refused(&[code(), header]),
            ElfError::Unsupported { segment: 1, what }
        );
    }
}

#[test]
fn each_fault_of_a_segment_is_named() {
    let second = |header| refused(&[code(), header]);
    let data = |address, in_file, in_memory| load(READ | WRITE, address, in_file, in_memory);
    let next = CODE + 0x1000;
    for (header, expected) in [
        (data(next + 8, 1, 1), ElfError::Unaligned { segment: 1 }),
        (data(next, 2, 1), ElfError::BadSize { segment: 1 }),
        (data(next, 1, 0), ElfError::BadSize { segment: 1 }),
        (
            data(next, 0x1001, 0x1001),
            ElfError::Truncated { segment: 1 },
        ),
        (
            Header {
                offset: u64::MAX,
                ..data(next, 2, 2)
            },
            ElfError::Truncated { segment: 1 },
        ),
        (load(0, next, 1, 1), ElfError::BadFlags { segment: 1 }),
        (load(WRITE, next, 1, 1), ElfError::BadFlags { segment: 1 }),
        (
            load(READ | 8, next, 1, 1),
            ElfError::BadFlags { segment: 1 },
        ),
        (
            load(READ | WRITE | EXECUTE, next, 1, 1),
            ElfError::WritableCode { segment: 1 },
        ),
        (
            data(BOUNDS.start - 0x1000, 1, 1),
            ElfError::OutOfBounds { segment: 1 },
        ),
        (
            data(BOUNDS.end - 0x1000, 0, 0x1001),
            ElfError::OutOfBounds { segment: 1 },
        ),
        (data(!0xfff, 0, 1), ElfError::OutOfBounds { segment: 1 }),
        (
            data(next, 0, u64::MAX),
            ElfError::OutOfBounds { segment: 1 },
        ),
        (data(CODE, 1, 1), ElfError::Overlap { segment: 1 }),
        (data(CODE - 0x1000, 1, 1), ElfError::Overlap { segment: 1 }),
    ] {
        let error = second(header);
        assert_eq!(error, expected);
        assert!(error.to_string().starts_with("segment 1: "), "{error}");
    }
}

#[test]
fn the_bounds_are_exact() {
    let high = load(READ, BOUNDS.end - 0x1000, 0, 0x1000);
    assert!(LoadPlan::parse(&file(&[code(), high]), BOUNDS).is_ok());
    let mut bytes = file(&[load(READ | EXECUTE, BOUNDS.start, 0x100, 0x100)]);
    bytes[24..32].copy_from_slice(&BOUNDS.start.to_le_bytes());
    assert!(LoadPlan::parse(&bytes, BOUNDS).is_ok());
}

#[test]
fn there_is_room_for_so_many_segments_and_no_more() {
    let headers: Vec<Header> = (0..=MAX_SEGMENTS as u64)
        .map(|number| Header {
            address: CODE + number * PAGE_SIZE,
            ..code()
        })
        .collect();
    assert!(LoadPlan::parse(&file(&headers[..MAX_SEGMENTS]), BOUNDS).is_ok());
    assert_eq!(refused(&headers), ElfError::TooManySegments);
}

#[test]
fn the_entry_is_code_that_the_file_brings() {
    assert_eq!(refused(&[]), ElfError::NoSegments);
    assert_eq!(
        refused(&[load(READ, CODE, 0x100, 0x100)]),
        ElfError::BadEntry
    );
    assert_eq!(
        refused(&[load(READ | EXECUTE, CODE, 0x10, 0x100)]),
        ElfError::BadEntry
    );
    assert_eq!(
        refused(&[load(READ | EXECUTE, CODE + 0x1000, 1, 1)]),
        ElfError::BadEntry
    );
}

proptest! {
    #[test]
    fn a_damaged_file_makes_no_reader_panic_and_no_bad_plan(
        damage in prop::collection::vec((0usize..300, any::<u8>()), 0..12),
        length in 0usize..0x2000,
        cut in any::<bool>(),
    ) {
        let mut bytes = file(&[code(), load(READ | WRITE, CODE + 0x1000, 0x20, 0x2000)]);
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(length);
        }
        if let Ok(plan) = LoadPlan::parse(&bytes, BOUNDS) {
            let mut end = BOUNDS.start;
            for segment in plan.segments() {
                prop_assert!(segment.address >= end && segment.end() <= BOUNDS.end);
                prop_assert!(segment.address.is_multiple_of(PAGE_SIZE));
                prop_assert!(segment.data.len() as u64 <= segment.size && segment.pages > 0);
                end = segment.end();
            }
        }
    }
}
