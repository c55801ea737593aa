//! A panic ends the task with a report that names it.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Exit status of a task that panicked.
pub const STATUS: u32 = 101;

static PANICKING: AtomicBool = AtomicBool::new(false);
static LAST: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Sets what is done after the report of a panic instead of ending the task with [`STATUS`]: for the
/// VM server, whose end is the machine's.
pub fn set_last_act(act: fn() -> !) {
    LAST.store(act as *mut (), Ordering::Relaxed);
}

/// Reports a panic and ends the task.
// A guest is built to abort. On the host, where this crate is only looked at, `std` has a handler.
#[cfg_attr(all(not(test), panic = "abort"), panic_handler)]
pub fn report(info: &PanicInfo<'_>) -> ! {
    // A panic inside the report ends without another.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        match info.location() {
            Some(place) => crate::console::last_words(format_args!(
                "{}: panicked at {}:{}: {}",
                crate::task_name(),
                place.file(),
                place.line(),
                info.message(),
            )),
            None => crate::console::last_words(format_args!(
                "{}: panicked: {}",
                crate::task_name(),
                info.message(),
            )),
        }
        let act = LAST.load(Ordering::Relaxed);
        if !act.is_null() {
            // SAFETY: only `set_last_act` stores here, and it stores a function of this type.
            let act: fn() -> ! = unsafe { core::mem::transmute(act) };
            act();
        }
    }
    crate::exit(STATUS)
}

/// Named by the precompiled `core` and `alloc`, which were built to unwind. Nothing here does.
// SAFETY: the name is the compiler's; nothing else in a task defines it.
#[cfg(not(test))]
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`].
// SAFETY: as above.
#[cfg(not(test))]
#[unsafe(no_mangle)]
pub extern "C" fn _Unwind_Resume() {}
