//! Runs schedules.
//!
//! `replay FILE` runs a file of operations and prints each with its events, effects and messages;
//! `replay FILE shrink` makes it small first, if it fails. `replay KIND SEED` does the same for a seed, and `replay KIND SEED
//! END` runs all seeds from one to below the other, quietly, and says what happened how often.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sim::action::Schedule;
use sim::kind::Kind;
use sim::runner::{Done, Failure, How, explore, replay};
use sim::shrink::shrink;

/// Time that a failure is shrunk for.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().ok();
    match words[..] {
        [name, seed] if let (Some(kind), Some(seed)) = (Kind::named(name), number(seed)) => {
            shown(explore(seed, kind, verbose()))
        }
        [name, first, end]
            if let (Some(kind), Some(first), Some(end)) =
                (Kind::named(name), number(first), number(end)) =>
        {
            many(name, kind, first..end)
        }
        [file] => of_file(file, false),
        [file, "shrink"] => of_file(file, true),
        _ => {
            let names: Vec<&str> = Kind::NAMED.iter().map(|(name, _)| *name).collect();
            eprintln!(
                "usage: replay FILE [shrink] | {} SEED [END]",
                names.join("|")
            );
            ExitCode::FAILURE
        }
    }
}

const fn verbose() -> How {
    How {
        verbose: true,
        ..How::WHOLE
    }
}

fn shown(result: Result<Done, Box<Failure>>) -> ExitCode {
    match result {
        Ok(done) => {
            println!("{} events, and nothing is wrong", done.events);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{}\nsaid by {}", failure.message, failure.place);
            ExitCode::FAILURE
        }
    }
}

fn of_file(file: &str, small: bool) -> ExitCode {
    let schedule = match Schedule::read(Path::new(file)) {
        Ok(schedule) => schedule,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let failure = match small {
        true => replay(&schedule, How::QUICK).and_then(|_| replay(&schedule, How::WHOLE)),
        false => Ok(Done::default()),
    };
    if let Err(failure) = failure {
        let failure = shrink(&failure, How::WHOLE, PATIENCE);
        let name = Path::new(file).file_stem().unwrap_or_default();
        let path = failure.write(&format!("{}-small.jsonl", name.to_string_lossy()));
        println!(
            "{} of {} operations are left: {}",
            failure.schedule.operations.len(),
            schedule.operations.len(),
            path.display()
        );
        return shown(Err(Box::new(failure)));
    }
    shown(replay(&schedule, verbose()))
}

fn many(name: &str, kind: Kind, seeds: std::ops::Range<u64>) -> ExitCode {
    let mut all = Done::default();
    let mut failed = Vec::new();
    let start = Instant::now();
    for seed in seeds {
        match explore(seed, kind, How::QUICK) {
            Ok(done) => all.add(done),
            Err(failure) => {
                let path = failure.write(&format!("{name}-{seed}.jsonl"));
                println!("{}: {}", failure.place, path.display());
                failed.push(seed);
            }
        }
    }
    let rate = all.events as f64 / start.elapsed().as_secs_f64();
    for (what, count) in all.tally {
        println!("{count:>8} {what}");
    }
    println!("{} events, {rate:.0} a second", all.events);
    println!("{} failed: {failed:?}", failed.len());
    match failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
