//! The first client task: starts modules, keeps names, watches tasks.

fn main() {}
