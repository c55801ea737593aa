//! Guest suite: the Mach case table by real messages of a client task.
//!
//! Each row runs in a fresh task of its own; see the crate `cases` for what it does, and [`whole`]
//! for how memory of that task is touched. Behind the rows come some calls of each group of the matrix.
#![no_std]
#![no_main]

extern crate alloc;

mod hands;
mod whole;

use cases::matrix::groups::{self, Calls};
use cases::matrix::sample;
use cases::{Row, Where, rows, where_to_run};
use ipc::Kern;

use crate::whole::Whole;

ipc::main!(main);

/// Which calls of the matrix are tried.
const SEED: u64 = 1;

/// What is run as one case.
enum Case {
    Row(Row),
    /// Calls of the matrix, by chance.
    Group(Calls),
}

fn main(args: ipc::Args) -> Result<u32, Kern> {
    let whole = Whole::new()?;
    let here = |row: &Row| {
        let place = where_to_run::<Whole>(row);
        !matches!(place, Some(Where::Nowhere | Where::Core))
    };
    let whole = &whole;
    let rows = rows().filter(here).map(|row| (row.id, Case::Row(row)));
    let groups = groups::ALL
        .into_iter()
        .map(|(name, calls)| (name, Case::Group(calls)));
    let cases = rows.chain(groups).map(|(name, case)| {
        let run = move || match case {
            Case::Row(row) => cases::run(whole, &row),
            Case::Group(calls) => sample::run(whole, calls, SEED),
        };
        (name, run)
    });
    guest_test::suite::run("mach-cases", cases, args)
}
