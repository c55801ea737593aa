//! The whole system as a user meets it: a boot each, and what is to come out of it.
//!
//! Guest suites test calls and messages from within; these test what only the host can see: that
//! the demonstration's digests are the host's, that crates outside this repository run, that the
//! status of a run is its client's, and that a damaged image is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bootimg::Ends;

use crate::boot::{self, LineSplitter};
use crate::build;
use crate::image::{self, Contents};
use crate::iso;
use crate::module::Module;
use crate::new_task::Template;
use crate::qemu::{Machine, Outcome, Way};

/// Time after which a boot is stopped, in seconds. UEFI firmware takes most of a minute of it.
const LIMIT: u64 = 240;

/// A scenario: its name, and what it does.
pub(crate) type Scenario = (&'static str, fn() -> Result<()>);

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 5] = [
    ("demo_hashes_files_as_the_host_does", demo_hashes),
    (
        "new_task_and_new_pager_run_outside_the_repository",
        templates,
    ),
    (
        "the_status_of_the_last_client_is_the_status_of_the_run",
        status,
    ),
    ("a_damaged_image_is_refused_in_words", damaged_image),
    ("an_iso_boots_with_bios_and_with_uefi", iso_boots),
];

/// What a boot printed, and how it ended.
struct Run {
    outcome: Outcome,
    lines: Vec<String>,
}

impl Run {
    /// An error with the guest's last lines, unless the run ended as it should.
    fn expect(&self, outcome: Outcome) -> Result<()> {
        if self.outcome != outcome {
            let from = self.lines.len().saturating_sub(20);
            let last = self.lines.get(from..).unwrap_or_default().join("\n    ");
            bail!(
                "{} instead of: {outcome}; last words:\n    {last}",
                self.outcome
            );
        }
        Ok(())
    }

    fn expect_line(&self, part: &str) -> Result<()> {
        let found = self.lines.iter().any(|line| line.contains(part));
        ensure!(
            found,
            "no line with `{part}` in:\n    {}",
            self.lines.join("\n    ")
        );
        Ok(())
    }
}

fn run(machine: &Machine) -> Result<Run> {
    let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
    let mut take = |line: &str| lines.push(line.to_owned());
    let limit = Some(Duration::from_secs(LIMIT));
    let end = boot::boot(machine, limit, &mut |piece| splitter.add(piece, &mut take))?;
    splitter.end(&mut take);
    Ok(Run {
        outcome: end.outcome,
        lines,
    })
}

/// An empty folder for this scenario.
fn scratch(name: &str) -> Result<PathBuf> {
    let folder = build::guest_dir().join("scenarios").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn machine(name: &str, contents: &Contents<'_>, share: &Path) -> Result<Machine> {
    let built = image::make(name, contents)?;
    let mut machine = Machine::new(&built.kernel, &built.path);
    machine.command_line = "log=warn".to_owned();
    machine.share = Some(share.to_path_buf());
    Ok(machine)
}

/// A folder of files of every awkward kind: sizes around the page, nothing, depth, odd names.
fn fill(share: &Path) -> Result<()> {
    let sizes = [0, 1, 4095, 4096, 4097, 3 * 4096, 100_000, 2 << 20];
    for (index, size) in sizes.into_iter().enumerate() {
        // Any bytes do, so long as no page is like another.
        let bytes: Vec<u8> = (0..size)
            .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 19) as u8)
            .collect();
        fs::write(share.join(format!("file-{index}")), bytes)?;
    }
    let deep = share.join("a folder/with another/inside");
    fs::create_dir_all(&deep)?;
    for name in [
        "with spaces",
        "größe-日本.txt",
        "back\\slash",
        "line\nbreak",
        " leading",
    ] {
        fs::write(deep.join(name), name)?;
    }
    Ok(())
}

/// `sha256sum` over all files below `share`, as sorted lines.
fn digests(share: &Path) -> Result<Vec<String>> {
    let output = Command::new("find")
        .args([".", "-type", "f", "-exec", "sha256sum", "{}", "+"])
        .current_dir(share)
        .output()
        .context("find and sha256sum cannot be started")?;
    ensure!(output.status.success(), "sha256sum failed");
    let mut lines: Vec<String> = String::from_utf8(output.stdout)?
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    Ok(lines)
}

/// Whether a line looks like one of `sha256sum`.
fn is_digest(line: &str) -> bool {
    let line = line.strip_prefix('\\').unwrap_or(line);
    let digits = line.get(..64).unwrap_or_default();
    line.get(64..66) == Some("  ") && digits.chars().all(|c| c.is_ascii_hexdigit())
}

fn demo_hashes() -> Result<()> {
    let share = scratch("share")?;
    fill(&share)?;
    let contents = Contents {
        file_pager: true,
        clients: vec![("demo", Vec::new())],
        ..Contents::default()
    };
    let mut machine = machine("scenario-demo", &contents, &share)?;
    let expected = digests(&share)?;
    for cpus in [1, 2, 4] {
        machine.cpus = cpus;
        compare(&run(&machine)?, &expected).with_context(|| format!("{cpus} processors"))?;
    }
    Ok(())
}

fn compare(run: &Run, expected: &[String]) -> Result<()> {
    run.expect(Outcome::Success)?;
    let lines = run.lines.iter();
    let mut found: Vec<&String> = lines.filter(|line| is_digest(line)).collect();
    found.sort();
    for line in expected {
        ensure!(found.contains(&line), "the guest did not print `{line}`");
    }
    ensure!(
        found.iter().copied().eq(expected),
        "the guest printed {} digests, not {}",
        found.len(),
        expected.len()
    );
    Ok(())
}

fn templates() -> Result<()> {
    let folder = scratch("templates")?;
    let pager = Template::Pager.write("squares", &folder)?;
    let task = Template::Task.write("reader", &folder)?;
    let contents = Contents {
        modules: vec![
            Module {
                folder: pager,
                args: Vec::new(),
            },
            Module {
                folder: task,
                args: vec!["squares".to_owned()],
            },
        ],
        ..Contents::default()
    };
    let run = run(&machine("scenario-templates", &contents, &folder)?)?;
    run.expect(Outcome::Success)?;
    run.expect_line("hello from reader")?;
    run.expect_line("0 squared is           0")
}

/// The template of a task, with another `main`.
fn status() -> Result<()> {
    let folder = scratch("status")?;
    let task = Template::Task.write("seven", &folder)?;
    let program = "//! Ends with status 7.\n#![no_std]\n#![no_main]\nipc::main!(main);\n\
                   fn main(_: ipc::Args) -> u32 {\n    7\n}\n";
    fs::write(task.join("src/main.rs"), program)?;
    let contents = Contents {
        modules: vec![Module {
            folder: task,
            args: Vec::new(),
        }],
        ends: Ends::LastClient,
        ..Contents::default()
    };
    run(&machine("scenario-status", &contents, &folder)?)?.expect(Outcome::Failure(7))
}

fn damaged_image() -> Result<()> {
    let folder = scratch("damaged")?;
    let contents = Contents {
        clients: vec![("demo", Vec::new())],
        ..Contents::default()
    };
    let mut machine = machine("scenario-damaged", &contents, &folder)?;
    let mut bytes = fs::read(&machine.image)?;
    // The checksum of the first header.
    *bytes.get_mut(150).context("the image is empty")? ^= 1;
    machine.image = folder.join("damaged.tar");
    fs::write(&machine.image, bytes)?;
    let run = run(&machine)?;
    ensure!(
        run.outcome != Outcome::Success,
        "a damaged image was booted"
    );
    ensure!(
        !matches!(run.outcome, Outcome::TimedOut(_)),
        "the guest hangs on a damaged image"
    );
    run.expect_line("boot image")
}

/// The demonstration's own checks, from an ISO, with either firmware and several processors.
fn iso_boots() -> Result<()> {
    let share = scratch("iso")?;
    fs::write(share.join("file"), "from an ISO")?;
    let contents = Contents {
        file_pager: true,
        clients: vec![("demo", Vec::new())],
        ..Contents::default()
    };
    let built = image::make("scenario-iso", &contents)?;
    for (way, cpus) in [(Way::Bios, 2), (Way::Uefi, 4)] {
        let mut machine = Machine::new(&built.kernel, &built.path);
        machine.cpus = cpus;
        machine.command_line = "log=warn".to_owned();
        machine.share = Some(share.clone());
        // Firmware waits by looking at the clock, which counts instructions only where asked to.
        machine.count_instructions = false;
        iso::insert(&mut machine, &built, way)?;
        let run = run(&machine)?;
        run.expect(Outcome::Success)
            .with_context(|| format!("{way:?}"))?;
        run.expect_line("0 failed")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_sha256sum_are_told_from_others() {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(is_digest(&format!("{digest}  ./a file")));
        assert!(is_digest(&format!("\\{digest}  ./a\\nfile")));
        assert!(!is_digest(&format!("{digest} ./a")));
        assert!(!is_digest("faults: 12"));
        assert!(!is_digest("ä"));
    }
}
