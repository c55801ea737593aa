//! Reads what a guest suite prints on the serial line.
//!
//! ```text
//! suite conformance: 2 cases
//! test allocate_is_zero ... ok
//! test copy_is_private ... FAILED: byte 3 is 7, expected 0
//! suite conformance: 17 non-maskable interrupts
//! suite conformance: 1 passed; 1 failed
//! ```
//!
//! `test NAME ...` is printed before the case runs, the rest when it has ended, and the kernel or
//! another task may print lines of its own in between; then the verdict is on a line of its own.
//! All other lines are nobody's. With the argument `--list` a suite prints `NAME: test` for each
//! case and runs none.

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has not ended.
    Running,
    /// It passed.
    Passed,
    /// It failed, for this reason.
    Failed(String),
}

/// A case that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name, without that of the suite.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
}

/// What a line said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The suite starts, with this number of cases.
    Header(u64),
    /// A case of this name exists.
    Listed(&'a str),
    /// A case of this name starts.
    Started(&'a str),
    /// The case that runs has ended.
    Ended(&'a Verdict),
}

/// What is known of a suite from the lines so far.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    announced: Option<u64>,
    cases: Vec<Case>,
    summary: Option<(u64, u64)>,
    non_maskable: u64,
}

impl Suite {
    /// Takes one line of the guest, and tells `show` what it said.
    pub fn line(&mut self, line: &str, show: &mut dyn FnMut(Event<'_>)) {
        if let Some((_, rest)) = line
            .strip_prefix("suite ")
            .and_then(|rest| rest.split_once(": "))
        {
            self.suite_line(rest, show);
        } else if let Some((name, rest)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ..."))
        {
            show(Event::Started(name));
            self.cases.push(Case {
                name: name.to_owned(),
                verdict: Verdict::Running,
            });
            self.verdict(rest.trim_start(), show);
        } else if let Some(name) = line.strip_suffix(": test") {
            show(Event::Listed(name));
        } else {
            self.verdict(line, show);
        }
    }

    fn suite_line(&mut self, rest: &str, show: &mut dyn FnMut(Event<'_>)) {
        if let Some(cases) = rest
            .strip_suffix(" cases")
            .and_then(|number| number.parse().ok())
        {
            self.announced = Some(cases);
            show(Event::Header(cases));
        } else if let Some(number) = rest.strip_suffix(" non-maskable interrupts") {
            self.non_maskable = number.parse().unwrap_or(0);
        } else if let Some((passed, failed)) = rest.split_once(" passed; ") {
            let failed = failed
                .strip_suffix(" failed")
                .and_then(|number| number.parse().ok());
            self.summary = passed.parse().ok().zip(failed);
        }
    }

    fn verdict(&mut self, text: &str, show: &mut dyn FnMut(Event<'_>)) {
        let running = self
            .cases
            .last_mut()
            .filter(|case| case.verdict == Verdict::Running);
        let Some(case) = running else { return };
        case.verdict = match (text, text.strip_prefix("FAILED")) {
            ("ok", _) => Verdict::Passed,
            (_, Some(why)) => Verdict::Failed(why.trim_start_matches([':', ' ']).to_owned()),
            _ => return,
        };
        show(Event::Ended(&case.verdict));
    }

    /// The cases that were started, in order.
    #[must_use]
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The number of cases that passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.count(|verdict| *verdict == Verdict::Passed)
    }

    /// Whether its first line has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.announced.is_some()
    }

    /// How many non-maskable interrupts came until its end.
    #[must_use]
    pub fn non_maskable(&self) -> u64 {
        self.non_maskable
    }

    fn count(&self, is: impl Fn(&Verdict) -> bool) -> u64 {
        self.cases.iter().filter(|case| is(&case.verdict)).count() as u64
    }

    /// What is wrong with the suite as a whole, besides cases that failed or did not end.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let Some(announced) = self.announced else {
            return Some("the suite did not start (no line `suite NAME: K cases`)".to_owned());
        };
        if self
            .cases
            .iter()
            .any(|case| case.verdict == Verdict::Running)
        {
            return None;
        }
        let started = self.cases.len() as u64;
        if started != announced {
            return Some(format!("{announced} cases were announced, {started} ran"));
        }
        let failed = self.count(|verdict| matches!(verdict, Verdict::Failed(_)));
        match self.summary {
            None => Some("the suite did not finish (no last line)".to_owned()),
            Some(summary) if summary != (self.passed(), failed) => Some(format!(
                "the suite's last line says {} passed and {} failed, its cases say otherwise",
                summary.0, summary.1
            )),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Suite, Vec<String>) {
        let (mut suite, mut events) = (Suite::default(), Vec::new());
        for line in text.lines() {
            suite.line(line, &mut |event| events.push(format!("{event:?}")));
        }
        (suite, events)
    }

    #[test]
    fn a_good_suite_is_read_case_by_case() {
        let (suite, events) = read(
            "boot noise\nsuite s: 2 cases\ntest a ... ok\ntest b ... ok\nsuite s: 2 passed; 0 failed",
        );
        assert_eq!(suite.passed(), 2);
        assert_eq!(suite.fault(), None);
        assert_eq!(
            events,
            [
                "Header(2)",
                "Started(\"a\")",
                "Ended(Passed)",
                "Started(\"b\")",
                "Ended(Passed)"
            ]
        );
    }

    #[test]
    fn interrupts_are_no_case() {
        let (suite, _) = read(
            "suite s: 0 cases\nsuite s: 12 non-maskable interrupts\nsuite s: 0 passed; 0 failed",
        );
        assert_eq!((suite.non_maskable(), suite.fault()), (12, None));
    }

    #[test]
    fn a_failed_case_keeps_its_reason() {
        let (suite, _) =
            read("suite s: 1 cases\ntest a ... FAILED: 3 is not 4\nsuite s: 0 passed; 1 failed");
        assert_eq!(
            suite.cases()[0].verdict,
            Verdict::Failed("3 is not 4".into())
        );
        assert_eq!(suite.fault(), None);
    }

    #[test]
    fn a_verdict_may_come_after_lines_of_others() {
        let (suite, _) = read(
            "suite s: 1 cases\ntest a ... [kernel] task 4 ended\nmore\nok\nsuite s: 1 passed; 0 failed",
        );
        assert_eq!((suite.passed(), suite.fault()), (1, None));
    }

    #[test]
    fn a_case_that_hangs_is_running_and_is_the_only_fault() {
        let (suite, _) = read("suite s: 3 cases\ntest a ... ok\ntest b ... ");
        assert_eq!(suite.cases()[1].verdict, Verdict::Running);
        assert_eq!(suite.fault(), None);
    }

    #[test]
    fn missing_cases_and_lines_are_faults() {
        assert!(read("nothing").0.fault().unwrap().contains("did not start"));
        let (suite, _) = read("suite s: 2 cases\ntest a ... ok\nsuite s: 1 passed; 0 failed");
        assert!(
            suite
                .fault()
                .unwrap()
                .contains("2 cases were announced, 1 ran")
        );
        let (suite, _) = read("suite s: 1 cases\ntest a ... ok");
        assert!(suite.fault().unwrap().contains("did not finish"));
        let (suite, _) = read("suite s: 1 cases\ntest a ... ok\nsuite s: 9 passed; 0 failed");
        assert!(suite.fault().unwrap().contains("otherwise"));
    }

    #[test]
    fn a_list_runs_nothing() {
        let (suite, events) = read("a: test\nb: test");
        assert_eq!(events, ["Listed(\"a\")", "Listed(\"b\")"]);
        assert!(suite.cases().is_empty());
    }
}
