//! Whether the system is well, and whether everything is back that somebody had.

use alloc::format;

use guest_test::{Failure, Outcome, check, check_eq, patience};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::trap::counter;
use ipc::time::{MILLISECOND, now, sleep};
use ipc::{Mapping, bootstrap, trap, vm};

/// Frames of the kernel's that may stay. Its heap gives memory back by runs of 16 frames, when nothing
/// lies in one any more; its tables of records keep room for a few more: three runs hold all of these.
const SLACK: u64 = 48;
/// Frames of the server's that may stay: its heap grows by one at a time, and keeps them.
const SERVER_SLACK: u64 = 8;

/// What is in use, at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Balance {
    /// Numbers that come back exactly: maps, copies, waiters, entries, objects.
    exact: [u64; 5],
    /// Frames that the server uses.
    server: u64,
    /// Frames that the kernel uses.
    kernel: u64,
}

impl Balance {
    /// What is in use now.
    pub(crate) fn now() -> Outcome<Balance> {
        let server = vm::own().statistics()?;
        let kernel = trap::host_statistics()?;
        let of = |index: usize| kernel.get(index).copied().unwrap_or(0);
        let kernel = of(counter::KERNEL_FRAMES) - of(counter::KERNEL_FRAMES_FREE);
        Ok(Balance {
            exact: [
                server.maps,
                server.copies,
                server.waiters,
                server.entries,
                server.objects,
            ],
            server: server.frames - server.frames_free,
            kernel,
        })
    }

    /// What is in use once nothing is being freed any more.
    pub(crate) fn at_rest() -> Outcome<Balance> {
        let mut before = Balance::now()?;
        loop {
            sleep(20 * MILLISECOND);
            let found = Balance::now()?;
            if found == before {
                return Ok(found);
            }
            before = found;
        }
    }

    /// Waits until no more is in use than then. What is freed is freed in steps.
    #[track_caller]
    pub(crate) fn is_back(&self) -> Outcome {
        let deadline = patience().saturating_add(3000 * MILLISECOND);
        loop {
            let found = Balance::now()?;
            let mut exact = found.exact.iter().zip(&self.exact);
            if exact.all(|(found, before)| found <= before)
                && found.server <= self.server + SERVER_SLACK
                && found.kernel <= self.kernel + SLACK
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
