//! The tables: rows as they are written, and the departures from them.
//!
//! `mach-cases.tsv` is a copy and never edited here; `more-cases.tsv` has the same columns. What this
//! system does otherwise, and why, is a line of `departures.tsv`: the id, the code that is right here
//! (or `-`: the row has no meaning here and is not run), the rule, the reason. A row is run with the
//! code of its departure, else of its `pick`, else of its `expected_return`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use ipc_abi::Kern;

/// The rows drawn from the peers.
const MACH: &str = include_str!("../mach-cases.tsv");
/// Rows of the same kind, written here.
const MORE: &str = include_str!("../more-cases.tsv");
/// See the module's text.
const DEPARTURES: &str = include_str!("../departures.tsv");

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub id: &'static str,
    /// What is called.
    pub call: &'static str,
    /// What is there before.
    pub setup: &'static str,
    /// What it is called with.
    pub arguments: &'static str,
    /// What it answers.
    pub expected: &'static str,
    /// What is so afterwards.
    pub effect: &'static str,
    /// What it answers, if that is decided here.
    pub pick: &'static str,
}

/// What this system does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The row.
    pub id: &'static str,
    /// What it answers here; `-`: it is not run.
    pub code: &'static str,
    /// The rule, amendment or decision that says so.
    pub rule: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// The lines of a table without its head, in columns.
fn lines(table: &'static str, columns: usize) -> impl Iterator<Item = Vec<&'static str>> + Clone {
    table.lines().skip(1).map(move |line| {
        let mut cells: Vec<&str> = line.split('\t').map(str::trim).collect();
        cells.resize(columns.max(cells.len()), "");
        cells
    })
}

/// Every row of both tables, in order.
pub fn rows() -> impl Iterator<Item = Row> + Clone {
    lines(MACH, 9)
        .chain(lines(MORE, 9))
        .filter_map(|cells| match *cells.as_slice() {
            [id, _, call, setup, arguments, expected, effect, _, pick] => Some(Row {
                id,
                call,
                setup,
                arguments,
                expected,
                effect,
                pick,
            }),
            _ => None,
        })
}

/// Every departure.
pub fn departures() -> impl Iterator<Item = Departure> + Clone {
    lines(DEPARTURES, 4).filter_map(|cells| match *cells.as_slice() {
        [id, code, rule, reason] => Some(Departure {
            id,
            code,
            rule,
            reason,
        }),
        _ => None,
    })
}

/// What a call may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Any of these.
    One(Vec<Result<(), Kern>>),
    /// Whatever it likes; only the effect counts.
    Anything,
    /// Nothing: the row is not run.
    NotRun,
}

impl Row {
    /// The departure from this row, if there is one.
    #[must_use]
    pub fn departure(&self) -> Option<Departure> {
        departures().find(|departure| departure.id == self.id)
    }

    /// What is expected of it here.
    ///
    /// # Errors
    /// A word that is no code.
    pub fn expects(&self) -> Result<Expected, String> {
        let departure = self.departure().map(|departure| departure.code);
        let is_code = |text: &&str| text.starts_with("KERN_") || text.starts_with("MACH_");
        let pick = Some(self.pick).filter(is_code);
        match departure.or(pick).unwrap_or(self.expected) {
            "-" if departure.is_some() => Ok(Expected::NotRun),
            "-" | "ANY" | "" => Ok(Expected::Anything),
            text => text
                .split('|')
                .map(code)
                .collect::<Result<_, _>>()
                .map(Expected::One),
        }
    }
}

/// Reads a code. Messages that complete something with success count as success.
fn code(text: &str) -> Result<Result<(), Kern>, String> {
    let name = text.split(' ').next_back().unwrap_or(text);
    match name {
        "KERN_SUCCESS" | "MACH_MSG_SUCCESS" | "lock_completed" | "change_completed" => {
            return Ok(Ok(()));
        }
        "VM_RECLAIM_NOT_SUPPORTED" => return Ok(Err(Kern::NotSupported)),
        _ => {}
    }
    let known = Kern::ALL.iter().find(|code| code.name() == name);
    known
        .map(|code| Err(*code))
        .ok_or_else(|| format!("{name} is no code"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn every_line_is_a_row_with_an_id_of_its_own() {
        let lines = lines(MACH, 9).count() + lines(MORE, 9).count();
        assert_eq!(rows().count(), lines);
        let ids: BTreeSet<_> = rows().map(|row| row.id).collect();
        assert_eq!(ids.len(), lines);
        assert_eq!(lines_of_mach(), 315);
    }

    fn lines_of_mach() -> usize {
        rows().filter(|row| row.id.starts_with('C')).count()
    }

    #[test]
    fn every_row_says_what_it_expects() {
        for row in rows() {
            assert!(row.expects().is_ok(), "{}: {:?}", row.id, row.expects());
        }
    }

    #[test]
    fn a_pick_wins_over_the_expected_return() {
        let row = rows().find(|row| row.id == "C0159").unwrap();
        let refused = Err(Kern::InvalidArgument);
        assert_eq!(row.expects(), Ok(Expected::One([refused].into())));
    }

    #[test]
    fn departures_are_of_rows_and_have_reasons() {
        let ids: BTreeSet<_> = rows().map(|row| row.id).collect();
        let mut seen = BTreeSet::new();
        assert_eq!(departures().count(), DEPARTURES.lines().count() - 1);
        for departure in departures() {
            assert!(ids.contains(departure.id), "{departure:?}");
            assert!(seen.insert(departure.id), "{departure:?}");
            assert!(departure.reason.len() > 10, "{departure:?}");
            assert!(!departure.rule.is_empty(), "{departure:?}");
        }
    }
}
