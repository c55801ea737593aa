//! What is done for each row: by its id where it has a story, else by its call.

mod advice;
mod codes;
mod controls;
mod copies;
mod entries;
mod forks;
mod ground;
mod kinds;
mod lists;
mod others;
mod pagers;
mod parameters;
mod places;
mod reclaims;
mod remaps;
mod shared;
mod siblings;
mod stories;
mod system;
mod waits;
mod windows;
mod wiring;

use crate::run::{Body, Where};
use crate::table::Row;
use crate::vm::Vm;

/// What a file of bodies knows.
type Found<V> = Option<(Where, Body<V>)>;

/// The body for a row.
pub(crate) fn body<V: Vm>(row: &Row) -> Found<V> {
    advice::body(row)
        .or_else(|| codes::body(row))
        .or_else(|| waits::body(row))
        .or_else(|| controls::body(row))
        .or_else(|| copies::body(row))
        .or_else(|| entries::body(row))
        .or_else(|| forks::body(row))
        .or_else(|| kinds::body(row))
        .or_else(|| lists::body(row))
        .or_else(|| others::body(row))
        .or_else(|| pagers::body(row))
        .or_else(|| places::body(row))
        .or_else(|| reclaims::body(row))
        .or_else(|| remaps::body(row))
        .or_else(|| shared::body(row))
        .or_else(|| siblings::body(row))
        .or_else(|| stories::body(row))
        .or_else(|| system::body(row))
        .or_else(|| windows::body(row))
        .or_else(|| wiring::body(row))
        .or_else(|| parameters::body(row))
}
