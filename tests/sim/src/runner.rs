//! Runs: a schedule is made up as it goes, or done again; a failure is caught with the operations that
//! led to it, written to a file, shrunk and written again.
//!
//! What fails is a panic, the core's own ones too. It is caught, so that the tests of the simulation
//! need no second way for everything to fail.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use crate::action::{Operation, Schedule};
use crate::kind::{Kind, Setup};
use crate::machine::Flaw;
use crate::schedule::Sim;
use crate::shrink;
use crate::world::Care;

/// How a schedule is run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// How closely the core is checked.
    pub care: Care,
    /// Everything is printed.
    pub verbose: bool,
    /// What is wrong with the machine on purpose.
    pub flaw: Option<Flaw>,
}

impl How {
    /// As a million events are run.
    pub const QUICK: How = How {
        care: Care::Touched,
        verbose: false,
        flaw: None,
    };
    /// As a failure is looked for.
    pub const WHOLE: How = How {
        care: Care::Whole,
        ..How::QUICK
    };
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// What happened how often.
    pub tally: BTreeMap<String, u64>,
    /// Events of the core.
    pub events: u64,
}

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The operations up to the one that failed.
    pub schedule: Schedule,
    /// What is wrong.
    pub message: String,
    /// The line of the source that says so: two failures are the same if it is.
    pub place: String,
}

/// A panic that was caught.
struct Caught {
    message: String,
    place: String,
}

thread_local! {
    /// `Some`: panics of this thread are being caught; the last one.
    static CATCHING: RefCell<Option<Option<Caught>>> = const { RefCell::new(None) };
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let caught = CATCHING.with_borrow_mut(|catching| {
                catching.as_mut().is_some_and(|last| {
                    let payload = info.payload();
                    let message = payload
                        .downcast_ref::<String>()
                        .cloned()
                        .or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
                    *last = Some(Caught {
                        message: message.unwrap_or_default(),
                        place: info.location().map(ToString::to_string).unwrap_or_default(),
                    });
                    true
                })
            });
            if !caught {
                before(info);
            }
        }));
    });
}

fn catch<T>(body: impl FnOnce() -> T) -> Result<T, Caught> {
    install_hook();
    CATCHING.set(Some(None));
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    let caught = CATCHING.take().flatten();
    result.map_err(|_| {
        caught.unwrap_or_else(|| Caught {
            message: String::new(),
            place: String::new(),
        })
    })
}

fn run(
    setup: &Setup,
    how: How,
    mut next: impl FnMut(&mut Sim) -> Option<Operation>,
) -> Result<Done, Box<Failure>> {
    let mut operations = Vec::new();
    let result = catch(|| {
        let mut sim = Sim::new(setup, how);
        while let Some(operation) = next(&mut sim) {
            operations.push(operation);
            sim.perform(operation);
        }
        sim.finish();
        Done {
            tally: std::mem::take(&mut sim.tally),
            events: sim.world.events,
        }
    });
    result.map_err(|caught| {
        Box::new(Failure {
            schedule: Schedule {
                setup: setup.clone(),
                operations,
            },
            message: caught.message,
            place: caught.place,
        })
    })
}

/// Makes up the schedule of a seed and runs it.
///
/// # Errors
/// The core, or what a task saw, was wrong.
pub fn explore(seed: u64, kind: Kind, how: How) -> Result<Done, Box<Failure>> {
    let (setup, mut random) = Setup::random(seed, kind);
    let mut left = kind.operations;
    run(&setup, how, |sim| {
        left = left.checked_sub(1)?;
        Some(sim.choose(&mut random))
    })
}

/// Runs a schedule.
///
/// # Errors
/// As [`explore`].
pub fn replay(schedule: &Schedule, how: How) -> Result<Done, Box<Failure>> {
    let mut operations = schedule.operations.iter().copied();
    run(&schedule.setup, how, |_| operations.next())
}

impl Failure {
    fn remark(&self) -> String {
        format!("{}\nsaid by {}", self.message, self.place)
    }

    /// Writes the schedule to a file, and says which.
    #[must_use]
    pub fn write(&self, name: &str) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")),
            PathBuf::from,
        );
        let folder = target.join("sim-failures");
        let path = folder.join(name);
        let written = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, self.schedule.to_text(&self.remark())));
        written.unwrap();
        path
    }
}

/// Time that a failure in a test is shrunk for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs seeds of a kind, and gives what they did. If one fails: says which, where its schedule is
/// written, and where what is left of it after shrinking.
///
/// # Panics
/// One fails.
pub fn runs(name: &str, kind: Kind, seeds: std::ops::Range<u64>) -> Done {
    let mut all = Done::default();
    println!("{name}: seeds {seeds:?} of {kind:?}");
    for seed in seeds {
        match explore(seed, kind, How::QUICK) {
            Ok(done) => all.add(done),
            Err(failure) => report(&failure, &format!("{name}-{seed}")),
        }
    }
    all
}

fn report(failure: &Failure, name: &str) -> ! {
    let whole = failure.write(&format!("{name}.jsonl"));
    let small = shrink::shrink(failure, How::WHOLE, PATIENCE);
    let path = small.write(&format!("{name}-small.jsonl"));
    panic!(
        "{name} fails: {}\nsaid by {}\nall of it: {}\n{} operations: {}\n\
         cargo run -p sim --bin replay -- {}",
        failure.message,
        failure.place,
        whole.display(),
        small.schedule.operations.len(),
        path.display(),
        path.display()
    );
}

impl Done {
    /// Adds what another run did.
    pub fn add(&mut self, other: Done) {
        self.events += other.events;
        for (what, count) in other.tally {
            *self.tally.entry(what).or_default() += count;
        }
    }
}
