//! The decisions of the kernel, without hardware.
//!
//! [`Kernel`] is the state of the world: tasks, threads, ports, sets, messages in transit, the run
//! queue and the timers. The shell decodes a trap's registers, calls one method, and goes on with
//! the thread that [`Kernel::running`] names; whatever the decision needs done outside of this
//! crate (registers, IPC buffers, page tables) goes through [`Machine`]. Time is an argument.
//!
//! ```text
//! shell: a trap, a fault, a timer          shell: Machine (registers, buffers, tables)
//!   |                                         ^
//!   v                                         |
//! msg: send, call, reply, receive    traps: port_traps, task_traps     schedule: who runs next
//!        \            |                  /                |
//!         rights (names, cargo)   notices (told once)   teardown (all that is done in steps)
//!              \                        |                /
//!    records: task + space, thread, port, message, in slabs, linked into lists and queues
//! ```
//!
//! Three decisions hold it together. *Nothing waits on a stack*: a thread that waits is a record with
//! a state and a place in one queue. *What can fail comes first*: rights are captured and memory is
//! reserved before anything is committed, and a queued thread needs no memory at all. *Ends are
//! steps*: whatever dies is dead to everybody at once and is taken down some items at a time.
//!
//! The rules that the whole state obeys between two operations are written down in `invariants`; the
//! crate `model` checks them after every operation of its tests.
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

mod account;
pub mod acpi;
pub mod addr;
mod call;
mod cells;
mod device;
mod digest;
mod fast;
mod fast_answer;
mod fast_queued;
mod fast_rights;
mod forward;
pub mod gate;
mod handlers;
mod inspect;
mod interrupt;
mod invariants;
mod kernel;
mod list;
mod machine;
mod members;
pub mod memory_map;
mod message;
mod notices;
pub mod owner;
pub mod paging;
mod places;
mod port;
mod port_status;
mod port_traps;
mod priority_list;
mod processors;
mod queue;
pub mod rank;
mod reach;
mod receive;
mod reply;
mod requests;
mod right_traps;
mod rights;
mod run_queue;
mod schedule;
mod seat;
mod send;
mod servers;
mod slab;
mod space;
pub mod state;
mod suspend;
mod task;
mod task_traps;
mod teardown;
mod thread;
mod timer_queue;
pub mod turn;

pub use account::{Bill, SPACE};
pub use fast::{Called, Handed};
pub use fast_answer::{Answer, Answered, Given};
pub use fast_queued::Exchanged;
pub use fast_rights::Slot;
pub use interrupt::{INTERRUPTS_MAX, Interrupt, InterruptId};
pub use kernel::{
    Boot, FIRST_BAND, Flow, Kernel, Msg, Raised, Running, TaskId, ThreadId, ThreadStart,
};
pub use machine::{
    Context, Event, FaultAnswer, Machine, Position, Progress, Report, Resolved, SpaceId,
    StartState, Trigger,
};
pub use processors::PROCESSORS_MAX;
pub use schedule::SLICE;
pub use seat::Seat;
pub use servers::Fallen;
pub use slab::{Id, fit};
pub use task::Task;
pub use thread::Thread;
