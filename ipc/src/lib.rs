//! The task runtime: traps, typed rights, stubs, the serve loop.
#![no_std]
