//! Runs one seed and prints every event, effect and message: `replay KIND SEED`. Given two seeds, runs
//! all from the first to below the second, quietly, and says which fail.

use std::panic;
use std::process::ExitCode;

use sim::schedule::{Kind, Sim};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().and_then(|name| Kind::named(&name));
    let seeds: Vec<u64> = arguments.filter_map(|seed| seed.parse().ok()).collect();
    match (kind, seeds.as_slice()) {
        (Some(kind), &[seed]) => {
            let mut sim = Sim::new(seed, kind);
            sim.world.verbose = true;
            sim.run();
            ExitCode::SUCCESS
        }
        (Some(kind), &[first, end]) => many(kind, first..end),
        _ => {
            eprintln!("usage: replay {} SEED [END]", Kind::NAMES.join("|"));
            ExitCode::FAILURE
        }
    }
}

fn many(kind: Kind, seeds: std::ops::Range<u64>) -> ExitCode {
    let failed: Vec<u64> = seeds
        .filter(|seed| panic::catch_unwind(|| Sim::new(*seed, kind).run()).is_err())
        .collect();
    println!("{} failed: {failed:?}", failed.len());
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
