//! The front door of the project: build, run, test, measure.

fn main() {}
