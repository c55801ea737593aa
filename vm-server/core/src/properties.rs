//! Each structure of the core against something naive that cannot be wrong, with seeded choices.
//!
//! The tree of a map and the page tree of an object have theirs beside them
//! ([`crate::map::tree`], [`crate::object::pages`]).

mod clip;
mod faults;
mod lists;
mod loans;
mod matrix;
mod ports;
mod quick;
mod scarce;
mod slab;
mod sweep;
