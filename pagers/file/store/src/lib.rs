//! A directory of the host, read through 9P2000.L: the part that needs no device.
//!
//! [`ninep`] has the messages, [`session`] the conversation (who waits for what reply, which fids
//! are in use), [`path`] says which paths exist at all. The device is a [`session::Transport`]: in
//! the file pager a virtio queue, in the tests here a server made of hand-written bytes. A reply
//! comes from outside and is never trusted: every length is checked against the bytes that came.
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

#[cfg(test)]
extern crate std;

pub mod ninep;
pub mod path;
pub mod session;
mod wire;

#[cfg(test)]
mod toy;
