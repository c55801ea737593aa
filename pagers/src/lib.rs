//! The framework for external pagers.
#![no_std]
