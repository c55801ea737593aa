//! Gets the emulator, and what makes bootable media, where they are missing.
//!
//! Where there is apt and the right to use it without a question, they are installed; elsewhere the
//! error says what to install, and how.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::qemu::PROGRAM;

/// Makes sure that QEMU is here, with the device that shares folders: installs it where there is
/// apt and the right to use it.
///
/// # Errors
/// What to install, and how, if it cannot be installed from here.
pub fn ensure() -> Result<()> {
    if !is_here(PROGRAM) {
        install(&["qemu-system-x86"], BY_HAND)?;
    }
    if !is_here(PROGRAM) {
        bail!("apt-get brought no {PROGRAM}; {BY_HAND}");
    }
    if !has_device("virtio-9p-pci")? {
        bail!(
            "this {PROGRAM} has no virtio-9p device; install the full one \
             (Debian: apt-get install qemu-system-x86)"
        );
    }
    Ok(())
}

/// Makes sure that a bootable ISO can be made: GRUB for both kinds of firmware, and what it needs.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_grub() -> Result<()> {
    let modules = ["i386-pc", "x86_64-efi"].map(|name| Path::new("/usr/lib/grub").join(name));
    let programs = ["grub-mkrescue", "xorriso", "mformat"];
    if programs.iter().all(|program| is_here(program)) && modules.iter().all(|m| m.is_dir()) {
        return Ok(());
    }
    let packages = [
        "grub-common",
        "grub-pc-bin",
        "grub-efi-amd64-bin",
        "xorriso",
        "mtools",
    ];
    install(
        &packages,
        "install GRUB for BIOS and UEFI, xorriso and mtools",
    )
}

/// UEFI firmware for QEMU: installs it where it is missing.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_uefi() -> Result<PathBuf> {
    let find = || {
        let places = ["/usr/share/ovmf/OVMF.fd", "/usr/share/edk2/ovmf/OVMF.fd"];
        places.iter().map(PathBuf::from).find(|path| path.is_file())
    };
    if find().is_none() {
        install(&["ovmf"], "install OVMF, the UEFI firmware for QEMU")?;
    }
    find().context("no OVMF.fd; install OVMF, the UEFI firmware for QEMU")
}

/// Whether a program can be found on the path.
#[must_use]
pub fn is_here(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether QEMU knows a device.
///
/// # Errors
/// QEMU cannot be started.
pub fn has_device(name: &str) -> Result<bool> {
    let output = Command::new(PROGRAM)
        .args(["-device", "help"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{PROGRAM} cannot be started"))?;
    let quoted = format!("name \"{name}\"");
    Ok(String::from_utf8_lossy(&output.stdout).contains(&quoted))
}

/// How the package manager can be called from here without asking anybody.
#[must_use]
pub fn installer() -> Option<Vec<&'static str>> {
    if !is_here("apt-get") {
        return None;
    }
    if is_root() {
        return Some(vec!["apt-get"]);
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    sudo.is_ok_and(|status| status.success())
        .then(|| vec!["sudo", "-n", "apt-get"])
}

/// What to tell somebody who has to install QEMU by hand.
pub const BY_HAND: &str = "install QEMU for x86_64: Debian, Ubuntu: `apt-get install qemu-system-x86`; \
     Fedora: `dnf install qemu-system-x86-core`; Arch: `pacman -S qemu-system-x86`";

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        uid.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
    })
}

/// Installs packages with apt. `by_hand`: what to do where that cannot be.
fn install(packages: &[&str], by_hand: &str) -> Result<()> {
    let names = packages.join(" ");
    let Some(apt) = installer() else {
        bail!("missing, and cannot be installed from here (no root, no apt): {names}; {by_hand}");
    };
    eprintln!("Installing {names} (apt-get install) ...");
    let update = vec!["update", "-q"];
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(packages);
    for step in [update, install] {
        let mut words = apt.iter().chain(&step);
        let program = words.next().copied().unwrap_or("apt-get");
        let output = Command::new(program)
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()?;
        // An update may fail for one source of many; what counts is whether the packages come.
        if !output.status.success() && step.contains(&"install") {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            bail!("{names} could not be installed (see above); {by_hand}");
        }
    }
    Ok(())
}
