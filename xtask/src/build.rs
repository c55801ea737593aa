//! Builds the guest programs: which crates they are, and the flags that make them.
//!
//! Kernel and tasks are ordinary crates for the host's own target, built with flags that leave out
//! what an operating system would bring (start-up files, dynamic linking, unwinding). The flags go
//! to cargo through the environment, not through `.cargo/config.toml`, so that a plain
//! `cargo build` at the root stays what it is. As a target is named, build scripts and procedural
//! macros do not get them. Guests have target folders of their own, one for each set of flags,
//! so that a change from one to another rebuilds nothing.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// The target that guests are built for: the host's own, whose `core` the toolchain brings.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The crate of the kernel.
pub const KERNEL: &str = "microkernel";

/// Crates that are guest programs, without the kernel: what `cargo` alone cannot link.
pub const TASKS: [&str; 9] = [
    "vm-server",
    "bootstrap",
    "file-pager",
    "demo",
    "conformance",
    "hostile",
    "devices",
    "mach-cases",
    "bench",
];

/// Crates that only guest programs use, and that therefore have no host tests.
pub const GUEST_LIBRARIES: [&str; 4] = ["ipc", "pagers", "virtio", "guest-test"];

/// An ELF file, and the package that it was made from.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of the package.
    pub name: String,
    /// The executable.
    pub elf: PathBuf,
}

/// The root of the workspace: where this crate was compiled. Cargo compiles it again when the
/// workspace is moved.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder for everything that is made for guests.
#[must_use]
pub fn guest_dir() -> PathBuf {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    // A relative CARGO_TARGET_DIR means the folder where cargo was started, as for cargo itself.
    std::path::absolute(&target).unwrap_or(target).join("guest")
}

/// A cargo command at the root of the workspace, for what runs on the host.
#[must_use]
pub fn plain_cargo(subcommand: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this very process about the crate `xtask` is not for its children.
    cargo
        .arg(subcommand)
        .current_dir(root())
        .env_remove("CARGO_MANIFEST_DIR");
    cargo
}

/// How a kernel is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// To be used.
    #[default]
    Release,
    /// The same with debug assertions: it checks its sums, and in which order it takes its locks.
    Checked,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Checked => "checked",
        }
    }
}

/// Which flags a guest crate needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel: upper half, no red zone.
    Kernel,
    /// A task.
    Task,
}

impl Kind {
    /// The compiler flags, in order.
    #[must_use]
    pub fn rustflags(self, root: &Path) -> Vec<String> {
        let script = match self {
            Self::Kernel => root.join("microkernel/kernel.ld"),
            Self::Task => root.join("ipc/task.ld"),
        };
        let mut flags: Vec<String> = [
            "-Cpanic=abort",
            "-Crelocation-model=static",
            "-Ctarget-feature=+crt-static",
            "-Clinker=rust-lld",
            "-Clinker-flavor=ld.lld",
            "-Clink-self-contained=no",
            "-Clink-arg=-zmax-page-size=4096",
            "-Clink-arg=--no-eh-frame-hdr",
            "-Clink-arg=--build-id=none",
            "-Cforce-frame-pointers=no",
            // A fault goes through many small functions, each of which has few callers.
            "-Cllvm-args=-inline-threshold=1000",
        ]
        .map(String::from)
        .into();
        if self == Self::Kernel {
            flags.extend(["-Ccode-model=kernel", "-Cno-redzone=yes"].map(String::from));
        }
        flags.push(format!("-Clink-arg=-T{}", script.display()));
        flags
    }

    /// The target folder of this set of flags.
    #[must_use]
    pub fn target_dir(self) -> PathBuf {
        guest_dir().join(match self {
            Self::Kernel => "kernel",
            Self::Task => "task",
        })
    }

    /// A cargo command for crates of this kind. The caller adds the packages.
    #[must_use]
    pub fn cargo(self, subcommand: &str) -> Command {
        self.cargo_with(Profile::Release, subcommand)
    }

    fn cargo_with(self, profile: Profile, subcommand: &str) -> Command {
        let flags = self.rustflags(&root()).join("\u{1f}");
        let mut cargo = plain_cargo(subcommand);
        cargo
            .args(["--quiet", "--profile", profile.name(), "--target", TARGET])
            .arg("--target-dir")
            .arg(self.target_dir())
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR");
        cargo
    }
}

/// Builds the kernel.
///
/// # Errors
/// The compiler's errors, which have been shown.
pub fn kernel(profile: Profile) -> Result<Program> {
    match profile {
        Profile::Release => eprintln!("Building the kernel ..."),
        Profile::Checked => eprintln!("Building the kernel with its checks ..."),
    }
    let mut cargo = Kind::Kernel.cargo_with(profile, "build");
    let mut built = build(cargo.args(["-p", KERNEL]))
        .map_err(|error| error.context("the kernel does not build"))?;
    take(&mut built, KERNEL)
}

/// Builds tasks of this workspace, in one go.
///
/// # Errors
/// The compiler's errors, which have been shown.
pub fn tasks(names: &[&str]) -> Result<Vec<Program>> {
    eprintln!("Building {} ...", names.join(", "));
    let mut cargo = Kind::Task.cargo("build");
    for name in names {
        cargo.args(["-p", name]);
    }
    let mut built =
        build(&mut cargo).map_err(|error| error.context("the tasks do not build (see above)"))?;
    names.iter().map(|name| take(&mut built, name)).collect()
}

/// Builds the one program of the crate with this manifest, which lies anywhere, with the flags and
/// the profile of a task.
///
/// # Errors
/// The compiler's errors, which have been shown; or the crate has no program or more than one.
pub(crate) fn outside(manifest: &Path) -> Result<Program> {
    let mut cargo = Kind::Task.cargo("build");
    cargo
        .arg("--manifest-path")
        .arg(manifest)
        // The same profile as this workspace's, whatever the crate's own says.
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none");
    let built = build(&mut cargo)
        .map_err(|_| anyhow!("the crate does not build (see above); mend it and run again"))?;
    let mut programs = built
        .into_iter()
        .flat_map(|(name, elfs)| elfs.into_iter().map(move |elf| (name.clone(), elf)));
    match (programs.next(), programs.next()) {
        (Some((name, elf)), None) => Ok(Program { name, elf }),
        (None, _) => bail!("the crate has no program; a task is a package with src/main.rs"),
        (Some(_), Some(_)) => {
            bail!("the crate has more than one program; give the folder of a package with one")
        }
    }
}

/// Executables by package.
type Built = BTreeMap<String, Vec<PathBuf>>;

/// Runs cargo and collects the executables that it names. Its errors and warnings go to the
/// terminal as they come.
fn build(cargo: &mut Command) -> Result<Built> {
    cargo
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = cargo
        .spawn()
        .context("cargo cannot be started; is Rust installed?")?;
    let output = child.stdout.take().context("cargo's output is not there")?;
    let mut built = Built::new();
    for line in BufReader::new(output).lines() {
        if let Some((package, elf)) = executable(&line?) {
            built.entry(package).or_default().push(elf);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo ended with {status}");
    }
    Ok(built)
}

/// The package and the path, if this line of cargo's output announces an executable.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message.get("reason")?.as_str()? != "compiler-artifact" {
        return None;
    }
    let path = message.get("executable")?.as_str()?;
    Some((
        package_name(message.get("package_id")?.as_str()?),
        PathBuf::from(path),
    ))
}

/// The name in a package id: `path+file:///dir/name#0.1.0` or `...#name@0.1.0`.
fn package_name(id: &str) -> String {
    let (place, version) = id.rsplit_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => place.rsplit('/').next().unwrap_or(place).to_owned(),
    }
}

fn take(built: &mut Built, name: &str) -> Result<Program> {
    let elf = built
        .remove(name)
        .and_then(|mut paths| paths.pop())
        .ok_or_else(|| anyhow!("cargo built no program `{name}`"))?;
    Ok(Program {
        name: name.to_owned(),
        elf,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_ids_give_the_name_in_both_forms() {
        assert_eq!(package_name("path+file:///a/b/demo#0.1.0"), "demo");
        assert_eq!(
            package_name("path+file:///a/b/file#file-pager@0.1.0"),
            "file-pager"
        );
    }

    #[test]
    fn only_executables_count() {
        let line = r#"{"reason":"compiler-artifact","package_id":"path+file:///x/demo#0.1.0","executable":"/t/demo"}"#;
        assert_eq!(executable(line), Some(("demo".into(), "/t/demo".into())));
        let library = r#"{"reason":"compiler-artifact","package_id":"path+file:///x/ipc#0.1.0","executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(
            executable(r#"{"reason":"build-finished","success":true}"#),
            None
        );
        assert_eq!(executable("no json"), None);
    }

    #[test]
    fn kernel_and_tasks_differ_in_code_model_and_script() {
        let root = Path::new("/r");
        let kernel = Kind::Kernel.rustflags(root);
        let task = Kind::Task.rustflags(root);
        assert!(kernel.contains(&"-Ccode-model=kernel".to_owned()));
        assert!(kernel.contains(&"-Clink-arg=-T/r/microkernel/kernel.ld".to_owned()));
        assert!(task.contains(&"-Clink-arg=-T/r/ipc/task.ld".to_owned()));
        assert!(!task.iter().any(|flag| flag.contains("code-model")));
    }
}
