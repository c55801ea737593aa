//! Work of the VM server on large maps is done in steps: nobody else waits for the whole of it.

use guest_test::{Outcome, check, check_eq};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::types::MapFlags;
use ipc::{Mapping, task, thread, time, trap, vm};

/// Map entries of the large map.
const ENTRIES: u64 = 60_000;
/// Instructions within which a fault has to be answered while the large map is being forked.
const MOST: u64 = 100_000;
/// Where the large map's memory lies: every other page of this.
const BASE: u64 = 0x1_0000_0000;

pub(crate) fn a_fault_is_answered_while_a_large_map_is_forked() -> Outcome {
    let large = vm::own().create_task(false)?;
    for entry in 0..ENTRIES {
        let place = BASE + 2 * entry * PAGE_SIZE;
        check_eq!(
            large.map.allocate_at(place, PAGE_SIZE, MapFlags::empty())?,
            place
        );
    }
    let memory = Mapping::allocate(4096 * PAGE_SIZE)?;
    let fork = thread::spawn(move || {
        let child = large.map.create_task(true);
        (large, child)
    })?;
    let (mut faults, mut longest) = (0, 0);
    while faults < 4096 && !fork.is_finished() {
        let before = time::ticks();
        memory.write(faults * PAGE_SIZE, &faults.to_le_bytes())?;
        longest = longest.max(time::ticks() - before);
        faults += 1;
        // The thread that forks has to be let in to begin, and to see its answer.
        trap::thread_yield();
    }
    let (large, child) = fork.join();
    let child = child?;
    check!(
        faults > 100,
        "only {faults} faults were answered while the map was forked"
    );
    check!(
        longest < MOST,
        "a fault was answered after {longest} instructions"
    );
    check_eq!(
        child.map.region(BASE + 2 * (ENTRIES - 1) * PAGE_SIZE)?.size,
        PAGE_SIZE
    );
    task::terminate(&child.task, 0)?;
    task::terminate(&large.task, 0)?;
    Ok(())
}
