//! Thousands of seeds: whatever happens in whatever order, each task sees what the flat model says,
//! and at the end nothing is left.

use sim::schedule::{Kind, Sim};

/// Runs of a kind, by seed.
fn runs(kind: Kind, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        Sim::new(seed, kind).run();
    }
}

#[test]
fn anonymous_memory_agrees() {
    runs(Kind::ANONYMOUS, 0..1000);
}

#[test]
fn memory_of_pagers_agrees() {
    runs(Kind::PLAIN, 0..1000);
}
