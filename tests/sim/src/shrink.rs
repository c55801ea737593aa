//! Makes a failing schedule small: leaves out operations as long as it fails at the same place.
//!
//! At first the core is checked as it was when the failure was found, which is quick and makes a long
//! schedule short. Then it is checked whole after each event, so that what is wrong shows as early as it
//! can; the place where the *first* such run fails is the one that is kept from then on.

use std::time::{Duration, Instant};

use crate::action::Schedule;
use crate::runner::{Failure, How, replay};
use crate::world::Care;

struct Shrinker {
    best: Failure,
    how: How,
    end: Instant,
}

/// The smallest schedule found within a time that fails as this one does.
#[must_use]
pub fn shrink(failure: &Failure, how: How, within: Duration) -> Failure {
    let start = Instant::now();
    let mut shrinker = Shrinker {
        best: failure.clone(),
        how: How {
            care: Care::Touched,
            ..how
        },
        end: start + within / 2,
    };
    while shrinker.round() {}
    shrinker.how = how;
    shrinker.end = start + within;
    // Only a check that costs too much otherwise may find it, or only one that comes later.
    if let Err(earlier) = replay(&shrinker.best.schedule, how) {
        shrinker.best = *earlier;
    }
    while shrinker.round() {}
    shrinker.soothe();
    shrinker.best
}

impl Shrinker {
    fn late(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Takes a schedule over if it fails in the same way.
    fn accept(&mut self, schedule: &Schedule) -> bool {
        match replay(schedule, self.how) {
            Err(failure) if failure.place == self.best.place => {
                self.best = *failure;
                true
            }
            _ => false,
        }
    }

    /// Leaves out parts, large ones first. Says whether any could be.
    fn round(&mut self) -> bool {
        let mut any = false;
        let mut part = self.best.schedule.operations.len().div_ceil(2);
        while part > 0 {
            // From the end, because what happens late needs what happens before.
            let mut end = self.best.schedule.operations.len();
            while end > 0 && !self.late() {
                let start = end.saturating_sub(part);
                let mut less = self.best.schedule.clone();
                less.operations.drain(start..end);
                any |= self.accept(&less);
                end = start.min(self.best.schedule.operations.len());
            }
            part /= 2;
        }
        any && !self.late()
    }

    /// Makes the world kinder where that makes no difference.
    fn soothe(&mut self) {
        let mut kinder = self.best.schedule.clone();
        kinder.setup.unkind.lost_enters = u64::MAX;
        self.accept(&kinder);
        let mut kinder = self.best.schedule.clone();
        kinder.setup.unkind.late = false;
        self.accept(&kinder);
        let mut kinder = self.best.schedule.clone();
        kinder.setup.unkind.slow = 0;
        self.accept(&kinder);
    }
}
