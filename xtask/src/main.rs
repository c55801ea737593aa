//! The commands of `cargo xtask` and their help; what they do is in the library beside this file.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::new_task::Template;
use xtask::{bench, check, docs, doctor, image, new_task, run, test};

/// Build, run, test and measure Pagoda.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, boot it in QEMU, and watch it to its end
    Run(Box<run::Options>),
    /// Run the host's tests, then each guest suite in QEMU, case by case
    Test(test::Options),
    /// Check formatting, lints, documentation, the crate graph and the unsafe inventory
    Check,
    /// Measure what each operation costs, in guest instructions
    Bench(bench::Options),
    /// Write a task that works into a new folder NAME here
    NewTask(new_task::Options),
    /// Write a pager that works into a new folder NAME here
    NewPager(new_task::Options),
    /// Print the reference pages of traps and messages into docs/
    Docs,
    /// Say what this machine has and lacks, and how to get it
    Doctor,
    /// Build the boot image without booting it, or say what is in one
    Image(image::Options),
}

fn main() -> ExitCode {
    match carry_out(Cli::parse().command) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // The outermost context says what failed and what to do, the rest says why.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> Result<u8> {
    match command {
        Command::Run(options) => run::run(&options),
        Command::Test(options) => test::test(&options),
        Command::Check => check::check(),
        Command::Bench(options) => bench::bench(&options),
        Command::NewTask(options) => new_task::new(Template::Task, &options),
        Command::NewPager(options) => new_task::new(Template::Pager, &options),
        Command::Docs => docs::docs(),
        Command::Doctor => doctor::doctor(),
        Command::Image(options) => image::image(&options),
    }
}
