//! A bootable ISO: kernel and boot image behind GRUB, for machines with BIOS or UEFI firmware.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::build;
use crate::image::Built;
use crate::install;
use crate::qemu::{Iso, Machine, Way};

/// GRUB's menu: one entry, started at once, with all output on the serial line as well.
fn menu(command_line: &str) -> String {
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_output console serial\n\
         set timeout=0\n\
         menuentry \"Pagoda\" {{\n    \
             multiboot2 /boot/microkernel {command_line}\n    \
             module2 /boot/image.tar\n\
         }}\n"
    )
}

/// Makes an ISO of what was built, at `out`. The kernel gets `command_line`.
///
/// # Errors
/// GRUB is not here and cannot be installed, or fails; files that cannot be copied.
pub fn make(built: &Built, command_line: &str, out: &Path) -> Result<()> {
    install::ensure_grub()?;
    let name = built.path.file_stem().unwrap_or_default();
    let tree = build::guest_dir().join("iso").join(name);
    let boot = tree.join("boot");
    fs::create_dir_all(boot.join("grub"))?;
    let copy = |from: &PathBuf, name: &str| {
        fs::copy(from, boot.join(name))
            .with_context(|| format!("{} cannot be copied", from.display()))
    };
    copy(&built.kernel, "microkernel")?;
    copy(&built.path, "image.tar")?;
    fs::write(boot.join("grub/grub.cfg"), menu(command_line))?;
    let output = Command::new("grub-mkrescue")
        .arg("-o")
        .args([out, &tree])
        .stdin(Stdio::null())
        .output()
        .context("grub-mkrescue cannot be started")?;
    if !output.status.success() {
        bail!(
            "grub-mkrescue failed: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

/// Has `machine` boot from an ISO of what was built, if it is to go that way. Its command line is in
/// the ISO.
///
/// # Errors
/// As [`make`]; no UEFI firmware.
pub fn insert(machine: &mut Machine, built: &Built, way: Way) -> Result<()> {
    let firmware = match way {
        Way::Kernel => return Ok(()),
        Way::Bios => None,
        Way::Uefi => Some(install::ensure_uefi()?),
    };
    let path = built.path.with_extension("iso");
    make(built, &machine.command_line, &path)?;
    machine.iso = Some(Iso { path, firmware });
    Ok(())
}
