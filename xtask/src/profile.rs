//! `cargo xtask bench --profile KEY`: where the instructions of one operation go.
//!
//! The bench task repeats the operation, each time between two readings of the time stamp counter.
//! From its first line on QEMU logs every instruction; here the log is cut at those readings, and
//! what lies between is counted by function. Tasks are all linked at the same address, so that a
//! stretch in ring 3 belongs to the program in which each of its instructions follows from the one
//! before.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use addr2line::Loader;
use anyhow::{Context, Result, bail};
use bootimg::Ends;
use iced_x86::{Decoder, DecoderOptions, FlowControl};

use crate::boot::{self, LineSplitter};
use crate::image::{self, Contents};
use crate::qemu::{Log, Machine, Memory, Outcome};

/// Time after which the machine is stopped, in seconds.
const LIMIT: u64 = 600;
/// Addresses from here on are the kernel's.
const KERNEL: u64 = 1 << 63;
/// Most instructions of one repetition; what is longer is not kept.
const LONGEST: usize = 1 << 24;
/// LFENCE and RDTSC.
const READ_TICKS: [u8; 5] = [0x0F, 0xAE, 0xE8, 0x0F, 0x31];
/// Where the second begins.
const READ_AT: u64 = 3;

/// A program, as far as a log needs it.
struct Program {
    name: String,
    symbols: Loader,
    /// Address and bytes of what is loaded.
    segments: Vec<(u64, Vec<u8>)>,
}

impl Program {
    fn read(name: &str, path: &Path) -> Result<Self> {
        let problem = || format!("{}: cannot be read", path.display());
        let bytes = fs::read(path).with_context(problem)?;
        let symbols = Loader::new(path).map_err(|error| anyhow::anyhow!("{error}"));
        Ok(Self {
            name: name.to_owned(),
            symbols: symbols.with_context(problem)?,
            segments: segments(&bytes).with_context(problem)?,
        })
    }

    fn bytes(&self, address: u64) -> Option<&[u8]> {
        self.segments.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(offset..)
        })
    }

    /// Whether `next` can be executed after `at`.
    fn follows(&self, at: u64, next: u64) -> bool {
        let Some(bytes) = self.bytes(at) else {
            return false;
        };
        let mut decoder = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE);
        let instruction = decoder.decode();
        let falls_through = next == instruction.next_ip();
        match instruction.flow_control() {
            // A string instruction is logged at each repetition.
            FlowControl::Next => falls_through || next == at,
            FlowControl::ConditionalBranch => {
                falls_through || next == instruction.near_branch_target()
            }
            FlowControl::UnconditionalBranch | FlowControl::Call => {
                next == instruction.near_branch_target()
            }
            FlowControl::IndirectBranch | FlowControl::IndirectCall | FlowControl::Return => true,
            _ => false,
        }
    }

    /// Whether this stretch can be of this program.
    fn executes(&self, stretch: &[u64]) -> bool {
        stretch.iter().all(|at| self.bytes(*at).is_some())
            && stretch.windows(2).all(|pair| match pair {
                [at, next] => self.follows(*at, *next),
                _ => true,
            })
    }

    /// The function that an address lies in: the outermost, or what was compiled into it.
    fn function(&self, address: u64, inlined: bool) -> String {
        let mut names = Vec::new();
        if let Ok(mut frames) = self.symbols.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                if let Some(function) = frame.function
                    && let Ok(name) = function.demangle()
                {
                    names.push(name.into_owned());
                }
            }
        }
        let name = if inlined { names.first() } else { names.last() };
        match (name, self.symbols.find_symbol(address)) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "?".to_owned(),
        }
    }
}

/// The loaded segments of an ELF file.
fn segments(bytes: &[u8]) -> Result<Vec<(u64, Vec<u8>)>> {
    let word = |at: usize, length: usize| -> Option<u64> {
        let mut value = [0; 8];
        let place = value.get_mut(..length)?;
        place.copy_from_slice(bytes.get(at..at.checked_add(length)?)?);
        Some(u64::from_le_bytes(value))
    };
    let read = || -> Option<Vec<(u64, Vec<u8>)>> {
        let table = usize::try_from(word(32, 8)?).ok()?;
        let count = usize::try_from(word(56, 2)?).ok()?;
        let mut found = Vec::new();
        for index in 0..count {
            let header = table.checked_add(index.checked_mul(56)?)?;
            if word(header, 4)? != 1 {
                continue;
            }
            let offset = usize::try_from(word(header + 8, 8)?).ok()?;
            let size = usize::try_from(word(header + 32, 8)?).ok()?;
            let data = bytes.get(offset..offset.checked_add(size)?)?;
            found.push((word(header + 16, 8)?, data.to_vec()));
        }
        Some(found)
    };
    read().context("no ELF file")
}

/// Shows where the instructions of the operation `key` go.
///
/// # Errors
/// What does not build or boot, or no such operation.
pub(crate) fn profile(key: &str, inlined: bool) -> Result<u8> {
    let built = image::make(
        "profile",
        &Contents {
            file_pager: false,
            clients: vec![("bench", vec!["profile".to_owned(), key.to_owned()])],
            ends: Ends::LastClient,
            ..Contents::default()
        },
    )?;
    let mut programs = vec![Program::read("kernel", &built.kernel)?];
    for entry in &built.entries {
        programs.push(Program::read(&entry.spec.name, &entry.elf)?);
    }
    let directory = Directory::new()?;
    let log = Log {
        file: directory.0.join("log"),
        monitor: directory.0.join("monitor"),
    };
    make_fifo(&log.file)?;
    let mut machine = Machine::new(&built.kernel, &built.path);
    machine.command_line = "log=warn".to_owned();
    machine.memory = Memory(1024);
    machine.plain_strings = true;
    machine.log = Some(log.clone());
    eprintln!("Logging ...");
    let bench = programs.iter().position(|program| program.name == "bench");
    let bench = bench.context("no bench task")?;
    let is_reading = {
        let Program { segments, .. } = Program::read("bench", &built.entries[bench - 1].elf)?;
        // Other tasks are linked at the same address, so it takes both.
        move |before: u64, address: u64| {
            before.checked_add(READ_AT) == Some(address)
                && segments.iter().any(|(start, bytes)| {
                    let offset = before.checked_sub(*start).map(|offset| offset as usize);
                    offset.is_some_and(|at| bytes.get(at..at + 5) == Some(&READ_TICKS))
                })
        }
    };
    let samples = read_log(log.file.clone(), is_reading);
    let mut began = false;
    let mut splitter = LineSplitter::default();
    let end = boot::boot(&machine, Some(Duration::from_secs(LIMIT)), &mut |piece| {
        splitter.add(piece, &mut |line| {
            if line == "bench profile begins" && !began {
                began = true;
                if let Err(error) = start_log(&log.monitor) {
                    eprintln!("xtask bench: the monitor does not answer: {error}");
                }
            }
        });
    })?;
    if end.outcome != Outcome::Success {
        end.last_words
            .iter()
            .for_each(|line| eprintln!("    {line}"));
        bail!("{}; is there an operation {key}?", end.outcome);
    }
    let mut samples: Vec<Vec<u64>> = samples.try_iter().collect();
    samples.sort_by_key(Vec::len);
    let middle = samples.len() / 2;
    let sample = samples.get(middle).context("nothing was logged")?;
    print!("{}", report(&programs, sample, inlined));
    Ok(0)
}

/// A folder of its own, gone in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("pagoda-profile-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn make_fifo(path: &Path) -> Result<()> {
    let status = Command::new("mkfifo").arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("mkfifo {} failed", path.display()),
    }
}

fn start_log(monitor: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(monitor)?;
    stream.write_all(b"log exec,nochain\n")?;
    // The connection stays until the command has been read.
    let mut answer = String::new();
    let mut reader = BufReader::new(stream);
    while reader.read_line(&mut answer)? > 0 && !answer.contains("log exec") {
        answer.clear();
    }
    Ok(())
}

/// Cuts a log into what lies between the two readings of each operation.
#[derive(Default)]
struct Cutter {
    /// Where the first reading was, and what followed it.
    open: Option<(u64, Vec<u64>)>,
}

impl Cutter {
    /// Adds an address; gives an operation if it ends there. The second reading lies behind the first: a
    /// log that begins within an operation is cut right all the same.
    fn add(&mut self, address: u64, is_reading: bool) -> Option<Vec<u64>> {
        if is_reading {
            return match self.open.take() {
                Some((begin, sample)) if begin < address && sample.len() > 1 => Some(sample),
                _ => {
                    self.open = Some((address, Vec::new()));
                    None
                }
            };
        }
        if let Some((_, sample)) = &mut self.open
            && sample.len() < LONGEST
        {
            sample.push(address);
        }
        None
    }
}

/// Reads the log in the background: gives what lies between each two readings of the counter.
fn read_log(
    path: PathBuf,
    is_reading: impl Fn(u64, u64) -> bool + Send + 'static,
) -> Receiver<Vec<u64>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let Ok(file) = File::open(path) else {
            return;
        };
        let mut lines = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        let mut cutter = Cutter::default();
        let mut before = 0;
        while {
            line.clear();
            lines
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
        } {
            let Some(address) = address(&line) else {
                continue;
            };
            let reading = is_reading(before, address);
            before = address;
            if let Some(sample) = cutter.add(address, reading)
                && sender.send(sample).is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// The address in a line `Trace 0: 0x.. [cs base/address/flags/..] ..`.
fn address(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line.strip_prefix(b"Trace")?).ok()?;
    let (_, inside) = line.split_once('[')?;
    u64::from_str_radix(inside.split('/').nth(1)?, 16).ok()
}

/// Counts a sample by function, stretch by stretch.
fn report(programs: &[Program], sample: &[u64], inlined: bool) -> String {
    let mut text = String::new();
    let mut totals: Vec<(&str, usize)> = Vec::new();
    for stretch in sample.chunk_by(|a, b| (*a >= KERNEL) == (*b >= KERNEL)) {
        let kernel = stretch.first().is_some_and(|at| *at >= KERNEL);
        let program = if kernel {
            programs.first()
        } else {
            let mut tasks = programs.iter().skip(1);
            tasks.find(|program| program.executes(stretch))
        };
        let name = program.map_or("?", |program| program.name.as_str());
        match totals.iter_mut().find(|(known, _)| *known == name) {
            Some((_, total)) => *total += stretch.len(),
            None => totals.push((name, stretch.len())),
        }
        text.push_str(&format!("{:>7}  {name}\n", stretch.len()));
        let mut counts: Vec<(String, usize)> = Vec::new();
        let mut places = HashMap::new();
        for at in stretch {
            let function = match program {
                Some(program) => program.function(*at, inlined),
                None => "?".to_owned(),
            };
            let place = *places.entry(function.clone()).or_insert(counts.len());
            if place == counts.len() {
                counts.push((function, 0));
            }
            counts[place].1 += 1;
        }
        for (function, count) in counts {
            text.push_str(&format!("{count:>15}  {function}\n"));
        }
    }
    text.push_str(&format!("{:>7}  in all", sample.len()));
    for (name, total) in totals {
        text.push_str(&format!(", {name} {total}"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_begins_within_an_operation_is_cut_at_operations() {
        let mut cutter = Cutter::default();
        let mut log = [10, 20, 1, 2, 3, 10, 5, 6, 20, 1, 2, 10, 7, 8, 20].into_iter();
        // The first reading at 10 was before the log began.
        log.next();
        let samples: Vec<Vec<u64>> = log
            .filter_map(|at| cutter.add(at, at == 10 || at == 20))
            .collect();
        assert_eq!(samples, [[5, 6], [7, 8]]);
    }

    #[test]
    fn the_address_of_a_logged_instruction_is_read() {
        let line = b"Trace 0: 0x7f0c [0000000000000000/ffffffff80201234/0040c0b3/ff000201] name\n";
        assert_eq!(address(line), Some(0xFFFF_FFFF_8020_1234));
        assert_eq!(address(b"Linking TBs"), None);
    }
}
