//! The VM server task: the message shell around `vm-core`.
//!
//! The kernel starts it with all memory (or another VM server's client starts it again, with some of that
//! server's: [`nested`]); it makes the core, then the first client task, then serves
//! for ever. One message becomes one event ([`receive`]), its effects become traps ([`execute`]), and what they
//! answer becomes words ([`answer`]); what the core leaves unfinished is done in steps between messages. No
//! `if` here is about policy.
#![no_std]
#![no_main]

extern crate alloc;

mod answer;
mod below;
mod boot;
mod converse;
mod copies;
mod execute;
mod heap;
mod nested;
mod pmap;
mod ports;
mod receive;
mod serve;
mod stepper;
mod threads;
mod window;

ipc::bare_main!(main);

fn main(argument: u64) -> ! {
    match boot::start(argument) {
        Ok(server) => threads::serve(server),
        Err(problem) => stop(format_args!("cannot start: {problem}")),
    }
}

/// Ends the server, and with it the machine: nothing that a client can do leads here.
fn stop(why: core::fmt::Arguments<'_>) -> ! {
    ipc::println!("vm-server: {why}");
    ipc::exit(1)
}
