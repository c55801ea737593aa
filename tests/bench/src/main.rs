//! Guest benchmarks: one operation each, counted.
//!
//! The machine that `cargo xtask bench` boots counts instructions: a tick of the time stamp counter
//! is one. What an operation costs beside them (kernel entries, address-space switches, TLB flushes)
//! is counted in a loop of its own. See [`probe`] for how, and the files for what.
//!
//! Operations that take two tasks start this program again with a role as its argument.
#![no_std]
#![no_main]
#![deny(dead_code)]

extern crate alloc;

mod fault;
mod grow;
mod ipc_rt;
mod map;
mod pager;
mod partner;
mod probe;
mod scale;
mod task;
mod wire;

use ipc::time::ticks;
use ipc::{Args, Kern};

use crate::probe::{Bench, Row};

ipc::main!(main);

/// An operation: its key, how often it is measured, and the function that does so.
struct Operation {
    key: &'static str,
    /// What the figures are divided by: pages, for those that are told for a page.
    per: u64,
    /// How often instructions are counted.
    n: u32,
    run: fn(&mut Bench) -> Result<(), Kern>,
}

const fn operation(
    key: &'static str,
    per: u64,
    n: u32,
    run: fn(&mut Bench) -> Result<(), Kern>,
) -> Operation {
    Operation { key, per, n, run }
}

const OPERATIONS: &[Operation] = &[
    operation("ipc.call_rt_2task", 1, 10_000, ipc_rt::call),
    operation("ipc.call_rt_32B_2task", 1, 10_000, ipc_rt::call_32),
    operation("ipc.call_rt_loaded", 2, 5000, ipc_rt::call_loaded),
    operation("ipc.call_rt_4000B_2task", 1, 2000, ipc_rt::call_4000),
    operation("ipc.call_rt_right", 1, 2000, ipc_rt::call_right),
    operation("ipc.notify_rt", 1, 10_000, ipc_rt::notify),
    operation("fault.resident", 1, 1000, fault::resident),
    operation("fault.around16", 16, 1000, fault::around),
    operation("fault.zero_fill_write", 1, 2000, fault::zero_fill),
    operation(
        "fault.zero_fill_sweep",
        fault::SWEEP,
        4,
        fault::zero_fill_sweep,
    ),
    operation("fault.cow_break", 1, 1000, fault::cow_break),
    operation("fault.cow_break_100000p", 1, 200, fault::cow_break_large),
    operation("fault.cow_break_first", 1, 200, fault::cow_break_first),
    operation("fault.exception_rt", 1, 2000, fault::exception),
    operation("pager.fault_1p", 1, 1000, pager::one),
    operation("pager.fault_16p", 16, 1000, pager::sixteen),
    operation("pager.fault_64p", 64, 256, pager::sixty_four),
    // No more than half of the slots, with what is read before and after.
    operation("pager.prepared_16p", 16, 9, pager::prepared_sixteen),
    operation("pager.prepared_64p", 64, 2, pager::prepared_sixty_four),
    operation("vm.allocate_deallocate_1p", 1, 2000, map::allocate),
    operation(
        "vm.allocate_touch_deallocate_1p",
        1,
        2000,
        map::allocate_touch,
    ),
    operation(
        "vm.allocate_touch_deallocate_1024p",
        1024,
        20,
        map::allocate_touch_many,
    ),
    operation("vm.protect_flip_1p", 1, 2000, map::protect),
    operation("vm.protect_flip_1p_inside", 1, 2000, map::protect_inside),
    operation("vm.copy_1p", 1, 100, map::copy_page),
    operation("vm.copy_16MiB", 1, 100, map::copy),
    operation("vm.wire_unwire_16MiB", 1, 20, wire::wire_unwire),
    operation("ool.rpc_1p", 1, 100, map::out_of_line_page),
    operation("ool.rpc_16MiB", 1, 100, map::out_of_line),
    operation("ool.rpc_16MiB_touchall", 1, 10, map::out_of_line_touched),
    operation(
        "proc.task_create_terminate",
        1,
        1000,
        task::create_terminate,
    ),
    operation("proc.fork_small", 1, 200, task::fork_small),
    operation("proc.fork_64MiB", 1, 20, task::fork),
    operation("proc.thread_create_terminate", 1, 1000, task::thread),
];

/// Nanoseconds between two operations.
const SETTLE: u64 = 100 * ipc::time::MILLISECOND;

/// What the keys begin with that are measured in wall time.
const SCALE: &str = "scale";

/// The time from reset to the first instruction of `main`.
const BOOT: &str = "boot.reset_to_main";

fn main(args: Args) -> Result<u32, Kern> {
    let begin = ticks();
    let mut words = args.skip(1);
    match (words.next(), words.next()) {
        (Some("profile"), Some(key)) => profile(key),
        (Some(role), Some(name)) => partner::serve(role, name),
        (Some(filter), None) if filter.starts_with(SCALE) => Ok(u32::from(!scale::measure(filter))),
        (filter, _) => Ok(bench(begin, filter.unwrap_or_default())),
    }
}

/// Repeats one operation, between two lines that say so, for somebody who logs instructions.
fn profile(key: &str) -> Result<u32, Kern> {
    match OPERATIONS.iter().find(|operation| operation.key == key) {
        Some(operation) => (operation.run)(&mut Bench::for_profile(operation.per))?,
        None => grow::profile(key)?,
    }
    ipc::println!("bench profile ends");
    Ok(0)
}

/// Measures the operations whose key contains `filter`, or one of its parts between commas. The status is 1 if one of them failed.
fn bench(begin: u64, filter: &str) -> u32 {
    if BOOT.contains(filter) {
        Row::once(BOOT, begin).print();
    }
    let mut failed = 0;
    let chosen =
        |operation: &&Operation| filter.split(',').any(|part| operation.key.contains(part));
    for operation in OPERATIONS.iter().filter(chosen) {
        let &Operation { key, per, n, run } = operation;
        // What the operation before left unfinished is done in idle time, not in that of this one.
        ipc::time::sleep(SETTLE);
        let mut bench = Bench::new(per, n);
        match run(&mut bench).and_then(|()| bench.row(key)) {
            Ok(row) => row.print(),
            Err(code) => {
                ipc::println!("bench: {key}: a call answered {code}");
                failed = 1;
            }
        }
    }
    if !grow::measure(filter) {
        failed = 1;
    }
    failed
}
