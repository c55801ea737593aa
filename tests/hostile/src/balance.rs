//! Whether the system is well, and whether everything is back that somebody had.

use alloc::format;

use guest_test::{Failure, Outcome, check, check_eq, patience};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::trap::counter;
use ipc::time::{MILLISECOND, now, sleep};
use ipc::{Mapping, bootstrap, trap, vm};

/// Frames that may stay: what servers and kernel keep to be faster next time, and the records of
/// tasks that have ended. The kernel's heap grows by 16 frames at a time, and pieces of what was freed are
/// in use when the same is taken again.
const SLACK: u64 = 80;

/// What is in use, at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Balance {
    /// Numbers that come back exactly: maps, copies, waiters.
    exact: [u64; 3],
    /// Numbers that come back but for a few: entries, objects, the server's frames, the kernel's.
    nearly: [u64; 4],
}

impl Balance {
    /// What is in use now.
    pub(crate) fn now() -> Outcome<Balance> {
        let server = vm::own().statistics()?;
        let kernel = trap::host_statistics()?;
        let of = |index: usize| kernel.get(index).copied().unwrap_or(0);
        let kernel = of(counter::KERNEL_FRAMES) - of(counter::KERNEL_FRAMES_FREE);
        Ok(Balance {
            exact: [server.maps, server.copies, server.waiters],
            nearly: [
                server.entries,
                server.objects,
                server.frames - server.frames_free,
                kernel,
            ],
        })
    }

    /// Waits until no more is in use than then. What is freed is freed in steps.
    #[track_caller]
    pub(crate) fn is_back(&self) -> Outcome {
        let deadline = patience().saturating_add(3000 * MILLISECOND);
        loop {
            let found = Balance::now()?;
            let near = |(found, before): (&u64, &u64)| *found <= before + SLACK;
            let exact = found.exact.iter().zip(&self.exact);
            if exact.into_iter().all(|(found, before)| found <= before)
                && found.nearly.iter().zip(&self.nearly).all(near)
            {
                return Ok(());
            }
            if now() >= deadline {
                return Err(Failure::new(format!("not back: {self:?} became {found:?}")));
            }
            sleep(MILLISECOND);
        }
    }
}

/// Whether kernel, VM server and name service still do their work.
#[track_caller]
pub(crate) fn all_is_well() -> Outcome {
    let memory = Mapping::allocate(4 * PAGE_SIZE)?;
    for page in 0..4 {
        let mut word = [1; 8];
        memory.read(page * PAGE_SIZE, &mut word)?;
        check_eq!(u64::from_le_bytes(word), 0);
        memory.write(page * PAGE_SIZE, &page.to_le_bytes())?;
    }
    drop(memory);
    check!(bootstrap::list(0).is_ok());
    Ok(())
}
