//! Guest benchmarks: one operation each, counted.

fn main() {}
