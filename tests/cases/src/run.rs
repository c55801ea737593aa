//! Runs a row: lays the ground, does what its body says, compares the answer with the row's.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use crate::cases;
use crate::failure::{Failure, Outcome};
use crate::table::{Expected, Row};
use crate::vm::{Said, Task, Vm};
use crate::words::Words;

/// A row that is being run.
pub struct Case<'v, V: Vm> {
    /// The row.
    pub row: Row,
    /// Its arguments.
    pub words: Words,
    /// The task that it is about: its map is empty at first.
    pub task: Task<'v, V>,
}

/// What is done for a row; gives what its call answered.
pub type Body<V> = fn(&Case<'_, V>) -> Outcome<Said>;

/// Where a row can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// On the core alone and in the whole system.
    Both,
    /// Only where there are a kernel and threads.
    Whole,
    /// Only where the core is looked at.
    Core,
    /// Nowhere: a departure says why.
    Nowhere,
}

/// Where a row is run. `None`: no body is for it.
#[must_use]
pub fn where_to_run<V: Vm>(row: &Row) -> Option<Where> {
    if row.expects() == Ok(Expected::NotRun) {
        return Some(Where::Nowhere);
    }
    cases::body::<V>(row).map(|(place, _)| place)
}

/// Runs a row, once for each of its variants.
///
/// # Errors
/// The first thing that does not hold.
pub fn run<V: Vm>(vm: &V, row: &Row) -> Outcome {
    let Some((_, body)) = cases::body::<V>(row) else {
        return Err(Failure::new(format!("nobody knows how to run {row:?}")));
    };
    for words in Words::of(row.call, row.arguments) {
        let said = variant(vm, row, words, body);
        let clean = vm.clean();
        said?;
        clean.map_err(Failure::new)?;
    }
    Ok(())
}

fn variant<V: Vm>(vm: &V, row: &Row, words: Words, body: Body<V>) -> Outcome {
    let faults = RefCell::new(Vec::new());
    let case = Case {
        row: *row,
        words,
        task: Task {
            vm,
            port: vm.fork(None)?,
            faults: &faults,
        },
    };
    let said = body(&case)?;
    match row.expects()? {
        Expected::One(codes) if !codes.contains(&said) => {
            return Err(Failure::new(format!(
                "{} answered {}, expected {}",
                row.call,
                name(said),
                codes.into_iter().map(name).collect::<Vec<_>>().join(" or "),
            )));
        }
        _ => {}
    }
    match faults.borrow_mut().pop() {
        Some(fault) => Err(Failure::new(fault)),
        None => Ok(()),
    }
}

fn name(said: Said) -> String {
    said.map_or_else(|code| format!("{code}"), |()| String::from("KERN_SUCCESS"))
}
