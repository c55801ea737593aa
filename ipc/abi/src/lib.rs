//! What kernel and tasks agree on: traps, codes, layouts.
#![no_std]
