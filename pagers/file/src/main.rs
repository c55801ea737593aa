//! Files of the host as memory objects.

fn main() {}
