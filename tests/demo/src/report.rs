//! What was checked: a line each, and in the end whether all of it held.

use core::fmt;

use ipc::Kern;

/// Counts checks.
#[derive(Default)]
pub(crate) struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// Prints what was checked and whether it held.
    pub(crate) fn check(&mut self, held: bool, what: fmt::Arguments<'_>) {
        let word = if held { "ok" } else { "FAILED" };
        ipc::println!("check: {word}: {what}");
        if held {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Counts a failure that has no check of its own.
    pub(crate) fn fail(&mut self, what: fmt::Arguments<'_>) {
        self.check(false, what);
    }

    /// Runs a group of checks. A call in it that fails is a failure of the group.
    pub(crate) fn group(
        &mut self,
        name: &str,
        checks: impl FnOnce(&mut Report) -> Result<(), Kern>,
    ) {
        if let Err(code) = checks(self) {
            self.fail(format_args!("{name}: a call answered {code}"));
        }
    }

    /// Prints the sum; gives the exit status.
    pub(crate) fn finish(&self) -> u32 {
        let Report { passed, failed } = self;
        ipc::println!("demo: {passed} checks passed; {failed} failed");
        u32::from(*failed > 0)
    }
}
