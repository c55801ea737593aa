//! Guest suite: the Mach case table by real messages of a client task.
//!
//! Each row runs in a fresh task of its own; see the crate `cases` for what it does, and [`whole`]
//! for how memory of that task is touched.
#![no_std]
#![no_main]

extern crate alloc;

mod hands;
mod whole;

use cases::{Where, rows, where_to_run};
use ipc::Kern;

use crate::whole::Whole;

ipc::main!(main);

fn main(args: ipc::Args) -> Result<u32, Kern> {
    let whole = Whole::new()?;
    let here = |row: &cases::Row| {
        let place = where_to_run::<Whole>(row);
        !matches!(place, Some(Where::Nowhere | Where::Core))
    };
    let cases = rows().filter(here).map(|row| {
        let whole = &whole;
        (row.id, move || cases::run(whole, &row))
    });
    guest_test::suite::run("mach-cases", cases, args)
}
