//! What is mapped before a call, and what is so afterwards: clauses about pages of the test
//! allocation.
//!
//! A clause is `page 3 prot READ`, `page 1 unmapped`, `page 2 reads 0x55`, or `at MAX-PS mapped`; a
//! column is a list of clauses between semicolons. In a setup they are made so, after `6 pages`
//! (4, if nothing is said) or `nothing`; in an effect they must be so. Rows of the peers have
//! setups and effects in prose, which is passed over here: what it means is in the bodies.

use alloc::format;
use alloc::string::String;

use ipc_abi::layout::PAGE_SIZE;

use crate::failure::{Failure, Outcome, holds, same};
use crate::run::Case;
use crate::vm::{FIXED, Mapping, READ, Said, Task, Vm};
use crate::words::{self, AREA};

/// Pages of the test allocation, if nothing is said.
const PAGES: u64 = 4;

const PURGABLE: u32 = 2;
const PERMANENT: u32 = 0x80;
const GET_STATE: u32 = 1;

/// A clause about an address.
struct Clause<'a> {
    address: u64,
    attribute: &'a str,
    value: &'a str,
}

impl Clause<'_> {
    fn read(text: &str) -> Option<Clause<'_>> {
        let mut words = text.split_whitespace();
        let address = match words.next()? {
            "page" => AREA + words.next()?.parse::<u64>().ok()? * PAGE_SIZE,
            "at" => words::value(words.next()?, &[]).ok()?,
            _ => return None,
        };
        Some(Clause {
            address,
            attribute: words.next()?,
            value: words.next().unwrap_or_default(),
        })
    }
}

/// The test allocation as stories begin with it: page `n` begins with `0x70 + n`.
pub(super) fn four_pages<V: Vm>(task: &Task<'_, V>) -> Said {
    task.allocate(AREA, 4 * PAGE_SIZE, FIXED)?;
    for page in 0..4 {
        task.store(AREA + page * PAGE_SIZE, 0x70 + page)?;
    }
    Ok(())
}

/// The word that a page of the filled test allocation begins with.
#[must_use]
pub(super) const fn word_of(page: u64) -> u64 {
    0xA0 + page
}

/// The effect of a call that fails and changes something all the same.
const CHANGES: &str = "changes";

/// Whether a failure of the row's call may change something: its effect says so.
pub(super) fn may_change<V: Vm>(case: &Case<'_, V>) -> bool {
    case.row
        .effect
        .split(';')
        .any(|text| text.trim() == CHANGES)
}

/// Whether prose is to be understood, or passed over.
fn is_prose<V: Vm>(case: &Case<'_, V>) -> bool {
    case.row.id.starts_with('C')
}

/// Maps the test allocation as the row's setup says.
pub(super) fn lay<V: Vm>(case: &Case<'_, V>) -> Outcome {
    let clauses = || case.row.setup.split(';').map(str::trim);
    if clauses().any(|clause| clause == "nothing") {
        return Ok(());
    }
    let pages = clauses().find_map(|clause| clause.strip_suffix(" pages")?.parse().ok());
    let pages = pages.unwrap_or(PAGES);
    let task = &case.task;
    let is_purgeable = clauses().any(|clause| clause.starts_with("purgeable"));
    let flags = if is_purgeable {
        FIXED | PURGABLE
    } else {
        FIXED
    };
    task.allocate(AREA, pages * PAGE_SIZE, flags)?;
    if clauses().any(|clause| clause == "filled") {
        for page in 0..pages {
            task.store(AREA + page * PAGE_SIZE, word_of(page))?;
        }
    }
    for text in clauses() {
        match Clause::read(text) {
            Some(clause) => make_so(case, &clause)?,
            None if is_prose(case) || text.is_empty() || text == "filled" => {}
            None if text.ends_with(" pages") || text == "purgeable" => {}
            None => return Err(unknown(text)),
        }
    }
    Ok(())
}

fn unknown(text: &str) -> Failure {
    Failure::new(format!("nobody knows what `{text}` means"))
}

fn make_so<V: Vm>(case: &Case<'_, V>, clause: &Clause<'_>) -> Outcome {
    let Clause {
        address,
        attribute,
        value,
    } = *clause;
    let task = &case.task;
    let said = match attribute {
        "unmapped" => task.deallocate(address, PAGE_SIZE),
        "mapped" => task.allocate(address, PAGE_SIZE, FIXED).map(|_| ()),
        "prot" => task.protect(address, PAGE_SIZE, words::protection(value)? as u32),
        "max" => task.protect_maximum(address, PAGE_SIZE, words::protection(value)? as u32),
        "inherit" => task.inherit(address, PAGE_SIZE, words::inheritance(value)? as u32),
        "behavior" => task.behave(address, PAGE_SIZE, words::behavior(value)? as u32),
        "tag" => {
            let tag = words::value(value, &[])? as u32;
            let mapping = Mapping {
                address,
                flags: crate::vm::OVERWRITE | tag << 24,
                ..Mapping::anywhere(PAGE_SIZE)
            };
            task.map(mapping, None).map(|_| ())
        }
        "permanent" => {
            let mapping = Mapping {
                address,
                flags: crate::vm::OVERWRITE | PERMANENT,
                ..Mapping::anywhere(PAGE_SIZE)
            };
            task.map(mapping, None).map(|_| ())
        }
        "wired" => task.wire(address, PAGE_SIZE, READ),
        "reads" => task.store(address, words::value(value, &[])?),
        _ => return Err(unknown(attribute)),
    };
    said.map_err(|code| Failure::new(format!("the ground: {attribute} answered {code}")))
}

/// Checks what the row's effect says. `answer` is the address that the call gave.
pub(super) fn check<V: Vm>(case: &Case<'_, V>, answer: Option<u64>) -> Outcome {
    for text in case.row.effect.split(';').map(str::trim) {
        match Clause::read(text) {
            Some(clause) => is_so(case, &clause)?,
            None => match text.split_once(' ') {
                Some(("answer", value)) => {
                    same("the answer", answer, Some(words::value(value, &[])?))?;
                }
                Some(("state", value)) if !is_prose(case) => {
                    let state = case.task.purgable_control(AREA, GET_STATE, 0)?;
                    same("the state", u64::from(state & 3), words::state(value)?)?;
                }
                _ if is_prose(case) || text.is_empty() || text == CHANGES => {}
                _ => return Err(unknown(text)),
            },
        }
    }
    Ok(())
}

fn is_so<V: Vm>(case: &Case<'_, V>, clause: &Clause<'_>) -> Outcome {
    let Clause {
        address,
        attribute,
        value,
    } = *clause;
    let task = &case.task;
    let region = task.at(address);
    let number = |found: Option<u32>, right: Result<u64, String>| {
        let what = format!("{attribute} of {address:#x}");
        same(&what, found, Some(right? as u32))
    };
    match attribute {
        "unmapped" => holds(&format!("{address:#x} is unmapped"), region.is_none()),
        "mapped" => holds(&format!("{address:#x} is mapped"), region.is_some()),
        "prot" => number(region.map(|r| r.protection), words::protection(value)),
        "max" => number(region.map(|r| r.max_protection), words::protection(value)),
        "inherit" => number(region.map(|r| r.inheritance), words::inheritance(value)),
        "behavior" => number(region.map(|r| r.behavior), words::behavior(value)),
        "tag" => number(region.map(|r| r.tag), words::value(value, &[])),
        "wired" => number(region.map(|r| r.wired), words::value(value, &[])),
        "reads" => {
            let word = task.load(address)?;
            same(&format!("{address:#x}"), word, words::value(value, &[])?)
        }
        _ => Err(unknown(attribute)),
    }
}
