//! The VM server task: the message shell around `vm-core`.
//!
//! The kernel starts it with all memory; it makes the core, then the first client task, then serves
//! for ever. One message becomes one event ([`receive`]), its effects become traps ([`execute`]);
//! what the core leaves unfinished is done in steps between messages. No `if` here is about policy.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
mod execute;
mod heap;
mod pmap;
mod ports;
mod receive;
mod serve;
mod stepper;
mod window;

ipc::bare_main!(main);

fn main(length: u64) -> ! {
    match boot::start(length) {
        Ok(mut server) => server.serve(),
        Err(problem) => stop(format_args!("cannot start: {problem}")),
    }
}

/// Ends the server, and with it the machine: nothing that a client can do leads here.
fn stop(why: core::fmt::Arguments<'_>) -> ! {
    ipc::println!("vm-server: {why}");
    ipc::exit(1)
}
