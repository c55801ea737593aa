//! The unwinder that the precompiled libraries refer to, and that the kernel does not have.

use super::exit::{End, exit};

/// Named by frames that could be unwound; there are none.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Would go on unwinding; nothing ever begins to.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    exit(End::Failure(1))
}
