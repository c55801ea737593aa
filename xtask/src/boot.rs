//! Boots a machine and watches it to its end.
//!
//! `run`, `test` and `bench` share this: [`boot`] starts the emulator, hands on the serial line as
//! it comes, keeps the last lines for a report, and ends the emulator if it does not end by itself:
//! at the time limit, or when this process is asked to stop.

use std::collections::VecDeque;
use std::io::Read;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::qemu::{self, Machine, Outcome};

/// The status of a command that was asked to stop.
const STATUS_STOPPED: i32 = 130;

/// How many lines of a guest are kept for a report.
const LAST_WORDS: usize = 50;

/// How a run went.
#[derive(Clone, Debug)]
pub struct End {
    /// How the machine ended.
    pub outcome: Outcome,
    /// The last lines of the guest.
    pub last_words: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Starts `machine`, gives `listen` each piece of the guest's output as it comes, and returns when
/// the machine has ended; after `limit` it is ended.
///
/// # Errors
/// The emulator cannot be started.
pub fn boot(
    machine: &Machine,
    limit: Option<Duration>,
    listen: &mut dyn FnMut(&[u8]),
) -> Result<End> {
    let started = Instant::now();
    let mut child = machine
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be started", qemu::PROGRAM))?;
    let output = child.stdout.take().context("the emulator has no output")?;
    let running = Running::new(child)?;
    let pieces = read_in_background(output);
    let deadline = limit.and_then(|limit| started.checked_add(limit));
    let mut lines = LastLines::default();
    let mut ends = LineEnds::default();
    let silent = loop {
        match next_piece(&pieces, deadline) {
            Ok(piece) => {
                let piece = ends.plain(&piece);
                lines.add(&piece);
                listen(&piece);
            }
            Err(reason) => break reason,
        }
    };
    let outcome = match silent {
        RecvTimeoutError::Timeout => {
            running.kill();
            Outcome::TimedOut(limit.unwrap_or_default().as_secs())
        }
        RecvTimeoutError::Disconnected => match running.wait()? {
            _ if stopped() => Outcome::Stopped,
            outcome => outcome,
        },
    };
    Ok(End {
        outcome,
        last_words: lines.end(),
        elapsed: started.elapsed(),
    })
}

fn next_piece(
    pieces: &Receiver<Vec<u8>>,
    deadline: Option<Instant>,
) -> Result<Vec<u8>, RecvTimeoutError> {
    match deadline {
        None => pieces.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(deadline) => pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())),
    }
}

fn read_in_background(mut output: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver): (Sender<Vec<u8>>, _) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = output.read(&mut buffer) {
            let piece = buffer.get(..length).unwrap_or_default();
            if piece.is_empty() || sender.send(piece.to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The emulators that run now, for the handler that ends them when this process is asked to stop.
static CURRENT: Mutex<Vec<Arc<Mutex<Child>>>> = Mutex::new(Vec::new());

/// Set by that handler.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Whether this process has been asked to stop.
#[must_use]
pub fn stopped() -> bool {
    STOPPED.load(Ordering::SeqCst)
}

/// Installs that handler, once. It leaves the rest (a report, the trace so far) to the thread that
/// waits for the emulator, if there is one.
static HANDLER: LazyLock<Result<(), String>> = LazyLock::new(|| {
    ctrlc::set_handler(|| {
        let again = STOPPED.swap(true, Ordering::SeqCst);
        let current = locked(&CURRENT);
        for child in current.iter() {
            kill(child);
        }
        if again || current.is_empty() {
            std::process::exit(STATUS_STOPPED);
        }
    })
    .map_err(|error| error.to_string())
});

/// What another thread left behind when it panicked is as good as ever here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kill(child: &Mutex<Child>) {
    let mut child = locked(child);
    // It may have ended by itself just now; then there is nothing to do.
    let _ = child.kill();
    let _ = child.wait();
}

/// An emulator that does not outlive this value.
struct Running(Arc<Mutex<Child>>);

impl Running {
    fn new(child: Child) -> Result<Self> {
        let running = Self(Arc::new(Mutex::new(child)));
        if let Err(error) = &*HANDLER {
            bail!("the handler for Ctrl-C cannot be installed: {error}");
        }
        locked(&CURRENT).push(Arc::clone(&running.0));
        Ok(running)
    }

    fn kill(&self) {
        kill(&self.0);
    }

    /// Waits for the end after the output has ended; that is near.
    fn wait(&self) -> Result<Outcome> {
        for _ in 0..1000 {
            if let Some(status) = locked(&self.0).try_wait()? {
                return Ok(Outcome::from_status(status));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Outcome::Killed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        locked(&CURRENT).retain(|child| !Arc::ptr_eq(child, &self.0));
    }
}

/// Turns the line ends of a serial line, carriage return and line feed, into plain line feeds.
#[derive(Debug, Default)]
struct LineEnds {
    /// The last piece ended with a carriage return, which has not been handed on.
    held: bool,
}

impl LineEnds {
    fn plain(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(piece.len() + 1);
        for &byte in piece {
            if self.held && byte != b'\n' {
                plain.push(b'\r');
            }
            self.held = byte == b'\r';
            if !self.held {
                plain.push(byte);
            }
        }
        plain
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct LineSplitter {
    rest: Vec<u8>,
}

impl LineSplitter {
    /// Takes a piece of the stream; calls `line` for each line that it completes, without its end.
    pub fn add(&mut self, piece: &[u8], line: &mut dyn FnMut(&str)) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end(line);
            }
        }
    }

    /// Takes what is left as the last line, if anything is.
    pub fn end(&mut self, line: &mut dyn FnMut(&str)) {
        if !self.rest.is_empty() {
            line(String::from_utf8_lossy(&self.rest).trim_end_matches(['\r', '\n']));
            self.rest.clear();
        }
    }
}

#[derive(Default)]
struct LastLines {
    splitter: LineSplitter,
    lines: VecDeque<String>,
}

impl LastLines {
    fn add(&mut self, piece: &[u8]) {
        let lines = &mut self.lines;
        self.splitter.add(piece, &mut |line| keep(lines, line));
    }

    fn end(mut self) -> Vec<String> {
        let lines = &mut self.lines;
        self.splitter.end(&mut |line| keep(lines, line));
        self.lines.into()
    }
}

fn keep(lines: &mut VecDeque<String>, line: &str) {
    if lines.len() == LAST_WORDS {
        lines.pop_front();
    }
    lines.push_back(line.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
        for piece in pieces {
            splitter.add(piece, &mut |line| lines.push(line.to_owned()));
        }
        splitter.end(&mut |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_are_joined_over_pieces_and_lose_their_ends() {
        assert_eq!(lines_of(&[b"a\r\nb", b"c\n", b"d"]), ["a", "bc", "d"]);
        assert_eq!(lines_of(&[b"\n\nx\n"]), ["", "", "x"]);
        assert_eq!(lines_of(&[&[0xff, b'\n']]), ["\u{fffd}"]);
    }

    #[test]
    fn line_ends_become_plain_wherever_the_stream_is_cut() {
        let stream = b"a\r\nb\rc\r\r\n";
        for cut in 0..stream.len() {
            let mut ends = LineEnds::default();
            let mut plain = ends.plain(&stream[..cut]);
            plain.extend(ends.plain(&stream[cut..]));
            assert_eq!(plain, b"a\nb\rc\r\n", "cut at {cut}");
        }
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut last = LastLines::default();
        for number in 0..200 {
            last.add(format!("line {number}\n").as_bytes());
        }
        last.add(b"unfinished");
        let lines = last.end();
        assert_eq!(lines.len(), LAST_WORDS);
        assert_eq!(lines.last().map(String::as_str), Some("unfinished"));
        assert_eq!(lines.first().map(String::as_str), Some("line 151"));
    }
}
