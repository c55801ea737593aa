//! Runs one seed and prints every event, effect and message: `replay KIND SEED`.

use std::process::ExitCode;

use sim::schedule::{Kind, Sim};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().and_then(|name| Kind::named(&name));
    let seed = arguments.next().and_then(|seed| seed.parse().ok());
    let (Some(kind), Some(seed)) = (kind, seed) else {
        eprintln!("usage: replay {} SEED", Kind::NAMES.join("|"));
        return ExitCode::FAILURE;
    };
    let mut sim = Sim::new(seed, kind);
    sim.world.verbose = true;
    sim.run();
    ExitCode::SUCCESS
}
