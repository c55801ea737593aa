//! kernel-core on the host: a toy machine, and a cast of tasks and threads to drive it with.
//!
//! [`World`] makes every operation the way the shell would: it gives the processor to the thread that
//! acts, calls the kernel, and takes steps until none is left, with the whole state checked after
//! each. The tests themselves lie in `tests/`, one file a theme.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

pub mod failing;
pub mod naive;
pub mod toy;
pub mod world;

pub use random::Random;
pub use toy::{Received, Toy};
pub use world::{Actor, Child, Letter, START, World, word};
