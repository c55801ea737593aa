//! The framework for external pagers: a pager is a value with one function.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! use pagers::{Answer, Kern, Object, Pager, Service, Want};
//!
//! /// Each page reads as its own number.
//! struct Counting;
//!
//! impl Pager for Counting {
//!     fn data_request(&mut self, _object: &Object, want: &mut Want<'_>) -> Answer {
//!         for (number, page) in want.pages() {
//!             page.fill(number as u8);
//!         }
//!         Answer::Supply
//!     }
//! }
//!
//! ipc::main!(main);
//!
//! fn main(_args: ipc::Args) -> Result<(), Kern> {
//!     let mut service = Service::new(Counting)?;
//!     service.publish("counting", Object { key: 0, size: 1 << 20 })?;
//!     service.serve()
//! }
//! ```
//!
//! The contract with the VM server, in words. An object is a port; whoever holds a send right to it
//! can map it. The server asks for pages with `memory_object_data_request` and waits for nothing:
//! whoever needs the page waits, everybody else goes on. The pager writes the pages into slots of its
//! *tray* and says which slots hold them; the server moves the frames from the slots into the
//! object, so that no page is copied, and fills the slots again later. A page is supplied whole or
//! not at all. An error reaches the toucher as KERN_MEMORY_ERROR, never as zeros; and so does the
//! end of the pager, unless it is started again: then the next instance goes on where it ended.
//!
//! [`pager`] is what you write, [`serve`] the loop, [`objects`] the ports; the tray is private.
#![no_std]

extern crate alloc;

mod kept;
pub mod objects;
pub mod pager;
pub mod serve;
mod tray;

pub use ipc::Kern;
pub use objects::{ObjectId, Objects};
pub use pager::{Answer, Attributes, Front, Object, PAGE, Pager, Want};
pub use serve::Service;
