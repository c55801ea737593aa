//! A pager with generated content: each page reads as its own number, again and again.
//!
//! Whoever looks the name up and maps what it finds sees the pages. They are made when they are
//! first touched: each touch of a page that is not there yet becomes a call of `data_request`.
#![no_std]
#![no_main]

use pagers::{Answer, Kern, Object, Pager, Service, Want};

/// What is published: one object of 1 MiB.
const OBJECT: Object = Object { key: 0, size: 1 << 20 };

/// Makes pages, and counts them.
struct Generated {
    pages: usize,
}

impl Pager for Generated {
    fn data_request(&mut self, _object: &Object, want: &mut Want<'_>) -> Answer {
        for (number, page) in want.pages() {
            page.fill(number as u8);
            self.pages += 1;
        }
        ipc::println!("{{name}}: offset {:#x}, {} pages so far", want.offset, self.pages);
        Answer::Supply
    }
}

ipc::main!(main);

fn main(_args: ipc::Args) -> Result<(), Kern> {
    let mut service = Service::new(Generated { pages: 0 })?;
    service.publish("{{name}}", OBJECT)?;
    ipc::println!("{{name}}: ready");
    service.serve()
}
