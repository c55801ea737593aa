//! The simulation itself: a machine that is wrong on purpose is found out, its schedule becomes small,
//! and the file of it fails as the run did.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

use std::path::Path;
use std::time::Duration;

use sim::action::Schedule;
use sim::kind::{Kind, Setup};
use sim::machine::Flaw;
use sim::runner::{Failure, How, explore, replay};
use sim::schedule::Sim;
use sim::shrink::shrink;

fn failures(how: How) -> impl Iterator<Item = Box<Failure>> {
    (0..100).filter_map(move |seed| explore(seed, Kind::ANONYMOUS, how).err())
}

fn length(failure: &Failure) -> usize {
    failure.schedule.operations.len()
}

/// A flawed machine is found, shrunk to at most so many operations, and found again from the text. How far
/// a schedule shrinks is a matter of luck, so the shortest of three counts.
fn is_found(flaw: Flaw, most: usize) {
    let quick = How {
        flaw: Some(flaw),
        ..How::QUICK
    };
    let whole = How {
        flaw: Some(flaw),
        ..How::WHOLE
    };
    let found = failures(quick).take(3);
    let small = found.map(|failure| shrink(&failure, whole, Duration::from_secs(60)));
    let small = small.min_by_key(length);
    let small = small.unwrap_or_else(|| panic!("{flaw:?} is not found"));
    let left = length(&small);
    assert!(left <= most, "{left} operations: {:?}", small.schedule);

    let text = small.schedule.to_text("two lines\nof remarks");
    let read = Schedule::from_text(&text).unwrap();
    assert_eq!(read.operations, small.schedule.operations);
    let again = replay(&read, whole).unwrap_err();
    assert_eq!(
        (&again.place, &again.message),
        (&small.place, &small.message)
    );
    assert!(replay(&read, How::WHOLE).is_ok(), "only the flaw is wrong");
}

#[test]
fn a_copy_that_lacks_a_byte_is_found_and_made_small() {
    is_found(Flaw::ShortCopy, 8);
}

#[test]
fn a_revocation_that_leaves_a_page_is_found_and_made_small() {
    is_found(Flaw::ShortRevoke, 8);
}

#[test]
fn a_schedule_that_is_read_does_what_was_made_up() {
    for (name, kind) in Kind::NAMED {
        let (setup, mut random) = Setup::random(7, kind);
        let mut sim = Sim::new(&setup, How::QUICK);
        let mut operations = Vec::new();
        for _ in 0..kind.operations {
            let operation = sim.choose(&mut random);
            operations.push(operation);
            sim.perform(operation);
        }
        sim.finish();
        let schedule = Schedule { setup, operations };
        let read = Schedule::from_text(&schedule.to_text("")).unwrap();
        let done = replay(&read, How::QUICK).unwrap();
        assert_eq!(done.events, sim.world.events, "{name}");
        assert_eq!(done.tally, sim.tally, "{name}");
    }
}

#[test]
fn any_part_of_a_schedule_is_a_schedule() {
    let (setup, mut random) = Setup::random(3, Kind::STORM);
    let mut sim = Sim::new(&setup, How::QUICK);
    let operations = (0..600)
        .map(|_| {
            let operation = sim.choose(&mut random);
            sim.perform(operation);
            operation
        })
        .collect::<Vec<_>>();
    for left_out in 2..12 {
        let part = operations.iter().enumerate();
        let part = part.filter(|(at, _)| at % left_out != 0);
        let schedule = Schedule {
            setup: setup.clone(),
            operations: part.map(|(_, operation)| *operation).collect(),
        };
        let result = replay(&schedule, How::QUICK);
        assert!(result.is_ok(), "{:?}", result.err());
    }
}

#[test]
fn schedules_that_failed_once_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|name| name != "jsonl") {
            continue;
        }
        let schedule = Schedule::read(&path).unwrap();
        if let Err(failure) = replay(&schedule, How::WHOLE) {
            panic!(
                "{}: {}\nsaid by {}",
                path.display(),
                failure.message,
                failure.place
            );
        }
    }
}
