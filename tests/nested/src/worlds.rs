//! Worlds that begin, work and end.

use guest_test::{Outcome, check};
use ipc::time::{MILLISECOND, sleep};
use ipc::{bootstrap, task};

use crate::balance::Balance;
use crate::server::Below;

/// A world with half of the frames, until its work is done.
fn run(depth: u64) -> Outcome<Below> {
    let below = Below::start(Balance::now()?.free() / 2)?;
    below.wait(depth)?;
    Ok(below)
}

/// Tables grow the first time: it does not count.
fn warm(depth: u64) -> Outcome<Balance> {
    let before = Balance::now()?;
    run(depth)?.end()?;
    // Whatever grew, the number of frames did not.
    let _ = before;
    settle()
}

/// Waits until nothing comes back any more.
fn settle() -> Outcome<Balance> {
    let mut last = Balance::now()?;
    loop {
        sleep(20 * MILLISECOND);
        let now = Balance::now()?;
        if now.free() == last.free() {
            return Ok(now);
        }
        last = now;
    }
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
