//! Worlds that begin, work and end.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use guest_test::{Outcome, check, check_eq};
use ipc::time::{MILLISECOND, sleep};
use ipc::{Kern, bootstrap, task, thread, vm};

use crate::balance::Balance;
use crate::server::Below;

/// A world with half of the frames, until its work is done.
fn run(depth: u64) -> Outcome<Below> {
    let below = Below::start(Balance::now()?.free() / 2)?;
    below.wait(depth)?;
    Ok(below)
}

/// Tables grow the first time, or the second if more was done at once: that does not count.
fn warm(depth: u64) -> Outcome<Balance> {
    let mut last = Balance::settled()?;
    for _ in 0..4 {
        run(depth)?.end()?;
        let now = Balance::settled()?;
        if now.kernel() <= last.kernel() {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

pub(crate) fn a_server_below_serves_its_tasks_and_everything_comes_back() -> Outcome {
    let before = warm(0)?;
    for _ in 0..3 {
        let below = run(0)?;
        let meanwhile = Balance::now()?;
        check!(meanwhile.free() <= before.free() / 2 + before.free() / 8);
        below.end()?;
        before.is_back()?;
    }
    Ok(())
}

pub(crate) fn a_server_below_a_server_below_ends_with_it() -> Outcome {
    let before = warm(1)?;
    for _ in 0..2 {
        run(1)?.end()?;
        before.is_back()?;
    }
    Ok(())
}

pub(crate) fn two_servers_side_by_side_do_not_know_of_each_other() -> Outcome {
    let before = warm(0)?;
    let quarter = before.free() / 4;
    let (first, second) = (Below::start(quarter)?, Below::start(quarter)?);
    first.wait(0)?;
    second.wait(0)?;
    first.end()?;
    let third = Below::start(quarter)?;
    third.wait(0)?;
    second.end()?;
    third.end()?;
    before.is_back()
}

pub(crate) fn a_server_can_be_ended_at_any_moment() -> Outcome {
    let before = warm(0)?;
    for moment in 0..12 {
        let below = Below::start(before.free() / 8)?;
        sleep(moment * 3 * MILLISECOND);
        task::terminate(&below.started.task, 0)?;
        bootstrap::wait(below.started.instance)?;
        drop(below);
        before.is_back()?;
    }
    Ok(())
}

pub(crate) fn answers_are_whole_while_frames_come_back() -> Outcome {
    let before = warm(0)?;
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    // What it asks for comes in the body of a message.
    let asker = thread::spawn(move || -> Result<(), Kern> {
        while !stop.load(Ordering::Relaxed) {
            vm::own().statistics()?;
        }
        Ok(())
    })?;
    let ended = run(0)?.end();
    // The frames come back in the meantime; the thread that asks is one of those that there are now.
    let mut last = Balance::now()?.free();
    while last + 512 < before.free() {
        sleep(MILLISECOND);
        last = Balance::now()?.free();
    }
    done.store(true, Ordering::Relaxed);
    check_eq!(asker.join(), Ok(()));
    ended?;
    before.is_back()
}
