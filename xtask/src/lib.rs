//! The front door of the project, as a library: what the commands of `cargo xtask` do.
//!
//! [`build`] makes the guest programs, [`image`] puts them into a boot image, [`qemu`] knows the
//! emulator, and [`boot`] boots one on the other and watches. The other modules are
//! a command each, built from these.

pub mod bench;
pub mod boot;
pub mod build;
pub mod check;
pub mod docs;
pub mod doctor;
mod figures;
pub mod image;
pub mod install;
mod interrupts;
pub mod iso;
mod layers;
pub mod module;
pub mod new_task;
mod profile;
pub mod qemu;
pub mod run;
mod scale;
mod scenario;
pub mod setting;
mod source;
pub mod suite;
pub mod test;
pub mod trace;
