//! How an operation is measured: the instructions of it alone, and what it does to the processor.
//!
//! A measurement prepares, calls [`Probe::time`] around the operation and nothing else, and tidies
//! up; [`Bench::repeat`] calls it again and again, first for the counter of instructions, then for
//! the kernel's counters, whose reading is itself a trap and must not be among the instructions.
//! The cost of measuring nothing is taken off both.

use alloc::vec::Vec;
use core::hint::black_box;

use ipc::Kern;
use ipc::abi::trap::counter;
use ipc::time::ticks;
use ipc::trap;

/// Most repetitions that the kernel's counters are read for.
const COUNTED: u32 = 64;
/// Repetitions whose figures are dropped: the first ones touch code and tables for the first time.
const WARM_UP: u32 = 8;

/// Repetitions for a profile.
const PROFILED: u32 = 25;

/// The unit of most figures.
const INSTRUCTIONS: &str = "instructions";

/// Turns of an empty loop between the first line and the first repetition of a profile.
const PATIENCE: u32 = 500_000;

/// Kernel entries, address-space switches, TLB flushes.
type Counters = [u64; 3];

/// What is read around an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Nothing,
    Ticks,
    Counters,
}

/// Reads before and after an operation.
pub(crate) struct Probe {
    reading: Reading,
    ticks: u64,
    counters: Counters,
}

impl Probe {
    const fn new(reading: Reading) -> Probe {
        Probe {
            reading,
            ticks: 0,
            counters: [0; 3],
        }
    }

    /// Does the operation. May be called several times in a repetition: the figures add up.
    #[inline(always)]
    pub(crate) fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        match self.reading {
            Reading::Nothing => black_box(operation()),
            Reading::Ticks => {
                let (ticks, result) = timed(operation);
                self.ticks += ticks;
                result
            }
            Reading::Counters => {
                let before = counters();
                let result = black_box(operation());
                let after = counters();
                for (sum, (before, after)) in self.counters.iter_mut().zip(before.iter().zip(after))
                {
                    *sum += after.saturating_sub(*before);
                }
                result
            }
        }
    }
}

/// The ticks of an operation, and its result.
#[inline(never)]
fn timed<T>(operation: impl FnOnce() -> T) -> (u64, T) {
    let begin = ticks();
    let result = black_box(operation());
    let end = ticks();
    (end.wrapping_sub(begin), result)
}

fn counters() -> Counters {
    // The trap has no way to fail.
    let all = trap::host_statistics().unwrap_or([0; counter::COUNT]);
    [
        all[counter::KERNEL_ENTRIES],
        all[counter::SPACE_SWITCHES],
        all[counter::TLB_FLUSHES],
    ]
}

/// Something that is done once, all figures at a time; told for each of `per` parts.
pub(crate) fn single(per: u64, operation: impl FnOnce()) -> Row {
    let before = counters();
    let (ticks, ()) = timed(operation);
    let after = counters();
    let share = |sum: u64| sum as f64 / per as f64;
    let mut row = Row::once("", 0);
    (row.min, row.median, row.p99) = (share(ticks), share(ticks), share(ticks));
    for (count, (before, after)) in row.counters.iter_mut().zip(before.iter().zip(after)) {
        *count = share(after.saturating_sub(*before));
    }
    row
}

/// Says that what comes next is to be watched from outside, and waits for whoever does so to begin.
pub(crate) fn watched() {
    ipc::println!("bench profile begins");
    (0..PATIENCE).for_each(|turn| _ = black_box(turn));
}

/// The measurements of one operation.
pub(crate) struct Bench {
    per: u64,
    n: u32,
    profiled: bool,
    samples: Vec<u64>,
    counted: u32,
    counters: Counters,
}

impl Bench {
    pub(crate) const fn new(per: u64, n: u32) -> Bench {
        Bench {
            per,
            n,
            profiled: false,
            samples: Vec::new(),
            counted: 0,
            counters: [0; 3],
        }
    }

    /// One whose repetitions are watched from outside.
    pub(crate) const fn for_profile(per: u64) -> Bench {
        let mut bench = Bench::new(per, PROFILED);
        bench.profiled = true;
        bench
    }

    /// How often [`Bench::repeat`] will call, all in all: for operations that use something up.
    pub(crate) fn calls(&self) -> u32 {
        self.warm_up() + self.n + self.n.min(COUNTED)
    }

    fn warm_up(&self) -> u32 {
        WARM_UP.min(self.n)
    }

    /// Repeats an operation with its preparation.
    pub(crate) fn repeat(
        &mut self,
        mut once: impl FnMut(&mut Probe) -> Result<(), Kern>,
    ) -> Result<(), Kern> {
        // The list is written now, so that no page of it is touched for the first time later.
        self.samples = alloc::vec![1; self.n as usize];
        let mut probe = Probe::new(Reading::Nothing);
        for _ in 0..self.warm_up() {
            once(&mut probe)?;
        }
        let nothing = (0..100).map(|_| timed(|| ()).0).min().unwrap_or(0);
        if self.profiled {
            watched();
        }
        for sample in &mut self.samples {
            let mut probe = Probe::new(Reading::Ticks);
            once(&mut probe)?;
            *sample = probe.ticks.saturating_sub(nothing);
        }
        if self.profiled {
            return Ok(());
        }
        self.count(once)
    }

    fn count(&mut self, mut once: impl FnMut(&mut Probe) -> Result<(), Kern>) -> Result<(), Kern> {
        let mut nothing = Probe::new(Reading::Counters);
        nothing.time(|| ());
        self.counted = self.n.min(COUNTED);
        for _ in 0..self.counted {
            let mut probe = Probe::new(Reading::Counters);
            once(&mut probe)?;
            let found = probe.counters.iter().zip(nothing.counters);
            for (sum, (count, nothing)) in self.counters.iter_mut().zip(found) {
                *sum += count.saturating_sub(nothing);
            }
        }
        Ok(())
    }

    /// The figures.
    ///
    /// # Errors
    /// KERN_FAILURE: nothing was measured.
    pub(crate) fn row(mut self, key: &'static str) -> Result<Row, Kern> {
        self.samples.sort_unstable();
        let at = |place: usize| self.samples.get(place).copied().ok_or(Kern::Failure);
        let last = self.samples.len().checked_sub(1).ok_or(Kern::Failure)?;
        let share = |sum: u64, count: u64| sum as f64 / (count * self.per) as f64;
        Ok(Row {
            key,
            unit: INSTRUCTIONS,
            n: self.n,
            min: share(at(0)?, 1),
            median: share(at(self.samples.len() / 2)?, 1),
            p99: share(at((self.samples.len() * 99 / 100).min(last))?, 1),
            counters: self
                .counters
                .map(|sum| share(sum, self.counted.max(1).into())),
        })
    }
}

/// What is told of an operation.
pub(crate) struct Row {
    key: &'static str,
    unit: &'static str,
    n: u32,
    min: f64,
    median: f64,
    p99: f64,
    counters: [f64; 3],
}

impl Row {
    /// Something that happens once.
    pub(crate) const fn once(key: &'static str, ticks: u64) -> Row {
        let ticks = ticks as f64;
        Row {
            key,
            unit: INSTRUCTIONS,
            n: 1,
            min: ticks,
            median: ticks,
            p99: ticks,
            counters: [0.0; 3],
        }
    }

    /// What several rounds took.
    pub(crate) const fn spread(unit: &'static str, n: u32, spread: [f64; 3]) -> Row {
        let [min, median, p99] = spread;
        Row {
            key: "",
            unit,
            n,
            min,
            median,
            p99,
            counters: [0.0; 3],
        }
    }

    /// Prints the line that `cargo xtask bench` reads.
    pub(crate) fn print(&self) {
        self.print_as(self.key);
    }

    /// The same under another key.
    pub(crate) fn print_as(&self, key: &str) {
        let Row {
            key: _,
            unit,
            n,
            min,
            median,
            p99,
            counters: [entries, switches, flushes],
        } = self;
        ipc::println!(
            "bench {key} unit={unit} n={n} min={min:.2} median={median:.2} p99={p99:.2} \
             entries={entries:.3} switches={switches:.3} flushes={flushes:.3}"
        );
    }
}
