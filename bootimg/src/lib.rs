//! The boot image: a tar archive of ELF tasks and a manifest.
#![no_std]
