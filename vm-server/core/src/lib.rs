//! The Mach VM as a pure state machine: events in, effects out.
#![no_std]
