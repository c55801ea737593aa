//! What a task links against: its start, its heap, its console, rights as values, typed calls.
//!
//! A task in ten lines:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! ipc::main!(main);
//!
//! fn main(args: ipc::Args) -> Result<(), ipc::Kern> {
//!     let memory = ipc::Mapping::allocate(8192)?;
//!     memory.write(4096, b"hello")?;
//!     ipc::println!("{} has 8 KiB at {:#x}", args.name(), memory.address());
//!     Ok(())
//! }
//! ```
//!
//! | to | see |
//! |---|---|
//! | begin, end, name the `main` | [`main!`], [`exit()`], [`Args`], [`mod@start`] |
//! | print | [`println!`], [`console`] |
//! | allocate, map, share, copy memory | [`Mapping`], [`mapping::Options`], [`vm`], [`vm_read`], [`vm_region`], [`vm_wire`] |
//! | find and publish services, start tasks | [`bootstrap`], [`task`] |
//! | ask somebody | [`SendRight::call`] with a message of [`protocol`] |
//! | be asked | [`server::serve`] with a [`server::Server`] |
//! | hold and pass rights | [`right`] |
//! | run several threads | [`thread`], [`sync`] |
//! | suspend and look at other threads and tasks | [`control`] |
//! | handle exceptions of other threads | [`server::Notice::Exception`], [`task::set_exception_port`] |
//! | drive a device | [`interrupt`], [`vm`] (`device_map`, `device_memory_allocate`) |
//! | measure and wait | [`time`] |
//! | do what has no better face yet | [`trap`], [`buffer`] |
//!
//! The program is static and has no C library: [`mod@memory`] has `memcpy` and its like, [`mod@panic`]
//! what a panic does. `unsafe` is where registers, the IPC buffer, mapped memory, threads and the
//! heap are: `trap`, `buffer`, `start`, `args`, `mapping`, `heap`, `lock`, `sync`, `thread`, `memory`, `panic`,
//! `time`, and in one function each of `control` and `task`.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod args;
pub mod bootstrap;
pub mod buffer;
mod call;
pub mod console;
pub mod control;
mod copy;
mod forward;
pub mod heap;
pub mod interrupt;
mod lock;
pub mod mapping;
pub mod memory;
pub mod panic;
pub mod reclaim;
pub mod right;
mod semaphore;
pub mod server;
pub mod start;
pub mod sync;
pub mod task;
pub mod thread;
pub mod time;
pub mod trap;
pub mod vm;
pub mod vm_advice;
pub mod vm_query;
pub mod vm_read;
pub mod vm_region;
pub mod vm_share;
pub mod vm_wire;

pub use args::Args;
pub use call::RawReply;
pub use ipc_abi as abi;
pub use ipc_abi::Kern;
pub use ipc_protocol as protocol;
pub use mapping::Mapping;
pub use right::{Arrived, Passed, PortSet, ReceiveRight, Rights, SendOnce, SendRight, Untyped};
pub use start::{Exit, args, exit, task_name};
