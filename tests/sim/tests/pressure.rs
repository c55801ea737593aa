//! Memory runs out, for tasks or for the server's own records: calls and faults are answered
//! KERN_RESOURCE_SHORTAGE, what was there stays as it was, and every frame comes back.

use sim::schedule::{Kind, Sim};

fn runs(kind: Kind, seeds: u64) {
    for seed in 0..seeds {
        Sim::new(seed, kind).run();
    }
}

#[test]
fn memory_that_runs_out_loses_nothing() {
    runs(Kind::PRESSURE, 1000);
}

#[test]
fn memory_that_runs_out_with_faulty_pagers_loses_nothing() {
    let kind = Kind {
        faulty: true,
        ..Kind::PRESSURE
    };
    runs(kind, 500);
}

#[test]
fn records_that_run_out_lose_nothing() {
    runs(Kind::STARVED, 1000);
}

#[test]
fn everything_at_once_loses_nothing() {
    runs(Kind::STORM, 500);
}
