//! Virtio devices for driver tasks.
#![no_std]
