//! `cargo xtask test`: the host's tests, each guest suite in QEMU case by case, then whole boots.
//!
//! The last line is `N passed, N failed`, over all; the exit status says the same.

use std::io::{self, BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bootimg::Ends;

use crate::boot::{self, LineSplitter};
use crate::build::{self, Profile};
use crate::image::{self, Contents};
use crate::interrupts::{self, Interrupts};
use crate::qemu::{Machine, Memory, Outcome};
use crate::scenario::SCENARIOS;
use crate::setting::{SETTINGS, STRAINED, Setting};
use crate::suite::{Case, Event, Suite, Verdict};
use crate::{install, run};

/// Guest programs that are suites.
pub const SUITES: [&str; 5] = ["conformance", "hostile", "mach-cases", NESTED, DEVICES];
/// The suite whose machine has devices for it.
const DEVICES: &str = "devices";
/// The suite whose image holds the VM server once more, to be started below the first.
const NESTED: &str = "nested";

/// What the whole boots are called in names of tests.
const SYSTEM: &str = "system";

/// Time after which a suite is stopped, in seconds.
const SUITE_LIMIT: u64 = 600;

/// `cargo xtask test`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only cases whose name contains this
    pub filter: Option<String>,
    /// Name the cases instead of running them
    #[arg(long)]
    pub list: bool,
    /// Leave out the tests that run on the host
    #[arg(long)]
    pub guest: bool,
    /// Leave out the suites that run in QEMU
    #[arg(long, conflicts_with = "guest")]
    pub host: bool,
    /// Number of processors that the guest suites run on [default: 1, then 2, then 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: Option<u32>,
    /// Run the suites with a kernel that checks itself [default: on 2 processors]
    #[arg(long)]
    pub checked: bool,
    /// Send non-maskable interrupts all the time [default: to some cases]
    #[arg(long)]
    pub interrupted: bool,
}

impl Options {
    /// Whether nothing says how the suites are to be run.
    const fn is_whole(&self) -> bool {
        self.cpus.is_none() && !self.checked && !self.interrupted && !self.list
    }

    fn settings(&self) -> Vec<Setting> {
        let all = if self.list {
            &SETTINGS[..1]
        } else {
            &SETTINGS[..]
        };
        let chosen = self
            .cpus
            .map_or(all.to_vec(), |cpus| vec![Setting::plain(cpus)]);
        let setting = |plain: Setting| Setting {
            cpus: plain.cpus,
            kernel: if self.checked {
                Profile::Checked
            } else {
                plain.kernel
            },
            interrupted: self.interrupted,
        };
        chosen.into_iter().map(setting).collect()
    }
}

/// How many cases did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Cases that passed.
    pub passed: u64,
    /// Cases that failed.
    pub failed: u64,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// The line that ends a suite, as `cargo test` writes it.
    fn last_line(self, elapsed: Duration) -> String {
        format!(
            "test result: {}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; \
             finished in {:.2}s",
            if self.failed == 0 { "ok" } else { "FAILED" },
            self.passed,
            self.failed,
            elapsed.as_secs_f64(),
        )
    }
}

/// Carries out `cargo xtask test`. The result is the status to exit with.
///
/// # Errors
/// A suite that does not build, or QEMU is missing. A case that fails is no error here.
pub fn test(options: &Options) -> Result<u8> {
    let mut count = Count::default();
    if !options.guest {
        count.add(host(options)?);
    }
    if !options.host {
        install::ensure()?;
        let concerned = |name: &&str| {
            options
                .filter
                .as_ref()
                .is_none_or(|text| concerns(name, text))
        };
        for name in SUITES.into_iter().filter(concerned) {
            for setting in options.settings() {
                let filter = options.filter.as_deref();
                let run = guest(name, filter.as_slice(), options.list, setting);
                let ran = run.or_else(|error| not_run(name, &error))?;
                count.add(ran);
                // It has no such case on any other number of processors either.
                if ran == Count::default() {
                    break;
                }
            }
        }
        if options.is_whole() {
            count.add(strained(options)?);
        }
        count.add(scenarios(options)?);
    }
    if options.list {
        return Ok(u8::from(count.failed > 0));
    }
    println!("\n{} passed, {} failed", count.passed, count.failed);
    Ok(u8::from(count.failed > 0))
}

/// Runs `cargo test` over the crates that run on the host: the workspace's default members, and the
/// part of the harness that boots nothing.
fn host(options: &Options) -> Result<Count> {
    eprintln!("Testing on the host ...");
    let mut count = cargo_test(options, &[])?;
    count.add(cargo_test(options, &["-p", "harness", "--lib"])?);
    // Again with atomics of which every order is tried.
    let orders = ["-p", "kernel-core", "--lib", "--features", "loom"];
    count.add(cargo_test(options, &orders)?);
    Ok(count)
}

fn cargo_test(options: &Options, which: &[&str]) -> Result<Count> {
    let mut cargo = build::plain_cargo("test");
    cargo.arg("--no-fail-fast").args(which);
    // Compiling is progress to those who watch, and noise to those who do not.
    cargo.args(run::in_ci().then_some("--quiet"));
    cargo.args(&options.filter);
    if options.list {
        cargo.args(["--", "--list"]);
    }
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be started; is Rust installed?")?;
    let output = child.stdout.take().context("cargo's output is not there")?;
    let mut count = Count::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(more) = libtest_result(&line) {
            count.add(more);
        }
        println!("{line}");
    }
    let status = child.wait()?;
    if !status.success() && count.failed == 0 {
        // Tests that do not compile have no line of their own.
        eprintln!("error: `cargo test` ended with {status}");
        count.failed += 1;
    }
    Ok(count)
}

/// Reads a line `test result: ok. 3 passed; 0 failed; ...`.
fn libtest_result(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        let part = counts.split("; ").find(|part| part.ends_with(word))?;
        part.split(' ').next()?.parse().ok()
    };
    Some(Count {
        passed: number(" passed")?,
        failed: number(" failed")?,
    })
}

/// What runs under strain as well.
fn strained(options: &Options) -> Result<Count> {
    let mut count = Count::default();
    let filter = options.filter.as_deref().unwrap_or_default();
    for (name, cases, setting) in STRAINED {
        // Of these cases those that the filter means: all of a kind, or some.
        let own = own_filter(name, filter);
        let chosen: Vec<&str> = cases
            .iter()
            .filter_map(|kind| match own.starts_with(kind) {
                true => Some(own.as_str()),
                false => format!("{name}::{kind}").contains(filter).then_some(*kind),
            })
            .collect();
        if !chosen.is_empty() {
            let run = guest(name, &chosen, false, setting);
            count.add(run.or_else(|error| not_run(name, &error))?);
        }
    }
    Ok(count)
}

fn guest(name: &str, filter: &[&str], list: bool, setting: Setting) -> Result<Count> {
    let mut args: Vec<String> = filter.iter().map(|text| own_filter(name, text)).collect();
    if list {
        args.insert(0, "--list".to_owned());
    }
    let on = setting.words();
    let mut show = |event: Event<'_>| match event {
        Event::Header(cases) => {
            println!("\nrunning {cases} tests of the guest suite `{name}`{on}");
        }
        Event::Listed(case) => println!("{name}::{case}: test"),
        Event::Started(case) => {
            print!("test {name}::{case} ... ");
            // Whoever watches sees which case runs; a pipe that is closed sees nothing.
            let _ = io::stdout().flush();
        }
        Event::Ended(Verdict::Failed(why)) => println!("FAILED: {why}"),
        Event::Ended(_) => println!("ok"),
    };
    let (suite, end) = run_suite(name, args, setting, &mut show)?;
    if list {
        return Ok(Count {
            passed: 0,
            failed: u64::from(end.outcome != Outcome::Success),
        });
    }
    let (came, sent) = (suite.non_maskable(), interrupts::fewest(end.elapsed));
    let missing = (setting.interrupted && came < sent)
        .then(|| format!("{came} non-maskable interrupts came, and not {sent} at least"));
    Ok(report(name, &suite, &end, missing))
}

/// Runs what is tested by whole boots; see `scenario`.
fn scenarios(options: &Options) -> Result<Count> {
    let wanted = |name: &str| {
        let filter = options.filter.as_deref().unwrap_or_default();
        format!("{SYSTEM}::{name}").contains(filter)
    };
    let chosen: Vec<_> = SCENARIOS
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .collect();
    if options.list {
        chosen
            .iter()
            .for_each(|(name, _)| println!("{SYSTEM}::{name}: test"));
        return Ok(Count::default());
    }
    println!("\nrunning {} tests of the whole system", chosen.len());
    let (mut count, mut faults) = (Count::default(), Vec::new());
    let started = Instant::now();
    for (name, carry_out) in chosen {
        match carry_out() {
            Ok(()) => {
                println!("test {SYSTEM}::{name} ... ok");
                count.passed += 1;
            }
            Err(error) if boot::stopped() => return Err(error),
            Err(error) => {
                println!("test {SYSTEM}::{name} ... FAILED");
                faults.push(format!("{SYSTEM}::{name}: {error:#}"));
                count.failed += 1;
            }
        }
    }
    if !faults.is_empty() {
        println!("\nfailures:");
        faults.iter().for_each(|fault| println!("    {fault}"));
    }
    println!("\n{}", count.last_line(started.elapsed()));
    Ok(count)
}

/// A suite that cannot be built or booted is one failure; the others run all the same.
fn not_run(name: &str, error: &anyhow::Error) -> Result<Count> {
    if boot::stopped() {
        bail!("stopped");
    }
    println!("\ntest {name} ... FAILED: {error:#}");
    Ok(Count {
        passed: 0,
        failed: 1,
    })
}

/// Whether a filter may mean cases of the suite `name`: it does not begin with another suite.
fn concerns(name: &str, filter: &str) -> bool {
    let suite = filter.split_once("::").map(|(suite, _)| suite);
    suite.is_none_or(|suite| suite == name || suite != SYSTEM && !SUITES.contains(&suite))
}

/// The filter as the suite `name` understands it: it knows its cases without its own name.
#[must_use]
pub fn own_filter(name: &str, filter: &str) -> String {
    let own = filter
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix("::"));
    own.unwrap_or(filter).to_owned()
}

/// Builds and boots one suite. `show` is told each event as it comes.
///
/// # Errors
/// It does not build, or QEMU cannot be started.
pub fn run_suite(
    name: &str,
    args: Vec<String>,
    setting: Setting,
    show: &mut dyn FnMut(Event<'_>),
) -> Result<(Suite, boot::End)> {
    let built = image::make(
        name,
        &Contents {
            file_pager: name != NESTED,
            clients: vec![(name, args)],
            second_server: name == NESTED,
            ends: Ends::LastClient,
            kernel: setting.kernel,
            ..Contents::default()
        },
    )?;
    let mut machine = Machine::new(&built.kernel, &built.path);
    // The kernel compares its whole state with its rules now and then.
    machine.command_line = "log=warn check=16384".to_owned();
    machine.memory = Memory(512);
    machine.cpus = setting.cpus;
    machine.share = Some(build::root().join("tests"));
    // The devices' own time is the host's: counted, a machine that waits would be far ahead of it.
    machine.test_devices = name == DEVICES;
    machine.count_instructions = name != DEVICES;
    let mut interrupts = setting.interrupted.then(Interrupts::new);
    machine.interrupts = interrupts.as_ref().map(|sent| sent.path().to_path_buf());
    let mut suite = Suite::default();
    let mut splitter = LineSplitter::default();
    let limit = Some(Duration::from_secs(SUITE_LIMIT));
    let end = boot::boot(&machine, limit, &mut |piece| {
        splitter.add(piece, &mut |line| suite.line(line, show));
        if let Some(interrupts) = interrupts.as_mut().filter(|_| suite.has_begun()) {
            interrupts.begin();
        }
    })?;
    splitter.end(&mut |line| suite.line(line, show));
    if boot::stopped() {
        bail!("stopped");
    }
    Ok((suite, end))
}

/// Prints what went wrong and the suite's last line, and counts.
fn report(name: &str, suite: &Suite, end: &boot::End, missing: Option<String>) -> Count {
    let mut faults: Vec<String> = Vec::new();
    for Case {
        name: case,
        verdict,
    } in suite.cases()
    {
        match verdict {
            Verdict::Passed => {}
            Verdict::Failed(why) => faults.push(format!("{name}::{case}: {why}")),
            Verdict::Running => {
                println!("did not end");
                faults.push(format!(
                    "{name}::{case}: started and did not end: {}",
                    end.outcome
                ));
            }
        }
    }
    if let Some(fault) = suite.fault() {
        faults.push(format!("{name}: {fault}; {}", end.outcome));
    }
    faults.extend(missing.map(|missing| format!("{name}: {missing}")));
    // A suite reports failed cases by its status; any other bad end is a fault of its own.
    if faults.is_empty() && end.outcome != Outcome::Success {
        faults.push(format!("{name}: {}", end.outcome));
    }
    let count = Count {
        passed: suite.passed(),
        failed: faults.len() as u64,
    };
    if !faults.is_empty() {
        println!("\nfailures:");
        faults.iter().for_each(|fault| println!("    {fault}"));
        println!("\nlast words of the guest:");
        end.last_words
            .iter()
            .for_each(|line| println!("    {line}"));
    }
    println!("\n{}", count.last_line(end.elapsed));
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_may_start_with_the_suite() {
        assert_eq!(own_filter("conformance", "conformance::copy"), "copy");
        assert_eq!(own_filter("conformance", "copy"), "copy");
        assert_eq!(own_filter("conformance", "conform"), "conform");
    }

    #[test]
    fn a_filter_of_one_suite_boots_no_other() {
        assert!(concerns("hostile", "hostile::traps"));
        assert!(!concerns("conformance", "hostile::traps"));
        assert!(!concerns("conformance", "system::an_iso"));
        assert!(concerns("conformance", "copies::whole") && concerns("hostile", "copy"));
    }

    #[test]
    fn the_last_lines_of_libtest_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            libtest_result(line),
            Some(Count {
                passed: 12,
                failed: 3
            })
        );
        let own = Count {
            passed: 2,
            failed: 1,
        };
        assert_eq!(libtest_result(&own.last_line(Duration::ZERO)), Some(own));
        assert_eq!(libtest_result("test a ... ok"), None);
        assert_eq!(libtest_result("test result: odd"), None);
    }
}
