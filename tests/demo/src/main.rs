//! The demonstration client: real files through an external pager.

fn main() {}
