//! Runs the cases of a list and reports each, in the form that `cargo xtask test` reads.
//!
//! `test NAME ... ` is printed before the case runs, so that a case that takes the machine along is
//! known. A thread watches the time: a case that hangs fails, and the suite ends with it, because
//! nobody can take the processor away from the case's own thread in good order.

use core::fmt::Display;
use core::sync::atomic::{AtomicU64, Ordering};

use ipc::abi::trap::counter;
use ipc::time::{SECOND, now};
use ipc::{Args, Kern, print, println, sync, thread};

use crate::failure::Outcome;

/// How long a case may take, in nanoseconds of the machine's clock. That follows the number of
/// instructions if there is one processor, else the clock of a host that may be busy.
const LIMIT: u64 = 8 * SECOND;
const LIMIT_OF_SEVERAL: u64 = 120 * SECOND;

/// A case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name: file and function.
    pub name: &'static str,
    /// The function.
    pub run: fn() -> Outcome,
}

/// A suite: see [`suite!`](crate::suite!).
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// Its name.
    pub name: &'static str,
    /// Its cases, in the order in which they run.
    pub cases: &'static [Case],
}

/// Makes the constant `SUITE` of a list. What is not in the list is an unused function, and that is
/// denied: no case is forgotten.
///
/// ```ignore
/// guest_test::suite! {
///     name: "conformance",
///     cases: { ports: [a_port_is_made_and_destroyed, a_stale_name_is_refused] },
/// }
/// ```
#[macro_export]
macro_rules! suite {
    (name: $name:literal, cases: { $($file:ident: [$($case:ident),* $(,)?]),* $(,)? } $(,)?) => {
        /// The suite, with all of its cases.
        const SUITE: $crate::suite::Suite = $crate::suite::Suite {
            name: $name,
            cases: &[$($($crate::suite::Case {
                name: concat!(stringify!($file), "::", stringify!($case)),
                run: $file::$case,
            },)*)*],
        };
    };
}

/// When the running case will have taken too long.
static DEADLINE: AtomicU64 = AtomicU64::new(0);

impl Suite {
    /// Does what the arguments say: see [`run`].
    ///
    /// # Errors
    /// There is no thread to watch the time.
    pub fn run(&self, args: Args) -> Result<u32, Kern> {
        let cases = self.cases.iter().map(|case| (case.name, case.run));
        run(self.name, cases, args)
    }
}

/// Runs a list of named cases as a suite. `--list` names the cases, other words choose those whose
/// name contains one of them. Gives the exit status: 0 if no case failed.
///
/// # Errors
/// There is no thread to watch the time.
pub fn run<'a, F, E>(
    suite: &str,
    cases: impl Iterator<Item = (&'a str, F)> + Clone,
    mut args: Args,
) -> Result<u32, Kern>
where
    F: FnOnce() -> Result<(), E>,
    E: Display,
{
    args.next();
    let chosen = |(name, _): &(&str, F)| {
        let mut words = args.filter(|word| !word.starts_with("--")).peekable();
        words.peek().is_none() || words.any(|word| name.contains(word))
    };
    let cases = cases.filter(chosen);
    if { args }.any(|word| word == "--list") {
        cases.for_each(|(name, _)| println!("{name}: test"));
        return Ok(0);
    }
    println!("suite {suite}: {} cases", cases.clone().count());
    next_deadline();
    drop(thread::spawn(watch)?);
    let (mut passed, mut failed) = (0_u32, 0_u32);
    for (name, case) in cases {
        next_deadline();
        print!("test {name} ... ");
        match case() {
            Ok(()) => {
                println!("ok");
                passed += 1;
            }
            Err(failure) => {
                println!("FAILED: {failure}");
                failed += 1;
            }
        }
    }
    // Whoever sends them wants to know that they came.
    let counters = ipc::trap::host_statistics()?;
    match counters[counter::NON_MASKABLE] {
        0 => {}
        number => println!("suite {suite}: {number} non-maskable interrupts"),
    }
    println!("suite {suite}: {passed} passed; {failed} failed");
    Ok(u32::from(failed > 0))
}

fn next_deadline() {
    DEADLINE.store(now().saturating_add(limit()), Ordering::Relaxed);
}

fn limit() -> u64 {
    if crate::has_several_processors() {
        LIMIT_OF_SEVERAL
    } else {
        LIMIT
    }
}

/// Ends the suite when a case has taken too long.
fn watch() {
    loop {
        let deadline = DEADLINE.load(Ordering::Relaxed);
        if now() >= deadline {
            println!(
                "FAILED: did not end in {} s of machine time",
                limit() / SECOND
            );
            ipc::exit(1);
        }
        sync::park_until(deadline);
    }
}
