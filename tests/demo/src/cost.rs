//! What things cost, in ticks of the time stamp counter: instructions of the guest, where the
//! machine counts one for each (QEMU's `-icount shift=0`).

use alloc::vec::Vec;

use ipc::time::ticks;

/// Measurements of one kind of event.
pub(crate) struct Samples {
    what: &'static str,
    ticks: Vec<u64>,
}

impl Samples {
    /// None yet.
    pub(crate) const fn new(what: &'static str) -> Samples {
        Samples {
            what,
            ticks: Vec::new(),
        }
    }

    /// Does something once and remembers what it cost.
    #[inline(always)]
    pub(crate) fn time<T>(&mut self, action: impl FnOnce() -> T) -> T {
        let start = ticks();
        let result = action();
        let end = ticks();
        self.ticks.push(end.wrapping_sub(start));
        result
    }

    /// Prints the median, the least and the most.
    pub(crate) fn report(mut self) {
        self.ticks.sort_unstable();
        let middle = self.ticks.get(self.ticks.len() / 2);
        if let (Some(least), Some(median), Some(most)) =
            (self.ticks.first(), middle, self.ticks.last())
        {
            ipc::println!(
                "cost: {:<48} {median:>8} (median of {}, {least} to {most})",
                self.what,
                self.ticks.len(),
            );
        }
    }
}
