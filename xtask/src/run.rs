//! `cargo xtask run`: builds everything, boots it, and shows what it says.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use bootimg::Ends;

use crate::boot::{End, boot};
use crate::image::{self, Built, Programs};
use crate::qemu::{self, Accel, Machine, Memory, Outcome, Way};
use crate::{install, iso, trace};

/// How much kernel and tasks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[expect(missing_docs, reason = "the names are the levels of the `log` crate")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The word for the kernel's command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `cargo xtask run`: build, boot, watch.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Host folder that the file pager serves [default: docs/]
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,
    #[command(flatten)]
    programs: Programs,
    /// How much kernel and tasks say
    #[arg(long, value_enum, default_value_t)]
    pub log: LogLevel,
    /// Memory of the guest, for example 128M or 1G; at least 64M
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    pub memory: Memory,
    /// Number of processors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// Wait for gdb on port 1234 before the first instruction, and say how to connect
    #[arg(long)]
    pub gdb: bool,
    /// Stay up when the last client has ended; Ctrl-C ends the run
    #[arg(long)]
    pub keep: bool,
    /// Write each trap, fault and message to FILE, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Stop the guest after this many seconds [default: 120; none with --gdb or --keep]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// What executes the guest
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,
    /// How the kernel is loaded: by QEMU, or from an ISO by GRUB
    #[arg(long, value_enum, default_value_t)]
    pub boot: Way,
    /// Let guest time follow the wall clock instead of the number of instructions
    #[arg(long)]
    pub no_icount: bool,
}

impl Options {
    fn limit(&self) -> Option<Duration> {
        const DEFAULT: u64 = 120;
        let open_ended = self.gdb || self.keep;
        self.timeout
            .or((!open_ended).then_some(DEFAULT))
            .map(Duration::from_secs)
    }
}

/// Carries out `cargo xtask run`. The result is the status to exit with.
///
/// # Errors
/// One line: what is missing or malformed, and the remedy.
pub fn run(options: &Options) -> Result<u8> {
    let share = check_share(options.share.as_deref())?;
    let ends = if options.keep {
        Ends::Never
    } else {
        Ends::LastClient
    };
    let contents = options.programs.contents(ends, options.log)?;
    if let Some(trace) = &options.trace {
        trace::check_target(trace)?;
    }
    install::ensure()?;
    let built = image::make("run", &contents)?;
    check_memory(options.memory, &built)?;
    let mut machine = machine(options, &built, share);
    iso::insert(&mut machine, &built, options.boot)?;
    if options.gdb {
        eprintln!("{}", gdb_help(&built));
    }
    eprintln!("Booting ...");
    let mut end = boot(&machine, options.limit(), &mut show)?;
    if machine.accel == Accel::Kvm && never_started(&end) {
        eprintln!("KVM does not start a guest on this machine; using TCG instead");
        machine.accel = Accel::Tcg;
        end = boot(&machine, options.limit(), &mut show)?;
    }
    if let (Some(target), Some(raw)) = (&options.trace, &machine.trace) {
        trace::convert(raw, target)?;
    }
    if end.outcome != Outcome::Success {
        eprintln!("xtask run: {}", end.outcome);
    }
    Ok(end.outcome.exit_code())
}

/// Hands the guest's output on.
fn show(piece: &[u8]) {
    let mut out = std::io::stdout();
    // A closed pipe behind us is no reason to stop the guest half way.
    let _ = out.write_all(piece).and_then(|()| out.flush());
}

/// Whether the emulator ended before the guest could say anything. (A `/dev/kvm` that opens is no
/// proof that a guest can run on it.)
fn never_started(end: &End) -> bool {
    matches!(end.outcome, Outcome::Killed | Outcome::Emulator(_)) && end.last_words.is_empty()
}

fn machine(options: &Options, built: &Built, share: PathBuf) -> Machine {
    let mut machine = Machine::new(&built.kernel, &built.path);
    machine.command_line = format!("log={}", options.log.name());
    machine.memory = options.memory;
    machine.cpus = options.cpus;
    machine.accel = usable(options.accel);
    machine.count_instructions = !options.no_icount;
    machine.share = Some(share);
    machine.gdb = options.gdb;
    if options.trace.is_some() {
        machine.command_line.push_str(" trace=1");
        machine.trace = Some(built.path.with_extension("trace"));
    }
    machine
}

fn usable(accel: Accel) -> Accel {
    let opened = || {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
    };
    match (accel, accel == Accel::Kvm && opened().is_err()) {
        (Accel::Kvm, true) => {
            eprintln!("/dev/kvm cannot be opened; using TCG instead");
            Accel::Tcg
        }
        (accel, _) => accel,
    }
}

/// The least memory is for an image of ordinary size; what is beyond that has to fit as well.
fn check_memory(memory: Memory, built: &Built) -> Result<()> {
    const ORDINARY_MIB: u64 = 16;
    let image = fs::metadata(&built.path)?.len().div_ceil(1 << 20);
    let least = qemu::MIN_MEMORY_MIB + image.saturating_sub(ORDINARY_MIB);
    if memory.0 < least {
        bail!(
            "--memory {}M: too little for a boot image of {image} MiB: the least is {least}M",
            memory.0
        );
    }
    Ok(())
}

fn check_share(share: Option<&Path>) -> Result<PathBuf> {
    let folder = share.map_or_else(|| crate::build::root().join("docs"), Path::to_path_buf);
    let shown = folder.display();
    let meta = fs::metadata(&folder).with_context(|| {
        format!("--share {shown}: cannot be read; give a folder of this machine")
    })?;
    if !meta.is_dir() {
        bail!("--share {shown}: not a folder; give the folder that the file is in");
    }
    fs::read_dir(&folder)
        .with_context(|| format!("--share {shown}: cannot be listed; check its permissions"))?;
    Ok(std::path::absolute(&folder)?)
}

fn gdb_help(built: &Built) -> String {
    let kernel = built.kernel.display();
    let mut text = format!(
        "Waiting for gdb. In another terminal:\n  \
         gdb -ex 'target remote :1234' -ex 'symbol-file {kernel}'\n\
         All tasks are linked at one address: load the symbols of the one to look at, and set its\n\
         breakpoints with hbreak, as its code is not in memory before it starts:"
    );
    for entry in &built.entries {
        text.push_str(&format!("\n  add-symbol-file {}", entry.elf.display()));
    }
    text
}

/// Whether this runs where nobody watches.
#[must_use]
pub fn in_ci() -> bool {
    env::var_os("CI").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_missing_or_no_folder_is_refused() {
        let missing = check_share(Some(Path::new("/no/such")))
            .unwrap_err()
            .to_string();
        assert!(missing.contains("--share /no/such"), "{missing}");
        let file = check_share(Some(Path::new("/proc/version")))
            .unwrap_err()
            .to_string();
        assert!(file.contains("not a folder"), "{file}");
    }
}
