//! Whether everything is back that a world had.

use alloc::format;

use guest_test::{Failure, Outcome, patience};
use ipc::abi::trap::counter;
use ipc::time::{MILLISECOND, now, sleep};
use ipc::{trap, vm};

/// What may stay: what tables have grown by.
const SLACK: u64 = 48;

/// What there is at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Balance {
    /// Frames of VM server and kernel together: they never change.
    frames: u64,
    /// Frames of the VM server that are free.
    free: u64,
    /// Frames that the kernel uses.
    kernel: u64,
    /// Tasks, threads and ports; maps.
    objects: [u64; 4],
}

impl Balance {
    /// What there is now.
    pub(crate) fn now() -> Outcome<Balance> {
        let server = vm::own().statistics()?;
        let kernel = trap::host_statistics()?;
        let of = |index: usize| kernel.get(index).copied().unwrap_or(0);
        Ok(Balance {
            frames: server.frames + of(counter::KERNEL_FRAMES),
            free: server.frames_free,
            kernel: of(counter::KERNEL_FRAMES) - of(counter::KERNEL_FRAMES_FREE),
            objects: [
                of(counter::TASKS),
                of(counter::THREADS),
                of(counter::PORTS),
                server.maps,
            ],
        })
    }

    /// What there is when nothing comes back any more.
    pub(crate) fn settled() -> Outcome<Balance> {
        let mut last = Balance::now()?;
        loop {
            sleep(20 * MILLISECOND);
            let now = Balance::now()?;
            if now.free == last.free && now.objects == last.objects {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Frames that are free.
    pub(crate) const fn free(&self) -> u64 {
        self.free
    }

    /// Frames that the kernel uses.
    pub(crate) const fn kernel(&self) -> u64 {
        self.kernel
    }

    /// Waits until there is again what there was.
    #[track_caller]
    pub(crate) fn is_back(&self) -> Outcome {
        let deadline = patience().saturating_add(5000 * MILLISECOND);
        loop {
            let found = Balance::now()?;
            if found.frames == self.frames
                && found.objects == self.objects
                && found.free + SLACK >= self.free
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
