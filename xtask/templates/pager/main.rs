//! {{name}}: a pager for Pagoda, whose memory object is computed and stored nowhere.
//!
//! The object reads as text: line n says what n squared is. Whoever looks up the name of this task
//! gets the object, and can map it; a page comes into being when somebody touches it.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;

use ipc::{Args, Kern, println};
use pagers::{Answer, Object, Pager, Service, Want};

ipc::main!(main);

/// Bytes of the object.
const SIZE: u64 = 1 << 20;
/// Bytes of a line; a page holds a whole number of them.
const LINE: usize = 32;

struct Squares;

impl Pager for Squares {
    fn data_request(&mut self, _object: &Object, want: &mut Want<'_>) -> Answer {
        let first = want.offset / LINE as u64;
        for (number, line) in (first..).zip(want.bytes.chunks_exact_mut(LINE)) {
            let square = number * number;
            line.copy_from_slice(format!("{number:>8} squared is {square:>11}\n").as_bytes());
        }
        Answer::Supply
    }
}

fn main(args: Args) -> Result<(), Kern> {
    let mut service = Service::new(Squares)?;
    service.publish(args.name(), Object { key: 0, size: SIZE })?;
    println!("{}: ready", args.name());
    service.serve()
}
