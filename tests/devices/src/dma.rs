//! Memory that a device can reach.

use guest_test::{Outcome, check, check_eq};
use ipc::abi::message::FOREVER;

use crate::edu::{BYTES_MOVED, Edu, memory};

const PAGE: usize = 4096;

pub(crate) fn a_device_reads_and_writes_memory_that_was_allocated_for_it() -> Outcome {
    let edu = Edu::open()?;
    let interrupt = edu.line_interrupt()?;
    let (mut from, mut to) = (memory(BYTES_MOVED)?, memory(BYTES_MOVED)?);
    for (index, byte) in from.bytes().iter_mut().enumerate() {
        *byte = (index * 7 % 251) as u8;
    }
    interrupt.enable()?;
    edu.take(from.physical(), BYTES_MOVED);
    interrupt.wait(FOREVER)?;
    check!(edu.acknowledge() != 0);
    interrupt.enable()?;
    edu.give(to.physical(), BYTES_MOVED);
    interrupt.wait(FOREVER)?;
    check!(edu.acknowledge() != 0);
    check!(to.bytes()[..BYTES_MOVED] == from.bytes()[..BYTES_MOVED]);
    check!(to.bytes()[BYTES_MOVED..].iter().all(|byte| *byte == 0));
    Ok(())
}

pub(crate) fn memory_for_devices_is_contiguous_and_zero() -> Outcome {
    let edu = Edu::open()?;
    let interrupt = edu.line_interrupt()?;
    let mut dirty = memory(16 * PAGE)?;
    dirty.bytes().fill(0xA5);
    drop(dirty);
    let mut fresh = memory(16 * PAGE)?;
    check!(fresh.bytes().iter().all(|byte| *byte == 0));
    // What the task writes to the last page, the device finds 15 pages behind the first.
    let last = 15 * PAGE;
    fresh.bytes()[last..].fill(0x3C);
    let physical = fresh.physical();
    interrupt.enable()?;
    edu.take(physical + last as u64, BYTES_MOVED);
    interrupt.wait(FOREVER)?;
    check!(edu.acknowledge() != 0);
    interrupt.enable()?;
    edu.give(physical, BYTES_MOVED);
    interrupt.wait(FOREVER)?;
    check!(edu.acknowledge() != 0);
    check!(
        fresh.bytes()[..BYTES_MOVED]
            .iter()
            .all(|byte| *byte == 0x3C)
    );
    check_eq!(fresh.bytes()[BYTES_MOVED], 0);
    Ok(())
}
