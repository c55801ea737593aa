//! The decisions of the kernel, without hardware.
//!
//! [`Kernel`] is the state of the world: tasks, threads, ports, sets, messages in transit, the run
//! queue and the timers. The shell decodes a trap's registers, calls one method, and goes on with
//! the thread that [`Kernel::running`] names; whatever the decision needs done outside of this
//! crate (registers, IPC buffers, page tables) goes through [`Machine`]. Time is an argument.
//!
//! The rules that the whole state obeys at every step are written down in `invariants`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test may fail"
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
mod call;
mod invariants;
mod kernel;
mod list;
mod machine;
pub mod memory_map;
mod message;
mod notices;
pub mod owner;
pub mod paging;
mod port;
mod port_traps;
mod priority_list;
mod receive;
mod reply;
mod rights;
mod run_queue;
mod schedule;
mod send;
mod slab;
mod space;
mod task;
mod task_traps;
mod teardown;
mod thread;
mod timer_queue;

pub use kernel::{
    Boot, FIRST_BAND, Flow, Kernel, Msg, Raised, Running, TaskId, ThreadId, ThreadStart,
};
pub use machine::{
    Context, Event, FaultAnswer, Machine, Position, Progress, Report, Resolved, SpaceId, StartState,
};
pub use schedule::SLICE;
pub use slab::Id;
pub use task::Task;
pub use thread::Thread;
