//! The VM server task: the message shell around vm-core.

fn main() {}
