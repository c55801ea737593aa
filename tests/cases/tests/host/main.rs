//! Every row that the core alone decides, on the host, in the manner of `cargo test`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

mod alone;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use cases::{Row, Where, rows, where_to_run};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::alone::Host;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = rows().filter_map(trial).collect();
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
    let host = Host::new(row.setup != "feature disabled");
    // What the driver cannot go on with, and what the core's invariants forbid, are panics.
    let said = panic::catch_unwind(AssertUnwindSafe(|| cases::run(&host, row)));
    match said {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => Err(failure.to_string().into()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("a panic").to_owned().into())
        }
    }
}
