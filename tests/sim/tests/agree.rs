//! Thousands of seeds: whatever happens in whatever order, each task sees what the flat model says,
//! and at the end nothing is left. A failure names its seed; `replay` shows it in detail.

use sim::schedule::{Kind, Sim};

fn runs(kind: Kind, seeds: u64) {
    for seed in 0..seeds {
        Sim::new(seed, kind).run();
    }
}

#[test]
fn anonymous_memory_agrees() {
    runs(Kind::ANONYMOUS, 1500);
}

#[test]
fn memory_of_pagers_agrees() {
    runs(Kind::PLAIN, 1500);
}

#[test]
fn memory_that_pagers_take_back_agrees() {
    runs(Kind::PAGING, 500);
}

#[test]
fn long_runs_agree() {
    let kind = Kind {
        events: 6000,
        pages: 40,
        tasks: 6,
        ..Kind::PLAIN
    };
    runs(kind, 20);
}
