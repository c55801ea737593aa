//! A million events: whatever happens in whatever order, each task sees what the flat model says, and
//! at the end nothing is left. A failure names its seed and the file that `replay` runs.

use std::time::Instant;

use sim::kind::Kind;
use sim::runner::{Done, runs};

/// Events that these tests run together, at least.
const EVENTS: u64 = 1_000_000;

/// How many seeds of each kind, in the order of [`Kind::NAMED`].
const SEEDS: [u64; Kind::NAMED.len()] = [900, 500, 250, 500, 600, 500, 300, 400, 200, 300, 20];

#[test]
fn a_million_events_agree() {
    let start = Instant::now();
    let mut all = Done::default();
    for ((name, kind), seeds) in Kind::NAMED.into_iter().zip(SEEDS) {
        all.add(runs(name, kind, 0..seeds));
    }
    let rate = all.events as f64 / start.elapsed().as_secs_f64();
    println!("{} events, {rate:.0} a second", all.events);
    assert!(all.events >= EVENTS, "{} events", all.events);
}

#[test]
fn memory_that_runs_out_with_faulty_pagers_loses_nothing() {
    let kind = Kind {
        faulty: true,
        ..Kind::PRESSURE
    };
    runs("faulty-pressure", kind, 0..300);
}
