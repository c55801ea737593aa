//! The harness of test suites that run as tasks.
#![no_std]
