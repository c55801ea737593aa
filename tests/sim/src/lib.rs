//! Random, seeded, replayable schedules of the VM core, compared byte by byte with a flat model.
//!
//! ```text
//!   schedule --- events ---> world --- Event ---> vm_core::Core
//!      |  \                    |  <-- Effect ---     |
//!      |   pager (scripts) ----+                     | Machine
//!      +--- flat (what is right)          machine (frames, translations)
//! ```
//! [`world`] carries out effects and checks the core after each event; [`schedule`] chooses what
//! happens and compares what tasks see with [`flat`]. A run is a function of its seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a failing test"
)]

pub mod action;
pub mod calls;
pub mod flat;
pub mod kind;
pub mod machine;
pub mod numbers;
pub mod pager;
pub mod runner;
pub mod schedule;
pub mod shrink;
pub mod world;

pub use random::Random;
