//! `cargo xtask doctor`: what this machine has, what it lacks, and how to get it.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{install, qemu};

/// One line of the report.
struct Finding {
    what: &'static str,
    found: Option<String>,
    /// Whether the project cannot do without it.
    needed: bool,
    remedy: String,
}

/// Carries out `cargo xtask doctor`. The result is the status to exit with: 1 if something that is
/// needed is missing.
///
/// # Errors
/// None at present; what cannot be found is part of the report.
pub fn doctor() -> Result<u8> {
    let findings = [
        rust(),
        linker(),
        emulator(),
        shared_folders(),
        debugger(),
        kvm(),
    ];
    for finding in &findings {
        match (&finding.found, finding.needed) {
            (Some(found), _) => println!("ok       {}: {found}", finding.what),
            (None, true) => println!("MISSING  {}: {}", finding.what, finding.remedy),
            (None, false) => println!("absent   {} (optional): {}", finding.what, finding.remedy),
        }
    }
    let sick = findings
        .iter()
        .any(|finding| finding.needed && finding.found.is_none());
    Ok(u8::from(sick))
}

fn rust() -> Finding {
    Finding {
        what: "Rust 1.95 or later",
        found: first_line("rustc", &["--version"]).filter(|version| is_recent(version)),
        needed: true,
        remedy: "install a stable toolchain with rustup, or `rustup update stable`".to_owned(),
    }
}

/// Whether `rustc 1.95.0 (...)` is recent enough.
fn is_recent(version: &str) -> bool {
    let mut numbers = version
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .split(['.', '-']);
    let mut number = || numbers.next().and_then(|text| text.parse::<u32>().ok());
    number()
        .zip(number())
        .is_some_and(|version| version >= (1, 95))
}

fn linker() -> Finding {
    let path = first_line("rustc", &["--print", "target-libdir"]).map(|folder| {
        std::path::Path::new(&folder)
            .with_file_name("bin")
            .join("rust-lld")
    });
    Finding {
        what: "rust-lld",
        found: path
            .filter(|path| path.is_file())
            .map(|path| path.display().to_string()),
        needed: true,
        remedy: "it comes with rustup's toolchains; a distribution may have it as `lld`".to_owned(),
    }
}

fn emulator() -> Finding {
    let remedy = match install::installer() {
        Some(_) => "`cargo xtask run` installs it".to_owned(),
        None => install::BY_HAND.to_owned(),
    };
    Finding {
        what: "QEMU",
        found: first_line(qemu::PROGRAM, &["--version"]),
        needed: true,
        remedy,
    }
}

fn shared_folders() -> Finding {
    let present = install::has_device("virtio-9p-pci").unwrap_or(false);
    Finding {
        what: "QEMU's virtio-9p device",
        found: present.then(|| "virtio-9p-pci".to_owned()),
        needed: true,
        remedy: "install the full QEMU, on Debian `qemu-system-x86`".to_owned(),
    }
}

fn debugger() -> Finding {
    Finding {
        what: "gdb",
        found: first_line("gdb", &["--version"]),
        needed: false,
        remedy: "for `run --gdb`; on Debian `apt-get install gdb`".to_owned(),
    }
}

fn kvm() -> Finding {
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    Finding {
        what: "KVM",
        found: opened
            .ok()
            .map(|_| "/dev/kvm opens; whether a guest boots, a run will tell".to_owned()),
        needed: false,
        remedy: "for `run --accel kvm`; without it TCG is used, which is what all else uses"
            .to_owned(),
    }
}

/// The first line that a program prints, if it runs and says that all is well.
fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_recent("rustc 1.95.0 (59807616e 2026-04-14)"));
        assert!(is_recent("rustc 1.100.0-beta"));
        assert!(is_recent("rustc 2.0.0"));
        assert!(!is_recent("rustc 1.94.1"));
        assert!(!is_recent("odd"));
    }
}
