//! What the kernel and its tasks agree on: trap numbers, codes, message and page-table layouts.
//!
//! Numbers and layouts only; nothing here acts. [`trap`] is the list of everything that a task can
//! ask of the kernel, [`message`] and [`buffer`] say how a message looks in registers and memory,
//! [`fault`], [`exception`] and [`notify`] are the messages that the kernel itself sends, and
//! [`translation`] and [`pass`] are how the VM server changes page tables.
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

pub mod boot;
pub mod buffer;
pub mod device;
pub mod exception;
pub mod fault;
pub mod info;
pub mod kern_return;
pub mod layout;
pub mod message;
pub mod notify;
pub mod pass;
pub mod port;
pub mod reclaim;
pub mod right;
pub mod state;
pub mod trace;
pub mod translation;
pub mod trap;
pub mod types;

pub use kern_return::Kern;
