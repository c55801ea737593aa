//! {{name}}: a task for Pagoda.
//!
//! It says hello, uses a little memory, and shows the first line of each memory object whose name
//! is among its arguments: `--module {{name}}:NAME,...`, where a pager has published NAME.

#![no_std]
#![no_main]

use ipc::mapping::Options;
use ipc::{Args, Kern, Mapping, println};

ipc::main!(main);

fn main(args: Args) -> Result<(), Kern> {
    println!("hello from {}", args.name());

    // Nothing is there until it is touched: then a page of zeros, by a message to the VM server.
    let memory = Mapping::allocate(1 << 20)?;
    memory.write(4096, b"touched")?;

    // Argument 0 is the name of the task.
    for name in args.skip(1) {
        show(name)?;
    }
    Ok(())
}

/// Prints the first line of a memory object.
fn show(name: &str) -> Result<(), Kern> {
    let object = ipc::bootstrap::wait_for(name)?;
    let mapping = Options::new(4096).object(&object).read_only().map()?;
    let mut bytes = [0; 80];
    mapping.read(0, &mut bytes)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    println!("{name}: {}", core::str::from_utf8(line).unwrap_or("(not UTF-8)"));
    Ok(())
}
