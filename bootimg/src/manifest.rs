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
//! | `task NAME file=FILE level=LEVEL [rights=RIGHT[,RIGHT]] [resident]` | one task |
//! | `arg TEXT` | one more argument of the task above; TEXT is the rest of the line, as it is |
//!
//! Words are parted by one space. A NAME or KEY is 1 to 31 of `a-z A-Z 0-9 - _ .`, a FILE the name
//! of a file in the image without spaces. The text is UTF-8 without control characters. Parsing is
//! strict, so that a typing error is an error and not a task without its rights: unknown words,
//! repeated fields, tasks or options, and tasks out of the order of levels are refused.
//!
//! [`Manifest::parse`] checks every line once. The iterators then read the checked text again,
//! which needs no memory; all values borrow from it.

use core::fmt;
use core::iter::FusedIterator;

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
    lines: Lines<'a>,
}

impl<'a> Task<'a> {
    /// Its arguments, in order.
    #[must_use]
    pub fn args(&self) -> Args<'a> {
        Args { lines: self.lines }
    }
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestProblem<'a> {
    /// The file is not UTF-8, has a control character, or is longer than [`MAX_TEXT`].
    NotText,
    /// The first line is not `pagoda 1`.
    Version,
    /// The line starts with a word that is not known.
    UnknownLine(&'a str),
    /// The value of `ends` is not known.
    UnknownEnds(&'a str),
    /// A second `ends` line.
    RepeatedEnds,
    /// No name or key, one that is too long, or one with a character that is not allowed.
    BadName(&'a str),
    /// Two tasks or two options have this name.
    Repeated(&'a str),
    /// An option without `=`, or with a value over [`MAX_VALUE`] bytes.
    BadOption(&'a str),
    /// A field of a task that is not known, or an empty one (two spaces in a row).
    UnknownField(&'a str),
    /// A field of a task given twice.
    RepeatedField(&'a str),
    /// A task without this field.
    MissingField(&'static str),
    /// A `file=` that is empty or longer than 100 bytes.
    BadFile(&'a str),
    /// A level that is not known.
    UnknownLevel(&'a str),
    /// A right that is not known, or given twice.
    UnknownRight(&'a str),
    /// An `arg` line before any task.
    ArgWithoutTask,
    /// More than [`MAX_ARGS`] arguments for one task.
    TooManyArgs,
    /// An argument over [`MAX_VALUE`] bytes.
    ArgTooLong,
    /// More than [`MAX_TASKS`] tasks.
    TooManyTasks,
    /// The task comes after one of a later level.
    OutOfOrder(&'a str),
    /// A second task of level server or bootstrap.
    SecondOf(&'static str),
    /// No task of this level, though it is needed.
    NoneOf(&'static str),
}

/// A manifest that is refused: where, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestError<'a> {
    /// Number of the line from 1; 0 if the fault is not in one line.
    pub line: usize,
    /// What is wrong with it.
    pub problem: ManifestProblem<'a>,
}

impl fmt::Display for ManifestError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "manifest: {}", self.problem),
            line => write!(f, "manifest line {line}: {}", self.problem),
        }
    }
}

impl fmt::Display for ManifestProblem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => write!(
                f,
                "not UTF-8 text without control characters, of at most {MAX_TEXT} bytes"
            ),
            Self::Version => write!(f, "the first line must be `{VERSION_LINE}`"),
            Self::UnknownLine(word) => write!(f, "unknown line `{word}`"),
            Self::UnknownEnds(word) => {
                write!(f, "`ends {word}`: expected `last-client` or `never`")
            }
            Self::RepeatedEnds => write!(f, "a second `ends` line"),
            Self::BadName(name) => write!(
                f,
                "`{name}` is no name: 1 to {MAX_NAME} of a-z, A-Z, 0-9, `-`, `_`, `.`"
            ),
            Self::Repeated(name) => write!(f, "`{name}` is there twice"),
            Self::BadOption(text) => {
                write!(
                    f,
                    "`option {text}`: expected KEY=VALUE, VALUE at most {MAX_VALUE} bytes"
                )
            }
            Self::UnknownField(field) => write!(f, "unknown field `{field}` of a task"),
            Self::RepeatedField(field) => write!(f, "`{field}` is given twice"),
            Self::MissingField(field) => write!(f, "a task needs `{field}`"),
            Self::BadFile(file) => write!(f, "`file={file}`: expected 1 to {MAX_FILE} bytes"),
            Self::UnknownLevel(level) => write!(f, "unknown level `{level}`"),
            Self::UnknownRight(right) => write!(f, "unknown or repeated right `{right}`"),
            Self::ArgWithoutTask => write!(f, "`arg` before any task"),
            Self::TooManyArgs => write!(f, "more than {MAX_ARGS} arguments"),
            Self::ArgTooLong => write!(f, "an argument over {MAX_VALUE} bytes"),
            Self::TooManyTasks => write!(f, "more than {MAX_TASKS} tasks"),
            Self::OutOfOrder(name) => {
                write!(f, "task `{name}` comes after one of a later level")
            }
            Self::SecondOf(level) => write!(f, "a second task of level `{level}`"),
            Self::NoneOf(level) => write!(f, "no task of level `{level}`"),
        }
    }
}

impl core::error::Error for ManifestError<'_> {}

/// First line of a manifest: the format and its version.
const VERSION_LINE: &str = "pagoda 1";
/// Longest name of a file; what an archive's header holds.
const MAX_FILE: usize = 100;

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

/// What must be remembered from line to line.
#[derive(Default)]
struct Checker<'a> {
    versioned: bool,
    ends: Option<Ends>,
    names: Names<'a, MAX_TASKS>,
    keys: Names<'a, MAX_TASKS>,
    args: usize,
    level: Option<Level>,
    has_server: bool,
    has_bootstrap: bool,
}

impl<'a> Checker<'a> {
    fn line(&mut self, line: &'a str, after: Lines<'a>) -> Result<(), ManifestProblem<'a>> {
        if !says_something(line) {
            return Ok(());
        }
        if !self.versioned {
            self.versioned = line == VERSION_LINE;
            return if self.versioned {
                Ok(())
            } else {
                Err(ManifestProblem::Version)
            };
        }
        match split_word(line) {
            ("ends", value) => self.ends_line(value),
            ("option", rest) => self.option_line(rest),
            ("task", rest) => self.task_line(parse_task(rest, after)?),
            ("arg", text) => self.arg_line(text),
            (word, _) => Err(ManifestProblem::UnknownLine(word)),
        }
    }

    fn ends_line(&mut self, value: &'a str) -> Result<(), ManifestProblem<'a>> {
        if self.ends.is_some() {
            return Err(ManifestProblem::RepeatedEnds);
        }
        let known = [Ends::LastClient, Ends::Never]
            .into_iter()
            .find(|ends| ends.name() == value);
        self.ends = Some(known.ok_or(ManifestProblem::UnknownEnds(value))?);
        Ok(())
    }

    fn option_line(&mut self, rest: &'a str) -> Result<(), ManifestProblem<'a>> {
        let (key, value) = rest
            .split_once('=')
            .ok_or(ManifestProblem::BadOption(rest))?;
        check_name(key)?;
        if value.len() > MAX_VALUE {
            return Err(ManifestProblem::BadOption(key));
        }
        self.keys.add(key)
    }

    fn task_line(&mut self, task: Task<'a>) -> Result<(), ManifestProblem<'a>> {
        if self.level.is_some_and(|level| task.level < level) {
            return Err(ManifestProblem::OutOfOrder(task.name));
        }
        let seen = match task.level {
            Level::Server => Some(&mut self.has_server),
            Level::Bootstrap => Some(&mut self.has_bootstrap),
            _ => None,
        };
        if let Some(seen) = seen
            && core::mem::replace(seen, true)
        {
            return Err(ManifestProblem::SecondOf(task.level.name()));
        }
        self.level = Some(task.level);
        self.args = 0;
        self.names.add(task.name)
    }

    fn arg_line(&mut self, text: &str) -> Result<(), ManifestProblem<'a>> {
        if self.level.is_none() {
            return Err(ManifestProblem::ArgWithoutTask);
        }
        if text.len() > MAX_VALUE {
            return Err(ManifestProblem::ArgTooLong);
        }
        self.args = self.args.saturating_add(1);
        if self.args > MAX_ARGS {
            Err(ManifestProblem::TooManyArgs)
        } else {
            Ok(())
        }
    }

    fn end(&self) -> Result<(), ManifestProblem<'a>> {
        if !self.versioned {
            return Err(ManifestProblem::Version);
        }
        if !self.has_server {
            return Err(ManifestProblem::NoneOf(Level::Server.name()));
        }
        // Levels rise, so that the last one tells whether anything comes after bootstrap.
        if self.level > Some(Level::Bootstrap) && !self.has_bootstrap {
            return Err(ManifestProblem::NoneOf(Level::Bootstrap.name()));
        }
        Ok(())
    }
}

/// The names that were met so far, each once.
struct Names<'a, const N: usize> {
    names: [&'a str; N],
    count: usize,
}

impl<const N: usize> Default for Names<'_, N> {
    fn default() -> Self {
        Self {
            names: [""; N],
            count: 0,
        }
    }
}

impl<'a, const N: usize> Names<'a, N> {
    fn add(&mut self, name: &'a str) -> Result<(), ManifestProblem<'a>> {
        if self
            .names
            .iter()
            .take(self.count)
            .any(|known| *known == name)
        {
            return Err(ManifestProblem::Repeated(name));
        }
        let slot = self
            .names
            .get_mut(self.count)
            .ok_or(ManifestProblem::TooManyTasks)?;
        *slot = name;
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

fn parse_task<'a>(rest: &'a str, lines: Lines<'a>) -> Result<Task<'a>, ManifestProblem<'a>> {
    let (name, fields) = split_word(rest);
    check_name(name)?;
    let (mut file, mut level, mut rights, mut resident) = (None, None, None, None);
    for field in fields.split(' ').filter(|_| !fields.is_empty()) {
        match field
            .split_once('=')
            .map_or((field, None), |(key, value)| (key, Some(value)))
        {
            (key @ "file", Some(value)) => once(&mut file, key, check_file(value)?)?,
            (key @ "level", Some(value)) => {
                let known = Level::from_name(value);
                once(
                    &mut level,
                    key,
                    known.ok_or(ManifestProblem::UnknownLevel(value))?,
                )?;
            }
            (key @ "rights", Some(value)) => once(&mut rights, key, parse_rights(value)?)?,
            (key @ "resident", None) => once(&mut resident, key, true)?,
            _ => return Err(ManifestProblem::UnknownField(field)),
        }
    }
    Ok(Task {
        name,
        file: file.ok_or(ManifestProblem::MissingField("file="))?,
        level: level.ok_or(ManifestProblem::MissingField("level="))?,
        rights: rights.unwrap_or_default(),
        resident: resident.unwrap_or_default(),
        lines,
    })
}

fn once<'a, T>(slot: &mut Option<T>, key: &'a str, value: T) -> Result<(), ManifestProblem<'a>> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ManifestProblem::RepeatedField(key)),
    }
}

fn parse_rights(text: &str) -> Result<Rights, ManifestProblem<'_>> {
    let mut rights = Rights::default();
    for word in text.split(',') {
        let right = match word {
            "host" => &mut rights.host,
            "device" => &mut rights.device,
            _ => return Err(ManifestProblem::UnknownRight(word)),
        };
        if core::mem::replace(right, true) {
            return Err(ManifestProblem::UnknownRight(word));
        }
    }
    Ok(rights)
}

fn check_file(file: &str) -> Result<&str, ManifestProblem<'_>> {
    if file.is_empty() || file.len() > MAX_FILE {
        return Err(ManifestProblem::BadFile(file));
    }
    Ok(file)
}

fn check_name(name: &str) -> Result<(), ManifestProblem<'_>> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
        return Err(ManifestProblem::BadName(name));
    }
    Ok(())
}
