//! Puts programs and a manifest into a boot image.
//!
//! What goes in is given as a list of [`Entry`] by level; this file knows the standard lists, and
//! checks each ELF file with the guest's own reader before it is put in.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use bootimg::{ElfError, Ends, ImageBuilder, Level, LoadPlan, ManifestSpec, Rights, TaskSpec};
use ipc_abi::layout::{USER_MAX, USER_MIN};

use crate::build::{self, Profile, Program};
use crate::iso;
use crate::module::Module;
use crate::run::LogLevel;

/// A program and its place in the image.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the manifest says of it.
    pub spec: TaskSpec,
    /// Its ELF file.
    pub elf: PathBuf,
}

impl Entry {
    fn new(program: &Program, level: Level) -> Self {
        Self {
            spec: TaskSpec::new(&program.name, level),
            elf: program.elf.clone(),
        }
    }

    fn with_args(mut self, args: &[String]) -> Self {
        self.spec.args = args.to_vec();
        self
    }

    fn with_rights(mut self, rights: Rights) -> Self {
        self.spec.rights = rights;
        self
    }
}

/// Which programs beside the system's own, as the command line says.
#[derive(Clone, Debug, clap::Args)]
pub struct Programs {
    /// Build the crate in PATH as a task; it starts after the pagers (repeatable)
    #[arg(long = "module", value_name = "PATH[:ARG,...]")]
    pub modules: Vec<Module>,
    /// Leave the demonstration out
    #[arg(long)]
    pub no_demo: bool,
}

impl Programs {
    /// The contents of an image with these programs.
    ///
    /// # Errors
    /// There is no program at all.
    pub fn contents(&self, ends: Ends, log: LogLevel) -> Result<Contents<'static>> {
        if self.no_demo && self.modules.is_empty() {
            bail!("nothing to run: --no-demo needs a --module PATH to run instead");
        }
        Ok(Contents {
            second_server: false,
            file_pager: true,
            clients: if self.no_demo {
                Vec::new()
            } else {
                vec![("demo", Vec::new())]
            },
            modules: self.modules.clone(),
            ends,
            options: vec![("log".to_owned(), log.name().to_owned())],
            kernel: Profile::Release,
        })
    }
}

/// `cargo xtask image`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    programs: Programs,
    /// Put the image there [default: image.tar, or with --iso image.iso, in target/guest]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Make an ISO that boots with GRUB, on BIOS and UEFI firmware, the kernel included
    #[arg(long)]
    iso: bool,
    /// Build nothing; say what is in this image
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "iso", "modules", "no_demo"])]
    list: Option<PathBuf>,
}

/// Carries out `cargo xtask image`: builds what `run` would boot, or says what is in an image.
///
/// # Errors
/// What does not build or cannot be written, read or understood.
pub fn image(options: &Options) -> Result<u8> {
    if let Some(path) = &options.list {
        print!("{}", describe(path)?);
        return Ok(0);
    }
    let contents = options
        .programs
        .contents(Ends::LastClient, LogLevel::default())?;
    let mut built = make("image", &contents)?;
    if options.iso {
        let out = options.out.clone();
        let out = out.unwrap_or_else(|| built.path.with_extension("iso"));
        iso::make(&built, "log=info", &out)?;
        println!("ISO: {}", out.display());
        return Ok(0);
    }
    if let Some(out) = &options.out {
        fs::copy(&built.path, out)
            .with_context(|| format!("--out {}: cannot be written", out.display()))?;
        built.path.clone_from(out);
    }
    println!(
        "kernel: {}\nimage:  {}",
        built.kernel.display(),
        built.path.display()
    );
    Ok(0)
}

/// What is to be in an image besides VM server and bootstrap.
#[derive(Clone, Debug, Default)]
pub struct Contents<'a> {
    /// Whether the file pager is needed.
    pub file_pager: bool,
    /// Whether the VM server is there once more, as the module `nested-server`.
    pub second_server: bool,
    /// Clients of this workspace, each with its arguments.
    pub clients: Vec<(&'a str, Vec<String>)>,
    /// Crates from elsewhere.
    pub modules: Vec<Module>,
    /// What ends the run.
    pub ends: Ends,
    /// Free settings.
    pub options: Vec<(String, String)>,
    /// How the kernel that goes with it is built.
    pub kernel: Profile,
}

/// An image on disk, and what it was made from.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image.
    pub path: PathBuf,
    /// The kernel's ELF file; not in the image, but started with it.
    pub kernel: PathBuf,
    /// The programs in it.
    pub entries: Vec<Entry>,
}

/// Builds kernel and tasks, and writes the image `name` to the folder of guest programs.
///
/// # Errors
/// A crate that does not build, or a program that the guest would refuse.
pub fn make(name: &str, contents: &Contents<'_>) -> Result<Built> {
    // What is not ours is the likeliest to fail: it comes first.
    let modules = contents
        .modules
        .iter()
        .map(module_entry)
        .collect::<Result<Vec<_>>>()?;
    let kernel = build::kernel(contents.kernel)?;
    let mut entries = own_entries(contents)?;
    entries.extend(modules);
    // Each level starts after the one before it.
    entries.sort_by_key(|entry| entry.spec.level);
    distinguish(&mut entries);
    let waits_for_clients = contents.ends == Ends::LastClient;
    if waits_for_clients
        && !entries
            .iter()
            .any(|entry| entry.spec.level == Level::Client)
    {
        bail!("no client among the modules: leave --no-demo out, add a client, or --keep it up");
    }
    let bytes = pack(&entries, contents.ends, &contents.options)?;
    let path = build::guest_dir().join(format!("{name}.tar"));
    // Another run may be about to boot the file that is there: it is replaced, not written over.
    let fresh = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&fresh, bytes)
        .and_then(|()| fs::rename(&fresh, &path))
        .with_context(|| format!("the boot image {} cannot be written", path.display()))?;
    Ok(Built {
        path,
        kernel: kernel.elf,
        entries,
    })
}

/// Clients of our own that wire memory and set limits.
const HOSTS: [&str; 5] = ["bench", "conformance", "devices", "mach-cases", "nested"];

/// A client of our own that is there again as the module `resident`, all of whose memory is wired, and as
/// the module `keeper`, which is started again when it ends.
const AGAIN: &str = "conformance";

/// Clients of our own that drive devices.
const DRIVERS: [&str; 2] = ["devices", "nested"];

fn own_entries(contents: &Contents<'_>) -> Result<Vec<Entry>> {
    let mut names = vec!["vm-server", "bootstrap"];
    names.extend(contents.file_pager.then_some("file-pager"));
    names.extend(contents.clients.iter().map(|(name, _)| *name));
    let programs = build::tasks(&names)?;
    let program = |name: &str| {
        programs
            .iter()
            .find(|program| program.name == name)
            .ok_or_else(|| anyhow!("`{name}` was not built"))
    };
    let mut server = Entry::new(program("vm-server")?, Level::Server);
    server.spec.resident = true;
    let host = Rights {
        host: true,
        device: false,
    };
    let mut entries = vec![
        server,
        Entry::new(program("bootstrap")?, Level::Bootstrap).with_rights(host),
    ];
    let device = Rights {
        host: false,
        device: true,
    };
    if contents.file_pager {
        let pager = Entry::new(program("file-pager")?, Level::Pager).with_rights(device);
        entries.push(pager.with_args(&["share".to_owned()]));
    }
    for (name, args) in &contents.clients {
        let mut entry = Entry::new(program(name)?, Level::Client).with_args(args);
        entry = entry.with_rights(Rights {
            host: HOSTS.contains(name),
            device: DRIVERS.contains(name),
        });
        entries.push(entry);
        if *name == AGAIN {
            let mut again = Entry::new(program(name)?, Level::Module);
            again.spec.name = "resident".to_owned();
            again.spec.resident = true;
            entries.push(again);
            let mut keeper = Entry::new(program(name)?, Level::Module);
            keeper.spec.name = "keeper".to_owned();
            keeper.spec.restart = 3;
            entries.push(keeper);
        }
    }
    if contents.second_server {
        let mut server = Entry::new(program("vm-server")?, Level::Module).with_rights(host);
        server.spec.name = "nested-server".to_owned();
        server.spec.file = "nested-server.elf".to_owned();
        entries.push(server);
    }
    Ok(entries)
}

fn module_entry(module: &Module) -> Result<Entry> {
    let (program, place) = module.build()?;
    let entry = Entry::new(&program, place.level).with_rights(place.rights);
    Ok(entry.with_args(&module.args))
}

/// Gives tasks of one name, such as a module that is given twice, names and files of their own.
fn distinguish(entries: &mut [Entry]) {
    for index in 1..entries.len() {
        let (before, rest) = entries.split_at_mut(index);
        let Some(entry) = rest.first_mut() else {
            return;
        };
        let original = entry.spec.name.clone();
        let taken = |name: &str| before.iter().any(|other| other.spec.name == name);
        let mut number = 2;
        while taken(&entry.spec.name) {
            entry.spec.name = format!("{original}-{number}");
            entry.spec.file = format!("{}.elf", entry.spec.name);
            number += 1;
        }
    }
}

/// Makes the bytes of an image from programs on disk.
///
/// # Errors
/// A program that cannot be read or that the guest would refuse; see [`ImageBuilder::build`].
fn pack(entries: &[Entry], ends: Ends, options: &[(String, String)]) -> Result<Vec<u8>> {
    let mut builder = ImageBuilder::new();
    let mut files = Vec::new();
    for entry in entries {
        // Two tasks may run one file.
        if files.contains(&&entry.spec.file) {
            continue;
        }
        files.push(&entry.spec.file);
        let elf = fs::read(&entry.elf)
            .with_context(|| format!("{} cannot be read", entry.elf.display()))?;
        let elf = strip(elf).map_err(|error| {
            anyhow!(
                "task `{}` ({}): {error}",
                entry.spec.name,
                entry.elf.display()
            )
        })?;
        builder.file(&entry.spec.file, elf);
    }
    let tasks = entries.iter().map(|entry| entry.spec.clone()).collect();
    Ok(builder.build(&ManifestSpec {
        ends,
        options: options.to_vec(),
        tasks,
    })?)
}

/// Leaves out what only a debugger reads: all that lies behind the last byte of the last segment,
/// and the header's reference to it. The file on disk keeps its symbols.
fn strip(mut elf: Vec<u8>) -> Result<Vec<u8>, ElfError> {
    let plan = LoadPlan::parse(&elf, USER_MIN..USER_MAX)?;
    let ends = plan.segments().iter().map(|segment| {
        usize::try_from(segment.file_offset)
            .unwrap_or(usize::MAX)
            .saturating_add(segment.data.len())
    });
    let end = ends.max().unwrap_or(elf.len());
    // The table of program headers lies before the segments; a file where it does not stays whole.
    if plan.headers_end() <= end {
        elf.truncate(end);
        // The fields e_shoff, and e_shentsize to e_shstrndx: there are no sections.
        for field in [0x28..0x30, 0x3a..0x40] {
            if let Some(bytes) = elf.get_mut(field) {
                bytes.fill(0);
            }
        }
    }
    Ok(elf)
}

/// Says what is in an image: the manifest, then each file with its segments.
///
/// # Errors
/// The image cannot be read, or is malformed.
fn describe(path: &Path) -> Result<String> {
    use std::fmt::Write;
    let shown = path.display();
    let bytes = fs::read(path).with_context(|| format!("{shown} cannot be read"))?;
    let refused = |error: bootimg::ImageError<'_>| anyhow!("{shown}: {error}");
    let image = bootimg::Image::parse(&bytes).map_err(refused)?;
    image.manifest().map_err(refused)?;
    let mut text = String::new();
    for file in image.files() {
        if file.name == bootimg::MANIFEST_FILE {
            text.push_str(&String::from_utf8_lossy(file.data));
            continue;
        }
        match LoadPlan::parse(file.data, USER_MIN..USER_MAX) {
            Err(error) => writeln!(text, "\n{}: {} bytes; {error}", file.name, file.data.len())?,
            Ok(plan) => {
                let entry = plan.entry();
                writeln!(
                    text,
                    "\n{}: {} bytes, entry {entry:#x}",
                    file.name,
                    file.data.len()
                )?;
                for segment in plan.segments() {
                    writeln!(
                        text,
                        "  {:#x}..{:#x}  {:?}, {} bytes from the file",
                        segment.address,
                        segment.end(),
                        segment.protection,
                        segment.data.len()
                    )?;
                }
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with one page of code of `length` bytes, and `rest` behind it, to which the
    /// header refers as its sections.
    fn elf(length: u64, rest: &[u8]) -> Vec<u8> {
        let code: u64 = 0x40_0000;
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [code, 64, 0x1000 + length] {
            file.extend(word.to_le_bytes());
        }
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 1, 0, 0, 0]);
        file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
        for word in [0x1000, code, code, length, length, 0x1000] {
            file.extend(word.to_le_bytes());
        }
        file.resize(0x1000, 0);
        file.resize(0x1000 + usize::try_from(length).unwrap(), 0xcc);
        file.extend(rest);
        file
    }

    #[test]
    fn only_what_is_loaded_goes_into_the_image() {
        let whole = elf(0x20, &[7; 64]);
        let plan = LoadPlan::parse(&whole, USER_MIN..USER_MAX).unwrap();
        let stripped = strip(whole.clone()).unwrap();
        assert_eq!(stripped.len(), 0x1020);
        let again = LoadPlan::parse(&stripped, USER_MIN..USER_MAX).unwrap();
        assert_eq!(again.segments(), plan.segments());
        assert_eq!(again.entry(), plan.entry());
    }

    #[test]
    fn a_program_that_the_guest_would_refuse_is_refused_here() {
        assert_eq!(
            strip(b"#!/bin/sh\n\n\n\n\n\n\n".to_vec()),
            Err(ElfError::NotElf)
        );
    }

    #[test]
    fn a_task_given_twice_gets_a_second_name() {
        let program = |name: &str| Program {
            name: name.into(),
            elf: "/e".into(),
        };
        let mut entries: Vec<_> = ["a", "b", "a", "a"]
            .iter()
            .map(|name| Entry::new(&program(name), Level::Client))
            .collect();
        distinguish(&mut entries);
        let names: Vec<_> = entries
            .iter()
            .map(|entry| entry.spec.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b", "a-2", "a-3"]);
        assert_eq!(entries[3].spec.file, "a-3.elf");
    }
}
