//! `cargo xtask check`: the gate before the tests.
//!
//! Every step runs, also after one that failed, so that one call shows all that is to be done.
//! Formatting, lints and documentation are cargo's; guest crates get the flags that they are built
//! with. What cargo cannot see is in `source` (unsafe inventory, file openings, lengths) and
//! `layers` (which crate may know which).

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::build::{self, GUEST_LIBRARIES, KERNEL, Kind, TASKS, plain_cargo};
use crate::{docs, layers, source};

/// A step: what it is called, and what it does.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 7] = [
    ("crate graph", || layers::check(&build::root())),
    ("sources", || source::check(&build::root())),
    ("reference pages", || docs::check(&build::root())),
    ("formatting", || {
        run(plain_cargo("fmt").args(["--all", "--check"]))
    }),
    ("lints, host", clippy_host),
    ("lints, guests", clippy_guests),
    ("documentation", doc),
];

fn clippy_host() -> Result<()> {
    let arguments = ["--quiet", "--all-targets", "--", "-Dwarnings"];
    run(plain_cargo("clippy").args(arguments))?;
    // Not a default member, because its tests boot the emulator.
    run(plain_cargo("clippy")
        .args(["-p", "harness"])
        .args(arguments))
}

fn clippy_guests() -> Result<()> {
    run(tasks("clippy").args(["--", "-Dwarnings"]))?;
    run(kernel("clippy").args(["--", "-Dwarnings"]))
}

fn doc() -> Result<()> {
    // A program without `std` cannot unwind; the documentation tool wants to be told as well.
    const FLAGS: (&str, &str) = (
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "-Dwarnings\u{1f}-Cpanic=abort",
    );
    run(plain_cargo("doc")
        .args(["--quiet", "--no-deps"])
        .env("RUSTDOCFLAGS", "-Dwarnings"))?;
    run(tasks("doc").arg("--no-deps").env(FLAGS.0, FLAGS.1))?;
    run(kernel("doc").arg("--no-deps").env(FLAGS.0, FLAGS.1))
}

/// Carries out `cargo xtask check`. The result is the status to exit with.
///
/// # Errors
/// None at present; a step that fails is shown and counted.
pub fn check() -> Result<u8> {
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        eprintln!("Checking {name} ...");
        let started = Instant::now();
        if let Err(error) = step() {
            eprintln!("error: {name}: {error:#}");
            failed.push(name);
        }
        eprintln!("  {:.1} s", started.elapsed().as_secs_f64());
    }
    if failed.is_empty() {
        println!("check: {} steps passed", STEPS.len());
        return Ok(0);
    }
    println!(
        "check: {} of {} steps failed: {}",
        failed.len(),
        STEPS.len(),
        failed.join("; ")
    );
    Ok(1)
}

fn tasks(subcommand: &str) -> Command {
    let mut cargo = Kind::Task.cargo(subcommand);
    for name in GUEST_LIBRARIES.iter().chain(&TASKS) {
        cargo.args(["-p", name]);
    }
    cargo
}

fn kernel(subcommand: &str) -> Command {
    let mut cargo = Kind::Kernel.cargo(subcommand);
    cargo.args(["-p", KERNEL]);
    cargo
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    if !status.success() {
        let subcommand = command
            .get_args()
            .next()
            .unwrap_or_default()
            .to_string_lossy();
        bail!("`cargo {subcommand}` is not content (see above)");
    }
    Ok(())
}
