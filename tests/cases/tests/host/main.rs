//! Every row that the core alone decides, on the host, in the manner of `cargo test`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

mod alone;

/// Which calls of the matrix are tried here; the core's own tests try all.
const SEED: u64 = 2;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use cases::matrix::groups::ALL;
use cases::matrix::sample;
use cases::{Outcome, Row, Where, rows, where_to_run};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::alone::Host;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let groups = ALL.into_iter().map(|(name, calls)| {
        let run = move || caught(true, |host| sample::run(host, calls, SEED));
        Trial::test(name, run)
    });
    let trials = rows().filter_map(trial).chain(groups).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The test of a row. A row that nobody knows how to run is a test that fails.
fn trial(row: Row) -> Option<Trial> {
    match where_to_run::<Host>(&row) {
        Some(Where::Nowhere | Where::Whole) => None,
        Some(Where::Both | Where::Core) | None => Some(Trial::test(row.id, move || run(&row))),
    }
}

fn run(row: &Row) -> Result<(), Failed> {
    caught(row.setup != "feature disabled", |host| {
        cases::run(host, row)
    })
}

/// What the driver cannot go on with, and what the core's invariants forbid, are panics.
fn caught(reclaims: bool, run: impl FnOnce(&Host) -> Outcome) -> Result<(), Failed> {
    let host = Host::new(reclaims);
    match panic::catch_unwind(AssertUnwindSafe(|| run(&host))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => Err(failure.to_string().into()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("a panic").to_owned().into())
        }
    }
}
