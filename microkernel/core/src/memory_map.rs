//! From the firmware's memory map to ranges of frames that can be used.
//!
//! Firmware lists overlap, are unsorted, and end in the middle of pages. A frame is usable if it
//! lies wholly in memory that some range calls usable, in no byte of anything else, and is not
//! taken already. [`usable`] gives the answer sorted, disjoint and merged.

use heapless::Vec;
use ipc_abi::boot::FrameRange;
use ipc_abi::layout::{PAGE_SHIFT, PAGE_SIZE};
use ipc_abi::translation::FRAME_LIMIT;

/// Most ranges that are given or result; what would need more is left unused.
pub const RANGES_MAX: usize = 256;

/// Sorted, disjoint ranges of frames that do not touch one another.
pub type FrameRanges = Vec<FrameRange, RANGES_MAX>;

/// A range of physical memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First byte.
    pub start: u64,
    /// Bytes; a range that would wrap around ends at the top.
    pub size: u64,
    /// Whether it can be used; a range that cannot wins over all that can.
    pub usable: bool,
}

impl MemoryRange {
    /// A range that is taken.
    #[must_use]
    pub const fn taken(start: u64, end: u64) -> MemoryRange {
        MemoryRange {
            start,
            size: end.saturating_sub(start),
            usable: false,
        }
    }

    /// One past the last byte.
    const fn end(self) -> u64 {
        self.start.saturating_add(self.size)
    }

    /// First frame and one past the last: only whole frames of what is usable, and every frame
    /// that anything else touches.
    fn frames(self) -> (u32, u32) {
        let up = |address: u64| address.div_ceil(PAGE_SIZE);
        let down = |address: u64| address >> PAGE_SHIFT;
        let (first, end) = match (self.usable, self.size) {
            (_, 0) => (0, 0),
            (true, _) => (up(self.start), down(self.end())),
            (false, _) => (down(self.start), up(self.end())),
        };
        let limit = u64::from(FRAME_LIMIT);
        let cut = |number: u64| u32::try_from(number.min(limit)).unwrap_or(FRAME_LIMIT);
        (cut(first), cut(end))
    }
}

/// The frames of all that `ranges` call usable and nothing in them takes.
///
/// The order of the ranges says nothing. Where there are more pieces than fit, the last are
/// left out.
pub fn usable(ranges: impl Iterator<Item = MemoryRange> + Clone) -> FrameRanges {
    let mut result = FrameRanges::new();
    let mut at = 0;
    while let Some(first) = next_edge(ranges.clone(), at, Wanted::Usable) {
        let end = next_edge(ranges.clone(), first, Wanted::Taken).unwrap_or(FRAME_LIMIT);
        let range = FrameRange {
            first,
            count: end.saturating_sub(first),
        };
        if result.push(range).is_err() {
            break;
        }
        at = end;
    }
    result
}

/// Frames of all ranges together.
#[must_use]
pub fn total(ranges: &[FrameRange]) -> u32 {
    ranges
        .iter()
        .fold(0, |sum, range| sum.saturating_add(range.count))
}

/// Takes `count` frames out of `ranges`, from the highest place where they are in one piece and
/// start at a multiple of `align` (a power of two). Gives the first of them.
pub fn take(ranges: &mut FrameRanges, count: u32, align: u32) -> Option<u32> {
    let mask = align.saturating_sub(1);
    let fit = |range: &FrameRange| {
        let end = range.first.saturating_add(range.count);
        let first = end.checked_sub(count)? & !mask;
        (first >= range.first && count > 0).then_some(first)
    };
    let (index, first) = ranges
        .iter()
        .enumerate()
        .rev()
        .find_map(|(index, range)| Some((index, fit(range)?)))?;
    // Splitting needs a place for the piece behind.
    let range = *ranges.get(index)?;
    let end = first.saturating_add(count);
    let behind = FrameRange {
        first: end,
        count: range.first.saturating_add(range.count).saturating_sub(end),
    };
    if behind.count > 0 && ranges.insert(index.saturating_add(1), behind).is_err() {
        return None;
    }
    let before = first.saturating_sub(range.first);
    if before == 0 {
        ranges.remove(index);
    } else if let Some(range) = ranges.get_mut(index) {
        range.count = before;
    }
    Some(first)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Usable,
    Taken,
}

/// The first frame from `at` on that is usable, or that is not.
fn next_edge(
    ranges: impl Iterator<Item = MemoryRange> + Clone,
    at: u32,
    wanted: Wanted,
) -> Option<u32> {
    let mut frame = at;
    loop {
        // What holds at `frame` holds up to the next edge of any range.
        let is_usable = state(ranges.clone(), frame);
        if is_usable == (wanted == Wanted::Usable) {
            return Some(frame);
        }
        frame = ranges
            .clone()
            .flat_map(|range| <[u32; 2]>::from(range.frames()))
            .filter(|edge| *edge > frame)
            .min()?;
    }
}

fn state(ranges: impl Iterator<Item = MemoryRange>, frame: u32) -> bool {
    let mut usable = false;
    for range in ranges {
        let (first, end) = range.frames();
        if (first..end).contains(&frame) {
            if !range.usable {
                return false;
            }
            usable = true;
        }
    }
    usable && frame < FRAME_LIMIT
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec as StdVec;

    fn range(start: u64, size: u64, usable: bool) -> MemoryRange {
        MemoryRange {
            start,
            size,
            usable,
        }
    }

    /// Byte by byte at the edges of pages: usable somewhere for the whole page, taken nowhere.
    fn naive(ranges: &[MemoryRange], frame: u64) -> bool {
        let (start, end) = (frame * PAGE_SIZE, (frame + 1) * PAGE_SIZE);
        let inside = |r: &MemoryRange| r.usable && r.start <= start && end <= r.end();
        let touches = |r: &MemoryRange| !r.usable && r.size > 0 && r.start < end && start < r.end();
        ranges.iter().any(inside) && !ranges.iter().any(touches)
    }

    proptest! {
        #[test]
        fn usable_frames_are_those_of_the_naive_definition(
            raw in prop::collection::vec(
                (0u64..40 * 4096, prop_oneof![0u64..9000, Just(u64::MAX)], any::<bool>()), 0..12)
        ) {
            let ranges: StdVec<_> = raw.into_iter().map(|(a, b, c)| range(a, b, c)).collect();
            let found = usable(ranges.iter().copied());
            for pair in found.windows(2) {
                prop_assert!(pair[0].first + pair[0].count < pair[1].first);
            }
            for frame in 0..60u64 {
                let listed = found.iter().any(|r| {
                    (u64::from(r.first)..u64::from(r.first) + u64::from(r.count)).contains(&frame)
                });
                prop_assert_eq!(listed, naive(&ranges, frame), "frame {}", frame);
            }
        }

        #[test]
        fn taking_frames_leaves_the_others(
            pieces in prop::collection::vec((1u32..9, 1u32..40), 1..6),
            count in 1u32..30,
            align in prop::sample::select(StdVec::from([1u32, 2, 8])),
        ) {
            let mut ranges = FrameRanges::new();
            let mut at = 0;
            for (gap, count) in pieces {
                ranges.push(FrameRange { first: at + gap, count }).unwrap();
                at += gap + count;
            }
            let before = ranges.clone();
            let has = |ranges: &FrameRanges, frame: u32| {
                ranges.iter().any(|r| (r.first..r.first + r.count).contains(&frame))
            };
            let taken = take(&mut ranges, count, align);
            let fits = (0..at).step_by(align as usize)
                .any(|first| (first..first + count).all(|frame| has(&before, frame)));
            prop_assert_eq!(taken.is_some(), fits);
            for frame in 0..=at {
                let gone = taken.is_some_and(|first| (first..first + count).contains(&frame));
                prop_assert_eq!(has(&ranges, frame), has(&before, frame) && !gone);
                prop_assert!(!gone || has(&before, frame));
            }
            prop_assert!(taken.is_none_or(|first| first % align == 0));
        }
    }

    #[test]
    fn pieces_beyond_the_room_are_left_out() {
        let many = (0..2 * RANGES_MAX as u64).map(|n| range(n * 2 * PAGE_SIZE, PAGE_SIZE, true));
        let found = usable(many);
        assert_eq!(found.len(), RANGES_MAX);
        assert_eq!(total(&found), RANGES_MAX as u32);
    }

    #[test]
    fn memory_behind_the_last_frame_number_is_not_used() {
        let found = usable([range(1 << 41, 1 << 45, true)].into_iter());
        assert_eq!(total(&found), FRAME_LIMIT - (1 << 29));
    }
}
