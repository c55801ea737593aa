//! The demonstration client: real files through an external pager, then each promise once.
//!
//! Prints the SHA-256 of every regular file of the share, each mapped whole and brought page by page
//! by the file pager, in the format of `sha256sum` (compare with `find . -type f -print0 |
//! LC_ALL=C sort -z | xargs -0 sha256sum` in the shared folder). Then lines that say what was
//! checked, what faults cost, and the counters of server and kernel. The status is 0 if every check
//! held.
//!
//! Some checks need a second task. It is this program again, with its role as argument.
#![no_std]
#![no_main]

extern crate alloc;

mod cost;
mod digest;
mod faults;
mod line;
mod memory;
mod report;
mod share;
mod summary;
mod tasks;
mod watch;

use ipc::Kern;
use ipc::protocol::files::Files;

use crate::cost::Samples;
use crate::report::Report;

/// The module that this program is.
pub(crate) const NAME: &str = "demo";

ipc::main!(main);

fn main(mut args: ipc::Args) -> Result<u32, Kern> {
    match args.nth(1) {
        None => demo(),
        Some(tasks::PARTNER) => tasks::partner(),
        Some(faults::TOUCHER) => faults::toucher(),
        Some(faults::DYING) => faults::dying(),
        Some(faults::VICTIM) => faults::victim(),
        Some(role) => {
            ipc::println!("{NAME}: unknown role `{role}`");
            Err(Kern::InvalidArgument)
        }
    }
}

fn demo() -> Result<u32, Kern> {
    let mut report = Report::default();
    let files = share::find::<Files>("files")
        .inspect_err(|_| ipc::println!("{NAME}: there is no file pager (did it fail to start?)"))?;
    let mut reads = Samples::new("fault, 64 pages of a file read from the host");
    let largest = digest::all(&files, &mut report, &mut reads)?;
    let largest = largest.as_ref();
    report.group("vm_allocate", memory::allocate);
    report.group("vm_copy", |report| {
        memory::copy_of_file(&files, largest, report)
    });
    report.group("named entry", tasks::named_entry);
    report.group("inheritance", tasks::inherited);
    report.group("exception", faults::repaired);
    let mut supplied = None;
    report.group("dying pager", |report| {
        supplied = Some(faults::dying_pager(&files, largest, report)?);
        Ok(())
    });
    ipc::println!(
        "cost: from a touch to the next instruction, in ticks of the time stamp counter \
         (under -icount shift=0: instructions)"
    );
    report.group("costs", |_| {
        memory::costs()?.into_iter().for_each(Samples::report);
        Ok(())
    });
    supplied.into_iter().for_each(Samples::report);
    reads.report();
    report.group("statistics", |_| summary::print());
    Ok(report.finish())
}
