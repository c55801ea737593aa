//! Runs one seed and prints every event, effect and message: `replay KIND SEED`. Given two seeds, runs
//! all from the first to below the second, quietly, and says which fail.

use std::collections::BTreeMap;
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
    let mut tally: BTreeMap<String, u64> = BTreeMap::new();
    let mut failed = Vec::new();
    for seed in seeds {
        let run = panic::catch_unwind(|| {
            let mut sim = Sim::new(seed, kind);
            sim.run();
            std::mem::take(&mut sim.tally)
        });
        match run {
            Ok(done) => done
                .into_iter()
                .for_each(|(what, count)| *tally.entry(what).or_default() += count),
            Err(_) => failed.push(seed),
        }
    }
    for (what, count) in tally {
        println!("{count:>8} {what}");
    }
    println!("{} failed: {failed:?}", failed.len());
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
