//! What the suites run on: how many processors, which kernel, and whether they are left alone.
//!
//! Each suite runs on one, two and four processors. The kernel that checks itself has its turn on two: one
//! as it is used runs on both sides of that.

use crate::build::Profile;

/// What a suite is run on.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Processors.
    pub cpus: u32,
    /// The kernel.
    pub kernel: Profile,
    /// Whether non-maskable interrupts come all the time.
    pub interrupted: bool,
}

impl Setting {
    /// A kernel as it is used, undisturbed.
    #[must_use]
    pub const fn plain(cpus: u32) -> Self {
        Self {
            cpus,
            kernel: Profile::Release,
            interrupted: false,
        }
    }

    /// A kernel that checks itself, with non-maskable interrupts all the time.
    const fn interrupted(cpus: u32) -> Self {
        Self {
            cpus,
            kernel: Profile::Checked,
            interrupted: true,
        }
    }

    /// What it is, after the name of a suite; nothing for one processor.
    #[must_use]
    pub fn words(self) -> String {
        let mut words = match self.cpus {
            1 => String::new(),
            cpus => format!(" on {cpus} processors"),
        };
        if self.kernel == Profile::Checked {
            words += ", with the kernel's own checks";
        }
        if self.interrupted {
            words += ", with non-maskable interrupts";
        }
        words
    }
}

/// What every suite runs on.
pub(crate) const SETTINGS: [Setting; 3] = [
    Setting::plain(1),
    Setting {
        kernel: Profile::Checked,
        ..Setting::plain(2)
    },
    Setting::plain(4),
];

/// Cases that run under strain as well: the suite, which cases, and how.
pub(crate) const STRAINED: [(&str, &[&str], Setting); 2] = [
    ("hostile", REGISTERS, Setting::interrupted(1)),
    ("hostile", ATTACKS, Setting::interrupted(2)),
];

/// Cases of `hostile` that look at registers.
const REGISTERS: &[&str] = &["cpu::", "registers::"];

/// These, and those that are in the kernel all the time. A machine that can be interrupted at each
/// instruction is slow, and on one processor there are ten times as many.
const ATTACKS: &[&str] = &["traps::", "cpu::", "registers::"];
