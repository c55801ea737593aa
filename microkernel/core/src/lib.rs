//! The decisions of the kernel, without hardware.
#![no_std]
