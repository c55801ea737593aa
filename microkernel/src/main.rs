//! The kernel program: the hardware shell around kernel-core.

fn main() {}
