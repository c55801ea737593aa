//! Memory runs out: calls and faults are answered KERN_RESOURCE_SHORTAGE, what was there stays as it
//! was, and every frame comes back.

use sim::schedule::{Kind, Sim};

#[test]
fn memory_that_runs_out_loses_nothing() {
    for seed in 0..500 {
        Sim::new(seed, Kind::PRESSURE).run();
    }
}

#[test]
fn memory_that_runs_out_with_faulty_pagers_loses_nothing() {
    let kind = Kind {
        faulty: true,
        ..Kind::PRESSURE
    };
    for seed in 0..500 {
        Sim::new(seed, kind).run();
    }
}
