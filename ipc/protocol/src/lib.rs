//! The messages that tasks exchange, each once.
#![no_std]
