//! The emulator: its command line, and what its end says.
//!
//! A guest ends by writing one byte to I/O port 0xF4, and QEMU then ends with `2 * byte + 1`:
//! 0x10 says that all went well, 0x20 plus a code (1 to 95) that it did not. Everything else (a guest that
//! powers off or resets by a triple fault, an emulator that is killed) is a failure as well.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The emulator's program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The least memory that kernel, VM server and a few tasks need.
pub const MIN_MEMORY_MIB: u64 = 64;

/// Memory of the guest, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(pub u64);

impl std::str::FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, mib) = match text.strip_suffix(['G', 'g']) {
            Some(digits) => (digits, 1024),
            None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
        };
        let size = digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(mib));
        match size {
            None => Err("expected a number of MiB, or one with M or G, such as 256M".to_owned()),
            Some(size) if size < MIN_MEMORY_MIB => {
                Err(format!("too little memory: the least is {MIN_MEMORY_MIB}M"))
            }
            Some(size) => Ok(Self(size)),
        }
    }
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// QEMU's translator: the same on every machine.
    #[default]
    Tcg,
    /// The host's own processor, where it can.
    Kvm,
}

/// How the kernel comes into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// QEMU loads it.
    #[default]
    Kernel,
    /// GRUB does, from an ISO, started by a BIOS.
    Bios,
    /// GRUB does, from an ISO, started by UEFI firmware.
    Uefi,
}

/// An ISO to boot from.
#[derive(Clone, Debug)]
pub struct Iso {
    /// Its file.
    pub path: PathBuf,
    /// The firmware; none: QEMU's own BIOS.
    pub firmware: Option<PathBuf>,
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel's ELF file.
    pub kernel: PathBuf,
    /// The boot image.
    pub image: PathBuf,
    /// The kernel's command line.
    pub command_line: String,
    /// What to boot from instead of the three above.
    pub iso: Option<Iso>,
    /// Memory.
    pub memory: Memory,
    /// Number of processors.
    pub cpus: u32,
    /// What executes the guest.
    pub accel: Accel,
    /// Whether one tick of the time stamp counter is one instruction (TCG and one processor only).
    pub count_instructions: bool,
    /// Whether the processor hides its fast string instructions, as the measurements ask for.
    pub plain_strings: bool,
    /// The host folder that the guest may read.
    pub share: Option<PathBuf>,
    /// Where the trace goes.
    pub trace: Option<PathBuf>,
    /// Whether to wait for a debugger on TCP port 1234.
    pub gdb: bool,
    /// Whether it has the devices that the suite `devices` drives, and an IOMMU.
    pub test_devices: bool,
    /// Where each executed instruction is logged, once the monitor is told to.
    pub log: Option<Log>,
    /// The socket of a monitor that sends non-maskable interrupts; then the guest can be interrupted
    /// at each instruction.
    pub interrupts: Option<PathBuf>,
}

/// The log of instructions.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its file, or FIFO.
    pub file: PathBuf,
    /// The socket of the monitor.
    pub monitor: PathBuf,
}

impl Machine {
    /// A machine with one processor and 256 MiB.
    #[must_use]
    pub fn new(kernel: &Path, image: &Path) -> Self {
        Self {
            kernel: kernel.to_path_buf(),
            image: image.to_path_buf(),
            command_line: String::new(),
            iso: None,
            memory: Memory(256),
            cpus: 1,
            accel: Accel::Tcg,
            count_instructions: true,
            plain_strings: false,
            share: None,
            trace: None,
            gdb: false,
            test_devices: false,
            log: None,
            interrupts: None,
        }
    }

    /// The arguments for [`PROGRAM`].
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut args = Arguments::default();
        let strings = if self.plain_strings {
            ",erms=off,fsrm=off"
        } else {
            ""
        };
        let chipset = if self.test_devices { "q35" } else { "pc" };
        args.add("-M", chipset)
            .add("-cpu", format!("max,la57=off{strings}"));
        args.add("-smp", self.cpus.to_string())
            .add("-m", format!("{}M", self.memory.0));
        match self.accel {
            Accel::Kvm => {
                args.add("-accel", "kvm");
            }
            // Several processors have a host thread each, so that they really run at once; then
            // instructions cannot be counted.
            Accel::Tcg if self.cpus > 1 => {
                args.add("-accel", "tcg,thread=multi");
            }
            Accel::Tcg => {
                args.add("-accel", "tcg,thread=single");
                if self.count_instructions {
                    args.add("-icount", "shift=0,sleep=off")
                        .add("-rtc", "clock=vm");
                }
            }
        }
        match &self.iso {
            Some(iso) => {
                if let Some(firmware) = &iso.firmware {
                    args.add("-bios", firmware);
                }
                args.add("-cdrom", &iso.path);
            }
            None => {
                args.add("-kernel", &self.kernel)
                    .add("-initrd", &self.image);
                args.add("-append", &self.command_line);
            }
        }
        args.add("-display", "none").add("-serial", "stdio");
        let of_log = self.log.as_ref().map(|log| &log.monitor);
        match of_log.or(self.interrupts.as_ref()) {
            None => args.add("-monitor", "none"),
            Some(path) => {
                let monitor = with_path("socket,server=on,wait=off,id=monitor,path=", path);
                args.add("-chardev", monitor)
                    .add("-monitor", "chardev:monitor")
                    .flag("-singlestep")
            }
        };
        if let Some(log) = &self.log {
            args.add("-D", &log.file);
        }
        args.add("-nic", "none")
            .flag("-no-user-config")
            .flag("-no-reboot");
        args.add("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04");
        if self.test_devices {
            // Before the devices that are to be behind it.
            args.add("-device", "intel-iommu,aw-bits=48");
        }
        if let Some(share) = &self.share {
            args.add(
                "-fsdev",
                with_path(
                    "local,id=share,security_model=none,readonly=on,multidevs=remap,path=",
                    share,
                ),
            );
            let behind = if self.test_devices {
                ",iommu_platform=on"
            } else {
                ""
            };
            let files = "virtio-9p-pci,fsdev=share,mount_tag=share,disable-legacy=on";
            args.add("-device", format!("{files}{behind}"));
        }
        if self.test_devices {
            args.add("-device", "edu,dma_mask=0xffffffff");
            let random = "virtio-rng-pci,disable-legacy=on,iommu_platform=on";
            args.add("-device", random);
        }
        if let Some(trace) = &self.trace {
            args.add("-chardev", with_path("file,id=trace,path=", trace));
            args.add("-device", "isa-debugcon,iobase=0xe9,chardev=trace");
        }
        if self.gdb {
            args.flag("-s").flag("-S");
        }
        args.0
    }

    /// The command that starts the machine.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(self.arguments());
        command
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.extend([name.into(), value.into()]);
        self
    }

    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }
}

/// A QEMU option that ends in a path, in which a comma is written twice.
fn with_path(option: &str, path: &Path) -> OsString {
    let mut text = OsString::from(option);
    // Any path of this system is bytes, and a comma is one byte of its own in UTF-8.
    for (index, part) in split_commas(path).into_iter().enumerate() {
        if index > 0 {
            text.push(",,");
        }
        text.push(part);
    }
    text
}

fn split_commas(path: &Path) -> Vec<OsString> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.as_os_str().as_bytes();
    bytes
        .split(|byte| *byte == b',')
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect()
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest reported success.
    Success,
    /// The guest reported failure, with a code of 0 to 31.
    Failure(u8),
    /// The guest powered off or reset without a report.
    NoReport,
    /// QEMU itself failed; it has said why.
    Emulator(i32),
    /// Somebody killed QEMU.
    Killed,
    /// This process was asked to stop, by Ctrl-C or a signal.
    Stopped,
    /// The time limit was reached.
    TimedOut(u64),
}

impl Outcome {
    /// Reads the exit status of QEMU.
    #[must_use]
    pub fn from_status(status: ExitStatus) -> Self {
        match status.code() {
            Some(code) => Self::from_code(code),
            None => Self::Killed,
        }
    }

    fn from_code(code: i32) -> Self {
        const SUCCESS: i32 = 2 * 0x10 + 1;
        match code {
            0 => Self::NoReport,
            SUCCESS => Self::Success,
            0x41..=0xff if code & 1 == 1 => {
                Self::Failure(u8::try_from((code >> 1) - 0x20).unwrap_or(u8::MAX))
            }
            _ => Self::Emulator(code),
        }
    }

    /// The status with which a command ends after this: 0 for success, the guest's own code if it
    /// gave one, else 1.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure(code) => code.max(1),
            Self::Stopped => 130,
            _ => 1,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => write!(f, "the guest ended well"),
            Self::Failure(code) => write!(f, "the guest reports failure, code {code}"),
            Self::NoReport => write!(f, "the guest stopped without a report (reset or power-off)"),
            Self::Emulator(code) => write!(f, "{PROGRAM} failed with status {code}"),
            Self::Killed => write!(f, "{PROGRAM} was killed"),
            Self::Stopped => write!(f, "stopped"),
            Self::TimedOut(seconds) => write!(
                f,
                "no end within {seconds} s; the guest was stopped (--timeout sets the limit)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine) -> String {
        let words: Vec<_> = machine
            .arguments()
            .iter()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    }

    #[test]
    fn the_plain_machine_counts_instructions_and_can_report_its_end() {
        let mut machine = Machine::new(Path::new("/k"), Path::new("/i"));
        machine.command_line = "log=info".into();
        let line = line(&machine);
        for part in [
            "-M pc -cpu max,la57=off -smp 1 -m 256M -accel tcg,thread=single",
            "-icount shift=0,sleep=off",
            "-kernel /k -initrd /i -append log=info",
            "-serial stdio",
            "-no-reboot",
            "-device isa-debug-exit,iobase=0xf4,iosize=0x04",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(!line.contains("fsdev") && !line.contains("debugcon") && !line.contains(" -S"));
    }

    #[test]
    fn measurements_hide_the_fast_string_instructions() {
        let mut machine = Machine::new(Path::new("/k"), Path::new("/i"));
        machine.plain_strings = true;
        assert!(line(&machine).contains("-cpu max,la57=off,erms=off,fsrm=off"));
    }

    #[test]
    fn a_share_is_read_only_and_may_have_commas_in_its_path() {
        let mut machine = Machine::new(Path::new("/k"), Path::new("/i"));
        machine.share = Some("/a,b c".into());
        let line = line(&machine);
        assert!(
            line.contains("readonly=on") && line.contains("path=/a,,b c -device virtio-9p-pci")
        );
    }

    #[test]
    fn kvm_does_not_count_instructions() {
        let mut machine = Machine::new(Path::new("/k"), Path::new("/i"));
        machine.accel = Accel::Kvm;
        let line = line(&machine);
        assert!(line.contains("-accel kvm") && !line.contains("icount"));
    }

    #[test]
    fn trace_and_debugger_are_added_when_asked_for() {
        let mut machine = Machine::new(Path::new("/k"), Path::new("/i"));
        machine.trace = Some("/t".into());
        machine.gdb = true;
        let line = line(&machine);
        assert!(line.contains("-chardev file,id=trace,path=/t"));
        assert!(line.contains("isa-debugcon,iobase=0xe9,chardev=trace"));
        assert!(line.ends_with("-s -S"));
    }

    #[test]
    fn exit_codes_are_told_apart() {
        assert_eq!(Outcome::from_code(33), Outcome::Success);
        assert_eq!(Outcome::from_code(2 * 0x20 + 1), Outcome::Failure(0));
        assert_eq!(Outcome::from_code(2 * (0x20 | 7) + 1), Outcome::Failure(7));
        assert_eq!(Outcome::from_code(255), Outcome::Failure(95));
        assert_eq!(Outcome::from_code(0), Outcome::NoReport);
        assert_eq!(Outcome::from_code(1), Outcome::Emulator(1));
        assert_eq!(Outcome::Failure(0).exit_code(), 1);
        assert_eq!(Outcome::Failure(9).exit_code(), 9);
        assert_eq!(Outcome::NoReport.exit_code(), 1);
    }

    #[test]
    fn memory_has_units_and_a_least_size() {
        assert_eq!("256M".parse(), Ok(Memory(256)));
        assert_eq!("1G".parse(), Ok(Memory(1024)));
        assert_eq!("128".parse(), Ok(Memory(128)));
        let little = "16M".parse::<Memory>().unwrap_err();
        assert!(little.contains("64M"), "{little}");
        assert!("much".parse::<Memory>().is_err());
        assert!("99999999999999999999G".parse::<Memory>().is_err());
        assert!("18446744073709551615G".parse::<Memory>().is_err());
    }
}
