//! Threads that run a few instructions without the runtime.

use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::state::General;
use ipc::{Kern, Mapping, SendRight, Untyped, control, task, trap};

use guest_test::Outcome;

/// Instructions that a thread of its own runs, without the runtime.
pub(crate) type Code = unsafe extern "C" fn() -> !;

/// Defines such code.
macro_rules! codes {
    ($($name:ident: $($line:literal),+;)+) => {
        $(#[unsafe(naked)]
        unsafe extern "C" fn $name() -> ! {
            naked_asm!($($line),+)
        })+
    };
}

pub(crate) use codes;

/// Where code begins.
pub(crate) fn place(code: Code) -> u64 {
    code as *const () as u64
}

/// A thread that runs such code. Dropped, it is ended.
pub(crate) struct Bare {
    pub(crate) thread: SendRight<Untyped>,
    pub(crate) stack: Mapping,
}

impl Bare {
    /// Has code run with its argument in RDI.
    pub(crate) fn start(code: Code, argument: u64) -> Outcome<Bare> {
        let bare = Bare::suspended(code, argument)?;
        control::resume_thread(&bare.thread)?;
        Ok(bare)
    }

    /// The same, but it is suspended.
    pub(crate) fn suspended(code: Code, argument: u64) -> Outcome<Bare> {
        let stack = Mapping::allocate(4 * PAGE_SIZE)?;
        let (own, sp) = (task::own()?, stack.address() + stack.size() - 64);
        // SAFETY: the code uses this stack alone, and the word that its user names.
        let thread = unsafe { task::make_thread(&own, place(code), sp, argument, 31) }?;
        Ok(Bare { thread, stack })
    }

    /// Suspends it, and gives its registers.
    pub(crate) fn stop(&self) -> Result<General, Kern> {
        control::suspend_thread(&self.thread)?;
        control::general(&self.thread)
    }

    /// Has it go on with other registers.
    pub(crate) fn go(&self, state: &General) -> Result<(), Kern> {
        // SAFETY: as in `suspended`.
        unsafe { control::set_general(&self.thread, state) }?;
        control::resume_thread(&self.thread)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = trap::thread_terminate(self.thread.name());
    }
}
