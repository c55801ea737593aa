//! Guest suite: what each call and message promises.

fn main() {}
