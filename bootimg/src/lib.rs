//! The boot image: a ustar archive of ELF programs and one text file that says what to start.
//!
//! ```text
//! image.tar                 any tar lists it, extracts it, or makes one
//!   manifest                which tasks start, in which order, with which arguments and rights
//!   vm-server.elf           one static ELF executable for each program
//!   bootstrap.elf
//!   ...
//! ```
//!
//! Three readers, each of which trusts nothing that it has not checked: [`Image`] finds the files,
//! [`Manifest`] reads the text, [`LoadPlan`] turns an ELF file into a list of segments that are safe
//! to map. The kernel uses them to load the VM server, the VM server to load `bootstrap`, and
//! `bootstrap` for all others. None of them allocates. What they refuse, they refuse with an error
//! of its own whose text names the file, the line or the segment.
//!
//! The feature `write` adds the builder for the host. It makes the same bytes from the same input.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test that indexes out of range fails, as it should"
    )
)]

#[cfg(any(feature = "write", test))]
extern crate std;

mod load;
mod manifest;
mod read;
#[cfg(feature = "write")]
mod write;

pub use load::{ElfError, LoadPlan, MAX_SEGMENTS, PAGE_SIZE, Protection, Segment};
pub use manifest::{
    Args, Ends, Level, MAX_ARGS, MAX_NAME, MAX_TASKS, MAX_TEXT, MAX_VALUE, Manifest, ManifestError,
    ManifestProblem, Options, Rights, Task, Tasks,
};
pub use read::{File, Files, Image, ImageError, MANIFEST_FILE, MAX_FILES};
#[cfg(feature = "write")]
pub use write::{ImageBuilder, ManifestSpec, TaskSpec, WriteError};
