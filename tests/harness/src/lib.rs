//! Guest suites as host test cases: a boot's verdicts in the form that test tools expect.
//!
//! `cargo test -p harness [FILTER]` boots each suite once, with the filter, and reports every
//! guest case as a case of its own; tools that run tests one by one (an editor, nextest) see their
//! names by `--list`. `cargo xtask test` does the same with the output as it comes.

use xtask::boot::End;
use xtask::suite::{Suite, Verdict};

/// A guest case, or what is wrong with a suite as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `SUITE::CASE`.
    pub name: String,
    /// Why it failed; `None` if it passed.
    pub failure: Option<String>,
}

/// The outcome of each case of `suite`, and one for the suite itself if something is wrong with
/// it that no case shows.
#[must_use]
pub fn outcomes(name: &str, suite: &Suite, end: &End) -> Vec<Outcome> {
    let last_words = || {
        format!(
            "{}; last words:\n{}",
            end.outcome,
            end.last_words.join("\n")
        )
    };
    let mut outcomes: Vec<Outcome> = suite
        .cases()
        .iter()
        .map(|case| Outcome {
            name: format!("{name}::{}", case.name),
            failure: match &case.verdict {
                Verdict::Passed => None,
                Verdict::Failed(why) => Some(why.clone()),
                Verdict::Running => Some(format!("did not end: {}", last_words())),
            },
        })
        .collect();
    if let Some(fault) = suite.fault() {
        let failure = Some(format!("{fault}: {}", last_words()));
        outcomes.push(Outcome {
            name: name.to_owned(),
            failure,
        });
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use xtask::qemu;

    fn read(text: &str) -> Vec<Outcome> {
        let mut suite = Suite::default();
        text.lines().for_each(|line| suite.line(line, &mut |_| {}));
        let end = End {
            outcome: qemu::Outcome::Success,
            last_words: vec!["bye".into()],
            elapsed: Duration::ZERO,
        };
        outcomes("s", &suite, &end)
    }

    #[test]
    fn cases_carry_the_name_of_their_suite() {
        let outcomes = read(
            "suite s: 2 cases\ntest a ... ok\ntest b ... FAILED: no\nsuite s: 1 passed; 1 failed",
        );
        let names: Vec<_> = outcomes
            .iter()
            .map(|outcome| outcome.name.as_str())
            .collect();
        assert_eq!(names, ["s::a", "s::b"]);
        assert_eq!(outcomes[0].failure, None);
        assert_eq!(outcomes[1].failure.as_deref(), Some("no"));
    }

    #[test]
    fn a_case_that_did_not_end_brings_the_last_words() {
        let outcomes = read("suite s: 1 cases\ntest a ... ");
        assert_eq!(outcomes.len(), 1);
        assert!(outcomes[0].failure.as_deref().unwrap().contains("bye"));
    }

    #[test]
    fn a_suite_that_did_not_start_is_a_failure_of_its_own() {
        let outcomes = read("");
        assert_eq!(outcomes.len(), 1);
        assert!(
            outcomes[0]
                .failure
                .as_deref()
                .unwrap()
                .contains("did not start")
        );
    }
}
