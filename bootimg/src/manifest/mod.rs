//! The manifest: a text file of lines that says which tasks start, in which order, and with what.
//!
//! ```text
//! pagoda 1
//! ends last-client
//! option log=info
//!
//! # level by level; within a level, line by line
//! task vm-server file=vm-server.elf level=server resident
//! task bootstrap file=bootstrap.elf level=bootstrap rights=host
//! task file-pager file=file-pager.elf level=pager rights=device
//! arg share
//! task demo file=demo.elf level=client
//! arg an argument may hold = and , and spaces
//! ```
//!
//! A line is empty, a comment (`#` comes first), or a word and what the word asks for:
//!
//! | line | meaning |
//! |---|---|
//! | `pagoda 1` | the first line that is not empty or a comment: the version of this format |
//! | `ends last-client` | the run ends when the last client ends, with that client's status (also if no `ends` line is there) |
//! | `ends never` | the machine stays up |
//! | `option KEY=VALUE` | a free setting for the tasks; VALUE is the rest of the line |
//! | `task NAME file=FILE level=LEVEL [rights=RIGHT[,RIGHT]] [quota=KIBK] [restart=N] [resident]` | one task; with `restart`, one of level pager or module that ends otherwise than with status 0 is started again, at most N times (1 to 99) |
//! | `arg TEXT` | one more argument of the task above; TEXT is the rest of the line, as it is |
//!
//! Words are parted by one space. A NAME or KEY is 1 to 31 of `a-z A-Z 0-9 - _ .`, a FILE the name
//! of a file in the image without spaces. The text is UTF-8 without control characters. Parsing is
//! strict, so that a typing error is an error and not a task without its rights: unknown words,
//! repeated fields, tasks or options, and tasks out of the order of levels are refused.
//!
//! [`Manifest::parse`] checks every line once. The iterators then read the checked text again,
//! which needs no memory; all values borrow from it.

mod parse;
mod problem;

use core::iter::FusedIterator;

use parse::{Checker, parse_task};

pub use problem::{ManifestError, ManifestProblem};

/// Most bytes of a manifest.
pub const MAX_TEXT: usize = 64 * 1024;
/// Most tasks of a manifest.
pub const MAX_TASKS: usize = 64;
/// Most arguments of one task.
pub const MAX_ARGS: usize = 32;
/// Most bytes of a task's name or an option's key.
pub const MAX_NAME: usize = 31;
/// Most bytes of an argument, an option's value, or a file's name.
pub const MAX_VALUE: usize = 256;

/// First line of a manifest: the format and its version.
const VERSION_LINE: &str = "pagoda 1";
/// Longest name of a file; what an archive's header holds.
const MAX_FILE: usize = 100;

/// When a task starts. Levels start in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The VM server; loaded by the kernel. There is exactly one.
    Server,
    /// Starts all that follow; loaded by the VM server. At most one.
    Bootstrap,
    /// Serves others; starts before the clients.
    Pager,
    /// Does the work that the run is for. Its end may end the run.
    Client,
    /// Does not start by itself: a task may ask `bootstrap` to start it, any number of times.
    Module,
}

impl Level {
    const NAMES: [(&'static str, Self); 5] = [
        ("server", Self::Server),
        ("bootstrap", Self::Bootstrap),
        ("pager", Self::Pager),
        ("client", Self::Client),
        ("module", Self::Module),
    ];

    /// The level's word in the text.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, level)| *level == self)
            .map_or("", |(name, _)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, level)| *level)
    }
}

/// The privileged ports that a task is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The host control port: tasks, special ports, shutdown.
    pub host: bool,
    /// The device port: device frames, I/O ports, interrupts. As a device can write to any memory,
    /// a task that has it is trusted like the kernel.
    pub device: bool,
}

/// What ends the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// The end of the last client, with its status.
    #[default]
    LastClient,
    /// Nothing: the machine stays up.
    Never,
}

impl Ends {
    /// The word in the text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LastClient => "last-client",
            Self::Never => "never",
        }
    }
}

/// One task of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task<'a> {
    /// Its name, unique in the manifest.
    pub name: &'a str,
    /// Name of its ELF file in the image.
    pub file: &'a str,
    /// When it starts.
    pub level: Level,
    /// What it may do beyond an ordinary task.
    pub rights: Rights,
    /// Whether all its memory is wired from the start.
    pub resident: bool,
    /// Bytes of the kernel's memory that it may use; `None`: what a task is given that nobody says
    /// anything about.
    pub quota: Option<u64>,
    /// How often it is started again if it ends otherwise than with status 0.
    pub restart: u32,
    lines: Lines<'a>,
}

impl<'a> Task<'a> {
    /// Its arguments, in order.
    #[must_use]
    pub fn args(&self) -> Args<'a> {
        Args { lines: self.lines }
    }
}

/// A manifest whose every line has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest<'a> {
    ends: Ends,
    lines: Lines<'a>,
}

impl<'a> Manifest<'a> {
    /// Checks the whole of `text`.
    ///
    /// # Errors
    /// [`ManifestProblem::NotText`] for the whole; then the first wrong line from the top; then
    /// `Repeated`, `NoneOf("server")`, and `NoneOf("bootstrap")` if there is a task that only
    /// `bootstrap` could start.
    pub fn parse(text: &'a str) -> Result<Self, ManifestError<'a>> {
        let whole = |problem| ManifestError { line: 0, problem };
        if text.len() > MAX_TEXT || text.chars().any(|c| c.is_control() && c != '\n') {
            return Err(whole(ManifestProblem::NotText));
        }
        let mut lines = Lines { text };
        let mut number = 0usize;
        let mut checker = Checker::default();
        while let Some(line) = lines.next_raw() {
            number = number.saturating_add(1);
            checker.line(line, lines).map_err(|problem| ManifestError {
                line: number,
                problem,
            })?;
        }
        checker.end().map_err(whole)?;
        Ok(Self {
            ends: checker.ends.unwrap_or_default(),
            lines: Lines { text },
        })
    }

    /// What ends the run.
    #[must_use]
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// The tasks in the order in which they start.
    #[must_use]
    pub fn tasks(&self) -> Tasks<'a> {
        Tasks { lines: self.lines }
    }

    /// The task called `name`.
    #[must_use]
    pub fn task(&self, name: &str) -> Option<Task<'a>> {
        self.tasks().find(|task| task.name == name)
    }

    /// The options, key and value, in the order of the text.
    #[must_use]
    pub fn options(&self) -> Options<'a> {
        Options { lines: self.lines }
    }

    /// The value of the option `key`.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&'a str> {
        self.options()
            .find(|(known, _)| *known == key)
            .map(|(_, value)| value)
    }
}

/// Iterates over the tasks of a manifest; made by [`Manifest::tasks`].
#[derive(Clone, Debug)]
pub struct Tasks<'a> {
    lines: Lines<'a>,
}

impl<'a> Iterator for Tasks<'a> {
    type Item = Task<'a>;

    fn next(&mut self) -> Option<Task<'a>> {
        loop {
            if let ("task", rest) = self.lines.next()? {
                return parse_task(rest, self.lines).ok();
            }
        }
    }
}

impl FusedIterator for Tasks<'_> {}

/// Iterates over the arguments of a task; made by [`Task::args`].
#[derive(Clone, Debug)]
pub struct Args<'a> {
    lines: Lines<'a>,
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            match self.lines.next() {
                Some(("arg", text)) => return Some(text),
                Some(("option" | "ends", _)) => {}
                _ => {
                    // The arguments of the next task are not this one's.
                    self.lines = Lines { text: "" };
                    return None;
                }
            }
        }
    }
}

impl FusedIterator for Args<'_> {}

/// Iterates over the options of a manifest; made by [`Manifest::options`].
#[derive(Clone, Debug)]
pub struct Options<'a> {
    lines: Lines<'a>,
}

impl<'a> Iterator for Options<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        loop {
            if let ("option", rest) = self.lines.next()? {
                return rest.split_once('=');
            }
        }
    }
}

impl FusedIterator for Options<'_> {}

/// The rest of the text, taken line by line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lines<'a> {
    text: &'a str,
}

impl<'a> Lines<'a> {
    /// Takes one line, whatever it is.
    fn next_raw(&mut self) -> Option<&'a str> {
        if self.text.is_empty() {
            return None;
        }
        let (line, rest) = self.text.split_once('\n').unwrap_or((self.text, ""));
        self.text = rest;
        Some(line)
    }

    /// Takes the next line that says something, as its first word and the rest.
    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        loop {
            let line = self.next_raw()?;
            if says_something(line) {
                return Some(split_word(line));
            }
        }
    }
}

fn says_something(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

fn split_word(line: &str) -> (&str, &str) {
    line.split_once(' ').unwrap_or((line, ""))
}
