//! The Mach case table, executed: each row is a test whose name is its id.
//!
//! ```text
//!   mach-cases.tsv, more-cases.tsv  ->  table   a row
//!                                       words   its arguments
//!                                       cases   what is done for it   ->  Vm
//!                                       run     whether that is right      |
//!                          tests/host: vm_core alone  <--------------------+-->  guest: the system
//! ```
//!
//! Beside the rows there is [`matrix`]: calls with every combination of what is at a limit.
//!
//! A row decides what its test does as far as it can: parameters come from its `arguments`, the
//! answer from its code, and where there is a setup in words, a body written for it ([`cases`]) does
//! what it says. Bodies know nothing of what they are run against ([`Vm`]). A row that no body is for
//! fails, so that none is forgotten.
#![no_std]

extern crate alloc;

pub mod calls;
pub mod cases;
pub mod failure;
pub mod matrix;
pub mod pager;
pub mod parts;
pub mod run;
pub mod table;
pub mod vm;
pub mod words;

pub use failure::{Failure, Outcome};
pub use run::{Where, run, where_to_run};
pub use table::{Row, rows};
pub use vm::Vm;
